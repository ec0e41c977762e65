"""
The interface of an output (`OutputSink`), for the sinks of this package and those of other packages.

A package adds an output type with an entry point in the group `scrapeq.sinks`. It names a callable that takes
(`plan.Output`, `SinkContext`) and returns an `OutputSink`, usually the class itself. Most sinks derive from
`scrapeq.sink.BatchSink`, which remembers what it has written and needs one method. docs/outputs.md has an example.
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
        task_id: The task that produced it.
        item: The item: its resource, key, seed and fields.
        line: Its fields as JSON (UTF-8), without a line break.
        key: Its identity, 16 bytes: a digest of resource and key, or of resource and content without a key.
        digest: Its content, 16 bytes: a digest of the fields in sorted order.
    """

    task_id: str
    item: Item
    line: bytes
    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class CapturedResponse:
    """A whole response and the task that requested it, for outputs that archive responses."""

    task_id: str
    page: Page
    resource: str = ""
    seed: Mapping[str, object] = field(default_factory=dict)


class OutputUnavailable(OutputError):
    """The output cannot be reached at the moment. The commit is retried for a minute before the run ends."""


@runtime_checkable
class OutputSink(Protocol):
    """
    One output. scrapeq calls its methods from one thread at a time, in one process (the writer).

    **A commit** calls `stage` of every output, then `write` of every output, then `commit` of every output. Then the
    commit logs are committed, and only then are the tasks acknowledged.

    **After a crash** between any two of these steps, the same records come again with the next commit. A record that
    was written already must not appear twice: compare `Record.key` (identity) and `Record.digest` (content) with what
    the output remembers, or write so that a repetition changes nothing.

    **After an error** in any step, scrapeq calls `abandon` and `close` of every output, and `open` before the next
    commit.

    **Errors**: every method except `abandon` may raise OutputError, with a message for the user. Raise
    OutputUnavailable instead if a retry may help. Any other exception ends the run as an OutputError, with its
    traceback in the log.

    **Optional members**: an attribute `captures_responses = True` (on the class, if the entry point is a class) lets
    the output receive whole responses. A method `finish()` is called at the end of the run (`FinishAware`), a method
    `on_idle()` about once a second while nothing is committed (`IdleAware`).
    """

    def open(self) -> None:
        """Acquire the target, undo what a crash left there, and make sure that it can be written."""

    def stage(self, records: Sequence[Record], responses: Sequence[CapturedResponse]) -> Iterable[bool]:
        """
        Take over the records that are new to this output or changed, without writing them yet.

        Args:
            records: The records of the commit, of the resources that this output is for.
            responses: The responses of the commit; empty unless an output of the plan has `captures_responses`.

        Returns:
            For each record, in order: whether it is new or changed.
        """

    def write(self) -> None:
        """Write what was staged, either durably or so that `abandon`, or `open` after a crash, can undo it."""

    def commit(self) -> None:
        """
        Make the written records count.

        What this adds to the transaction of a commit log is committed right after. If that fails, `abandon`, `close`
        and `open` follow, and the commit log says what counts.
        """

    def abandon(self) -> None:
        """Undo what was staged or written since the last commit. Must not raise."""

    def close(self) -> None:
        """Release every resource. Safe to call twice."""


@runtime_checkable
class FinishAware(Protocol):
    """An output that has work to do at the end of the run."""

    def finish(self) -> None:
        """Write what is buffered. Called after the last commit and before `close`. Raises OutputError."""


@runtime_checkable
class IdleAware(Protocol):
    """An output that has work to do at certain times, even without new records."""

    def on_idle(self) -> None:
        """Do what is due. Called between commits, about once a second. Raises OutputError."""


@runtime_checkable
class CommitLog(Protocol):
    """
    The place where a commit becomes final: the ledger of a folder, or tables in the database of the output itself.

    It also stores the newest lease token of each task, so that a worker whose lease was given to another worker
    cannot commit anymore (fencing).

    Attributes:
        shared: Several machines write to it. Its tokens then decide for all of them.
    """

    shared: bool

    def tokens(self, tasks: Iterable[str]) -> dict[str, Token]:
        """Return the newest token of each task that has one, locked against other writers until the commit ends."""

    def begin(self) -> None:
        """Begin a transaction, unless one is open."""

    def set_tokens(self, tokens: dict[str, Token]) -> None:
        """Store the newest token of each task, in the open transaction."""

    def commit(self) -> None:
        """Commit the open transaction durably, if there is one."""

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""

    def close(self) -> None:
        """Release it. Safe to call twice."""


class HasCommitLog(Protocol):
    """A database that contains its own commit log."""

    @property
    def commit_log(self) -> CommitLog:
        """The commit log."""

    def close(self) -> None:
        """Release the database. Safe to call twice."""


Opened = TypeVar("Opened", bound=HasCommitLog)


class SinkContext:
    """
    What the outputs of a plan share: folders, names, and the commit logs that take part in a commit.

    Args:
        base: The folder that relative paths start from.
        data: The folder for the ledgers of outputs without a folder.
        name: The name of the plan.
        run: The id of the run: a task id identifies a task within one run.
        stdout: The file descriptor of the command's standard output; None = 1.
        restarted: The previous writer process of this run was killed.

    Attributes:
        commit_logs: The commit logs of all open outputs, in the order in which they joined.
        notes: Lines for the user, each once.
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
        self._owners: dict[Path, object] = {}
        self.commit_logs: list[CommitLog] = []
        self.notes: list[str] = []
        self._noted: set[str] = set()

    def note(self, line: str) -> None:
        """Report a line to the user, once."""
        if line not in self._noted:
            self._noted.add(line)
            self.notes.append(line)

    def ledger(self, folder: Path, recover: Callable[[Ledger], None] | None = None) -> Ledger:
        """
        Return the ledger of a folder; open it on the first call. Outputs with the same folder share one ledger.

        Args:
            folder: The folder; it exists.
            recover: Called with the ledger when it is opened, to repair the files after a crash.

        Raises:
            OutputError: another writer has locked the folder, or the ledger cannot be opened.
        """
        ledger = self._ledgers.get(folder)
        if ledger is None:
            ledger = Ledger(folder)
            self._ledgers[folder] = ledger
            self.commit_logs.append(ledger)
            if recover is not None:
                recover(ledger)
        return ledger

    def claim(self, path: Path, owner: object) -> object:
        """Return the owner of a file or table: the first caller that claims it."""
        return self._owners.setdefault(path, owner)

    def shared(self, path: Path, connect: Callable[[Path], Opened]) -> Opened:
        """Return a database that several outputs may share. The first call opens it and adds its commit log."""
        if path not in self._shared:
            opened = connect(path)
            self._shared[path] = opened
            self.commit_logs.append(opened.commit_log)
        return cast(Opened, self._shared[path])

    def join(self, commit_log: CommitLog) -> None:
        """Add a commit log to every later commit, until `close`."""
        self.commit_logs.append(commit_log)

    def close(self) -> None:
        """Close every ledger and database, and forget them."""
        for shared in self._shared.values():
            shared.close()
        for commit_log in self.commit_logs:
            commit_log.close()
        self._ledgers.clear()
        self._shared.clear()
        self.commit_logs.clear()


SinkFactory = Callable[[plan.Output, SinkContext], OutputSink]
"""What an entry point of the group `scrapeq.sinks` names."""
