"""Which names an expression may use, by the place where it stands, and which are not given there yet."""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.expression.scope import RESPONSE_NAMES

# What a task carries with it; `page` is the number of the page in its walk, from 1.
_TASK_CONTEXT = frozenset({"seed", "parent", "resources", "resource", "depth", "now", "page"})
_TASK = _TASK_CONTEXT | {"incremental"}
_UNIMPLEMENTED = frozenset({"link", "sitemap"})
# The members of `incremental`: the bounds of what is asked for, and the server's own bookmark.
INCREMENTAL = ("start_value", "end_value", "token")


@dataclass(frozen=True, slots=True)
class ExpressionScope:
    """`names` exist here; `later` are names of the language that this version does not give here."""

    names: frozenset[str]
    unimplemented: frozenset[str] = _UNIMPLEMENTED


# Path, params, headers and body of a request, before it is sent.
REQUEST = ExpressionScope(_TASK)
# A whole answer and its records: where a walk over pages ends.
PAGE = ExpressionScope(_TASK | RESPONSE_NAMES | {"records"})
# One record of an answer: record_filter, fields, priority.
RECORD = ExpressionScope(PAGE.names | {"record"})
# An edge of the tree: the record of the parent is called `parent` here.
EDGE = ExpressionScope(_TASK | RESPONSE_NAMES)
# What an answer tells of a limit: `observe`. `token` is a short digest of the credential, `task` its id.
OBSERVED = ExpressionScope(_TASK_CONTEXT | RESPONSE_NAMES | {"host", "token", "task"}, frozenset())
# What an answer means: response_actions.
RESPONSE = ExpressionScope(OBSERVED.names | {"retry_after", "rate_limit_reset", "exception"}, frozenset())
# Where a walk that nothing was kept of begins.
INITIAL_VALUE = ExpressionScope(frozenset({"seed", "parent", "now"}), frozenset())
# What a login's answer says.
LOGIN = ExpressionScope(RESPONSE_NAMES, frozenset())
# How a seed ranks.
SEED = ExpressionScope(frozenset({"seed", "now"}), frozenset({"sitemap"}))
# From which priority on a reserve may be used.
THRESHOLD = ExpressionScope(frozenset({"now"}), frozenset())
# The name of an output file, or of a table.
OUTPUT = ExpressionScope(frozenset({"resource", "seed"}), frozenset())
