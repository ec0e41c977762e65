"""
How cases of three standards are judged: JSONPath (RFC 9535), structured fields (RFC 9651), YAML as we restrict it.

Each judge takes cases in the form of the standard's own public suite, so that the small sets of ours in CI and the
whole suites behind `make suites` run through the same code.
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
class Verdict:
    """What became of a suite's cases: how many passed, the names of those that failed, and why others do not count."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)  # read otherwise, or accepted though invalid
    unread: list[str] = field(default_factory=list)  # valid, and refused by the parser that we use
    refused: dict[str, int] = field(default_factory=dict)  # by the rule of ours that refuses them

    def count(self, name: str, good: bool) -> None:
        """One case."""
        if good:
            self.passed += 1
        else:
            self.failed.append(name)

    def refuse(self, rule: str) -> None:
        """A case that a rule of ours refuses on purpose."""
        self.refused[rule] = self.refused.get(rule, 0) + 1


def judge_jsonpath(cases: Iterable[Case]) -> Verdict:
    """Cases of the JSONPath compliance suite: `selector`, `document`, `result` or `results`, `invalid_selector`."""
    verdict = Verdict()
    for case in cases:
        try:
            path = compile_path(case["selector"])
        except UsageError:
            verdict.count(case["name"], bool(case.get("invalid_selector")))
            continue
        if case.get("invalid_selector"):
            verdict.count(case["name"], False)
            continue
        wanted = case["results"] if "results" in case else [case["result"]]
        found = path(case["document"])
        # a path that leads to one place at most gives that value itself, and null for none
        single = [one[0] if one else None for one in wanted if len(one) <= 1]
        verdict.count(
            case["name"],
            _same(found, wanted)
            or (not isinstance(found, list) and found in single)
            or (isinstance(found, list) and found in single),
        )
    return verdict


def _same(found: Any, wanted: list[Any]) -> bool:
    return any(json.dumps(found) == json.dumps(one) for one in wanted)


def judge_structured(cases: Iterable[Case]) -> Verdict:
    """Cases of the structured-field suite: `raw`, `header_type`, `expected`, `must_fail`, `can_fail`."""
    verdict = Verdict()
    for case in cases:
        raw = ", ".join(case["raw"]).encode("latin-1", "replace")
        try:
            found = http_sf.parse(raw, tltype=case["header_type"])
        except (ValueError, RecursionError):
            verdict.count(case["name"], bool(case.get("must_fail") or case.get("can_fail")))
            continue
        if case.get("must_fail"):
            verdict.count(case["name"], False)
            continue
        verdict.count(case["name"], _of_field(found, case["header_type"]) == _of_case(case["expected"]))
    return verdict


def _of_field(value: Any, kind: str) -> Any:
    """What the parser gives, in the form of the suite."""
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


def judge_yaml(cases: Iterable[Case]) -> Verdict:
    """
    Cases of the YAML suite: `yaml` (with its visible blanks), `json`, `fail`.

    Our language is YAML 1.2 with less in it, so that a case may be refused by a rule, each counted by its name.
    """
    verdict = Verdict()
    for case in cases:
        text = _visible(case["yaml"])
        name = case["name"]
        try:
            value = plain(reader.read(text, "case.yaml"))
        except ConfigError as error:
            if case.get("fail"):
                verdict.count(name, True)
            elif rule := rule_of(text, case, error):
                verdict.refuse(rule)
            else:
                verdict.unread.append(name)
            continue
        if case.get("fail"):
            verdict.count(name, False)
        elif case.get("json") is None:
            verdict.refuse("the case has no JSON to compare with")
        else:
            verdict.count(name, value == _core(case["json"]))
    return verdict


def _visible(text: str) -> str:
    """The suite writes blanks that matter as visible signs."""
    text = re.sub("—*»", "\t", text)
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _core(text: str) -> Any:
    return json.loads(text) if text.strip() else {}


def plain(node: Node) -> Any:
    """A tree of nodes as a plain value."""
    if node.kind == "list":
        return [plain(item) for item in node.items]
    if node.kind == "map":
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    return node.value


# The rules of the configuration language that refuse valid YAML, by what their messages say.
RULES = (
    ("second document", "one file, one document"),
    ("tag", "tags"),
    ("tab", "tabs for indentation"),
    ("appears twice", "duplicate keys"),
    ("alias", "aliases that name their own anchor"),
    ("key", "keys that are no text"),
)


def rule_of(text: str, case: Case, error: ConfigError) -> str:
    """The rule that refused a valid case; empty when none is known."""
    said = " ".join(problem.message for problem in error.problems)
    for word, rule in RULES:
        if re.search(rf"\b{word}s?\b", said):
            return rule
    return ""


def yaml_cases(text: str, name: str) -> list[dict[str, Any]]:
    """The cases of one file of the YAML suite; what a case leaves out, it has from the one before."""
    found = []
    before: dict[str, Any] = {}
    for at, case in enumerate(yaml.safe_load(text)):
        before = {**before, **case}
        if "fail" not in case:
            before.pop("fail", None)
        if case.get("fail"):
            before.pop("json", None)
        if not case.get("skip"):
            found.append({**before, "name": f"{name}/{at} {before.get('name', '')}"})
    return found
