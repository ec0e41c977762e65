"""What came out of a simulation, as a forecast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scrapeq.limits.engine import US
from scrapeq.simulate.forecast import BandForecast, Forecast, LimitForecast, WorkForecast
from scrapeq.simulate.instance import NEVER
from scrapeq.simulate.running import LimitRun, Stream

BANDS = 10


def forecast_of(
    streams: Sequence[Stream], limits_run: Iterable[LimitRun], curve: Sequence[tuple[int, float]], now: float
) -> Forecast:
    """
    The forecast.

    Args:
        streams: All work.
        limits_run: All limits.
        curve: (answered so far, when), in order.
        now: When it ended.
    """
    total = sum(stream.work.requests for stream in streams)
    answered, done_us = curve[-1]
    limits = [_limit_forecast(one, now) for one in limits_run]
    limits.sort(key=lambda one: (-one.waiting, -one.held_s, one.name))
    lots = [
        stream.lot * rate.interval_s / rate.limit
        for stream in streams
        if stream.lot > 1
        for lane in stream.lanes
        for limit in lane.limits
        for rate in limit.model.rates
    ]
    return Forecast(
        total,
        total - answered,
        done_us / US,
        _tenths(curve, total),
        tuple(limits),
        tuple(_bands(streams, total)),
        tuple(_by_label(streams)),
        max(lots, default=0.0),
    )


def _limit_forecast(limit: LimitRun, now: float) -> LimitForecast:
    waiting = sum(lane.stream.ready for _, lane in limit.waiting)
    held = limit.held + (now - limit.held_since if limit.held_since < NEVER else 0)
    closed = min(limit.closed, limit.held_since)
    shares = [
        limit.requests / (rate.limit * max(1.0, (limit.last - limit.first) / US / rate.interval_s))
        for rate in limit.model.rates
    ]
    return LimitForecast(
        limit.model.name,
        limit.requests,
        (limit.first if limit.requests else 0.0) / US,
        limit.last / US,
        closed / US if closed < NEVER else None,
        held / US,
        min(1.0, max(shares)) if shares else None,
        waiting,
    )


def _tenths(curve: Sequence[tuple[int, float]], total: int) -> tuple[float, ...]:
    found: list[float] = []
    for answered, moment in curve:
        while len(found) < BANDS and answered and answered * BANDS >= total * (len(found) + 1):
            found.append(moment / US)
    return tuple(found)


def _bands(streams: Sequence[Stream], total: int) -> Iterable[BandForecast]:
    band: list[Stream] = []
    counted = made = 0
    ordered = sorted(streams, key=lambda stream: stream.lanes[0].key)
    for at, stream in enumerate(ordered):
        band.append(stream)
        counted += stream.work.requests
        is_last = at + 1 == len(ordered)
        if is_last or (
            ordered[at + 1].work.priority < stream.work.priority and counted * BANDS >= total * (made + 1)
        ):
            yield BandForecast(
                band[0].work.priority,
                stream.work.priority,
                sum(one.work.requests for one in band),
                _done_s(band),
            )
            band = []
            made = counted * BANDS // total


def _by_label(streams: Sequence[Stream]) -> Iterable[WorkForecast]:
    labels: dict[str, list[Stream]] = {}
    for stream in streams:
        labels.setdefault(stream.work.label, []).append(stream)
    for label, own in labels.items():
        first = min(stream.first for stream in own)
        requests = sum(stream.work.requests for stream in own)
        yield WorkForecast(label, requests, first / US if first < NEVER else None, _done_s(own))


def _done_s(streams: Sequence[Stream]) -> float | None:
    if any(stream.answered < stream.work.requests for stream in streams):
        return None
    return max(stream.last for stream in streams) / US
