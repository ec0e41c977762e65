"""
The whole suites of three standards: `make suites`, or

    python tests/support/standard_suites.py [--folder FOLDER]

They are cloned from their public repositories at fixed commits into the folder (default: .suites), unless they are
there already. Prints how many cases pass, and which do not; ends with 1 when fewer pass than
docs/explanation/conformance.md says.
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

from standards import Verdict, judge_jsonpath, judge_structured, judge_yaml, yaml_cases

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "conformance.md"
ROW = re.compile(r"^\| ([^|]+?) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Suite:
    """A public suite: where it is, which state of it, how its cases are found and judged."""

    title: str
    repository: str
    commit: str
    cases: Callable[[Path], Iterator[dict[str, Any]]]
    judge: Callable[[Any], Verdict]

    @property
    def folder(self) -> str:
        """Where it is cloned to."""
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
    place = folder / suite.folder
    if not place.exists():
        subprocess.run(["git", "clone", "-q", suite.repository, str(place)], check=True)
        subprocess.run(["git", "-C", str(place), "checkout", "-q", suite.commit], check=True)
    return place


def _told() -> dict[str, int]:
    """How many pass by docs/explanation/conformance.md, by the suite's title."""
    rows = ROW.findall(PAGE.read_text("utf-8")) if PAGE.exists() else []
    return {title: int(passed.replace(",", "")) for title, _, passed in rows}


def main() -> int:
    """Run them all; 1 when one of them passes fewer cases than the page says."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    arguments.add_argument(
        "--folder", type=Path, default=ROOT / ".suites", help="where the suites are cloned to"
    )
    given = arguments.parse_args()
    told, worse = _told(), False
    for suite in SUITES:
        cases = list(suite.cases(_cloned(suite, given.folder)))
        verdict = suite.judge(cases)
        refused = sum(verdict.refused.values())
        print(
            f"{suite.title}: {len(cases)} cases, {verdict.passed} pass, {refused} refused by a rule of ours, "
            f"{len(verdict.unread)} that the parser cannot read, {len(verdict.failed)} read otherwise"
        )
        for rule, count in sorted(verdict.refused.items()):
            print(f"  refused: {rule}: {count}")
        for name in verdict.unread:
            print(f"  not read: {name}")
        for name in verdict.failed:
            print(f"  otherwise: {name}")
        worse = worse or verdict.passed < told.get(suite.title, 0)
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
