"""
Builds requests: first pages from seeds, pages that follow from records, next pages. Pure.

A task's payload is a JSON object, version 1:

    {"v": 1, "resource", "method", "url", "headers": {}, "body": text | null, "seed": {},
     "parent": record | null, "parent_resource": name | null, "parents": {name: record}, "depth": 0, "page": 1,
     "walk": what the paginator remembers, from the second page on}

`parent` and `parents` hold only the fields that this resource's expressions ask for. A page of an incremental walk
has `incremental`, too: see `scrapeq.resource.incremental`. What a schedule asks for has `occurrence` and `chain`, which
tells its walk.
"""

from __future__ import annotations

from scrapeq.resource.address import canonical, task_key
from scrapeq.resource.next_request import payload_key
from scrapeq.resource.seeds import first_pages, first_tasks, seed_task
from scrapeq.resource.task_builder import PAYLOAD_VERSION, GroupOf, Payload, TaskBuilder, check_payload

__all__ = [
    "PAYLOAD_VERSION",
    "GroupOf",
    "Payload",
    "TaskBuilder",
    "canonical",
    "check_payload",
    "first_pages",
    "first_tasks",
    "payload_key",
    "seed_task",
    "task_key",
]
