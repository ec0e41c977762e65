"""The simulation: work, limits and an ideal server, from event to event. Grants are those of the real engine."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence

from scrapeq.errors import UsageError
from scrapeq.limit import Limit, LimitState
from scrapeq.limits.engine import US
from scrapeq.simulate.forecast import Forecast
from scrapeq.simulate.instance import NEVER, SimulatedLimit, opens_at
from scrapeq.simulate.lots import lot_of
from scrapeq.simulate.running import LimitRun, Stream, resume
from scrapeq.simulate.summary import forecast_of
from scrapeq.simulate.work import Work

SLOTS = 64
LATENCY_S = 0.3


class _Simulation:
    def __init__(
        self,
        work: Sequence[Work],
        limits: Mapping[str, Limit],
        slots: int,
        latency_us: float,
        states: Iterable[LimitState],
    ) -> None:
        self.limits: dict[str, LimitRun] = {}
        self._definitions = limits
        self._states = {state.name: state for state in states}
        self._free = slots
        self._latency = latency_us
        total = sum(one.requests for one in work)
        self.streams = [self._stream(one, at, total) for at, one in enumerate(work)]
        self._followers: dict[str, list[Stream]] = {}
        self._answered: dict[str, int] = {}
        self._of_label: dict[str, int] = {}
        for stream in self.streams:
            label = stream.work.label
            self._of_label[label] = self._of_label.get(label, 0) + stream.work.requests
            if stream.work.follows:
                self._followers.setdefault(stream.work.follows, []).append(stream)
        self._ready: list[tuple[tuple[float, int], Stream]] = []
        self._events: list[tuple[float, int, LimitRun | Stream, int, float]] = []
        self._sequence = 0
        self.now = 0.0
        self.curve: list[tuple[int, float]] = [(0, 0.0)]  # answered so far, when

    def _stream(self, work: Work, at: int, total: int) -> Stream:
        names = [*work.group.limits, *([work.group.private] if work.group.private else [])]
        limits = [self._limit(name) for name in names]
        lot = lot_of(total, work.requests, [limit.model.rules for limit in limits])
        return Stream(work, (-work.priority, at), limits, lot)

    def _limit(self, name: str) -> LimitRun:
        found = self.limits.get(name)
        if found is None:
            model = SimulatedLimit(name, self._definitions)
            if name in self._states:
                resume(model, self._states[name])
            found = self.limits[name] = LimitRun(model)
        return found

    def run(self, horizon_us: float) -> None:
        """Until all is answered, nothing can happen any more, or the horizon."""
        for stream in self.streams:
            if stream.work.delay_s:
                self._at(stream.work.delay_s * US, stream, 0, NEVER)
            elif not stream.work.follows:
                self._begin(stream, stream.work.count)
        self._send()
        while self._events and self._events[0][0] <= horizon_us:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now:
                _, _, what, lot, granted = heapq.heappop(self._events)
                if isinstance(what, LimitRun):
                    what.timer = NEVER
                    self._ask(what)
                elif lot:
                    self._answer(what, lot, granted)
                else:
                    self._begin(what, what.work.count)
            self._send()

    def _at(self, moment: float, what: LimitRun | Stream, lot: int, granted: float) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (moment, self._sequence, what, lot, granted))

    def _begin(self, stream: Stream, walks: int) -> None:
        stream.begin(walks)
        self._queue(stream)

    def _queue(self, stream: Stream) -> None:
        if stream.ready and not stream.is_queued:
            stream.is_queued = True
            heapq.heappush(self._ready, (stream.key, stream))

    def _ask(self, limit: LimitRun) -> None:
        """The first that waits for this limit is looked at again; the others follow it one by one."""
        if limit.waiting and not limit.asked:
            limit.asked = True
            entry = heapq.heappop(limit.waiting)
            entry[1].came_from = limit
            heapq.heappush(self._ready, entry)

    def _send(self) -> None:
        touched: set[LimitRun] = set()
        while self._free and self._ready:
            _, stream = heapq.heappop(self._ready)
            stream.is_queued = False
            before, stream.came_from = stream.came_from, None
            if before is not None:
                before.asked = False
                touched.add(before)
            lot = self._lot(stream)
            closed = next((one for one in stream.limits if not one.model.grants(self.now, lot)), None)
            if closed is not None:
                touched.add(closed)
                self._wait(stream, closed, lot)
            else:
                self._grant(stream, lot)
                self._queue(stream)
            if before is not None and before is not closed:
                self._ask(before)
        for limit in touched:
            limit.hold(self.now)

    def _lot(self, stream: Stream) -> int:
        """As many as may go together: what is bounded by what is in flight is used to the last."""
        lot: float = min(stream.lot, stream.ready, self._free)
        for limit in stream.limits:
            model = limit.model
            remaining, probation = model.known(self.now)
            if probation:
                return 1
            rooms = [model.rules.max_concurrency, remaining]
            if model.learns and not model.rates and remaining is None:
                rooms.append(model.cap)
            for room in rooms:
                if room is not None:
                    lot = min(lot, max(1, room - model.in_flight))
        return int(lot)

    def _wait(self, stream: Stream, limit: LimitRun, lot: int) -> None:
        stream.is_queued = True
        heapq.heappush(limit.waiting, (stream.key, stream))
        moment = opens_at(limit.model, self.now, lot)
        if moment < limit.timer:
            limit.timer = moment
            self._at(moment, limit, 0, NEVER)

    def _grant(self, stream: Stream, lot: int) -> None:
        self._free -= lot
        stream.ready -= lot
        stream.granted += lot
        stream.first = min(stream.first, self.now)
        self._at(self.now + self._latency, stream, lot, self.now)
        for limit in stream.limits:
            limit.model.spend(self.now, _name(stream, self.now), lot)
            limit.requests += lot
            limit.first, limit.last = min(limit.first, self.now), self.now

    def _answer(self, stream: Stream, lot: int, granted: float) -> None:
        self._free += lot
        for limit in stream.limits:
            limit.model.cost(self.now, lot)
            limit.model.settle(self.now, _name(stream, granted), "answered", self.now, lot, granted, False)
            self._ask(limit)
        stream.answered += lot
        stream.last = self.now
        self.curve.append((self.curve[-1][0] + lot, self.now))
        stream.go_on(lot)
        self._queue(stream)
        label = stream.work.label
        done = self._answered[label] = self._answered.get(label, 0) + lot
        for follower in self._followers.get(label, ()):
            wanted = follower.work.count * done // self._of_label[label]
            if wanted > follower.begun:
                self._begin(follower, wanted - follower.begun)


def _name(stream: Stream, granted: float) -> str:
    """Whose grant it is; only one at a time is a probe."""
    return f"{stream.key[1]}@{granted}"


def simulate(
    work: Sequence[Work],
    limits: Mapping[str, Limit],
    *,
    slots: int = SLOTS,
    latency_s: float = LATENCY_S,
    states: Iterable[LimitState] = (),
    horizon_s: float = math.inf,
) -> Forecast:
    """
    Do the work under its limits, against a server that answers each request well.

    Thousands of requests are counted in lots; the forecast says how exact it is. A limit of which nothing is known
    opens as the engine opens it, without ever being refused.

    Args:
        work: What there is to do.
        limits: Definitions by the name before the "|"; an instance without one grants everything.
        slots: Requests in flight at once, over all processes.
        latency_s: Seconds from a grant to its answer.
        states: What is known of limit instances now (`Queue.limit_states`).
        horizon_s: Seconds after which it stops.

    Raises:
        UsageError: no slot, a latency that is none, or work that follows what is not there.
    """
    if slots < 1:
        raise UsageError(f"slots: {slots} is too small; it must be at least 1")
    if not (math.isfinite(latency_s) and latency_s >= 0):
        raise UsageError(f"latency: {latency_s!r} is no duration; it must be 0 or more seconds")
    work = [one for one in work if one.requests]
    _check_order(work)
    simulation = _Simulation(work, limits, slots, latency_s * US, states)
    simulation.run(horizon_s * US)
    return forecast_of(simulation.streams, simulation.limits.values(), simulation.curve, simulation.now)


def _check_order(work: Sequence[Work]) -> None:
    follows = {one.label: one.follows for one in work if one.follows}
    labels = {one.label for one in work}
    for label, before in follows.items():
        if before not in labels:
            raise UsageError(f"{label or 'work'} follows {before!r}, of which there is none")
        seen = [label]
        while before:
            if before in seen:
                raise UsageError(f"nothing ever starts {label}: {' <- '.join([*seen, before])}")
            seen.append(before)
            before = follows.get(before, "")
