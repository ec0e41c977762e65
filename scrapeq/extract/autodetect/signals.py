"""Signals of a next page in a response body: links, cursors, flags and numbers, each with its path. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scrapeq.extract import known_names as names
from scrapeq.extract.known_names import normalize
from scrapeq.extract.page_end import is_end_mark
from scrapeq.extract.paginators import LINK_KEYS, MAX_DIGITS

MAX_OBJECTS = 100
"""The most objects to examine; a body with more of them around its records is itself a map of records."""
_RELATIONS = frozenset({"rel", "relation", "@rel"})
_TRUE_WORDS = frozenset({"true", "yes", "y", "1"})
_FALSE_WORDS = frozenset({"false", "no", "n", "0"})
MAX_DEPTH = 5
"""The most levels of objects to examine: enough for `data.repository.issues.pageInfo`."""

Steps = tuple[Any, ...]
"""A path into a body: keys, list indexes, and `{"rel": "next"}` for the link with that relation."""


def resolve_path(value: Any, steps: Sequence[Any]) -> Any:
    """Return the value at a path; None if there is none."""
    for step in steps:
        if isinstance(step, Mapping):
            value = next(iter(_with_relation(value, step["rel"])), None)
        elif isinstance(step, int):
            fits = isinstance(value, list) and -len(value) <= step < len(value)
            value = value[step] if fits else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None:
            return None
    return value


def format_path(steps: Sequence[Any]) -> str:
    """Write a path for the user: `links[rel=next].href`, `data[-1].id`."""
    text = ""
    for step in steps:
        if isinstance(step, Mapping):
            text += f"[rel={step['rel']}]"
        elif isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else str(step)
    return text


@dataclass(slots=True)
class Signals:
    """The signals found, those nearest to the root first."""

    links: list[Steps] = field(default_factory=list)
    cursors: list[tuple[Steps, names.CursorName]] = field(default_factory=list)
    objects: list[tuple[Steps, names.CursorName]] = field(default_factory=list)  # cursors that are objects
    numbers: list[Steps] = field(default_factory=list)  # the number of the next page
    unrecognized: list[Steps] = field(default_factory=list)  # `next…` under an unknown name
    ended: bool = False  # there is a link or cursor, but it is empty
    more: tuple[Steps, bool] | None = None  # a flag: its path and its value
    last: tuple[Steps, bool] | None = None
    roles: dict[str, tuple[Steps, int]] = field(default_factory=dict)
    list_of: Steps | None = None  # where the records are

    @property
    def has_more(self) -> bool | None:
        """Whether a flag reports more pages; None without a flag."""
        if self.more is not None:
            return self.more[1]
        return None if self.last is None else not self.last[1]

    def drop_truncation_flag(self) -> None:
        """Ignore a false truncation flag: where a link or cursor leads on, it is about this page only."""
        if (
            self.more is not None
            and not self.more[1]
            and normalize(str(self.more[0][-1])) in names.TRUNCATION_FLAGS
        ):
            self.more = None


def signals_of(body: Any, records: Sequence[Any]) -> Signals:
    """
    Collect all signals in a body.

    Args:
        body: The decoded response body.
        records: Its records. If the only record is the body itself, its members are not signals.
    """
    signals = Signals()
    if not isinstance(body, Mapping) or (len(records) == 1 and records[0] is body):
        return signals
    role_groups: list[dict[str, tuple[Steps, int]]] = []
    wrapper = next(iter(body)) if len(body) == 1 else None  # such as the root of an XML document
    for steps, node in _around_records(list(_objects(body, records)), records):
        _read(signals, steps, node, records, role_groups, is_outer=steps in ((), (wrapper,)))
    # The numbers of one object belong together; other objects only add the missing roles.
    for roles in sorted(role_groups, key=len, reverse=True):
        for role, found in roles.items():
            signals.roles.setdefault(role, found)
    return signals


def _objects(body: Mapping[str, Any], records: Sequence[Any]) -> Iterator[tuple[Steps, Mapping[str, Any]]]:
    """Yield the objects around the records, level by level, without list elements and records."""
    level: list[tuple[Steps, Mapping[str, Any]]] = [((), body)]
    seen = 0
    for _ in range(MAX_DEPTH):
        next_level: list[tuple[Steps, Mapping[str, Any]]] = []
        for steps, node in level:
            seen += 1
            if seen > MAX_OBJECTS:
                return
            yield steps, node
            for name, value in node.items():
                if isinstance(value, Mapping) and not (records and value is records[0]):
                    next_level.append(((*steps, name), value))
        level = next_level


def _around_records(
    objects: list[tuple[Steps, Mapping[str, Any]]], records: Sequence[Any]
) -> list[tuple[Steps, Mapping[str, Any]]]:
    """Return the objects without those that describe another list, such as a second connection of a GraphQL query."""
    home = next(
        (steps for steps, node in objects if any(_is_list_of(one, records) for one in node.values())), None
    )
    if home is None or not records:
        return objects
    others = {
        steps
        for steps, node in objects
        if steps != home[: len(steps)]
        and normalize(str(steps[-1])) not in names.ENVELOPES
        and any(_is_list_of_objects(name, value) for name, value in node.items())
    }
    return [
        (steps, node)
        for steps, node in objects
        if others.isdisjoint(steps[:length] for length in range(1, len(steps) + 1))
    ]


def _is_list_of_objects(name: str, value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return is_list and local_name(name) not in names.LINK_LISTS


def local_name(name: str) -> str:
    """Return a name of XML without its prefix, normalized: `atom:link` -> `link`."""
    return normalize(name.rpartition(":")[2])


def _read(
    signals: Signals,
    steps: Steps,
    node: Mapping[str, Any],
    records: Sequence[Any],
    role_groups: list[dict[str, tuple[Steps, int]]],
    *,
    is_outer: bool,
) -> None:
    list_name = next((name for name, value in node.items() if _is_list_of(value, records)), None)
    if list_name is not None and signals.list_of is None:
        signals.list_of = (*steps, list_name)
    parent = normalize(str(steps[-1])) if steps else ""
    near = is_outer or list_name is not None or parent in names.ENVELOPES
    roles: dict[str, tuple[Steps, int]] = {}
    for name, value in node.items():
        if name == list_name:
            continue
        kind = local_name(name)
        path = (*steps, name)
        if kind in names.NEXT_LINK_KEYS or normalize(name) in names.NEXT_LINK_KEYS:
            _link(signals, path, value)
        elif kind in names.NEXT_KEYS and (near or kind != "next"):
            _next(signals, path, value, "cursor" if _is_named_by_cursor(node) else parent)
        elif kind in names.LINK_LISTS and isinstance(value, list | Mapping) and _links_in(value):
            _link_list(signals, path, value)
        elif kind in names.LINK_LISTS and isinstance(value, list):
            keyed = (index for index, one in enumerate(value) if isinstance(one, Mapping) and one.get("next"))
            signals.unrecognized += [(*path, index, "next") for index in keyed]
        elif kind == "more" and names.looks_like_url(value):
            signals.links.append(path)
        elif kind in names.CURSOR_KEYS:
            _cursor(signals, path, value, kind, node, roles)
        elif kind in names.UNREADABLE_CURSORS and value:
            signals.unrecognized.append(path)
        elif kind in names.MORE_FLAGS and (flag := as_flag(value)) is not None:
            signals.more = signals.more or (path, flag)
        elif kind in names.LAST_FLAGS and (flag := _last_flag(kind, value)) is not None:
            signals.last = signals.last or (path, flag)
        elif near:
            _short(signals, path, value, kind, parent, node, roles)
    if "pages" not in roles and "total" not in roles and parent != "pageable":
        roles = {role: found for role, found in roles.items() if normalize(str(found[0][-1])) != "number"}
    if roles:
        role_groups.append(roles)


def _is_named_by_cursor(node: Mapping[str, Any]) -> bool:
    """Return whether the current page is named by text that is not a number, so that the next one is, too."""
    own = next((value for name, value in node.items() if normalize(name) == "currentpage"), None)
    return isinstance(own, str) and bool(own) and not looks_like_number(own)


def _is_list_of(value: Any, records: Sequence[Any]) -> bool:
    if isinstance(value, Mapping):
        return len(records) == 1 and value is records[0]  # an element of XML that is not repeated
    if not isinstance(value, list) or len(value) < len(records):
        return False
    if not records or not value:
        return not value
    if value[0] is records[0] or value[-1] is records[-1]:
        return True
    # The selector may take a part of each element, such as the nodes of a GraphQL connection.
    return isinstance(value[0], Mapping) and any(part is records[0] for part in value[0].values())


def as_flag(value: Any) -> bool | None:
    """Return the meaning of a flag: a boolean, 0 or 1, or a word such as "yes"; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in _TRUE_WORDS else False if word in _FALSE_WORDS else None


