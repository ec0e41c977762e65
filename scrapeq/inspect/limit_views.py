"""Limits as a person sees them, and how often they closed."""

from __future__ import annotations

from scrapeq.protocols import LimitView
from scrapeq.queue import LimitState, Queue

SHOWN = 12
NOTICEABLE_S = 0.15  # a shorter wait is pacing, not a closed limit


def view_of(state: LimitState) -> LimitView:
    """One limit, in words."""
    if state.paused:
        word, why = "paused", "by a person, until resumed"
    elif state.parked_s > 0:
        word, why = (
            "parked",
            f"refused {state.consecutive_refusals} times in a row"
            if state.consecutive_refusals > 1
            else "refused",
        )
    elif state.opens_s == 0:
        word, why = "open", ""
    elif state.probing:
        word, why = "closed", "one request first: its answer opens it"
    elif state.remaining is not None:
        word, why = "closed", f"told: {state.remaining:.0f} left"
    else:
        word, why = "closed", "spent for now"
    return LimitView(
        state.name,
        word,
        state.opens_s,
        int(state.in_flight),
        used=state.used or None,
        size=None,
        why=why,
    )


def title_of(instance: str) -> str:
    """A limit instance for a sentence: `core (api.example)`."""
    name, _, parts = instance.partition("|")
    parts = ", ".join(part for part in parts.split(",") if part)
    return f"{name} ({parts})" if parts else name


class LimitWatch:
    """Looks at the limits of a queue and counts how often each closed."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._closed: dict[str, bool] = {}
        self.closings = 0
        self.soonest: LimitView | None = None  # of the closed ones whose time is known

    async def look(self) -> list[LimitView]:
        """The limits, closed ones first."""
        views = [view_of(state) for state in await self._queue.limit_states()]
        for view in views:
            closed = view.state in ("closed", "parked") and (
                view.opens_s is None or view.opens_s > NOTICEABLE_S
            )
            if closed and not self._closed.get(view.name):
                self.closings += 1
            self._closed[view.name] = closed
        timed = [view for view in views if view.opens_s]
        self.soonest = min(timed, key=lambda view: view.opens_s or 0.0, default=None)
        views.sort(key=lambda view: (view.state == "open", -(view.opens_s or 0.0), view.name))
        return views[:SHOWN]
