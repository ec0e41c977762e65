# What those need who carry on the work. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install check test demo bench picture quota suites soak targets

help:     ## list these
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

install: .venv/.stamp  ## make the virtual environment
.venv/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

check: install  ## format, lint, types, import contract: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit

test: install  ## everything that CI runs
	$(BIN)/pytest

demo: install  ## the main job on the sample API
	$(BIN)/scrapeq run configs/api.yaml

bench: install  ## the figures, beside those of others
	$(BIN)/python benchmarks/queue.py --peers
	$(BIN)/python benchmarks/quota.py

picture: install  ## a learned limit over time, as docs/limits.md shows it
	$(BIN)/python benchmarks/quota.py --picture docs/limits.svg

quota: install  ## servers that others wrote, counted at the server: two hours and a half
	$(BIN)/python benchmarks/foreign.py

suites: install  ## the whole public suites of JSONPath, structured fields and YAML: needs GitHub
	$(BIN)/python tests/conformance/suites.py

soak: install  ## long runs of the property and chaos tests
	SCRAPEQ_PROPERTY_RUNS=20000 SCRAPEQ_CHAOS_SCALE=10 $(BIN)/pytest tests/property tests/chaos --timeout 7200

targets: install  ## the applications of others that tests scrape, each in an environment of its own
	cd tests && ../$(BIN)/python -m targets.environment
