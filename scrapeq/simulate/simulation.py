"""A discrete-event simulation of work under rate limits, with the real limit engine and an ideal server."""

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
        start_us: float,
    ) -> None:
        self.start = self.now = start_us
        self.limits: dict[str, LimitRun] = {}
        self._definitions = limits
        self._states = {state.name: state for state in states}
        self._pools = pools
        self._free = slots
        self._latency = latency_us
        total = sum(one.requests for one in work)
        self.streams = [self._stream(one, index, total) for index, one in enumerate(work)]
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
        self.curve: list[tuple[int, float]] = [(0, start_us)]  # number of responses so far, time

    def _stream(self, work: Work, index: int, total: int) -> Stream:
        names = [*work.group.limits, *([work.group.private] if work.group.private else [])]
        stream = Stream(work)
        for credential_index, credential in enumerate(_credentials(names, self._pools)):
            limits = [
                (self._limit(of_credential(name, credential)), work.group.weight(name)) for name in names
            ]
            stream.lanes.append(Lane(stream, (-work.priority, index, credential_index), limits))
        definitions = [
            (limit.model.definition, weight) for lane in stream.lanes for limit, weight in lane.limits
        ]
        stream.lot = lot_of(total, work.requests, definitions)
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
        """Run until every request has its response, no event is left, or the horizon is reached."""
        for stream in self.streams:
            if stream.work.delay_s:
                self._at(self.start + stream.work.delay_s * US, stream)
            elif not stream.work.follows:
                self._start(stream, stream.work.count)
        self._send()
        total = sum(stream.work.requests for stream in self.streams)
        while self._events and self._events[0][0] <= self.start + horizon_us and self.curve[-1][0] < total:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now:
                _, _, what, lot, granted = heapq.heappop(self._events)
                if isinstance(what, LimitRun):
                    what.timer = NEVER
                    self._recheck(what)
                elif isinstance(what, Lane):
                    self._respond(what, lot, granted)
                else:
                    self._start(what, what.work.count)
            self._send()

    def _at(self, moment: float, what: LimitRun | Lane | Stream, lot: int = 0, granted: float = 0) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (moment, self._sequence, what, lot, granted))

    def _start(self, stream: Stream, sequences: int) -> None:
        stream.start(sequences)
        self._queue(stream)

    def _queue(self, stream: Stream) -> None:
        for lane in stream.lanes if stream.ready else ():
            if not lane.is_queued:
                lane.is_queued = True
                heapq.heappush(self._ready, (lane.key, lane))

    def _recheck(self, limit: LimitRun) -> None:
        """Try the first lane that waits for this limit again; if it is granted, the next one follows."""
        if limit.waiting and not limit.rechecking:
            limit.rechecking = True
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
                before.rechecking = False
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
                self._recheck(before)
        for limit in touched:
            limit.hold(self.now)

    def _grants(self, limit: LimitRun, lane: Lane, lot: int, weight: float) -> bool:
        most = limit.model.definition.max_concurrency
        if (
            most and limit.in_flight and limit.in_flight + lot > most
        ):  # the engine counts a lot as one request
            return False
        return limit.model.grants(self.now, lot * weight, lane.stream.work.priority)

    def _lot(self, lane: Lane) -> int:
        """Return how many requests may be sent as one lot: a bound on requests in flight is used in full."""
        lot: float = min(lane.stream.lot, lane.stream.ready, self._free)
        for limit, weight in lane.limits:
            model = limit.model
            remaining, probation = model.budget(self.now)
            if probation:
                return 1
            bounds: list[tuple[float | None, float]] = [(model.definition.max_concurrency, limit.in_flight)]
            if weight:
                bounds.append((remaining, model.in_flight))
            if weight and model.learns and not model.rates and remaining is None:
                bounds.append((model.cap, model.in_flight))
            for most, taken in bounds:
                if most is not None:
                    lot = min(lot, max(1, (most - taken) // max(weight, 1)))
        return int(lot)

    def _wait(self, lane: Lane, limit: LimitRun, weight: float) -> None:
        lane.is_queued = True
        heapq.heappush(limit.waiting, (lane.key, lane))
        most = limit.model.definition.max_concurrency
        if most and limit.in_flight >= most:
            return  # a response opens it
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
            limit.model.spend(self.now, lane.grant_id(self.now), lot * weight)
            limit.in_flight += lot
            limit.requests += lot
            limit.first, limit.last = min(limit.first, self.now), self.now

    def _respond(self, lane: Lane, lot: int, granted: float) -> None:
        stream = lane.stream
        self._free += lot
        for limit, weight in lane.limits:
            grant_id, charged = lane.grant_id(granted), lot * weight
            limit.model.charge_budget(self.now, charged)
            limit.model.settle(self.now, grant_id, "responded", self.now, charged, granted, False)
            limit.in_flight -= lot
            self._recheck(limit)
        stream.responded += lot
        stream.last = self.now
        self.curve.append((self.curve[-1][0] + lot, self.now))
        stream.continue_after(lot)
        self._queue(stream)
        label = stream.work.label
        done = self._answered[label] = self._answered.get(label, 0) + lot
        for follower in self._followers.get(label, ()):
            due = follower.work.count * done // self._of_label[label]
            if due > follower.started:
                self._start(follower, due - follower.started)


def _credentials(instances: Sequence[str], pools: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the credentials of the pool that the instances name; without a pool, one empty credential."""
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
    start_s: float = 0.0,
    horizon_s: float = math.inf,
) -> Forecast:
    """
    Forecast how long work takes under its limits, against a server that accepts every granted request.

    Thousands of requests are simulated in lots; the forecast states the possible error. An unknown limit opens as the
    engine opens it, and is never refused.

    Args:
        work: The work to do.
        limits: Definitions by the name before the "|"; an instance without a definition grants everything.
        slots: The most requests in flight, over all processes.
        latency_s: Seconds from a grant to its response.
        states: The current states of limit instances (`Queue.limit_states`).
        pools: The credentials of each pool: `core|*keys` is granted by any of `keys`.
        begin_s: The start in Unix seconds, for calendar windows.
        horizon_s: Seconds after which the simulation stops.

    Raises:
        UsageError: Less than one slot, an invalid latency, or work that follows unknown work or itself.
    """
    if slots < 1:
        raise UsageError(f"slots is {slots}; it must be at least 1")
    if not (math.isfinite(latency_s) and latency_s >= 0):
        raise UsageError(f"latency_s is {latency_s!r}; it must be a finite number of seconds, 0 or more")
    work = [one for one in work if one.requests]
    _check_order(work)
    simulation = _Simulation(work, limits, slots, latency_s * US, states, pools or {}, start_s * US)
    simulation.run(horizon_s * US)
    return Summary(simulation.start, simulation.now).forecast(
        simulation.streams, simulation.limits.values(), simulation.curve
    )


def _check_order(work: Sequence[Work]) -> None:
    follows = {one.label: one.follows for one in work if one.follows}
    labels = {one.label for one in work}
    for label, before in follows.items():
        if before not in labels:
            raise UsageError(f"{label or 'work'} follows {before!r}, but no work has that label")
        chain = [label]
        while before:
            if before in chain:
                raise UsageError(
                    f"{label} never starts, because it follows itself: {' <- '.join([*chain, before])}"
                )
            chain.append(before)
            before = follows.get(before, "")
