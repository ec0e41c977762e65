"""Explains YAML syntax errors: finds the mistake behind a parser error, and says how to fix it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from scrapeq.config.nodes import Node
from scrapeq.errors import Problem

_KEY = re.compile(r"^(\s*)(?:- +)*([^\s#'\"{\[][^:#]*?)\s*:(?:\s|$)")
_KEY_WITH_VALUE = re.compile(r"^\s*(?:- +)*[^\s#][^:]*:\s+[^\s#|>&]")
_BRACE_VALUE = re.compile(r"^\s*(?:- +)*([\w.-]+):\s+(\{[\w.\[\]-]+\}.*?)\s*$")
_PLACEHOLDER = re.compile(r"(?<!\$)\{([^{}]*)\}")
_TABBED = re.compile(r"^ *\t")
_DASHES = re.compile(r" *(?:- +)*")
_CUT_MESSAGE = "inside { } or [ ], a comma or bracket ends the value"
_QUOTE_IT = "quote the expression"
# The parser's own messages, for mistakes that no check below recognizes, and their plain wording.
_REWORDED = {
    "did not find expected key": (
        "a key is expected here",
        "write name: value, indented like the lines above",
    ),
    "did not find expected node content": (
        "a value is expected here",
        "quote the value if it starts with a symbol",
    ),
    "found unexpected ':'": ("inside { } or [ ], a colon ends the value", "quote the value"),
    "did not find expected '-' indicator": (
        "a list element is expected here",
        "indent every '- ' of a list equally",
    ),
    "did not find expected comment or line break": (
        "after | or > the text starts on the next line",
        "quote the value",
    ),
}


def position(text: str, index: int) -> tuple[int, int]:
    """Return the line and column, 1-based, of an index in the text."""
    line_start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, index) + 1, index - line_start + 1


def label(key: str) -> str:
    """Return the key as the start of a line in a hint (`cursor: `); empty for an element of a list."""
    return "" if not key or key.startswith("[") else f"{key}: "


def join_field(parts: Sequence[str]) -> str:
    """Join parts to a field path such as `resources[0].name`."""
    field = ""
    for part in parts:
        if not part:
            continue
        field += part if part.startswith("[") or not field else f".{part}"
    return field


def rest_of_value(line: str, col: int) -> str:
    """Return the rest of a line without its comment, escaped for single quotes: what was meant as a value."""
    return line[col:].split(" #")[0].rstrip().rstrip(",]}").replace("'", "''")


def explain(text: str, file: str, error: Any) -> Problem:
    """Return the problem behind a parser error (a `yaml.MarkedYAMLError`) in the text of a file."""
    mark = error.problem_mark or error.context_mark
    lines = text.split("\n")
    row = min(mark.line, len(lines) - 1) if mark else 0
    col = mark.column if mark else 0
    problem = str(error.problem or error.context or "this is not valid YAML")
    for detect in (_tab, _escape, _deeper, _flow, _brace, _alias, _quoted, _symbol, _end_of_text, _shallower):
        found = detect(lines, row, col, error)
        if found:
            row, col, field, problem, hint = found
            return Problem(file, row + 1, col + 1, field, problem, hint)
    return Problem(file, row + 1, col + 1, "", *_REWORDED.get(problem, (problem, "")))


_Found = tuple[int, int, str, str, str] | None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _key_column(line: str) -> int:
    """Return the column of the first key in a line, after its indentation and the dashes of a list."""
    found = _DASHES.match(line)
    return found.end() if found else 0


def _key(line: str) -> str:
    found = _KEY.match(line)
    return found[2] if found else ""


def _line_above(lines: list[str], row: int) -> int:
    """Return the nearest line above that is neither blank nor a comment; -1 if there is none."""
    for number in range(row - 1, -1, -1):
        stripped = lines[number].strip()
        if stripped and not stripped.startswith("#"):
            return number
    return -1


def _tab(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if _TABBED.match(lines[row]) and "tab" in f"{error.problem} cannot start any token tab":
        tab_col = lines[row].index("\t")
        if tab_col >= col or error.problem.startswith("found a tab") or not lines[row][:col].strip():
            message = "a tab indents this line; YAML allows spaces only"
            return row, tab_col, "", message, "replace the tab with spaces"
    return None


def _escape(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if "escape" not in error.problem:
        return None
    letter = lines[row][col + 1 : col + 2] if lines[row][col : col + 1] == "\\" else lines[row][col : col + 1]
    return (
        row,
        col,
        _key(lines[row]),
        f"\\{letter} is not an escape inside double quotes",
        "use single quotes",
    )


def _deeper(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if not error.problem.startswith("mapping values are not allowed"):
        return None
    above = _line_above(lines, row)
    indent, key = _indent(lines[row]), _key(lines[row])
    if above >= 0:
        before = _key_column(lines[above])
        if indent > before and key and _KEY_WITH_VALUE.match(lines[above]):
            message = f"indented deeper ({indent}) than the line above ({before}), which has a value already"
            hint = f'use {before} spaces, or move it under a key that ends in ":"'
            return row, indent, key, message, hint
        if not _KEY.match(lines[above]) and indent == _indent(lines[above]):
            word = lines[above].strip()
            message = f"'{word}' is not a key: a colon and a space are missing"
            return above, before, "", message, f"{word.split(':')[0]}: value"
    value = rest_of_value(lines[row], 0).partition(":")[2].strip()
    message = "a colon followed by a space starts a mapping here"
    return row, col, key, message, f"quote the value: {label(key)}'{value}'"


def _flow(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if error.context not in ("while parsing a flow mapping", "while parsing a flow sequence"):
        return None
    opened = error.context_mark
    if row > opened.line and (_KEY.match(lines[row]) or not lines[row].strip()):
        bracket = lines[opened.line][opened.column : opened.column + 1]
        close = "}" if bracket == "{" else "]"
        key = _key(lines[opened.line])
        return opened.line, opened.column, key, f"this '{bracket}' is never closed", f"add '{close}'"
    return row, col, "", _CUT_MESSAGE, _QUOTE_IT


def _brace(lines: list[str], row: int, col: int, error: Any) -> _Found:
    found = _BRACE_VALUE.match(lines[row])
    if not found or "block" not in str(error.context):
        return None
    written = _PLACEHOLDER.sub(r"${\1}", found[2])
    return row, found.start(2), found[1], "{ starts a YAML mapping here", f'{found[1]}: "{written}"'


def _alias(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if error.context != "while scanning an alias":
        return None
    start = error.context_mark.column
    key = _key(lines[row])
    hint = f"{label(key)}'{rest_of_value(lines[row], start)}'"
    return row, start, key, "* starts a YAML alias here", hint


def _quoted(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if error.context == "while scanning a quoted scalar" and error.context_mark:
        mark = error.context_mark
        return (
            mark.line,
            mark.column,
            _key(lines[mark.line]),
            "this quote is never closed",
            "add the closing quote",
        )
    return None


def _symbol(lines: list[str], row: int, col: int, error: Any) -> _Found:
    letter = lines[row][col : col + 1]
    if "cannot start any token" in error.problem and letter:
        key = _key(lines[row])
        hint = f"{label(key)}'{rest_of_value(lines[row], col)}'"
        return row, col, key, f"{letter!r} cannot start a value in YAML", hint
    return None


def _end_of_text(lines: list[str], row: int, col: int, error: Any) -> _Found:
    before = lines[row][:col].rstrip()
    if "expected key" in error.problem and col > _indent(lines[row]) and before.endswith(("'", '"')):
        message = "text continues after the closing quote"
        return row, col, _key(lines[row]), message, "put the whole value in quotes"
    return None


def _shallower(lines: list[str], row: int, col: int, error: Any) -> _Found:
    if "did not find expected" not in error.problem:
        return None
    above = _line_above(lines, row)
    indent = _indent(lines[row])
    starts = [lines[number].lstrip().startswith("- ") for number in (row, above) if number >= 0]
    if len(set(starts)) > 1 and indent == _indent(lines[above]):
        message = "a list and a map are mixed here"
        return row, indent, _key(lines[row]), message, "start each element with '- '"
    if above >= 0 and indent == col:
        message = f"indented by {indent} spaces, which matches none of the levels above"
        return row, indent, _key(lines[row]), message, "give the keys of one map the same indentation"
    return None


def cut_by_flow(node: Node, field: str) -> Problem | None:
    """
    Report the first value in a flow collection that a comma or bracket has cut off.

    `{stop_when: min(a, b)}` is valid YAML, but the value ends at the comma.
    """
    values = [(f"[{index}]", item) for index, item in enumerate(node.items)]
    values += [(key, entry.node) for key, entry in node.entries.items()]
    for key, value in values:
        if value.kind == "scalar" and value.plain and _unbalanced(value.text):
            return Problem(
                value.file, value.line, value.col, join_field([field, key]), _CUT_MESSAGE, _QUOTE_IT
            )
    return None


def _unbalanced(text: str) -> bool:
    return text.count("(") > text.count(")") or text.count("${") > text.count("}")
