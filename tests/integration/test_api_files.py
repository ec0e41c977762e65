"""Example configurations that write payments to Parquet files and exchange rates to CSV files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from api_scrapes import Scrape
from standins.ecb import Ecb
from standins.stripe import Stripe


def stripe(folder: Path, api: Stripe, **settings: Any) -> Scrape:
    """Return the scrape of the payments."""
    return Scrape(folder, "stripe", api, "/v1", env={"STRIPE_KEY": api.key}, settings=settings)


def parquet(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return all rows of a folder of Parquet files."""
    import pyarrow.parquet

    files = sorted((folder / f"out/stripe/{name}").rglob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def test_stripe_pages_by_the_last_id(tmp_path: Path) -> None:
    """Each record is written once, a permanent error is a dead letter, and the next run requests only new records."""
    with Stripe(max_limit=10, refuse_every=5, newest=None) as api:
        api.broken.add("invoices")
        scrape = stripe(tmp_path, api)
        scrape.run(code=3)
        for name in ("charges", "customers"):
            expected = {(one["id"], one["created"], one["amount"]) for one in api.records[name]}
            found = [(one["id"], one["created"], one["amount"]) for one in parquet(tmp_path, name)]
            assert (len(found), set(found)) == (len(expected), expected)
        assert api.repeated() == {}
        api.broken.clear()
        api.clear_log()
        new = api.add("charges", minutes_ago=-1)
        scrape.run()
        assert new["id"] in {one["id"] for one in parquet(tmp_path, "charges")}
        oldest = int(api.newest.timestamp()) - 45 * 60 - 3600
        sent = {one.get("created[gte]") for one in api.accepted("/v1/charges")}
        assert sent == {str(oldest)}


def test_a_killed_stripe_run_resumes_without_loss(tmp_path: Path) -> None:
    """After SIGKILL, the same command continues where the run stopped."""
    with Stripe(max_limit=5, latency_s=0.02) as api:
        scrape = stripe(tmp_path, api)
        scrape.kill_run(after_requests=6)
        scrape.run()
        for name in ("charges", "customers"):
            expected = {one["id"] for one in api.records[name]}
            found = [one["id"] for one in parquet(tmp_path, name)]
            assert (len(found), set(found)) == (len(expected), expected)


def test_ecb_writes_a_file_per_currency(tmp_path: Path) -> None:
    """Each day is a row, an empty rate stays empty, and a second run starts a few days before the last row."""
    with Ecb(days=200) as api:
        scrape = Scrape(tmp_path, "ecb", api, "/service")
        scrape.run()
        for currency, series in api.rates.items():
            rows = scrape.csv(f"out/ecb/{currency}.csv")
            assert {one["currency"] for one in rows} == {currency}
            found = {one["date"]: float(one["rate"]) if one["rate"] else None for one in rows}
            assert found == {day.isoformat(): float(rate) if rate else None for day, rate in series.items()}
            assert len(rows) == len(series)
        api.clear_log()
        last = max(api.rates["USD"])
        following = next(day for day in (last + timedelta(days=n) for n in range(1, 9)) if day.weekday() < 5)
        api.publish(following)
        scrape.run()
        rows = scrape.csv("out/ecb/USD.csv")
        assert (rows[-1]["date"], len(rows)) == (following.isoformat(), len(api.rates["USD"]))
        assert {one.get("startPeriod") for one in api.requests} == {(last - timedelta(days=5)).isoformat()}
