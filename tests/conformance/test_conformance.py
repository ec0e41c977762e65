"""Our own cases of three standards; `make suites` runs the standards' whole suites through the same judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from standards import Verdict, judge_jsonpath, judge_structured, judge_yaml

CASES = Path(__file__).parent / "cases"
JUDGES = {"jsonpath": judge_jsonpath, "structured": judge_structured, "yaml": judge_yaml}


def cases_of(standard: str) -> list[dict[str, Any]]:
    """Our cases of a standard."""
    found: list[dict[str, Any]] = json.loads((CASES / f"{standard}.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("standard", JUDGES)
def test_every_case_of_ours_passes(standard: str) -> None:
    """All cases are read as the standard says, or refused where it says so."""
    cases = cases_of(standard)
    verdict: Verdict = JUDGES[standard](cases)
    assert (verdict.failed, verdict.unread, verdict.refused) == ([], [], {})
    assert verdict.passed == len(cases)


@pytest.mark.parametrize("standard", JUDGES)
def test_the_judges_can_say_no(standard: str) -> None:
    """A case whose answer is turned into its opposite fails."""
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
