"""Build the forecast from a finished simulation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scrapeq.limits.engine import US
from scrapeq.limits.fast_limit import NEVER
from scrapeq.simulate.forecast import BandForecast, Forecast, LimitForecast, WorkForecast
from scrapeq.simulate.running import LimitRun, Stream

BANDS = 10


@dataclass(frozen=True, slots=True)
class Summary:
    """Converts the state of a simulation at its end to a forecast; times are microseconds."""

    start: float
    now: float

    def forecast(
        self, streams: Sequence[Stream], limits: Iterable[LimitRun], curve: Sequence[tuple[int, float]]
    ) -> Forecast:
        """Return the forecast. `curve`: (number of responses so far, time), in order."""
        total = sum(stream.work.requests for stream in streams)
        responded, done = curve[-1]
        limit_forecasts = [self._limit(one) for one in limits]
        limit_forecasts.sort(key=lambda one: (-one.waiting, -one.held_s, one.name))
        lots = [
            stream.lot * rate.interval_s / rate.limit
            for stream in streams
            if stream.lot > 1
            for lane in stream.lanes
            for limit, _ in lane.limits
            for rate in limit.model.rates
        ]
        return Forecast(
            total,
            total - responded,
            self._s(done),
            tuple(map(self._s, _tenths(curve, total))),
            tuple(limit_forecasts),
            tuple(self._bands(streams, total)),
            tuple(self._by_label(streams)),
            max(lots, default=0.0),
        )

    def _s(self, moment: float) -> float:
        return (moment - self.start) / US

    def _limit(self, limit: LimitRun) -> LimitForecast:
        waiting = sum(lane.stream.ready for _, lane in limit.waiting)
        held = limit.held + (self.now - limit.held_since if limit.held_since < NEVER else 0)
        closed = min(limit.closed, limit.held_since)
        first, last = (limit.first, limit.last) if limit.requests else (self.start, self.start)
        shares = [
            limit.requests / (rate.limit * max(1.0, (last - first) / US / rate.interval_s))
            for rate in limit.model.rates
        ]
        return LimitForecast(
            limit.model.name,
            limit.requests,
            self._s(first),
            self._s(last),
            self._s(closed) if closed < NEVER else None,
            held / US,
            min(1.0, max(shares)) if shares else None,
            waiting,
        )

    def _bands(self, streams: Sequence[Stream], total: int) -> Iterable[BandForecast]:
        band: list[Stream] = []
        counted = made = 0
        ordered = sorted(streams, key=lambda stream: stream.lanes[0].key)
        for index, stream in enumerate(ordered):
            band.append(stream)
            counted += stream.work.requests
            is_last = index + 1 == len(ordered)
            if is_last or (
                ordered[index + 1].work.priority < stream.work.priority
                and counted * BANDS >= total * (made + 1)
            ):
                requests = sum(one.work.requests for one in band)
                yield BandForecast(band[0].work.priority, stream.work.priority, requests, self._done_s(band))
                band = []
                made = counted * BANDS // total

    def _by_label(self, streams: Sequence[Stream]) -> Iterable[WorkForecast]:
        labels: dict[str, list[Stream]] = {}
        for stream in streams:
            labels.setdefault(stream.work.label, []).append(stream)
        for label, own in labels.items():
            first = min(stream.first for stream in own)
            requests = sum(stream.work.requests for stream in own)
            yield WorkForecast(label, requests, self._s(first) if first < NEVER else None, self._done_s(own))

    def _done_s(self, streams: Sequence[Stream]) -> float | None:
        if any(stream.responded < stream.work.requests for stream in streams):
            return None
        return self._s(max(stream.last for stream in streams))


def _tenths(curve: Sequence[tuple[int, float]], total: int) -> Iterable[float]:
    found = 0
    for responded, moment in curve:
        while found < BANDS and responded and responded * BANDS >= total * (found + 1):
            found += 1
            yield moment