def _last_flag(kind: str, value: Any) -> bool | None:
    """Return the meaning of a flag that is true on the last page; `last_page: 1` is the number of that page instead."""
    return None if kind in names.LAST_NUMBERS and looks_like_number(value) else as_flag(value)


def _link(signals: Signals, path: Steps, value: Any) -> None:
    if isinstance(value, Mapping):
        for member in LINK_KEYS:
            if isinstance(value.get(member), str):
                signals.links.append((*path, member))
                return
    elif isinstance(value, str) and value.strip() and "{" not in value:
        signals.links.append(path)
    elif not value:
        signals.ended = True


def _next(signals: Signals, path: Steps, value: Any, parent: str) -> None:
    if is_end_mark(value):
        signals.ended = True
    elif value is True:
        signals.more = signals.more or (path, True)
    elif looks_like_number(value):
        signals.numbers.append(path)
    elif isinstance(value, str):
        if names.looks_like_url(value):
            signals.links.append(path)
        elif parent in ("cursor", "cursors"):
            signals.cursors.append((path, names.CURSOR_KEYS["nextcursor"]))
        elif "{" not in value:
            signals.unrecognized.append(path)
    elif isinstance(value, Mapping):
        for member in LINK_KEYS:
            if names.looks_like_url(value.get(member)):
                signals.links.append(path if _is_whole_request(value) else (*path, member))
                return
        if isinstance(value.get("after"), str | int):
            signals.cursors.append(((*path, "after"), names.CursorName("after")))
        elif value and all(isinstance(one, str | int) for one in value.values()):
            signals.cursors.append((path, names.CursorName("")))
        else:
            signals.unrecognized.append(path)
    elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        _next(signals, (*path, 0), value[0], parent)
    else:
        signals.unrecognized.append(path)


