"""
What an output is: the interface of every sink of this package, and of those that other packages add.

A package adds one as an entry point of the group `scrapeq.sinks`: a callable that takes (`plan.Output`, `SinkContext`)
and returns an `OutputSink`. Most need only `scrapeq.sink.BatchSink`, which keeps the books.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, cast, runtime_checkable

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.sink.commit_log import Token
from scrapeq.sink.ledger import Ledger


@dataclass(slots=True)
class Record:
    """
    An item on its way to the outputs.

    Args:
        task_id: The task that gave it.
        item: The item.
        line: Its record as JSON, UTF-8, without a line's end.
        key: 16 bytes: its identity (resource and key; without a key its content).
        digest: 16 bytes: its content, whatever the order of its fields.
    """

    task_id: str
    item: Item
    line: bytes
    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class CapturedResponse:
    """A whole answer and the task that it answers, for outputs that keep answers."""

    task_id: str
    page: Page
    resource: str = ""
    seed: Mapping[str, object] = field(default_factory=dict)


class OutputAway(OutputError):
    """The output cannot be reached now: the commit is repeated for a while before the run ends."""


@runtime_checkable
class OutputSink(Protocol):
    """
    One output. All calls come from one thread at a time, in one process.

    A commit is `stage`, `write`, `commit`, in this order over all outputs of the plan; then the ledgers are committed,
    and only then is anything answered. After a kill between any two of these the same records come again: what was
    written must not be there twice. After an error, `abandon` and `close`, then `open` again before the next commit.

    An output may have the attribute `wants_answers = True`; then it is given answers, too. Where the entry point is
    a class, fetchers read it there.

    It may have a method `finish`, called when the run ends, and one `rest`, called when there is nothing to commit.

    Every method may raise OutputError, with a message for a person; OutputAway when it is worth a repeat.
    """

    def open(self) -> None:
        """Take what it writes to, undo what a kill has left, and prove that it can be written."""

    def stage(self, records: Sequence[Record], answers: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Take in what is new or changed; which of the records are, in their order."""

    def write(self) -> None:
        """Bring what was staged to where it will last, or can be undone."""

    def commit(self) -> None:
        """
        It counts now. What is put into a ledger's transaction here is committed after this.

        If that fails, `abandon`, `close` and `open` follow, and the ledger tells what counts.
        """

    def abandon(self) -> None:
        """Undo what was staged and written and not committed. Raises nothing."""

    def close(self) -> None:
        """Let go of everything. May be repeated."""


@runtime_checkable
class Finishing(Protocol):
    """An output with something to do when the run ends."""

    def finish(self) -> None:
        """Write what waits. All commits are done; `close` follows. Raises OutputError."""


@runtime_checkable
class Resting(Protocol):
    """An output with something to do while nothing is committed."""

    def rest(self) -> None:
        """Do what is due. Called between commits, about once a second. Raises OutputError."""


@runtime_checkable
class CommitLog(Protocol):
    """
    Where a commit becomes final: the ledger of a folder, or a database that holds its own.

    `shared`: several machines use it, so that it judges lease tokens for all of them.
    """

    shared: bool

    def tokens(self, tasks: Iterable[str]) -> dict[str, Token]:
        """The newest token of each task that has any; nobody changes them before this commit ends."""

    def begin(self) -> None:
        """Begin a transaction, unless one is open."""

    def set_tokens(self, tokens: dict[str, Token]) -> None:
        """The newest token of each task, in the transaction."""

    def commit(self) -> None:
        """Make the transaction durable."""

    def rollback(self) -> None:
        """Give up the transaction, if there is one."""

    def close(self) -> None:
        """Let go of it. May be repeated."""


class HasCommitLog(Protocol):
    """A database that keeps its books itself."""

    @property
    def commit_log(self) -> CommitLog:
        """They."""

    def close(self) -> None:
        """Let go of it. May be repeated."""


Opened = TypeVar("Opened", bound=HasCommitLog)


class SinkContext:
    """
    What an output is given of its surroundings.

    Args:
        base: What relative paths are relative to.
        data: A folder for the books of outputs that have no folder.
        name: The plan's name.
        run: The run: a task's id means one task in it.
        stdout: A descriptor of the standard output that a person sees; None = 1.
        restarted: The process before this one was killed.
    """

    def __init__(
        self,
        base: Path,
        *,
        data: Path | None = None,
        name: str = "",
        run: str = "",
        stdout: int | None = None,
        restarted: bool = False,
    ) -> None:
        self.base = base.absolute()
        self.data = data or self.base / ".scrapeq" / "outputs"
        self.name = name
        self.run = run
        self.stdout = 1 if stdout is None else stdout
        self.restarted = restarted
        self._ledgers: dict[Path, Ledger] = {}
        self._shared: dict[Path, HasCommitLog] = {}
        self._claims: dict[Path, object] = {}
        self.commit_log: list[CommitLog] = []

    def ledger(self, place: Path, recover: Callable[[Ledger], None] | None = None) -> Ledger:
        """
        The ledger of a folder, opened by who asks first, who may also have its files recovered. Raises OutputError.

        Outputs that share a folder share its ledger: its rows are told apart by their files.
        """
        ledger = self._ledgers.get(place)
        if ledger is None:
            ledger = Ledger(place)
            self._ledgers[place] = ledger
            self.commit_log.append(ledger)
            if recover is not None:
                recover(ledger)
        return ledger

    def claim(self, path: Path, owner: object) -> object:
        """Whose file it is: the first that asks."""
        return self._claims.setdefault(path, owner)

    def shared(self, path: Path, make: Callable[[Path], Opened]) -> Opened:
        """A database that several outputs may share: made by who asks first, and part of the commit from then on."""
        if path not in self._shared:
            made = make(path)
            self._shared[path] = made
            self.commit_log.append(made.commit_log)
        return cast(Opened, self._shared[path])

    def join(self, commit_log: CommitLog) -> None:
        """Something else joins the commit."""
        self.commit_log.append(commit_log)

    def close(self) -> None:
        """Let go of all books."""
        for shared in self._shared.values():
            shared.close()
        for commit_log in self.commit_log:
            commit_log.close()
        self._ledgers.clear()
        self._shared.clear()
        self.commit_log.clear()


SinkFactory = Callable[[plan.Output, SinkContext], OutputSink]
