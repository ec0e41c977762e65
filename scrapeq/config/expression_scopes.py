"""The names that an expression may use, for each kind of key that holds expressions."""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.expression.scope import RESPONSE_NAMES

# Names that a task carries; `page` is the page's number in its page sequence, from 1.
_TASK_CONTEXT = frozenset({"seed", "parent", "resources", "resource", "depth", "now", "page"})
_TASK = _TASK_CONTEXT | {"incremental"}
_UNIMPLEMENTED = frozenset({"link", "sitemap"})
# The members of `incremental`: the bounds of the requested data, and the server's own bookmark.
INCREMENTAL = ("start_value", "end_value", "token")


@dataclass(frozen=True, slots=True)
class ExpressionScope:
    """The names that an expression may use, and names of the language that are not implemented."""

    names: frozenset[str]
    unimplemented: frozenset[str] = _UNIMPLEMENTED


# Path, params, headers and body of a request, before it is sent.
REQUEST = ExpressionScope(_TASK)
# A whole response and its records, to decide where a page sequence ends.
PAGE = ExpressionScope(_TASK | RESPONSE_NAMES | {"records"})
# One record of a response: record_filter, fields, priority.
RECORD = ExpressionScope(PAGE.names | {"record"})
# An edge of the resource tree; `parent` is the parent's record.
EDGE = ExpressionScope(_TASK | RESPONSE_NAMES)
# The state of a limit in a response: `observe`. `token` is a short digest of the credential, `task` the task's id.
OBSERVED = ExpressionScope(_TASK_CONTEXT | RESPONSE_NAMES | {"host", "token", "task"}, frozenset())
# The condition, wait and message of response_actions.
RESPONSE = ExpressionScope(OBSERVED.names | {"retry_after", "rate_limit_reset", "exception"}, frozenset())
# The initial value of an incremental resource without a stored cursor.
INITIAL_VALUE = ExpressionScope(frozenset({"seed", "parent", "now"}), frozenset())
# The response to a login.
LOGIN = ExpressionScope(RESPONSE_NAMES, frozenset())
# The priority of a seed.
SEED = ExpressionScope(frozenset({"seed", "now"}), frozenset({"sitemap"}))
# The lowest priority that may use a reserve.
THRESHOLD = ExpressionScope(frozenset({"now"}), frozenset())
# The name of an output file or table.
OUTPUT = ExpressionScope(frozenset({"resource", "seed"}), frozenset())
