"""The names that an answer gives to expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

RESPONSE_NAMES = frozenset({"status", "text", "body", "url", "header"})


class ResponseLike(Protocol):
    """What is read of a page."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def url(self) -> str:
        """Where it came from."""
        ...

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        ...

    def header(self, name: str) -> str | None:
        """One header by name, any case; None if absent."""
        ...


class _ResponseScope(Mapping[str, Any]):
    """Reads an answer only when asked: a body that no expression names is never parsed."""

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
        """Like a dict's, without the exception underneath: expressions ask for absent names often."""
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
    `status`, `text`, `body` (JSON or null), `url`, `header('x')` of a page, read lazily; and `extra`.

    Args:
        page: The answer; None (a connection error, say) makes them all null.
        extra: More names: `record`, `parent`, `seed`, `now`, `retry_after`.
    """
    return _ResponseScope(page, extra)


def _read(page: ResponseLike | None, name: str) -> Any:
    if page is None:
        return None
    if name == "body":
        try:
            return page.json()
        except (ValueError, RecursionError):
            return None
    value: str | int | Callable[[str], str | None] = getattr(page, name)
    return value
