"""Which paginator an answer speaks of."""

from __future__ import annotations

from typing import Any

from scrapeq.extract.paginators import Answered, Forward, HeaderLink


class Detector:
    """Stub."""

    def __init__(self, selector: str) -> None:
        self._selector = selector

    def find(self, at: Answered) -> tuple[dict[str, Any] | None, str]:
        """Stub."""
        return None, ""

    def forward(self, found: dict[str, Any]) -> Forward:
        """Stub."""
        return HeaderLink("next")
