"""Small sets of cases for three standards; `make suites` runs the complete public suites with the same functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from standards import Tally, judge_jsonpath, judge_structured, judge_yaml

CASES = Path(__file__).parent / "cases"
JUDGES = {"jsonpath": judge_jsonpath, "structured": judge_structured, "yaml": judge_yaml}


def cases_of(standard: str) -> list[dict[str, Any]]:
    """Return the cases of a standard."""
    found: list[dict[str, Any]] = json.loads((CASES / f"{standard}.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("standard", JUDGES)
def test_every_case_passes(standard: str) -> None:
    """Valid cases have the expected value, and invalid ones are refused."""
    cases = cases_of(standard)
    tally: Tally = JUDGES[standard](cases)
    assert (tally.failed, tally.unread, tally.refused) == ([], [], {})
    assert tally.passed == len(cases)


@pytest.mark.parametrize("standard", JUDGES)
def test_wrong_expectations_fail(standard: str) -> None:
    """If the expected result of a case is inverted, the case does not pass."""
    wrong = []
    for case in cases_of(standard):
        if case.get("invalid_selector"):
            wrong.append({**case, "invalid_selector": False, "document": {}, "result": []})
        elif case.get("must_fail") or case.get("fail"):
            wrong.append({**case, "must_fail": False, "fail": False, "expected": ["x"], "json": '"x"'})
        elif standard == "jsonpath":
            wrong.append({**case, "invalid_selector": True})
        else:
            wrong.append({**case, "must_fail": True, "fail": True})
    assert JUDGES[standard](wrong).passed == 0
