"""
Run the complete public suites of three standards: `make suites`, or

    python tests/support/standard_suites.py [--folder FOLDER]

The suites are cloned from their public repositories at fixed commits into the folder (default: .suites), unless they
are already there. Prints the number of passed cases and the names of the others. The exit code is 1 if fewer cases
pass than docs/explanation/conformance.md states.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standards import Tally, judge_jsonpath, judge_structured, judge_yaml, yaml_cases

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "conformance.md"
ROW = re.compile(r"^\| ([^|]+?) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Suite:
    """A public suite: its repository and commit, and functions that read and judge its cases."""

    title: str
    repository: str
    commit: str
    cases: Callable[[Path], Iterator[dict[str, Any]]]
    judge: Callable[[Any], Tally]

    @property
    def folder(self) -> str:
        """Name of the folder that the suite is cloned to."""
        return self.repository.rpartition("/")[2]


def _jsonpath(folder: Path) -> Iterator[dict[str, Any]]:
    yield from json.loads((folder / "cts.json").read_text("utf-8"))["tests"]


def _structured(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        for case in json.loads(path.read_text("utf-8")):
            yield {**case, "name": f"{path.stem}: {case['name']}"}


def _yaml(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "src").glob("*.yaml")):
        yield from yaml_cases(path.read_text("utf-8"), path.stem)


SUITES = (
    Suite(
        "JSONPath (RFC 9535)",
        "https://github.com/jsonpath-standard/jsonpath-compliance-test-suite",
        "7be7c1fc28057c91e8eefaf197060fba7ed43acd",
        _jsonpath,
        judge_jsonpath,
    ),
    Suite(
        "Structured fields (RFC 9651)",
        "https://github.com/httpwg/structured-field-tests",
        "1e280c3ed9ffe0ca5fdb1d97219dddc389007677",
        _structured,
        judge_structured,
    ),
    Suite(
        "YAML 1.2",
        "https://github.com/yaml/yaml-test-suite",
        "ccfa74e56afb53da960847ff6e6976c0a0825709",
        _yaml,
        judge_yaml,
    ),
)


def _cloned(suite: Suite, folder: Path) -> Path:
    path = folder / suite.folder
    if not path.exists():
        subprocess.run(["git", "clone", "-q", suite.repository, str(path)], check=True)
        subprocess.run(["git", "-C", str(path), "checkout", "-q", suite.commit], check=True)
    return path


def _documented() -> dict[str, int]:
    """Return the numbers of passed cases in docs/explanation/conformance.md, by the suite's title."""
    rows = ROW.findall(PAGE.read_text("utf-8")) if PAGE.exists() else []
    return {title: int(passed.replace(",", "")) for title, _, passed in rows}


def main() -> int:
    """Run all suites. Return 1 if any of them passes fewer cases than documented."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    arguments.add_argument(
        "--folder", type=Path, default=ROOT / ".suites", help="folder to clone the suites into"
    )
    options = arguments.parse_args()
    documented, is_worse = _documented(), False
    for suite in SUITES:
        cases = list(suite.cases(_cloned(suite, options.folder)))
        tally = suite.judge(cases)
        refused = sum(tally.refused.values())
        print(
            f"{suite.title}: {len(cases)} cases, {tally.passed} pass, {refused} refused by a rule of scrapeq, "
            f"{len(tally.unread)} rejected by the parser, {len(tally.failed)} failed"
        )
        for rule, count in sorted(tally.refused.items()):
            print(f"  refused: {rule}: {count}")
        for name in tally.unread:
            print(f"  rejected: {name}")
        for name in tally.failed:
            print(f"  failed: {name}")
        is_worse = is_worse or tally.passed < documented.get(suite.title, 0)
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main())
