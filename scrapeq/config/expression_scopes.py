"""Which names an expression may use, by the place where it stands, and which are not given there yet."""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.expression.scope import ANSWER_NAMES

# What a task carries with it; `page` is the number of the page in its walk, from 1.
_CARRIED = frozenset({"seed", "parent", "resources", "resource", "depth", "now", "page"})
_TASK = _CARRIED | {"incremental"}
_LATER = frozenset({"link", "sitemap"})
# The members of `incremental`: the bounds of what is asked for, and the server's own bookmark.
INCREMENTAL = ("start_value", "end_value", "token")


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
# What an answer tells of a limit: `observe`. `token` is a short digest of the credential, `task` its id.
OBSERVED = Place(_CARRIED | ANSWER_NAMES | {"host", "token", "task"}, frozenset())
# What an answer means: response_actions.
ANSWER = Place(OBSERVED.names | {"retry_after", "rate_limit_reset", "exception"}, frozenset())
# Where a walk that nothing was kept of begins.
BEGINNING = Place(frozenset({"seed", "parent", "now"}), frozenset())
# What a login's answer says.
LOGIN = Place(ANSWER_NAMES, frozenset())
# How a seed ranks.
SEED = Place(frozenset({"seed", "now"}), frozenset({"sitemap"}))
# From which priority on a reserve may be used.
LINE = Place(frozenset({"now"}), frozenset())
# The name of an output file, or of a table.
OUTPUT = Place(frozenset({"resource", "seed"}), frozenset())
