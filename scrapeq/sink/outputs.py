"""
All outputs of a plan, joined in one commit.

The order: every output stages and writes, then commits; then the books are committed, last those that hold the lease
tokens. A crash in between repeats the batch, and what is there already is not written again.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, cast

import orjson

from scrapeq import plan, plugins
from scrapeq.errors import LeaseLost, OutputError, ScrapeqError, UsageError
from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.sink.commit_log import Token, parse_token
from scrapeq.sink.output import (
    CapturedResponse,
    CommitLog,
    Finishing,
    OutputAway,
    OutputSink,
    Record,
    Resting,
    SinkContext,
    SinkFactory,
)
from scrapeq.sink.seen import digest_of

AWAY_S = 60.0  # an output that cannot be reached for so long ends the run
AWAY_FIRST_S, AWAY_MAX_S = 0.1, 5.0

_log = logging.getLogger("scrapeq.sink")

_TYPES = {
    "jsonl": ("scrapeq.sink.jsonl", "JsonlSink"),
    "csv": ("scrapeq.sink.csv", "CsvSink"),
    "parquet": ("scrapeq.sink.parquet", "ParquetSink"),
    "warc": ("scrapeq.sink.warc", "WarcSink"),
    "postgres": ("scrapeq.sink.postgres", "PostgresSink"),
    "sqlite": ("scrapeq.sink.sqlite", "SqliteSink"),
    "stdout": ("scrapeq.sink.stdout", "StdoutSink"),
}


class Request(NamedTuple):
    """The items of one task under one lease; where an output keeps answers, the answer, its resource and seed."""

    task_id: str
    token: str
    items: Sequence[Item]
    page: Page | None = None
    resource: str = ""
    seed: Mapping[str, Any] = MappingProxyType({})


def factory_of(type_: str) -> SinkFactory:
    """
    What makes the outputs of a type, ours or another package's.

    Raises:
        UsageError: there is no such type, or what it needs is not installed.
    """
    if type_ not in _TYPES:
        return cast(SinkFactory, plugins.load(plugins.SINKS, type_))
    module, name = _TYPES[type_]
    if missing := plugins.missing_extra(type_):
        raise UsageError(f"outputs: {missing}")
    return cast(SinkFactory, getattr(import_module(module), name))


def captures_responses(outputs: Sequence[plan.Output]) -> bool:
    """Whether any of the outputs keeps answers."""
    return any(
        output.type == "warc"
        or (output.type not in _TYPES and getattr(factory_of(output.type), "wants_answers", False))
        for output in outputs
    )


def wants_seeds(outputs: Sequence[plan.Output]) -> bool:
    """Whether any of the outputs needs the seeds of items."""
    return any(
        output.type not in _TYPES or (template is not None and "seed" in template.names)
        for output in outputs
        for template in (output.path, output.table)
    )


class OutputSet:
    """
    Use it from one thread at a time. It holds its folders from `check` or the first commit to `close`.

    Args:
        outputs: The outputs of the plan.
        base: What relative paths are relative to.
        context: More of the surroundings; None = defaults.
        away_s: Seconds for which a commit is repeated while an output cannot be reached.

    Raises:
        UsageError: a type that does not exist or is not installed.
        OutputError: what a type cannot do.
    """

    def __init__(
        self,
        outputs: Sequence[plan.Output],
        *,
        base: Path,
        context: SinkContext | None = None,
        away_s: float = AWAY_S,
    ) -> None:
        self._context = context or SinkContext(base)
        self._sinks = [
            (factory_of(output.type)(output, self._context), output.resources) for output in outputs
        ]
        self._away_s = away_s
        self._home: CommitLog | None = None
        self._is_open = False
        self._counted: Counter[int] = (
            Counter()
        )  # what was new of a request; in a repeat it may be there already

    def check(self) -> None:
        """
        Take what is written to, undo what a crash left, and prove that it can be written.

        Raises:
            OutputError: naming the output.
        """
        if self._is_open:
            return
        try:
            for sink, _ in self._sinks:
                sink.open()
        except BaseException as error:
            self.close()
            self._raise(error)
        commit_log = self._context.commit_log
        self._home = next((one for one in commit_log if one.shared), commit_log[0] if commit_log else None)
        self._is_open = True

    def finish(self) -> None:
        """The run ends here: what waits is written. Raises OutputError."""
        self._each(lambda sink: sink.finish() if isinstance(sink, Finishing) else None)

    def rest(self) -> None:
        """There is nothing to commit: what is due by time is done. Raises OutputError."""
        self._each(lambda sink: sink.rest() if isinstance(sink, Resting) else None)

    @property
    def rests(self) -> bool:
        """Whether any output has something to do by time."""
        return any(isinstance(sink, Resting) for sink, _ in self._sinks)

    def _each(self, do: Callable[[OutputSink], None]) -> None:
        if not self._is_open:
            return
        try:
            for sink, _ in self._sinks:
                do(sink)
        except BaseException as error:
            self._abandon()
            self._raise(error)

    def close(self) -> None:
        """Let go of everything. A later commit opens it again."""
        self._is_open = False
        for sink, _ in self._sinks:
            sink.close()
        self._context.close()
        self._home = None

    def commit_many(
        self, batch: Sequence[tuple[str, str, Sequence[Item]] | Request]
    ) -> list[int | LeaseLost]:
        """
        Commit the items of several tasks at once; all of it will last when this returns.

        Returns:
            For each: how many items were new or changed, or LeaseLost when a newer lease has committed
            already (nothing of it is written; the same token again is the same lease repeating).

        Raises:
            OutputError: an output refuses; nothing is answered.
            UsageError: a malformed lease token, a record that is no JSON; nothing of the batch is committed.
        """
        requests = [Request(*entry) for entry in batch]
        parsed = [parse_token(request.token) for request in requests]
        until_s, pause_s = time.monotonic() + self._away_s, AWAY_FIRST_S
        self._counted = Counter()
        while True:
            try:
                self.check()
                return self._commit(requests, parsed)
            except OutputAway:
                self._abandon()
                if time.monotonic() + pause_s > until_s:
                    raise
            except BaseException as error:
                self._abandon()
                self._raise(error)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, AWAY_MAX_S)

    def _commit(self, requests: list[Request], parsed: list[Token]) -> list[int | LeaseLost]:
        home = self._home
        newest = home.tokens({request.task_id for request in requests}) if home else {}
        claimed: dict[str, Token] = {}
        results: list[int | LeaseLost] = []
        records: list[Record] = []
        owners: list[int] = []
        answers: list[CapturedResponse] = []
        for request, token in zip(requests, parsed, strict=True):
            task = request.task_id
            known = newest.get(task)
            if known is not None and token < known:
                results.append(LeaseLost(f"task {task}: a newer lease has committed already"))
                continue
            newest[task] = claimed[task] = token
            records += [_record(task, item) for item in request.items if self._sinks]
            owners += [len(results)] * (len(records) - len(owners))
            if request.page is not None:
                answers.append(CapturedResponse(task, request.page, request.resource, request.seed))
            results.append(0)
        counted = Counter(owners[at] for at in self._stage(records, answers))
        for number, result in enumerate(results):
            if result == 0:  # not lost
                most = max(counted[number], self._counted[number])
                results[number] = self._counted[number] = most
        for sink, _ in self._sinks:
            sink.write()
        for sink, _ in self._sinks:
            sink.commit()
        if home is not None and claimed:
            home.begin()
            home.set_tokens(claimed)
        for commit_log in reversed(self._context.commit_log):
            if commit_log is not home:
                commit_log.commit()
        if home is not None:
            home.commit()
        return results

    def _stage(self, records: list[Record], answers: list[CapturedResponse]) -> set[int]:
        """Which records are new or changed in any output."""
        new: set[int] = set()
        for sink, resources in self._sinks:
            if resources:
                chosen = [at for at, record in enumerate(records) if record.item.resource in resources]
                its = [records[at] for at in chosen]
            else:
                chosen, its = list(range(len(records))), records
            for at, is_new in zip(chosen, sink.stage(its, answers), strict=True):
                if is_new:
                    new.add(at)
        return new

    def _abandon(self) -> None:
        """Undo what was not committed. The next commit opens everything anew and looks at the truth."""
        for sink, _ in self._sinks:
            sink.abandon()
        for commit_log in self._context.commit_log:
            try:
                commit_log.rollback()
            except (sqlite3.Error, ScrapeqError):
                continue
        try:
            self.close()
        except (sqlite3.Error, OSError):
            self._is_open = False

    def _raise(self, error: BaseException) -> NoReturn:
        """As what it is, or as an output's error: a writer that dies of it would only be started again."""
        if isinstance(error, ScrapeqError) or not isinstance(error, Exception):
            raise error
        if not isinstance(error, sqlite3.Error | OSError):  # a library's, or that of another package's output
            _log.error("an output failed", exc_info=error)
        raise self._refused(error) from None

    def _refused(self, error: Exception) -> OutputError:
        where = error.filename if isinstance(error, OSError) and error.filename else ""
        reason = str(error)
        if isinstance(error, OSError):
            reason = error.strerror or reason
        elif not isinstance(error, sqlite3.Error):
            reason = f"{type(error).__name__}: {error}"
        where = where or ", ".join(dict.fromkeys(_where(sink) for sink, _ in self._sinks))
        return OutputError(f"{where}: the output cannot be written: {reason}")


def _where(sink: OutputSink) -> str:
    """What a person calls the output."""
    place = getattr(sink, "place", None)
    return str(getattr(place, "folder", None) or getattr(sink, "title", type(sink).__name__))


def _record(task: str, item: Item) -> Record:
    """An item with its identity and its content's digest. Raises UsageError when it is no JSON."""
    try:
        line = orjson.dumps(item.record)
        content = orjson.dumps(item.record, option=orjson.OPT_SORT_KEYS)  # the order of fields is no change
    except TypeError as error:
        raise UsageError(f"{item.resource}: the record of {item.key!r} is no JSON: {error}") from None
    digest = digest_of(content)
    named = item.key.encode("utf-8", "surrogatepass")
    key = digest_of(item.resource.encode() + b"\0" + (b"k" + named if named else b"d" + digest))
    return Record(task, item, line, key, digest)
