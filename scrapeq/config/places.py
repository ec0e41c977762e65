"""Which names an expression may use, by the place where it stands."""

from __future__ import annotations

from scrapeq.expression.scope import ANSWER_NAMES

# What a task carries with it.
TASK_NAMES = frozenset({"seed", "parent", "resources", "resource", "depth", "now"})
# Path, params, headers and body of a request, before it is sent.
REQUEST = TASK_NAMES
# A whole answer and its records: the paginator's own.
PAGE = TASK_NAMES | ANSWER_NAMES | {"records"}
# One record of an answer: record_filter, fields, priority.
RECORD = PAGE | {"record"}
# An edge of the tree: the record of the parent is called `parent` here.
EDGE = TASK_NAMES | ANSWER_NAMES
# What an answer means: response_actions.
ANSWER = TASK_NAMES | ANSWER_NAMES | {"retry_after", "rate_limit_reset", "exception", "host", "token", "task"}
OUTPUT = frozenset({"resource"})

# Names of the language that this version does not give yet; using one is told apart from a typo.
UNBUILT = frozenset({"incremental", "link", "sitemap", "page"})
UNBUILT_IN_OUTPUTS = UNBUILT | {"seed", "parent", "record", "now"}
