"""
Checks of test cases for three standards: JSONPath (RFC 9535), structured fields (RFC 9651) and YAML, restricted.

Each function takes cases in the format of the standard's public suite. So the same code runs the small sets of cases
in CI and the complete suites of `make suites`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import http_sf
import yaml

from scrapeq.config import reader
from scrapeq.config.nodes import Node
from scrapeq.errors import ConfigError, UsageError
from scrapeq.extract import compile_path

Case = Mapping[str, Any]


@dataclass
class Tally:
    """The results of a suite: passed cases are counted, failed ones are named, refused ones are counted by rule."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)  # read differently, or accepted although invalid
    unread: list[str] = field(default_factory=list)  # valid, but rejected by the parser library
    refused: dict[str, int] = field(
        default_factory=dict
    )  # number of cases by the rule of scrapeq that refuses them

    def count(self, name: str, good: bool) -> None:
        """Count a case as passed or failed."""
        if good:
            self.passed += 1
        else:
            self.failed.append(name)

    def refuse(self, rule: str) -> None:
        """Count a case that a rule of scrapeq refuses on purpose."""
        self.refused[rule] = self.refused.get(rule, 0) + 1


def judge_jsonpath(cases: Iterable[Case]) -> Tally:
    """Judge cases with `selector`, `document`, `result` or `results`, and `invalid_selector`."""
    tally = Tally()
    for case in cases:
        try:
            path = compile_path(case["selector"])
        except UsageError:
            tally.count(case["name"], bool(case.get("invalid_selector")))
            continue
        if case.get("invalid_selector"):
            tally.count(case["name"], False)
            continue
        expected = case["results"] if "results" in case else [case["result"]]
        found = path(case["document"])
        # A path that can match at most one node returns its value, or null, instead of a list.
        single = [one[0] if one else None for one in expected if len(one) <= 1]
        tally.count(
            case["name"],
            _equals_any(found, expected)
            or (not isinstance(found, list) and found in single)
            or (isinstance(found, list) and found in single),
        )
    return tally


def _equals_any(found: Any, expected: list[Any]) -> bool:
    return any(json.dumps(found) == json.dumps(one) for one in expected)


def judge_structured(cases: Iterable[Case]) -> Tally:
    """Judge cases with `raw`, `header_type`, `expected`, `must_fail` and `can_fail`."""
    tally = Tally()
    for case in cases:
        raw = ", ".join(case["raw"]).encode("latin-1", "replace")
        try:
            found = http_sf.parse(raw, tltype=case["header_type"])
        except (ValueError, RecursionError):
            tally.count(case["name"], bool(case.get("must_fail") or case.get("can_fail")))
            continue
        if case.get("must_fail"):
            tally.count(case["name"], False)
            continue
        tally.count(case["name"], _of_field(found, case["header_type"]) == _of_case(case["expected"]))
    return tally


def _of_field(value: Any, kind: str) -> Any:
    """Return a parsed field in the format of the suite."""
    if kind == "dictionary":
        return [[name, _member(member)] for name, member in value.items()]
    if kind == "list":
        return [_member(member) for member in value]
    return _member(value)


def _member(member: Any) -> Any:
    value, parameters = member
    plain = [_member(one) for one in value] if isinstance(value, list) else _bare(value)
    return [plain, [[name, _bare(one)] for name, one in parameters.items()]]


def _bare(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"__type": "binary", "value": base64.b32encode(value).decode()}
    if isinstance(value, bool | int | float) or type(value) is str:
        return value
    if type(value).__name__ == "Decimal":
        return float(value)
    if hasattr(value, "timestamp"):
        return {"__type": "date", "value": int(value.timestamp())}
    kind = "displaystring" if "isplay" in type(value).__name__ else "token"
    return {"__type": kind, "value": str(value)}


def _of_case(expected: Any) -> Any:
    if isinstance(expected, list):
        return [_of_case(one) for one in expected]
    return expected


_SPECIAL = {"␣": " ", "↵": "", "∎": "", "←": "\r", "⇔": "\ufeff"}


def judge_yaml(cases: Iterable[Case]) -> Tally:
    """
    Judge cases with `yaml` (with symbols for blanks), `json` and `fail`.

    Configuration files are a subset of YAML 1.2. Valid cases outside it are counted by the rule that refuses them.
    """
    tally = Tally()
    for case in cases:
        text = _visible(case["yaml"])
        name = case["name"]
        try:
            value = plain(reader.read(text, "case.yaml"))
        except ConfigError as error:
            if case.get("fail"):
                tally.count(name, True)
            elif rule := rule_of(text, case, error):
                tally.refuse(rule)
            else:
                tally.unread.append(name)
            continue
        if case.get("fail"):
            tally.count(name, False)
        elif case.get("json") is None:
            tally.refuse("the case lacks an expected result")
        else:
            tally.count(name, value == _core(case["json"]))
    return tally


def _visible(text: str) -> str:
    """Replace the symbols that the suite writes for significant blanks."""
    text = re.sub("—*»", "\t", text)
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _core(text: str) -> Any:
    return json.loads(text) if text.strip() else {}


def plain(node: Node) -> Any:
    """Return the plain value of a tree of nodes."""
    if node.kind == "list":
        return [plain(item) for item in node.items]
    if node.kind == "map":
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    return node.value


# Rules of the configuration language that refuse valid YAML, by a word of their messages.
RULES = (
    ("second document", "one file, one document"),
    ("tag", "tags"),
    ("tab", "tabs for indentation"),
    ("appears twice", "duplicate keys"),
    ("alias", "aliases that name their own anchor"),
    ("key", "keys that are not strings"),
)


def rule_of(text: str, case: Case, error: ConfigError) -> str:
    """Return the rule that refused a valid case; an empty string if the error has another cause."""
    messages = " ".join(problem.message for problem in error.problems)
    for word, rule in RULES:
        if re.search(rf"\b{word}s?\b", messages):
            return rule
    return ""


def yaml_cases(text: str, name: str) -> list[dict[str, Any]]:
    """Return the cases of one file of the YAML suite; a case inherits missing keys from the one before it."""
    found = []
    previous: dict[str, Any] = {}
    for index, case in enumerate(yaml.safe_load(text)):
        previous = {**previous, **case}
        if "fail" not in case:
            previous.pop("fail", None)
        if case.get("fail"):
            previous.pop("json", None)
        if not case.get("skip"):
            found.append({**previous, "name": f"{name}/{index} {previous.get('name', '')}"})
    return found
