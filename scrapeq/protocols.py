"""The interfaces between packages: what one needs of another without importing it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from scrapeq.page import Page
from scrapeq.task import NewTask

CursorState = Mapping[str, Any]
"""The stored state of an incremental resource: `cursor`, `token`, `resource`, `seed`, `parent`. Plain JSON."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One record for the sink.

    Args:
        resource: Its resource.
        key: Its identity within the resource; "" = the digest of its content.
        record: Its fields.
        seed: The seed of its task, for outputs whose path names it.
        origin: A digest of what led to it, a part of its identity; "" = its key alone is its identity.
    """

    resource: str
    key: str
    record: dict[str, Any]
    seed: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True, slots=True)
class IncrementalStart:
    """
    The first page of an incremental page sequence, which depends on the state stored under `state_key`.

    `build(state)` returns its task, or None when a null in the path leaves nothing to request.
    """

    state_key: str
    build: Callable[[CursorState | None], NewTask | None]


@dataclass(slots=True)
class Extraction:
    """
    What was extracted from a page or a part of it.

    Args:
        items: Records for the sink.
        follow_ups: Tasks that follow.
        skipped: The number of follow-ups that were left out (a null in a path).
        starts: Follow-ups that depend on stored state.
        next_page: The next page of the sequence; in the last part only.
        cursor_state: (state key, state) to store once the page is acknowledged, because its sequence ends here.
        incomplete: Why the sequence ends here without being complete, with the remedy; no state is stored then.
        events: Messages for the user.
    """

    items: list[Item] = field(default_factory=list)
    follow_ups: list[NewTask] = field(default_factory=list)
    skipped: int = 0
    starts: list[IncrementalStart] = field(default_factory=list)
    next_page: NewTask | None = None
    cursor_state: tuple[str, CursorState] | None = None
    incomplete: str = ""
    events: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """
    The request of a page, as a paginator sees it.

    Args:
        number: The number of the page in its sequence, from 1.
        remembered: What the paginator stored with `Change.remember` on the page before.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None
    number: int = 1
    remembered: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """
    How the request of the next page differs from that of this page.

    Args:
        url: The whole address, relative to that of the page; "" = the same address.
        params: Query parameters by name: a value, a list of values, or None to remove the parameter.
        headers: Headers by name: a value, or None to remove the header.
        body: Dotted path in the JSON body (or field of the form) -> any JSON value, or None to remove it.
        remember: Plain JSON that the paginator receives with the next page. Keep it small: each task stores it.
        method: The method; "" = the same. A GET has no body.
    """

    url: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    remember: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""


class Paginate(Protocol):
    """
    A paginator of another package: a function, added by an entry point of the group `scrapeq.paginators`.

        def next_page(page, body, records, request, options):
            token = page.header("x-continuation")
            return Change(params={options.get("param", "continuation"): token}) if token else None

    It must be pure: the same response gives the same change, in any process. scrapeq detects loops, and `stop_when`,
    `max_pages`, `has_more_path` and `stop_after_empty_page` apply to it as to the built-in ones.
    """

    def __call__(
        self, page: Page, body: Any, records: Sequence[Any], request: PageRequest, options: Mapping[str, Any]
    ) -> Change | None:
        """
        Return how the next page is requested, or None on the last page.

        Args:
            page: The response.
            body: Its decoded body.
            records: What `data_selector` found in it, before any filter.
            request: The request of the page.
            options: The other keys of the paginator in the file.
        """


class Extractor(Protocol):
    """Turns a page into items and follow-ups."""

    def chunks(self, payload: Mapping[str, Any], priority: float, page: Page) -> AsyncIterator[Extraction]:
        """
        Yield what a page contains in parts, so that a large page is never in memory as items or tasks at once.

        Raises:
            ScrapeqError: the page does not match its resource.
        """


@dataclass(frozen=True, slots=True)
class Incomplete:
    """
    The page sequences of one resource that ended in this run without being complete, all for one reason.

    Args:
        resource: The resource's name.
        reason: Why they ended, with the remedy.
        sequences: Their number.
    """

    resource: str
    reason: str
    sequences: int = 1


