"""
All outputs of a plan, in one commit.

Every output stages and writes, then commits. Then the commit logs are committed, the one with the lease tokens last.
After a crash in between, the batch is repeated, and records that were written already are not written again.
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
from scrapeq.backoff import pauses_s
from scrapeq.errors import LeaseLost, OutputError, RecordRejected, ScrapeqError, UsageError
from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.sink.commit_log import Token, parse_token
from scrapeq.sink.output import (
    CapturedResponse,
    CommitLog,
    FinishAware,
    IdleAware,
    OutputSink,
    OutputUnavailable,
    Record,
    SinkContext,
    SinkFactory,
)
from scrapeq.sink.seen import digest_of, identity_text

UNAVAILABLE_S = 60.0  # an output that cannot be reached for this long ends the run
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 5.0

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


_RECORD_ERRORS = ("too many columns", "too many SQL variables", "too big", "too many terms", "too large")
_RECORD_SQLSTATES = ("22", "54")  # PostgreSQL: data exceptions, program limits


class CommitRequest(NamedTuple):
    """
    The items of one task under one lease, to be committed.

    Args:
        task_id: The task.
        token: Its lease token.
        items: Its items.
        page, resource, seed: Its response, for outputs that archive responses; page None = none of them does.
    """

    task_id: str
    token: str
    items: Sequence[Item]
    page: Page | None = None
    resource: str = ""
    seed: Mapping[str, Any] = MappingProxyType({})


def factory_of(type_: str) -> SinkFactory:
    """
    Return the factory of an output type, built in or of another package.

    Raises:
        UsageError: the type is unknown, or an extra that it needs is not installed.
    """
    if type_ not in _TYPES:
        return cast(SinkFactory, plugins.load(plugins.SINKS, type_))
    module, name = _TYPES[type_]
    if missing := plugins.missing_extra(type_):
        raise UsageError(f"outputs: {missing}")
    return cast(SinkFactory, getattr(import_module(module), name))


def captures_responses(outputs: Sequence[plan.Output]) -> bool:
    """Return whether any of the outputs archives responses."""
    return any(
        output.type == "warc"
        or (output.type not in _TYPES and getattr(factory_of(output.type), "captures_responses", False))
        for output in outputs
    )


def wants_seeds(outputs: Sequence[plan.Output]) -> bool:
    """Return whether any of the outputs needs the seeds of items."""
    return any(
        output.type not in _TYPES or (template is not None and "seed" in template.names)
        for output in outputs
        for template in (output.path, output.table)
    )


class OutputSet:
    """
    All outputs of a plan. Use it from one thread at a time.

    It locks the folders and databases from `check` or the first commit until `close`.

    Args:
        outputs: The outputs of the plan.
        base: The folder that relative paths start from.
        context: What the outputs share; None = defaults.
        unavailable_s: Seconds for which a commit is retried while an output cannot be reached.

    Raises:
        UsageError: an output type is unknown or not installed.
        OutputError: a setting is not supported by its output type.
    """

    def __init__(
        self,
        outputs: Sequence[plan.Output],
        *,
        base: Path,
        context: SinkContext | None = None,
        unavailable_s: float = UNAVAILABLE_S,
    ) -> None:
        self._context = context or SinkContext(base)
        self._sinks = [
            (factory_of(output.type)(output, self._context), output.resources) for output in outputs
        ]
        self._unavailable_s = unavailable_s
        self._token_log: CommitLog | None = None
        self._is_open = False
        # New items per request of the batch. A retry finds some of them written already, but they count as new.
        self._new_counts: Counter[int] = Counter()

    def check(self) -> None:
        """
        Open every output: lock it, undo what a crash left, and make sure that it can be written.

        Raises:
            OutputError: an output cannot be opened; the message names it.
        """
        if self._is_open:
            return
        try:
            for sink, _ in self._sinks:
                sink.open()
        except BaseException as error:
            self.close()
            self._raise_as_output_error(error)
        commit_logs = self._context.commit_logs
        self._token_log = next(
            (log for log in commit_logs if log.shared), commit_logs[0] if commit_logs else None
        )
        self._is_open = True

    def finish(self) -> None:
        """Write what the outputs have buffered, at the end of the run. Raises OutputError."""
        self._for_each(lambda sink: sink.finish() if isinstance(sink, FinishAware) else None)

    def on_idle(self) -> None:
        """Let the outputs do what is due by time, while nothing is committed. Raises OutputError."""
        self._for_each(lambda sink: sink.on_idle() if isinstance(sink, IdleAware) else None)

    @property
    def needs_idle_calls(self) -> bool:
        """Whether any output has work to do by time, so that `on_idle` must be called."""
        return any(isinstance(sink, IdleAware) for sink, _ in self._sinks)

    def _for_each(self, call: Callable[[OutputSink], None]) -> None:
        if not self._is_open:
            return
        try:
            for sink, _ in self._sinks:
                call(sink)
        except BaseException as error:
            self._abandon()
            self._raise_as_output_error(error)

    def close(self) -> None:
        """Close every output. A later commit opens them again."""
        self._is_open = False
        for sink, _ in self._sinks:
            sink.close()
        self._context.close()
        self._token_log = None

    def commit_many(
        self, batch: Sequence[tuple[str, str, Sequence[Item]] | CommitRequest]
    ) -> list[int | LeaseLost | RecordRejected]:
        """
        Commit the items of several tasks in one transaction. They are durable when this returns.

        If an output cannot hold something of one task, the others are committed one by one.

        Returns:
            For each task: the number of items that were new or changed; or LeaseLost if a newer lease of the task has
            committed already, or RecordRejected if an output cannot hold one of its records or its response: in both
            cases nothing of it is written. (The same token again is a retry.)

        Raises:
            OutputError: an output failed. Retry the whole batch, or end the run.
            UsageError: a lease token is malformed; nothing of the batch is committed.
        """
        requests = [CommitRequest(*entry) for entry in batch]
        parsed = [parse_token(request.token) for request in requests]
        until_s, pauses = time.monotonic() + self._unavailable_s, pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        self._new_counts = Counter()
        while True:
            try:
                self.check()
                return self._commit(requests, parsed)
            except OutputUnavailable:
                self._abandon()
                pause_s = next(pauses)
                if time.monotonic() + pause_s > until_s:
                    raise
            except BaseException as error:
                self._abandon()
                if is_of_record(error):
                    if len(requests) > 1:
                        return [self.commit_many([request])[0] for request in requests]
                    return [
                        RecordRejected(
                            f"{self._labels()}: the record cannot be written: {_first_line(error)}"
                        )
                    ]
                self._raise_as_output_error(error)
            time.sleep(pause_s)

    def take_notes(self) -> list[str]:
        """Return the lines for the user since the last call."""
        notes, self._context.notes = self._context.notes, []
        return notes

    def _labels(self) -> str:
        return ", ".join(dict.fromkeys(_label(sink) for sink, _ in self._sinks))

    def _commit(
        self, requests: list[CommitRequest], parsed: list[Token]
    ) -> list[int | LeaseLost | RecordRejected]:
        token_log = self._token_log
        newest = token_log.tokens({request.task_id for request in requests}) if token_log else {}
        claimed: dict[str, Token] = {}
        results: list[int | LeaseLost | RecordRejected] = []
        records: list[Record] = []
        owners: list[int] = []
        responses: list[CapturedResponse] = []
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
                responses.append(CapturedResponse(task, request.page, request.resource, request.seed))
            results.append(0)
        counted = Counter(owners[at] for at in self._stage(records, responses))
        for number, result in enumerate(results):
            if result == 0:  # not lost
                results[number] = self._new_counts[number] = max(counted[number], self._new_counts[number])
        for sink, _ in self._sinks:
            sink.write()
        for sink, _ in self._sinks:
            sink.commit()
        if token_log is not None and claimed:
            token_log.begin()
            token_log.set_tokens(claimed)
        for commit_log in reversed(self._context.commit_logs):
            if commit_log is not token_log:
                commit_log.commit()
        if token_log is not None:
            token_log.commit()
        return results

    def _stage(self, records: list[Record], responses: list[CapturedResponse]) -> set[int]:
        """Stage in every output; return the positions of the records that are new or changed in any of them."""
        new: set[int] = set()
        for sink, resources in self._sinks:
            if resources:
                chosen = [at for at, record in enumerate(records) if record.item.resource in resources]
                for_sink = [records[at] for at in chosen]
            else:
                chosen, for_sink = list(range(len(records))), records
            for at, is_new in zip(chosen, sink.stage(for_sink, responses), strict=True):
                if is_new:
                    new.add(at)
        return new

    def _abandon(self) -> None:
        """Undo what was not committed and close. The next commit opens the outputs again and reads their true state."""
        for sink, _ in self._sinks:
            sink.abandon()
        for commit_log in self._context.commit_logs:
            try:
                commit_log.rollback()
            except (sqlite3.Error, ScrapeqError):
                continue
        try:
            self.close()
        except (sqlite3.Error, OSError):
            self._is_open = False

    def _raise_as_output_error(self, error: BaseException) -> NoReturn:
        """Raise an unexpected exception as an OutputError: a writer that died of it would only be restarted."""
        if isinstance(error, ScrapeqError) or not isinstance(error, Exception):
            raise error
        if not isinstance(
            error, sqlite3.Error | OSError
        ):  # raised by a library or by a sink of another package
            _log.error("an output failed", exc_info=error)
        raise self._output_error(error) from None

    def _output_error(self, error: Exception) -> OutputError:
        where = error.filename if isinstance(error, OSError) and error.filename else ""
        reason = str(error)
        if isinstance(error, OSError):
            reason = error.strerror or reason
        elif not isinstance(error, sqlite3.Error):
            reason = f"{type(error).__name__}: {error}"
        where = where or self._labels()
        return OutputError(f"{where}: the output cannot be written: {reason}")


def is_of_record(error: BaseException) -> bool:
    """Return whether a failed commit is the fault of a record, not of the output: of its disk, say, or its server."""
    # A value that the output cannot represent. Other exceptions, such as an OSError, are the output's own.
    if isinstance(error, RecordRejected | UnicodeError | OverflowError) or type(error).__module__.startswith(
        "pyarrow"
    ):
        return True
    for one in (error, error.__cause__, error.__context__):
        if isinstance(one, sqlite3.DataError | sqlite3.InterfaceError):
            return True
        if isinstance(one, sqlite3.OperationalError) and any(part in str(one) for part in _RECORD_ERRORS):
            return True
        if (getattr(one, "sqlstate", None) or "").startswith(_RECORD_SQLSTATES):
            return True
    return False


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0]


def _label(sink: OutputSink) -> str:
    """Return the name of the output in error messages."""
    return str(getattr(sink, "title", type(sink).__name__))


def _record(task: str, item: Item) -> Record:
    """Return an item with its identity and the digest of its content. Raises UsageError if it is not JSON."""
    try:
        line = orjson.dumps(item.record)
        content = orjson.dumps(
            item.record, option=orjson.OPT_SORT_KEYS
        )  # the order of fields does not matter
    except TypeError as error:
        raise RecordRejected(
            f"{item.resource}: the record with key {item.key!r} is not JSON: {error}"
        ) from None
    digest = digest_of(content)
    named = identity_text(item).encode("utf-8", "surrogatepass")
    key = digest_of(item.resource.encode() + b"\0" + (b"k" + named if named else b"d" + digest))
    return Record(task, item, line, key, digest)
