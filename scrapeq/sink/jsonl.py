"""
Items as JSON Lines, each once.

The order of a commit: the lines reach the file and the disk, then the ledger notes length, digests and tokens
in one transaction. That transaction is the commit. A crash before it leaves bytes behind the committed length;
the next open cuts them off. A crash after it changes nothing, since a repeat finds its digests.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError, UsageError
from scrapeq.protocols import Item
from scrapeq.sink.ledger import LEDGER_NAME, FileState, Ledger, Token, parse_token

DIGEST_BYTES = 16
GZIP_LEVEL = 6
TAIL_BYTES = 65_536
GZIP_SUFFIX = ".gz"
MARK = "\0"  # stands for the resource's name, in no path otherwise

Request = tuple[str, str, Sequence[Item]]
"""(task id, lease token, items)"""

_log = logging.getLogger("scrapeq.sink")
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


@dataclass(slots=True)
class _File:
    """An open output file and what this commit adds to it."""

    state: FileState
    ledger: Ledger
    fd: int
    lines: list[bytes] = field(default_factory=list)
    digests: dict[bytes, bytes] = field(default_factory=dict)
    added: int = 0


@dataclass(frozen=True, slots=True)
class _Target:
    """One output: the folder its files stay in, which has the ledger, and how a file's path is made."""

    base: Path
    place: Path
    output: plan.Output

    @classmethod
    def of(cls, output: plan.Output, base: Path) -> _Target:
        """The folder is the part of the path before `${resource}`."""
        assert output.path is not None
        fixed, _, _ = str(output.path.render({"resource": MARK})).partition(MARK)
        return cls(base, Path(os.path.normpath(base / fixed.rpartition("/")[0])), output)

    def takes(self, resource: str) -> bool:
        """Whether items of the resource go here."""
        return not self.output.resources or resource in self.output.resources

    def path(self, resource: str) -> Path:
        """The file of a resource; OutputError when its name would lead out of the folder."""
        assert self.output.path is not None
        rendered = str(self.output.path.render({"resource": resource}))
        path = Path(os.path.normpath(self.base / rendered))
        inside = path.is_relative_to(self.place) and path != self.place
        if not inside or "\0" in rendered or rendered.endswith("/") or path.name.startswith(LEDGER_NAME):
            raise OutputError(f"{rendered!r}: is no name for a file inside {self.place}")
        return path


