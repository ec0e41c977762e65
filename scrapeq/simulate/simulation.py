"""The simulation: work, limits and an ideal server, from event to event. Grants are those of the real engine."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from scrapeq.errors import UsageError
from scrapeq.limit import Limit, LimitState, of_credential
from scrapeq.limits.engine import US
from scrapeq.limits.fast_limit import NEVER, FastLimit
from scrapeq.simulate.forecast import Forecast
from scrapeq.simulate.lots import lot_of
from scrapeq.simulate.running import Key, Lane, LimitRun, Stream, resume
from scrapeq.simulate.summary import Summary
from scrapeq.simulate.work import Work

SLOTS = 64
LATENCY_S = 0.3
POOL = re.compile(r"\*([\w-]*)", re.ASCII)


class _Simulation:
    def __init__(
        self,
        work: Sequence[Work],
        limits: Mapping[str, Limit],
        slots: int,
        latency_us: float,
        states: Iterable[LimitState],
        pools: Mapping[str, Sequence[str]],
        begin_us: float,
    ) -> None:
        self.begin = self.now = begin_us
        self.limits: dict[str, LimitRun] = {}
        self._definitions = limits
        self._states = {state.name: state for state in states}
        self._pools = pools
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
        self._ready: list[tuple[Key, Lane]] = []
        self._events: list[tuple[float, int, LimitRun | Lane | Stream, int, float]] = []
        self._sequence = 0
        self.curve: list[tuple[int, float]] = [(0, begin_us)]  # answered so far, when

    def _stream(self, work: Work, at: int, total: int) -> Stream:
        names = [*work.group.limits, *([work.group.private] if work.group.private else [])]
        stream = Stream(work)
        for place, credential in enumerate(_credentials(names, self._pools)):
            limits = [
                (self._limit(of_credential(name, credential)), work.group.weight(name)) for name in names
            ]
            stream.lanes.append(Lane(stream, (-work.priority, at, place), limits))
        rules = [(limit.model.rules, weight) for lane in stream.lanes for limit, weight in lane.limits]
        stream.lot = lot_of(total, work.requests, rules)
        return stream

    def _limit(self, name: str) -> LimitRun:
        found = self.limits.get(name)
        if found is None:
            model = FastLimit(name, self._definitions)
            if name in self._states:
                resume(model, self._states[name], self.now)
            found = self.limits[name] = LimitRun(model)
        return found

    def run(self, horizon_us: float) -> None:
        """Until all is answered, nothing can happen any more, or the horizon."""
        for stream in self.streams:
            if stream.work.delay_s:
                self._at(self.begin + stream.work.delay_s * US, stream)
            elif not stream.work.follows:
                self._begin(stream, stream.work.count)
        self._send()
        total = sum(stream.work.requests for stream in self.streams)
        while self._events and self._events[0][0] <= self.begin + horizon_us and self.curve[-1][0] < total:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now:
                _, _, what, lot, granted = heapq.heappop(self._events)
                if isinstance(what, LimitRun):
                    what.timer = NEVER
                    self._ask(what)
                elif isinstance(what, Lane):
                    self._answer(what, lot, granted)
                else:
                    self._begin(what, what.work.count)
            self._send()

    def _at(self, moment: float, what: LimitRun | Lane | Stream, lot: int = 0, granted: float = 0) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (moment, self._sequence, what, lot, granted))

    def _begin(self, stream: Stream, walks: int) -> None:
        stream.begin(walks)
        self._queue(stream)

    def _queue(self, stream: Stream) -> None:
        for lane in stream.lanes if stream.ready else ():
            if not lane.is_queued:
                lane.is_queued = True
                heapq.heappush(self._ready, (lane.key, lane))

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
            _, lane = heapq.heappop(self._ready)
            lane.is_queued = False
            before, lane.came_from = lane.came_from, None
            if before is not None:
                before.asked = False
                touched.add(before)
            closed = None
            if lane.stream.ready:
                lot = self._lot(lane)
                for limit, weight in lane.limits:
                    if not self._grants(limit, lane, lot, weight):
                        closed = limit
                        touched.add(closed)
                        self._wait(lane, closed, lot * weight)
                        break
                else:
                    self._grant(lane, lot)
                    self._queue(lane.stream)
            if before is not None and before is not closed:
                self._ask(before)
        for limit in touched:
            limit.hold(self.now)

    def _grants(self, limit: LimitRun, lane: Lane, lot: int, weight: float) -> bool:
        most = limit.model.rules.max_concurrency
        if most and limit.flying and limit.flying + lot > most:  # the limit itself counts a lot as one
            return False
        return limit.model.grants(self.now, lot * weight, lane.stream.work.priority)

    def _lot(self, lane: Lane) -> int:
        """As many as may go together: what is bounded by what is in flight is used to the last."""
        lot: float = min(lane.stream.lot, lane.stream.ready, self._free)
        for limit, weight in lane.limits:
            model = limit.model
            remaining, probation = model.budget(self.now)
            if probation:
                return 1
            rooms: list[tuple[float | None, float]] = [(model.rules.max_concurrency, limit.flying)]
            if weight:
                rooms.append((remaining, model.in_flight))
            if weight and model.learns and not model.rates and remaining is None:
                rooms.append((model.cap, model.in_flight))
            for most, taken in rooms:
                if most is not None:
                    lot = min(lot, max(1, (most - taken) // max(weight, 1)))
        return int(lot)

    def _wait(self, lane: Lane, limit: LimitRun, weight: float) -> None:
        lane.is_queued = True
        heapq.heappush(limit.waiting, (lane.key, lane))
        most = limit.model.rules.max_concurrency
        if most and limit.flying >= most:
            return  # an answer opens it
        moment = limit.model.opens_at(self.now, weight, lane.stream.work.priority)
        if moment < limit.timer:
            limit.timer = moment
            self._at(moment, limit)

    def _grant(self, lane: Lane, lot: int) -> None:
        stream = lane.stream
        self._free -= lot
        stream.ready -= lot
        stream.granted += lot
        stream.first = min(stream.first, self.now)
        self._at(self.now + self._latency, lane, lot, self.now)
        for limit, weight in lane.limits:
            limit.model.spend(self.now, lane.name(self.now), lot * weight)
            limit.flying += lot
            limit.requests += lot
            limit.first, limit.last = min(limit.first, self.now), self.now

    def _answer(self, lane: Lane, lot: int, granted: float) -> None:
        stream = lane.stream
        self._free += lot
        for limit, weight in lane.limits:
            who, charged = lane.name(granted), lot * weight
            limit.model.charge_budget(self.now, charged)
            limit.model.settle(self.now, who, "answered", self.now, charged, granted, False)
            limit.flying -= lot
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


def _credentials(instances: Sequence[str], pools: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The members that may grant; one without a name where there is no pool."""
    found = (POOL.search(name) for name in instances)
    return next((pools.get(match[1]) for match in found if match), None) or [""]


def simulate(
    work: Sequence[Work],
    limits: Mapping[str, Limit],
    *,
    slots: int = SLOTS,
    latency_s: float = LATENCY_S,
    states: Iterable[LimitState] = (),
    pools: Mapping[str, Sequence[str]] | None = None,
    begin_s: float = 0.0,
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
        pools: The members of pools: `core|*keys` is granted by any one of `keys`.
        begin_s: When it begins, Unix seconds, for what goes by the calendar.
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
    simulation = _Simulation(work, limits, slots, latency_s * US, states, pools or {}, begin_s * US)
    simulation.run(horizon_s * US)
    return Summary(simulation.begin, simulation.now).forecast(
        simulation.streams, simulation.limits.values(), simulation.curve
    )


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