def _is_whole_request(link: Mapping[str, Any]) -> bool:
    """Return whether a link object also describes the method or the body of the next request."""
    return (
        "method" in link or isinstance(link.get("body"), Mapping) or isinstance(link.get("params"), Mapping)
    )


def _link_list(signals: Signals, path: Steps, value: Any) -> None:
    for one in _with_relation(value, "next"):
        for member in LINK_KEYS:
            if isinstance(one.get(member), str):
                steps = (*path, {"rel": "next"})
                signals.links.append(steps if _is_whole_request(one) else (*steps, member))
                return
    signals.ended = True


def _links_in(value: Any) -> list[Mapping[str, Any]]:
    """Return the links of a list of links, or of the only one: XML has no lists."""
    links = value if isinstance(value, list) else [value]
    return [one for one in links if isinstance(one, Mapping) and not _RELATIONS.isdisjoint(one)]


def _with_relation(value: Any, rel: str) -> list[Mapping[str, Any]]:
    found = []
    for one in _links_in(value):
        relation = next((one[name] for name in one if name in _RELATIONS), None)
        relations = relation.lower().split() if isinstance(relation, str) else relation
        if isinstance(relations, list) and rel in relations:
            found.append(one)
    return found


def _cursor(
    signals: Signals,
    path: Steps,
    value: Any,
    kind: str,
    node: Mapping[str, Any],
    roles: dict[str, tuple[Steps, int]],
) -> None:
    if kind == "endcursor" and not any(
        normalize(name) == "hasnextpage" and flag is True for name, flag in node.items()
    ):
        return
    if kind in ("continuationtoken", "paginationtoken", "bookmark") and not isinstance(value, str):
        return
    if isinstance(value, Mapping) and any(str(name).startswith(("@", "#")) for name in value):
        # An element of XML with attributes (OAI-PMH): its text is the cursor.
        size = value.get("@completeListSize")
        if looks_like_number(size):
            roles.setdefault("total", ((*path, "@completeListSize"), int(str(size))))
        path, value = (*path, "#text"), value.get("#text")
    if isinstance(value, bool) or is_end_mark(value):
        signals.ended = True
    elif isinstance(value, Mapping | list):
        known = names.CURSOR_KEYS[kind]
        signals.objects.append(
            (path, known._replace(default=names.match_style(known.default, str(path[-1]))))
        )
    elif isinstance(value, str | int):
        known = names.CURSOR_KEYS[kind]
        name = str(path[-2] if path[-1] == "#text" else path[-1])
        default = name if kind in ("nexttoken",) else names.match_style(known.default, name)
        signals.cursors.append((path, known._replace(default=default)))


