"""Payments into Parquet files, exchange rates from CSV files into CSV files, by the real command."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from api_scrapes import Scrape
from standins.ecb import Ecb
from standins.stripe import Stripe


def stripe(folder: Path, api: Stripe, **settings: Any) -> Scrape:
    """The payments."""
    return Scrape(folder, "stripe", api, "/v1", env={"STRIPE_KEY": api.key}, settings=settings)


def parquet(folder: Path, name: str) -> list[dict[str, Any]]:
    """All rows of a folder of Parquet files."""
    import pyarrow.parquet

    files = sorted((folder / f"out/stripe/{name}").rglob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def test_stripe_walks_by_the_last_id(tmp_path: Path) -> None:
    """Every record of three lists once; a refusal for good is a dead letter; later on only what is new is asked for."""
    with Stripe(max_limit=10, refuse_every=5, newest=None) as api:
        api.broken.add("invoices")
        scrape = stripe(tmp_path, api)
        scrape.run(code=3)
        for name in ("charges", "customers"):
            truth = {(one["id"], one["created"], one["amount"]) for one in api.records[name]}
            found = [(one["id"], one["created"], one["amount"]) for one in parquet(tmp_path, name)]
            assert (len(found), set(found)) == (len(truth), truth)
        assert api.twice() == {}
        api.broken.clear()
        api.forget()
        new = api.add("charges", minutes_ago=-1)
        scrape.run()
        assert new["id"] in {one["id"] for one in parquet(tmp_path, "charges")}
        kept_from = int(api.newest.timestamp()) - 45 * 60 - 3600
        asked = {one.get("created[gte]") for one in api.granted("/v1/charges")}
        assert asked == {str(kept_from)}


def test_stripe_killed_and_run_again_loses_nothing(tmp_path: Path) -> None:
    """Killed for real in the middle, the same command goes on where it was."""
    with Stripe(max_limit=5, latency_s=0.02) as api:
        scrape = stripe(tmp_path, api)
        scrape.killed(after_requests=6)
        scrape.run()
        for name in ("charges", "customers"):
            truth = {one["id"] for one in api.records[name]}
            found = [one["id"] for one in parquet(tmp_path, name)]
            assert (len(found), set(found)) == (len(truth), truth)


def test_ecb_reads_a_file_of_each_currency(tmp_path: Path) -> None:
    """A row for each day; an empty rate is empty; a second run asks from a few days before the last one on."""
    with Ecb(days=200) as api:
        scrape = Scrape(tmp_path, "ecb", api, "/service")
        scrape.run()
        for currency, series in api.rates.items():
            rows = scrape.csv(f"out/ecb/{currency}.csv")
            assert {one["currency"] for one in rows} == {currency}
            found = {one["date"]: float(one["rate"]) if one["rate"] else None for one in rows}
            assert found == {day.isoformat(): float(rate) if rate else None for day, rate in series.items()}
            assert len(rows) == len(series)
        api.forget()
        last = max(api.rates["USD"])
        following = next(day for day in (last + timedelta(days=n) for n in range(1, 9)) if day.weekday() < 5)
        api.publish(following)
        scrape.run()
        rows = scrape.csv("out/ecb/USD.csv")
        assert (rows[-1]["date"], len(rows)) == (following.isoformat(), len(api.rates["USD"]))
        assert {one.get("startPeriod") for one in api.asked} == {(last - timedelta(days=5)).isoformat()}
