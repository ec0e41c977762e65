# Commands for contributors. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install check test demo reference docs screenshot bench picture quota suites soak targets

help:     ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

install: .venv/.stamp  ## create the virtual environment
.venv/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

check: install  ## format, lint, types, import contract, generated pages, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/reference.py --check
	$(BIN)/pytest tests/unit

test: install  ## all tests, as in CI
	$(BIN)/pytest

demo: install  ## scrape the sample API
	$(BIN)/scrapeq run configs/api.yaml

reference: install  ## generate the reference pages that come from the code
	$(BIN)/python tools/reference.py

docs: reference  ## build the documentation site in site/, and check its links
	$(BIN)/mkdocs build --strict

screenshot: install  ## draw the live view of a real run for the README
	$(BIN)/python tools/screenshot.py docs/images/live.svg

bench: install  ## measure speed and limits beside other tools
	$(BIN)/python benchmarks/queue.py --peers
	$(BIN)/python benchmarks/quota.py

picture: install  ## draw a learned limit over time, for docs/explanation/limits.md
	$(BIN)/python benchmarks/quota.py --picture docs/explanation/limits.svg

quota: install  ## measure how quotas of other people's servers are used (two and a half hours)
	$(BIN)/python benchmarks/foreign.py

suites: install  ## run the public test suites of JSONPath, structured fields and YAML (needs GitHub)
	$(BIN)/python tests/support/standard_suites.py

soak: install  ## run the property and chaos tests for a long time
	SCRAPEQ_PROPERTY_RUNS=20000 SCRAPEQ_CHAOS_SCALE=10 $(BIN)/pytest -n 1 tests/property tests/chaos --timeout 7200

targets: install  ## install the applications that tests scrape, each in its own environment
	$(BIN)/python tests/support/targets/environment.py
