"""The names through which expressions read a response: `status`, `text`, `body`, `url`, `header`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

MAX_BODY_BYTES = 8_000_000
MAX_BODY_BRACKETS = 100_000
"""Larger bodies are not parsed for an expression: that would delay all other requests of the process."""

RESPONSE_NAMES = frozenset({"status", "text", "body", "url", "header"})


class ResponseLike(Protocol):
    """The parts of a page that expressions read."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def url(self) -> str:
        """URL that the response came from."""
        ...

    @property
    def body(self) -> bytes:
        """The body."""
        ...

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def json(self) -> Any:
        """Return the body parsed as JSON. Raises ValueError."""
        ...

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None; the name is case-insensitive."""
        ...


class _ResponseScope(Mapping[str, Any]):
    """A scope that reads the response lazily: a body that no expression uses is never parsed."""

    __slots__ = ("_known", "_page")

    def __init__(self, page: ResponseLike | None, extra: dict[str, Any]) -> None:
        self._page = page
        self._known = extra

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            if name not in RESPONSE_NAMES:
                raise KeyError(name)
            self._known[name] = _read(self._page, name)
        return self._known[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Like `dict.get`, without raising internally, because expressions often look up absent names."""
        known = self._known
        if name in known:
            return known[name]
        return self[name] if name in RESPONSE_NAMES else default

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(RESPONSE_NAMES), **self._known})

    def __len__(self) -> int:
        return len(RESPONSE_NAMES | self._known.keys())


def response_scope(page: ResponseLike | None, /, **extra: Any) -> Mapping[str, Any]:
    """
    Return a scope with `status`, `text`, `body` (JSON or null), `url` and `header('x')` of a page, read lazily.

    Args:
        page: The response; None (after a connection error, for example) makes all of these names null.
        extra: More names, such as `record`, `parent`, `seed`, `now`, `retry_after`.
    """
    return _ResponseScope(page, extra)


def _read(page: ResponseLike | None, name: str) -> Any:
    if page is None:
        return None
    if name == "body":
        try:
            return page.json() if _is_parsed_quickly(page.body) else None
        except (ValueError, RecursionError):
            return None
    value: str | int | Callable[[str], str | None] = getattr(page, name)
    return value


def _is_parsed_quickly(body: bytes) -> bool:
    if len(body) <= MAX_BODY_BRACKETS:
        return True
    return len(body) <= MAX_BODY_BYTES and body.count(b"{") + body.count(b"[") <= MAX_BODY_BRACKETS