def _short(
    signals: Signals,
    path: Steps,
    value: Any,
    kind: str,
    parent: str,
    node: Mapping[str, Any],
    roles: dict[str, tuple[Steps, int]],
) -> None:
    """Collect members with short names, which are signals only beside others."""
    if kind == "after" and isinstance(value, str) and value and (parent == "cursors" or "before" in node):
        signals.cursors.append((path, names.CursorName("after", ("cursor", "pageafter"))))
    elif kind == "cursor" and isinstance(value, list | Mapping) and value and not _is_envelope(value):
        signals.objects.append((path, names.CursorName("cursor", ("after",))))
    elif kind == "cursor" and isinstance(value, str) and value:
        # The first request has no cursor yet, so this one is that of the next page.
        signals.cursors.append((path, names.CURSOR_KEYS["nextcursor"]))
    elif kind == "continue" and value:
        if isinstance(value, str):
            signals.cursors.append((path, names.CursorName("continue")))
        elif isinstance(value, Mapping):
            signals.cursors.append((path, names.CursorName("")))
    elif kind == "offset" and isinstance(value, str) and value and not looks_like_number(value):
        signals.cursors.append((path, names.CursorName("offset")))
    elif kind in ("lastid",) and isinstance(value, str | int) and value and has_more_flag(node):
        default = "after" if node.get("object") == "list" else "after_id"
        signals.cursors.append(
            (path, names.CursorName(default, ("after", "afterid", "sinceid", "startingafter")))
        )
    elif kind == "total" and isinstance(value, Mapping) and looks_like_number(value.get("value")):
        roles.setdefault("total", ((*path, "value"), int(value["value"])))
    elif kind.startswith("next") and not isinstance(value, bool) and not is_end_mark(value):
        signals.unrecognized.append(path)
    elif kind in names.NUMBER_ROLES and looks_like_number(value):
        roles.setdefault(names.NUMBER_ROLES[kind], (path, int(value)))


def _is_envelope(value: Any) -> bool:
    """Return whether an object describes the page, and is not itself a cursor."""
    known = (
        names.NEXT_KEYS
        | names.NEXT_LINK_KEYS
        | names.CURSOR_KEYS.keys()
        | names.MORE_FLAGS
        | names.LAST_FLAGS
    )
    known |= names.NUMBER_ROLES.keys() | {"after", "before", "previous", "prev", "self", "first", "last"}
    return isinstance(value, Mapping) and any(normalize(name) in known for name in value)


def has_more_flag(node: Mapping[str, Any]) -> bool:
    """Return whether a flag of this object reports more pages."""
    return any(normalize(name) in names.MORE_FLAGS and flag is True for name, flag in node.items())


def looks_like_number(value: Any) -> bool:
    """Return whether this is a whole number from 0, or its text."""
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS
    return isinstance(value, int) and value >= 0