class JsonlSink:
    """
    Appends items to one JSON Lines file a resource (gzip members when its name ends in .gz).

    Use it from one thread at a time. It holds its folders from `check` or the first commit to `close`.

    Args:
        outputs: The outputs of the plan.
        base: What relative paths are relative to.
    """

    def __init__(self, outputs: Sequence[plan.Output], *, base: Path) -> None:
        self._targets = [_Target.of(output, base.absolute()) for output in outputs]
        self._ledgers: dict[Path, Ledger] = {}
        self._files: dict[Path, _File] = {}
        self._routes: dict[str, list[_File]] = {}

    def check(self) -> None:
        """
        Take the folders, cut files back to what is committed, and prove that they can be written.

        Raises:
            OutputError: naming the path.
        """
        if not self._ledgers:
            self._open()

    def close(self) -> None:
        """Free the folders. A later commit opens them again."""
        for file in self._files.values():
            os.close(file.fd)
        for ledger in self._ledgers.values():
            ledger.close()
        self._files, self._ledgers, self._routes = {}, {}, {}

    def commit_many(self, batch: Sequence[Request]) -> list[int | LeaseLost]:
        """
        Commit the items of several tasks at once; all of it is on the disk when this returns.

        Returns:
            For each: how many items were new or changed, or LeaseLost when a newer lease has committed
            already (nothing of it is written; the same token again is the same lease repeating).

        Raises:
            OutputError: the disk refuses; nothing of the batch is committed.
            UsageError: a malformed lease token, a record that is no JSON; nothing of the batch is committed.
        """
        parsed = [parse_token(token) for _, token, _ in batch]
        self.check()
        try:
            return self._commit(batch, parsed)
        except BaseException as error:
            self._abandon()
            if isinstance(error, sqlite3.Error | OSError):
                raise self._refused(error) from None
            raise

    def _commit(self, batch: Sequence[Request], parsed: list[Token]) -> list[int | LeaseLost]:
        """Collect, write, then commit the ledgers: last the first output's, which alone holds the tokens."""
        home = next(iter(self._ledgers.values()), None)
        tokens: dict[str, Token] = {}
        results: list[int | LeaseLost] = []
        for (task, _, items), token in zip(batch, parsed, strict=True):
            newest = tokens.get(task) or (home.token(task) if home else None)
            if newest is not None and token < newest:
                results.append(LeaseLost(f"task {task}: a newer lease has committed already"))
                continue
            tokens[task] = token
            results.append(sum(self._collect(item) for item in items))
        changed = [file for file in self._files.values() if file.lines]
        for file in changed:
            _append(file)
        for ledger in reversed(self._ledgers.values()):
            of_ledger = [file for file in changed if file.ledger is ledger]
            if not of_ledger and ledger is not home:
                continue
            ledger.begin()
            for file in of_ledger:
                ledger.set_length(file.state.id, file.state.length + file.added)
                ledger.set_digests([(file.state.id, key, digest) for key, digest in file.digests.items()])
            if ledger is home:
                ledger.set_tokens(tokens)
            ledger.commit()
        for file in changed:
            file.state.length += file.added
            file.lines, file.digests, file.added = [], {}, 0
        return results

    def _collect(self, item: Item) -> bool:
        """Put the item's line where it is new or changed; whether it was anywhere."""
        files = self._route(item.resource)
        if not files:
            return False
        try:
            line = orjson.dumps(item.record)
            content = orjson.dumps(
                item.record, option=orjson.OPT_SORT_KEYS
            )  # the order of fields is no change
        except TypeError as error:
            raise UsageError(f"{item.resource}: the record of {item.key!r} is no JSON: {error}") from None
        digest = _digest(content)
        named = item.key.encode("utf-8", "surrogatepass")
        key = _digest(item.resource.encode() + b"\0" + (b"k" + named if named else b"d" + digest))
        written = False
        for file in files:
            known = file.digests.get(key) or file.ledger.digest(file.state.id, key)
            if known == digest:
                continue
            file.digests[key] = digest
            file.lines.append(line)
            written = True
        return written

    def _route(self, resource: str) -> list[_File]:
        """The files a resource goes to, each once, opened."""
        found = self._routes.get(resource)
        if found is None:
            targets = [t for t in self._targets if not t.output.resources or resource in t.output.resources]
            found = list(
                {path: self._file(t, path) for t in targets for path in (t.path(resource),)}.values()
            )
            self._routes[resource] = found
        return found

    def _file(self, target: _Target, path: Path) -> _File:
        """Open a file; one the ledger does not know yet is put into it before its first line."""
        if path in self._files:
            return self._files[path]
        ledger = self._ledgers[target.place]
        state = next((state for state in ledger.files() if state.path == path), None)
        if state is None:
            _make_folder(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OutputError(f"{path}: is no regular file")
            if state is None:
                size = os.fstat(fd).st_size
                if size and path.suffix != GZIP_SUFFIX and os.pread(fd, 1, size - 1) != b"\n":
                    size += os.pwrite(fd, b"\n", size)  # somebody else's last line
                _sync_folder(path.parent)
                ledger.begin()
                state = ledger.add_file(path, size)
                ledger.commit()
        except BaseException:
            os.close(fd)
            raise
        self._files[path] = _File(state, ledger, fd)
        return self._files[path]

    def _open(self) -> None:
        """Take every folder; cut its files back to what the ledger says."""
        try:
            for target in self._targets:
                if target.place not in self._ledgers:
                    _make_folder(target.place)
                    ledger = Ledger(target.place)
                    self._ledgers[target.place] = ledger
                    self._recover(ledger)
            for target in self._targets:
                for path in map(target.path, target.output.resources):
                    if path.exists() and not os.access(path, os.W_OK):
                        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise self._refused(error) from None
        except BaseException:
            self.close()
            raise

    def _recover(self, ledger: Ledger) -> None:
        """After a crash a file may be longer than committed, after a person's hand shorter or gone."""
        for state in ledger.files():
            size = state.path.stat().st_size if state.path.is_file() else -1
            if size == state.length:
                continue
            if size > state.length:
                _log.warning(
                    "%s: %d bytes that were not committed are cut off", state.path, size - state.length
                )
                os.truncate(state.path, state.length)
                continue
            _log.warning("%s: is shorter than what was committed; its items are written again", state.path)
            kept = _keep_whole_lines(state.path) if size > 0 else 0
            ledger.begin()
            ledger.forget_items(state.id)
            ledger.set_length(state.id, kept)
            ledger.commit()

    def _abandon(self) -> None:
        """Undo what was not committed. The next commit opens the folders anew and looks at the truth."""
        for file in self._files.values():
            if file.added:
                with suppress(OSError):
                    os.ftruncate(file.fd, file.state.length)
        for ledger in self._ledgers.values():
            with suppress(sqlite3.Error):
                ledger.rollback()
        with suppress(sqlite3.Error):
            self.close()

    def _refused(self, error: Exception) -> OutputError:
        where = error.filename if isinstance(error, OSError) and error.filename else ""
        reason = error.strerror if isinstance(error, OSError) else str(error)
        where = where or ", ".join(str(place) for place in dict.fromkeys(t.place for t in self._targets))
        return OutputError(f"{where}: the output cannot be written: {reason}")


def _append(file: _File) -> None:
    """Write the collected lines behind the committed length, down to the disk."""
    data = b"\n".join(file.lines) + b"\n"
    if file.state.path.suffix == GZIP_SUFFIX:
        data = gzip.compress(data, GZIP_LEVEL)  # members in a row are one gzip file (RFC 1952, 2.2)
    file.added = len(data)
    rest = memoryview(data)
    while rest:
        at = file.state.length + file.added - len(rest)
        try:
            rest = rest[os.pwrite(file.fd, rest, at) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file.state.path)) from None
    _sync(file.fd)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _keep_whole_lines(path: Path) -> int:
    """
    What stays of a file that a person has shortened, in bytes: its whole lines.

    A gzip file has none that can be told, so it is put aside as `<name>.damaged`.
    """
    if path.suffix == GZIP_SUFFIX:
        path.replace(path.with_name(path.name + ".damaged"))
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - TAIL_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
        return end


def _make_folder(path: Path) -> None:
    """The folder and its parents, each entry on the disk."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """A new file is only there after a power cut when its folder is synced, too."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
