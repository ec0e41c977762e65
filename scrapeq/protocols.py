"""Where the rooms meet: what one room asks of another, without importing it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from scrapeq.page import Page
from scrapeq.task import NewTask

CursorState = Mapping[str, Any]
"""What an incremental walk keeps: `cursor` and `token`, and whose it is (`resource`, `seed`, `parent`). Plain JSON."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One record for the sink: its resource, its identity there (empty = its content's digest) and its fields.

    `seed`: that of its task, for outputs whose path names it.
    """

    resource: str
    key: str
    record: dict[str, Any]
    seed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IncrementalStart:
    """
    The first page of an incremental walk, which depends on what was kept under `state_key`.

    `build(state)` is its task, None when a null in the path leaves nothing to ask for.
    """

    state_key: str
    build: Callable[[CursorState | None], NewTask | None]


@dataclass(slots=True)
class Extraction:
    """
    What a page, or a part of it, gave.

    Args:
        items: Records for the sink.
        follow_ups: Tasks that follow.
        skipped: Follow-ups that were left out (a null in a path).
        starts: Follow-ups that need to know what was kept.
        next_page: The walk's next page; in the last part only.
        cursor_state: (key, state) to store once the page is acked, if it is the last of an incremental pagination.
        events: What is worth a line.
    """

    items: list[Item] = field(default_factory=list)
    follow_ups: list[NewTask] = field(default_factory=list)
    skipped: int = 0
    starts: list[IncrementalStart] = field(default_factory=list)
    next_page: NewTask | None = None
    cursor_state: tuple[str, CursorState] | None = None
    events: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """
    The request that a page answered, as a paginator sees it.

    `number`: the page's in its walk, from 1. `remembered`: what the paginator asked to be remembered.
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
    What the next request of a walk has that this one has not; all else stays.

    Args:
        url: The whole address, taken as it is; relative to the page's. Empty = this request's.
        params: Parameters of the address by name: a value, a list of values, or None to leave it out.
        headers: The same for headers (no lists).
        body: Dotted path into the JSON body (or a form's field) -> any JSON value, or None.
        remember: Plain JSON that the paginator is given on the next page; small, for it is stored with each task.
    """

    url: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    remember: Mapping[str, Any] = field(default_factory=dict)


class Paginate(Protocol):
    """
    A paginator of another package: a function, added by an entry point of the group `scrapeq.paginators`.

        def next_page(page, body, records, request, options):
            token = page.header("x-continuation")
            return Change(params={options.get("param", "continuation"): token}) if token else None

    It must be pure: the same answer gives the same change, in any process. Circles are found by scrapeq, and
    `stop_when`, `max_pages`, `has_more_path` and `stop_after_empty_page` hold for it as for the others.
    """

    def __call__(
        self, page: Page, body: Any, records: Sequence[Any], request: PageRequest, options: Mapping[str, Any]
    ) -> Change | None:
        """
        What leads to the next page; None when the walk ends here.

        Args:
            page: The answer.
            body: The answer, decoded.
            records: What `data_selector` found in it, before any filter.
            request: What it answers.
            options: The paginator's other keys in the file.
        """


class Extractor(Protocol):
    """Turns a page into items and follow-ups."""

    def chunks(self, payload: Mapping[str, Any], priority: float, page: Page) -> AsyncIterator[Extraction]:
        """
        The page in parts, so that a large one is never whole in memory as items or tasks.

        Raises ScrapeqError when the page is not what the resource says.
        """


class CursorStore(Protocol):
    """Stores the states of incremental paginations between runs."""

    async def get_many(self, keys: Sequence[str]) -> list[CursorState | None]:
        """Return the state stored under each key, None where there is none."""

    async def save(self, key: str, state: CursorState) -> None:
        """Store the state, called once the last page of the pagination is acked. A stored state never goes back."""


class Sink(Protocol):
    """Takes items; answered means committed."""

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
        Write the items of one task, and the answer they came from where an output keeps answers.

        Args:
            task_id, lease_token: The task, and the right to it.
            items: In any number of calls.
            page: The answer, in one of them.
            resource, seed: Whose answer it is.

        Returns:
            How many were new or changed (a repeat changes nothing).

        Raises:
            LeaseLost: a newer lease of this task has committed already.
            OutputError: the output cannot be written.
        """


@dataclass(frozen=True, slots=True)
class LimitView:
    """One limit as a person sees it."""

    name: str
    state: str  # open, closed (spent for now), parked (a refusal), paused (a person)
    opens_s: float | None  # 0 = open; None = when an answer comes or a person resumes it
    in_flight: int
    used: float | None = None  # answered in the window; None = not counted
    size: float | None = None  # what the window holds; None = not known
    why: str = ""  # "told: 0 left", "429 Too Many Requests"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a run stands: what the live view, the log lines and the summary are made of."""

    name: str
    state: str  # starting, running, waiting, draining, finished, stopped, gave_up, failed
    elapsed_s: float
    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    done: int = 0
    per_s: float = 0.0  # done, over the last seconds
    requests: int = 0
    refused: int = 0
    retried: int = 0
    not_modified: int = 0  # of the requests: answered with a 304
    cached: int = 0  # answers that were not asked for, since those kept are fresh
    items: int = 0
    waited_s: float = 0.0  # time in which nothing could be sent because of limits
    closings: int = 0  # times that a limit closed
    left_s: float | None = None  # an estimate; None = unknown
    limits: tuple[LimitView, ...] = ()
    outputs: tuple[str, ...] = ()  # the files written
    workers: int = 0
    message: str = ""  # why it ended, if not because all is done

    @property
    def left(self) -> int:
        """Tasks still to do."""
        return self.ready + self.delayed + self.leased


class Progress(Protocol):
    """Where a run shows itself."""

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """How the runs stand now; called a few times a second."""

    def event(self, text: str) -> None:
        """Something worth a line: a park, a restarted worker, a dead letter."""

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        """The end: the summary."""

    def close(self) -> None:
        """Leave the terminal as it was; called before the process ends in a hurry, too. May be repeated."""
