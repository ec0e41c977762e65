"""
Every error that scrapeq raises on purpose.

    ScrapeqError
    ├── UsageError               a bad argument (a NaN priority, a negative delay, a payload that is not JSON)
    │   └── ConfigError          a configuration file with problems, each with file:line:col
    ├── ExpressionError          an expression that does not parse, with the position in its text
    ├── QueueError
    │   ├── LeaseLost            the lease token is stale: another worker has the task, or it is done
    │   ├── QueueFull            the queue is at its bound and the policy is to reject
    │   └── NotDurable           the store did not confirm the write at the requested durability
    ├── StoreError               Redis or Valkey: unreachable, wrong version, access denied, locked
    │   ├── StoreBusy            another run holds this data folder
    │   └── StoreDamaged         the store lost data of the queue, or something else writes to its keys
    ├── OutputError              an output that cannot be written
    ├── ExtractError             a response that does not match its resource
    │   └── HookError            a hook (handler, on_page, on_item) that failed, with its file and line
    ├── FetchError               a request without a complete response
    │   ├── Blocked              the guard refused the address; nothing was sent there
    │   ├── BodyTooLarge         more bytes than max_body_size after decoding
    │   ├── BadResponse          the response violates HTTP, its framing or its content encoding
    │   │   └── Truncated        the response ended early
    │   ├── TooManyRedirects     a redirect loop, or too long a chain
    │   ├── DeadlineExceeded     the time for the whole request is over
    │   ├── ConnectionFailed     no connection, or it broke
    │   │   └── TlsFailed        the server's certificate or TLS version was not accepted
    │   ├── AuthFailed           no credential could be obtained, so the request was not sent
    │   └── StatusError          a 4xx or 5xx status, raised by Page.raise_for_status only
    └── RateLimited              a limit stays closed for longer than the caller waits (retry_after_s)
"""

from __future__ import annotations

from dataclasses import dataclass


class ScrapeqError(Exception):
    """The base class of everything that scrapeq raises on purpose."""


class UsageError(ScrapeqError):
    """An argument that can never work. It is raised before anything is done."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One mistake in a configuration file.

    Args:
        file: As it was given.
        line, col: 1-based; 0 for a problem of the whole file.
        field: For example "resources[0].endpoint.path"; may be empty.
        message: What is wrong.
        hint: What would be right; may be empty.
    """

    file: str
    line: int
    col: int
    field: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        position = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        return f"{position}: {field}{self.message}{hint}"


class ConfigError(UsageError):
    """A configuration that is refused. `problems` lists every mistake that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(p) for p in problems))


class ExpressionError(ScrapeqError):
    """An expression that does not parse or uses an unknown name. `position` is a 0-based index into its text."""

    def __init__(self, message: str, position: int = 0, hint: str = "") -> None:
        self.message = message
        self.position = position
        self.hint = hint
        super().__init__(message)


class QueueError(ScrapeqError):
    """The queue refused an operation."""


class LeaseLost(QueueError):
    """The lease token is stale. Nothing was changed."""


class QueueFull(QueueError):
    """The queue is at its bound (`max_tasks`) and its policy is `reject`. Nothing was pushed."""


class NotDurable(QueueError):
    """The write happened, but the store did not confirm it at the requested durability."""


class StoreError(ScrapeqError):
    """The store cannot be used. The message names the remedy."""


class StoreBusy(StoreError):
    """Another run holds this data folder."""


class StoreDamaged(StoreError):
    """The store lost data of the queue, or something else writes to its keys. Waiting does not help."""


class RecordRejected(ScrapeqError):
    """An output cannot hold a record or a response; its task becomes a dead letter, and the run goes on."""


class OutputError(ScrapeqError):
    """An output cannot be written."""


class ExtractError(ScrapeqError):
    """A complete response does not match its resource: it is not JSON, say, or a path does not fit it."""


class BrokenBody(ExtractError):
    """
    A complete response whose body is cut off, or states an error in place of the records.

    The next response may be whole, so the request is retried. `is_cut_off`: it is known to end too early.
    """

    is_cut_off = False


class HookError(ExtractError):
    """A hook failed or returned something unusable. The message names the hook, its file and line."""


class FetchError(ScrapeqError):
    """A request got no complete response."""


class Blocked(FetchError):
    """
    The egress guard refused the address, and nothing was sent there.

    `was_sent`: an earlier request was sent under the same grant, and its redirect led to the address.
    """

    was_sent = False


class BodyTooLarge(FetchError):
    """The body has more bytes after decoding than `max_body_size`."""


class BadResponse(FetchError):
    """The response violates HTTP, its framing or its content encoding."""


class Truncated(BadResponse):
    """The response ended before it was complete, so it is not a page."""


class TooManyRedirects(FetchError):
    """A redirect loop, or more hops than allowed."""


class DeadlineExceeded(FetchError):
    """The time for the whole request (connection, hops, body) is over."""


class ConnectionFailed(FetchError):
    """
    The connection could not be made, or it broke before the response was complete.

    `wait_s`: for so many seconds another attempt would fail in the same way; None = unknown.
    """

    wait_s: float | None = None


class TlsFailed(ConnectionFailed):
    """The TLS handshake failed: the certificate is not valid for the host, say. Another attempt would fail too."""


class AuthFailed(FetchError):
    """
    A credential (a token, a session) could not be obtained, so the request that needs it was not sent.

    `final`: another attempt would fail too (a wrong secret, an unknown client). Otherwise the next attempt follows
    after at least `pause_s` seconds.
    """

    def __init__(self, message: str, *, final: bool = False, pause_s: float = 0.0) -> None:
        self.final = final
        self.pause_s = pause_s
        super().__init__(message)


class StatusError(FetchError):
    """A response with a 4xx or 5xx status; see `Page.raise_for_status`."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class RateLimited(ScrapeqError):
    """A limit stays closed for longer than the caller waits: for another `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)
