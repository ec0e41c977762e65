"""
Builds the requests to send, as tasks: first pages from seeds, child pages from records, next pages. Pure.

`scrapeq.resource.payload` describes the payload of a task. `parent` and `parents` hold only the fields that the
resource's expressions read.
"""

from __future__ import annotations

from scrapeq.resource.address import canonical, task_key
from scrapeq.resource.next_request import payload_key
from scrapeq.resource.payload import PAYLOAD_VERSION, Payload, check_payload
from scrapeq.resource.seeds import first_pages, first_tasks, seed_task
from scrapeq.resource.task_builder import GroupOf, TaskBuilder

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
