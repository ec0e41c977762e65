"""Reads restricted YAML into nodes: rejects tags, multiple documents, duplicate keys, and recursive or huge aliases."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NoReturn

import yaml

from scrapeq.config import mistakes
from scrapeq.config.nodes import Entry, Node, resolve
from scrapeq.errors import ConfigError, Problem

MAX_BYTES = 4_000_000
MAX_NODES = 500_000
MAX_DEPTH = 40
TOO_DEEP = "maximum nesting depth"  # part of PyYAML's message

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_COMMENT = re.compile(r"[:-]?[ \t]+(#\S.*)")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_CORE = "tag:yaml.org,2002:"


def decode(data: bytes, file: str) -> str:
    """Return the text of a file. Raises ConfigError if it is too large or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem(file, 0, 0, "", f"the file is larger than {MAX_BYTES} bytes")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line, col = mistakes.position(before, len(before))
        raise ConfigError([Problem(file, line, col, "", "this is not UTF-8 text")]) from None


def read(text: str, file: str) -> Node:
    """
    Parse a text and return its root node. An empty text is an empty map.

    Raises:
        ConfigError: The text is not valid YAML, or uses features that are rejected; carries line and column.
    """
    text = text.removeprefix("\ufeff")
    if odd := _UNPRINTABLE.search(text):
        line, col = mistakes.position(text, odd.start())
        raise ConfigError([Problem(file, line, col, "", f"the character {odd[0]!a} is not allowed in YAML")])
    composer = _Composer(text, file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            composer.feed(event)
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        problem = mistakes.explain(text, file, error)
        if TOO_DEEP in problem.message:  # the parser has its own bound, and reads ahead
            problem = replace(problem, message=f"nested deeper than {MAX_DEPTH} levels")
        composer.problems.append(problem)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        composer.problems.append(
            Problem(file, 1, 1, "", f"this is not valid YAML: {str(error).splitlines()[0]}")
        )
    if composer.problems:
        raise ConfigError(composer.problems)
    return composer.root or Node("map", file, 1, 1)


class _Stop(Exception):
    """Stops the parser; the problem has been recorded."""


class _Open:
    """A list or map whose end has not been read yet."""

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Node | None = None  # in a map: the key whose value is read next
        self.merged: list[Node] = []

    def path(self) -> str:
        """Return the key or index that is being read, for the field of a problem."""
        if self.node.kind == "list":
            return f"[{len(self.node.items)}]"
        return self.key.text if self.key else ""


class _Composer:
    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._lines = text.split("\n")
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None while the collection is open
        self._total = 0
        self._document_count = 0

    def feed(self, event: Any) -> None:
        """Process one event of the parser."""
        if isinstance(event, yaml.ScalarEvent):
            self._add(self._scalar(event), event.anchor)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open("map", event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open("list", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._document_count += 1
            if self._document_count > 1:
                mark: Any = event.start_mark
                self._stop(
                    mark.line + 1, mark.column + 1, "a second document begins here; one file holds one scrape"
                )

    def _stop(self, line: int, col: int, message: str, hint: str = "") -> NoReturn:
        self._problem(line, col, message, hint)
        raise _Stop

    def _field(self) -> str:
        return mistakes.join_field([opened.path() for opened in self._stack])

    def _problem(self, line: int, col: int, message: str, hint: str = "", field: str | None = None) -> None:
        where = self._field() if field is None else field
        self.problems.append(Problem(self.file, line, col, where, message, hint))

    def _scalar(self, event: Any) -> Node:
        mark = event.start_mark
        plain = not event.style and event.implicit[0]
        self._check_tag(event)
        node = Node("scalar", self.file, mark.line + 1, mark.column + 1, text=event.value, plain=plain)
        node.value = resolve(event.value) if plain else event.value
        node.flow = bool(self._stack) and self._stack[-1].node.flow
        return node

    def _check_tag(self, event: Any) -> None:
        tag = event.tag
        if tag is None or tag in _TEXT_TAGS or tag in (f"{_CORE}map", f"{_CORE}seq"):
            return
        short = tag.replace(_CORE, "!!")
        line, col = event.start_mark.line + 1, event.start_mark.column + 1
        self._problem(line, col, f"the tag {short} is not allowed; values are plain data", "remove the tag")

    def _open(self, kind: Any, event: Any) -> None:
        mark = event.start_mark
        if len(self._stack) >= MAX_DEPTH:
            self._stop(mark.line + 1, mark.column + 1, f"nested deeper than {MAX_DEPTH} levels")
        self._check_tag(event)
        node = Node(kind, self.file, mark.line + 1, mark.column + 1, flow=bool(event.flow_style))
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(node, event.anchor))

    def _close(self) -> None:
        done = self._stack.pop()
        for base in done.merged:
            for key, entry in base.entries.items():
                done.node.entries.setdefault(key, entry)
        if done.node.flow:
            problem = mistakes.cut_by_flow(done.node, self._field())
            if problem:
                self.problems.append(problem)
        self._add(done.node, done.anchor)

    def _alias(self, event: Any) -> None:
        line, col = event.start_mark.line + 1, event.start_mark.column + 1
        name = event.anchor
        if name not in self._anchors:
            key = self._stack[-1].path() if self._stack else ""
            written = mistakes.rest_of_value(self._lines[line - 1], col - 1)
            self._stop(line, col, "* starts a YAML alias here", f"{mistakes.label(key)}'{written}'")
        node = self._anchors[name]
        if node is None:
            self._stop(line, col, f"the anchor '{name}' contains itself")
        if len(self._stack) + node.depth > MAX_DEPTH:
            self._stop(line, col, f"nested deeper than {MAX_DEPTH} levels")
        self._add(node, None, count=node.size)

    def _add(self, node: Node, anchor: str | None, count: int = 1) -> None:
        self._total += count
        if self._total > MAX_NODES:
            self._stop(
                node.line,
                node.col,
                f"the file has more than {MAX_NODES} values, with aliases counted each time",
            )
        if anchor:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.node.depth = max(parent.node.depth, node.depth + 1)
        if parent.node.kind == "list":
            self._check_comment(node, "an element")
            parent.node.items.append(node)
            parent.node.size += node.size
        elif parent.key is None:
            self._start_key(parent, node)
        else:
            self._end_value(parent, parent.key, node)

    def _start_key(self, parent: _Open, node: Node) -> None:
        if node.kind != "scalar":
            field = self._field()
            if node.flow and node.kind == "map":
                inner = next(iter(node.entries), "name")
                hint = f'placeholders are written "${{{inner}}}", in quotes'
                self._problem(node.line, node.col, "{ starts a YAML mapping here", hint, field)
            else:
                self._problem(node.line, node.col, "a key must be text", field=field)
            parent.key = Node("scalar", self.file, node.line, node.col, "?", "?")
            return
        parent.key = node

    def _end_value(self, parent: _Open, key: Node, node: Node) -> None:
        self._check_comment(node, key.text)
        if key.text == "<<" and key.plain:
            parent.merged += self._merge_sources(node)
        elif key.text in parent.node.entries:
            first = parent.node.entries[key.text].line
            parent.key = None
            message = f"'{key.text}' appears twice; the first is on line {first}"
            self._problem(key.line, key.col, message)
        else:
            parent.node.entries[key.text] = Entry(key.text, key.line, key.col, node)
        parent.node.size += node.size
        parent.key = None

    def _merge_sources(self, node: Node) -> list[Node]:
        bases = node.items if node.kind == "list" else [node]
        if any(base.kind != "map" for base in bases):
            self._problem(node.line, node.col, "<< takes a map or a list of maps", "<<: *name")
            return []
        return bases

    def _check_comment(self, node: Node, key: str) -> None:
        """Report `title: #main`, which YAML reads as an empty value and a comment, as the author never means it."""
        if not (node.is_null and node.plain and not node.text) or node.line > len(self._lines):
            return
        line = self._lines[node.line - 1]
        found = _COMMENT.match(line, max(0, node.col - 2))
        if found:
            hint = (
                f"{mistakes.label(key)}'{found[1].strip()}'"
                if key != "an element"
                else f"- '{found[1].strip()}'"
            )
            self._problem(node.line, node.col, f"{key} is empty: # after a space begins a comment", hint)
