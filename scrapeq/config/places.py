"""Which names an expression may use, by the place where it stands, and which are not given there yet."""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.expression.scope import ANSWER_NAMES

# What a task carries with it; `page` is the number of the page in its walk, from 1.
_TASK = frozenset({"seed", "parent", "resources", "resource", "depth", "now", "page"})
_LATER = frozenset({"incremental", "link", "sitemap"})


@dataclass(frozen=True, slots=True)
class Place:
    """`names` exist here; `later` are names of the language that this version does not give here."""

    names: frozenset[str]
    later: frozenset[str] = _LATER


# Path, params, headers and body of a request, before it is sent.
REQUEST = Place(_TASK)
# A whole answer and its records: where a walk over pages ends.
PAGE = Place(_TASK | ANSWER_NAMES | {"records"})
# One record of an answer: record_filter, fields, priority.
RECORD = Place(PAGE.names | {"record"})
# An edge of the tree: the record of the parent is called `parent` here.
EDGE = Place(_TASK | ANSWER_NAMES)
# What an answer means: response_actions.
ANSWER = Place(
    ANSWER_NAMES | {"seed", "parent", "now", "retry_after", "rate_limit_reset", "exception"},
    _LATER | {"host", "token", "task", "resource", "resources", "depth", "page", "records"},
)
# What an answer tells of a limit: `observe`.
OBSERVED = Place(
    ANSWER_NAMES | {"seed", "parent", "now"},
    _LATER | {"host", "token", "task", "resource", "resources", "depth", "page", "records"},
)
# From which priority on a reserve may be used.
LINE = Place(frozenset({"now"}), frozenset())
# The name of an output file.
OUTPUT = Place(frozenset({"resource"}), _LATER | {"seed", "parent", "record", "now"})