class CursorStore(Protocol):
    """How page sequences ended: the stored state of incremental resources, and which sequences are incomplete."""

    async def get_many(self, keys: Sequence[str]) -> list[CursorState | None]:
        """Return the state under each key, or None."""

    async def save(self, key: str, state: CursorState) -> None:
        """Store a state, once the last page of its sequence is acknowledged. A cursor never moves backwards."""

    async def add_incomplete(
        self, sequence: str, resource: str, reason: str, *, is_dead: bool = False
    ) -> None:
        """
        Record that a page sequence ends without being complete; the last reason counts.

        `is_dead`: `sequence` is the id of a dead letter, and the record counts as long as it is one.
        """

    async def remove_incomplete(self, sequence: str) -> None:
        """Forget that an earlier pass of a page sequence was incomplete, since this one is complete."""


class Sink(Protocol):
    """Where items go."""

    async def commit(
        self,
        task_id: str,
        lease_token: str,
        items: Sequence[Item],
        page: Page | None = None,
        *,
        resource: str = "",
        seed: Mapping[str, Any] | None = None,
    ) -> int:
        """
        Write items of one task, and the response that they come from where an output stores responses.

        When it returns, they are committed.

        Args:
            task_id, lease_token: The task and its lease.
            items: In any number of calls.
            page: The response, in one of these calls.
            resource, seed: Those of the response.

        Returns:
            The number of items that were new or changed; a repeated call changes nothing.

        Raises:
            LeaseLost: a newer lease of this task has already committed.
            RecordRejected: an output cannot hold one of the items, or the response.
            OutputError: the output cannot be written.
        """


@dataclass(frozen=True, slots=True)
class LimitView:
    """
    One limit, as it is shown to users.

    Args:
        name: The limit instance.
        state: open, closed (used up for now), parked (by a refusal), paused (by a user), or down (its host does not
            answer).
        opens_s: Seconds until it opens; 0 = open; None = when a response comes or a user resumes it.
        in_flight: Requests in flight.
        used: Responses in the current window; None = not counted.
        size: Requests that the window allows; None = unknown.
        why: For example "reported: 0 left".
    """

    name: str
    state: str
    opens_s: float | None
    in_flight: int
    used: float | None = None
    size: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The status of a run, from which the live view, the log lines and the summary are made.

    Args:
        state: starting, running, waiting, draining, finished, stopped, gave_up or failed.
        per_s: Tasks done per second, over the last seconds.
        not_modified: Requests with a 304 response.
        cached: Responses from the cache, without a request.
        waited_s: Seconds in which limits allowed no request.
        unchanged: Records that were not written because an equal one had been written.
        closings: How often a limit closed.
        left_s: Estimated seconds left; None = unknown.
        outputs: The files, folders and tables that were written.
        incomplete: Page sequences that ended without being complete, at the end of the run.
        message: Why the run ended before all was done.
        down: Hosts that do not answer, and why.
    """

    name: str
    state: str
    elapsed_s: float
    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    done: int = 0
    per_s: float = 0.0
    requests: int = 0
    refused: int = 0
    retried: int = 0
    not_modified: int = 0
    cached: int = 0
    items: int = 0
    unchanged: int = 0
    waited_s: float = 0.0
    closings: int = 0
    left_s: float | None = None
    limits: tuple[LimitView, ...] = ()
    outputs: tuple[str, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    workers: int = 0
    message: str = ""
    down: Mapping[str, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """The number of tasks still to do."""
        return self.ready + self.delayed + self.leased


class Progress(Protocol):
    """Where a run shows its progress."""

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Show the status of all runs; called a few times a second."""

    def event(self, text: str) -> None:
        """Show a message: a parked limit, a restarted worker, a dead letter."""

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        """Show the summary at the end."""

    def close(self) -> None:
        """Restore the terminal, also before the process exits at once. May be called more than once."""
