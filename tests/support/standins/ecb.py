"""
A stand-in for the exchange rates of the ECB Data Portal.

Documented behavior: one CSV per series, with a header line and quoted strings; `startPeriod` sets its start; a series
or period without data is a 404; Last-Modified and conditional requests; gzip if the client accepts it.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from datetime import date, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from aiohttp import web

from standins.base import ReceivedRequest, Standin

COLUMNS = ("KEY", "FREQ", "CURRENCY", "CURRENCY_DENOM", "TIME_PERIOD", "OBS_VALUE", "OBS_STATUS", "TITLE")
KNOWN = ("format", "startPeriod", "endPeriod", "detail", "updatedAfter", "lastNObservations")
SATURDAY = 5


class Ecb(Standin):
    """
    Daily rates on working days; the rate of a holiday is empty.

    Args:
        currencies: The currencies with a series.
        days: The length of the series, in days.
    """

    def __init__(
        self, *, currencies: tuple[str, ...] = ("USD", "JPY"), days: int = 400, **options: Any
    ) -> None:
        super().__init__(**options)
        self.rates: dict[str, dict[date, str]] = {one: {} for one in currencies}
        self.modified = self.newest
        for back in range(days, -1, -1):
            self.publish(self.newest.date() - timedelta(days=back))

    def publish(self, day: date) -> None:
        """Add the rates of a day, unless it is on a weekend."""
        if day.weekday() >= SATURDAY:
            return
        for index, series in enumerate(self.rates.values()):
            holiday = day.month == 5 and day.day == 1
            series[day] = "" if holiday else f"{1 + index * 100 + day.toordinal() % 97 / 1000:.4f}"
        self.modified += timedelta(seconds=1)

    def respond(self, request: ReceivedRequest) -> web.Response:
        one = re.fullmatch(r"/service/data/EXR/D\.([A-Z]{3})\.EUR\.SP00\.A", request.path)
        unexpected = [name for name, _ in request.query if name not in KNOWN]
        if unexpected or request.get("format") != "csvdata":
            return web.Response(status=400, text=f"400: {unexpected or 'the format'} is not known")
        if not one or one[1] not in self.rates:
            return web.Response(status=404, text="No results found.")
        try:
            since = date.fromisoformat(request.get("startPeriod") or "1999-01-04")
        except ValueError:
            return web.Response(status=400, text="400: startPeriod is not a date")
        days = {day: value for day, value in self.rates[one[1]].items() if day >= since}
        if not days:
            return web.Response(status=404, text="No results found.")
        modified = {"Last-Modified": format_datetime(self.modified, usegmt=True)}
        known = request.headers.get("if-modified-since")
        if known and parsedate_to_datetime(known) >= self.modified:
            return web.Response(status=304, headers=modified)
        kind = "application/vnd.sdmx.data+csv;version=1.0.0;charset=utf-8"
        body = _csv(one[1], days)
        headers = {**modified, "Content-Type": kind}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return web.Response(body=gzip.compress(body), headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=body, headers=headers)

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse because the service is busy."""
        return web.Response(status=503, text="Service Unavailable", headers={"Retry-After": "1"})


def _csv(currency: str, days: dict[date, str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    key = f"EXR.D.{currency}.EUR.SP00.A"
    title = f'{currency}/Euro, "reference" rate\r\nof the day'
    for day, value in days.items():
        writer.writerow((key, "D", currency, "EUR", day.isoformat(), value, "A" if value else "H", title))
    return out.getvalue().encode()
