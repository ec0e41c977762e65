"""
Every error that scrapeq raises on purpose.

    ScrapeqError
    ├── UsageError               bad arguments (a NaN priority, a negative delay, a payload that is no JSON)
    │   └── ConfigError          a configuration file with problems, each with file:line:col
    ├── ExpressionError          an expression that does not parse, with the position in its text
    ├── QueueError
    │   ├── LeaseLost            the lease token is stale: somebody else has the task, or it is done
    │   ├── QueueFull            the queue is at its bound and the policy is to reject
    │   └── NotDurable           the store did not confirm the write at the durability asked for
    ├── StoreError               Redis/Valkey: unreachable, wrong version, refused, locked
    │   └── StoreBusy            another run holds this data folder
    ├── OutputError              an output file that cannot be written
    ├── ExtractError             an answer that is not what its resource says
    │   └── HookError            a function of yours (handler, on_page, on_item) that failed: which, file and line
    ├── FetchError               a request that got no whole answer
    │   ├── Blocked              the guard refused the address; never sent
    │   ├── BodyTooLarge         more bytes than max_body_size after decoding
    │   ├── BadAnswer            the answer breaks HTTP, its framing or its encoding
    │   │   └── Truncated        it ended before it was whole
    │   ├── TooManyRedirects     a redirect loop, or too long a chain
    │   ├── DeadlineExceeded     the time for the whole request is over
    │   ├── ConnectionFailed     no connection, or it broke
    │   └── AuthFailed           no credential could be had, so the request was not sent
    └── RateLimited              a limit is closed for longer than the caller will wait (retry_after_s)
"""

from __future__ import annotations

from dataclasses import dataclass


class ScrapeqError(Exception):
    """Root of the tree; catching it catches whatever scrapeq raises on purpose."""


class UsageError(ScrapeqError):
    """An argument that can never work, told before anything was done."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file: where it is, which field, what is wrong, what would be right."""

    file: str
    line: int  # 1-based; 0 where there is none
    col: int  # 1-based
    field: str  # "resources[0].endpoint.path"; may be empty
    message: str
    hint: str = ""

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        place = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        return f"{place}: {field}{self.message}{hint}"


class ConfigError(UsageError):
    """A configuration that is refused; `problems` has every mistake that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(p) for p in problems))


class ExpressionError(ScrapeqError):
    """An expression that does not parse or names what does not exist; `position` is 0-based in its text."""

    def __init__(self, message: str, position: int = 0, hint: str = "") -> None:
        self.message = message
        self.position = position
        self.hint = hint
        super().__init__(message)


class QueueError(ScrapeqError):
    """Something the queue refused."""


class LeaseLost(QueueError):
    """The lease token is stale; nothing was changed."""


class QueueFull(QueueError):
    """The queue is at its bound (`max_tasks`) and the policy is `reject`; nothing was pushed."""


class NotDurable(QueueError):
    """The write happened, but the store did not confirm it at the durability asked for."""


class StoreError(ScrapeqError):
    """The store cannot be used; the message names the remedy."""


class StoreBusy(StoreError):
    """Another run holds this data folder."""


class OutputError(ScrapeqError):
    """An output that cannot be written."""


class ExtractError(ScrapeqError):
    """A whole answer that is not what its resource says: no JSON, a path that does not suit it."""


class HookError(ExtractError):
    """A hook failed, or gave what cannot be used; says which one, and in which file and line."""


class FetchError(ScrapeqError):
    """A request that got no whole answer."""


class Blocked(FetchError):
    """
    The egress guard refused the address; nothing was sent there.

    `was_sent`: another request was, under the same grant, and its redirect led there.
    """

    was_sent = False


class BodyTooLarge(FetchError):
    """The body is larger, after decoding, than `max_body_size` (bytes)."""


class BadResponse(FetchError):
    """The answer breaks HTTP, its framing or its content encoding."""


class Truncated(BadResponse):
    """The answer ended before it was whole; what came is no page."""


class TooManyRedirects(FetchError):
    """A redirect loop, or more hops than allowed."""


class DeadlineExceeded(FetchError):
    """The time for the whole request (connect, hops, body) is over."""


class ConnectionFailed(FetchError):
    """No connection could be made, or it broke before the answer was whole."""


class AuthFailed(FetchError):
    """
    A credential that is asked for (a token, a session) could not be had; the request that needed it was not sent.

    `final`: asking again would be refused again (a wrong secret, a client that is not known). Else it is not asked
    for again before `pause_s` seconds are over.
    """

    def __init__(self, message: str, *, final: bool = False, pause_s: float = 0.0) -> None:
        self.final = final
        self.pause_s = pause_s
        super().__init__(message)


class RateLimited(ScrapeqError):
    """A limit is closed for longer than the caller will wait; `retry_after_s` says how long (seconds)."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)
