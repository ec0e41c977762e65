"""Describe limits for the progress output, and count how often they closed."""

from __future__ import annotations

from collections.abc import Mapping

from scrapeq.plan import Match, Plan
from scrapeq.protocols import LimitView
from scrapeq.queue import LimitState, Queue

NO_HOSTS: Mapping[str, str] = {}
LIMITS_SHOWN = 12
NOTICEABLE_S = 0.15  # a shorter wait is pacing and does not count as a closed limit


def view_of(state: LimitState, down: Mapping[str, str] = NO_HOSTS) -> LimitView:
    """
    Return a limit with its state and the reason for it in words.

    Args:
        state: The limit.
        down: The hosts that do not answer, and why. Their limits wait for a response, not for the server's clock.
    """
    no_response = next((down[part] for part in state.name.partition("|")[2].split(",") if part in down), "")
    if state.paused:
        word, why = "paused", "by the user, until resumed"
    elif no_response and state.opens_s != 0 and not state.consecutive_refusals:
        word, why = "down", f"no response: {no_response}"
    elif state.parked_s > 0:
        times = f" {state.consecutive_refusals} times in a row" if state.consecutive_refusals > 1 else ""
        word, why = "parked", f"refused{times}"
    elif state.opens_s == 0:
        word, why = "open", ""
    elif state.probing:
        word, why = "closed", "one probe first: its response opens it"
    elif state.remaining is not None:
        word, why = "closed", f"server reports {state.remaining:.0f} left"
    else:
        word, why = "closed", "used up for now"
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
    """Return the name of a limit instance for a sentence: `core (api.example)`."""
    name, _, parts = instance.partition("|")
    parts = ", ".join(part for part in parts.split(",") if part)
    return f"{name} ({parts})" if parts else name


class LimitWatch:
    """Reads the limits of a queue and counts how often each of them closed."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._was_closed: dict[str, bool] = {}
        self.closings = 0
        self.soonest: LimitView | None = None  # the closed limit with a known time that opens first

    async def look(self, down: Mapping[str, str] = NO_HOSTS) -> list[LimitView]:
        """Return the limits, closed ones first. `down`: the hosts that do not answer, and why."""
        views = [view_of(state, down) for state in await self._queue.limit_states()]
        for view in views:
            is_closed = view.state in ("closed", "parked") and (
                view.opens_s is None or view.opens_s > NOTICEABLE_S
            )
            if is_closed and not self._was_closed.get(view.name):
                self.closings += 1
            self._was_closed[view.name] = is_closed
        timed = [view for view in views if view.opens_s]
        self.soonest = min(timed, key=lambda view: view.opens_s or 0.0, default=None)
        views.sort(key=lambda view: (view.state == "open", -(view.opens_s or 0.0), view.name))
        return views[:LIMITS_SHOWN]


async def unused_rules(plan: Plan, queue: Queue) -> list[str]:
    """Return a message for each rate limit of the plan that has a `match` and matched no request."""
    restricted = [rule.name for rule in plan.rate_limits if rule.match != Match()]
    used = {instance.partition("|")[0] for instance in await queue.limit_instances()} if restricted else set()
    return [
        f"check  rate_limits: no request matched '{name}'; in a path, * is one segment and ** any number"
        for name in restricted
        if name not in used
    ]
