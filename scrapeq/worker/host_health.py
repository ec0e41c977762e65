"""Which hosts do not answer this worker, so that the user sees it at once, and not as a rate limit."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from scrapeq.errors import ConnectionFailed, DeadlineExceeded, FetchError
from scrapeq.page import Page
from scrapeq.responses.own_words import own_words

PREFIX = "host   "
"""Begins events about a host; the supervisor shows one of each kind for each host."""

_HOSTS_MAX = 1000


class HostHealth:
    """Follows the hosts of one worker. `take` returns what changed, for the supervisor."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()  # a host stopped answering, which is worth a report at once
        self._down: set[str] = set()
        self._changes: dict[str, str] = {}
        self._reported: set[tuple[str, str]] = set()

    def take(self) -> dict[str, str]:
        """Return the hosts that stopped answering, each with the reason, and "" for those that answer again."""
        changes, self._changes = self._changes, {}
        self.changed.clear()
        return changes

    def note(self, host: str, page: Page | None, failure: FetchError | None, what_next: str) -> str:
        """
        Note how a request to a host ended; return an event for the first failure of its kind, else "".

        Args:
            host: The host, with its port unless that is the default one.
            page, failure: The response, or why there is none.
            what_next: What happens to the task, for the event.
        """
        if page is not None:
            if host in self._down:
                self._down.discard(host)
                self._changes[host] = ""
            if page.status != HTTPStatus.UNAUTHORIZED:
                return ""
            words = own_words(page)
            return self._event(host, "401 Unauthorized", f": {words}" if words else "", "")
        if not isinstance(failure, ConnectionFailed | DeadlineExceeded):
            return ""
        reason = str(failure)
        reason = reason[reason.find(": ") + 2 :]  # without the request
        if reason.startswith(("cannot connect to ", f"{host}: ")):
            reason = reason.partition(": ")[2] or reason
        if host not in self._down and len(self._down) < _HOSTS_MAX:
            self._down.add(host)
            self._changes[host] = reason
            self.changed.set()
        return self._event(host, reason, "", f"; {what_next}")

    def _event(self, host: str, kind: str, words: str, rest: str) -> str:
        if (host, kind) in self._reported or len(self._reported) >= _HOSTS_MAX:
            return ""
        self._reported.add((host, kind))
        return f"{PREFIX}{host}: {kind}{words}{rest}"
