"""What a fetch worker hands to each visit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from scrapeq.clock import Clock
from scrapeq.fetch import Egress
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals
from scrapeq.limits.partition import token_digest
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.plan import Plan
from scrapeq.protocols import CursorStore, Extractor, Sink
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource import GroupOf
from scrapeq.sink import captures_responses
from scrapeq.worker.slots import AuthRetries, Fatal, Tally


@dataclass(slots=True)
class WorkerContext:
    """All that a visit needs, and where it tells what it did."""

    plan: Plan
    queue: WorkerQueue
    egress: Egress
    extractor: Extractor
    sink: Sink
    cursor_store: CursorStore
    group_of: GroupOf
    clock: Clock
    cache: ResponseCache | None = None
    tally: Tally = field(default_factory=Tally)
    refusals: ConsecutiveRefusals = field(default_factory=ConsecutiveRefusals)
    clocks: ServerClocks = field(default_factory=ServerClocks)
    events: list[str] = field(default_factory=list)
    fatal: Fatal | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    auth_retries: AuthRetries = field(default_factory=AuthRetries)
    captures_responses: bool = False  # whether an output wants the answers themselves
    token: str = ""  # the digest of the credential, where there is no pool

    def __post_init__(self) -> None:
        self.captures_responses = captures_responses(self.plan.outputs)
        self.token = token_digest(self.plan.client.auth.identity)

    def end(self, fatal: Fatal) -> None:
        """The whole run ends, for this reason; the first one counts."""
        self.fatal = self.fatal or fatal
        self.stopping.set()
