"""What answers say about waiting is read as the vectors say, and nothing makes the reader fail."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scrapeq.limits.readings import Policy, Told, observe

NOW_S = 1795500000.0
VECTORS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent.parent / "data" / "waits.yaml").read_text(encoding="utf-8")
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_waits_are_read_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """Each row's wait comes out to the millisecond."""
    headers = [(name, value) for name, value in vector["headers"]]
    wait_s = observe(vector["status"], headers, vector["now"]).wait_s
    if vector["expect"] is None:
        assert wait_s is None
    else:
        assert wait_s == pytest.approx(vector["expect"], abs=1e-3)


NAMES = st.sampled_from(
    ["Retry-After", "retry-after-ms", "Date", "Age", "RateLimit", "RateLimit-Policy", "RateLimit-Limit",
     "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Remaining", "X-RateLimit-Reset",
     "X-RateLimit-Limit", "X-RateLimit-Reset-After",
     "X-Retry-In", "x-amzn-RateLimit-Limit", "X-Sentry-Rate-Limits",
     "anthropic-ratelimit-requests-reset", "zendesk-ratelimit-x"]
) | st.text(max_size=20)  # fmt: skip
PIECES = st.sampled_from(
    ["0", "1", "99999999999999999999", "9" * 400, "0." + "0" * 400 + "1", "-1", "²", "nan", ",", ";", "=",
     '"a"', ";r=0", ";t=5", ";w=60", "Tue, ", "24 Nov 2026 06:02:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
     "2026-11-24T06:05Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60-23:59", "ms", "1h", "(",
     "remaining=0", "reset=1", " "]
)  # fmt: skip
VALUES = (
    st.lists(PIECES, max_size=6).map("".join)
    | st.text(max_size=40)
    | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1"))
)


@given(
    st.integers(0, 999),
    st.lists(st.tuples(NAMES, VALUES), max_size=8),
    st.sampled_from([NOW_S, 0.0, -1e12, 1e18]),
)
def test_no_bytes_make_it_fail(status: int, headers: list[tuple[str, str]], now_s: float) -> None:
    """Whatever is sent, every number that comes out is finite and not negative."""
    seen = observe(status, headers, now_s)
    for seconds in (seen.wait_s, seen.retry_after_s, seen.reset_s, seen.told and seen.told.reset_s):
        assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= 2**31)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("RateLimit", '"burst";r=4;t=1, "daily";r=900;t=3600')], Told(4, 1.0)),
        ([("RateLimit", '"burst";r=0;t=5'), ("RateLimit", '"daily";r=0;t=3600')], Told(0, 3600.0)),
        ([("RateLimit", "limit=100, remaining=99, reset=60")], Told(99, 60.0)),
        ([("X-RateLimit-Remaining", "57"), ("X-RateLimit-Reset", "1795500010")], Told(57, 10.0)),
        ([("X-RateLimit-Remaining", "0.0"), ("X-RateLimit-Reset", "345")], Told(0, 345.0)),
        ([("x-ratelimit-remaining-tokens", "9000"), ("x-ratelimit-reset-tokens", "1s")], None),
        (
            [("RateLimit", '"b";r=50;t=3'), ("RateLimit-Policy", '"b";q=100;qu="content-bytes";w=10')],
            None,
        ),
        ([("X-RateLimit-Remaining", "3")], None),
        ([("X-RateLimit-Reset", "3")], None),
        ([("Age", "5"), ("X-RateLimit-Remaining", "3"), ("X-RateLimit-Reset", "3")], None),
    ],
)
def test_the_tightest_budget_is_told(headers: list[tuple[str, str]], told: Told | None) -> None:
    """Of several budgets in requests the one with the least left is told; one without a reset is none."""
    assert observe(200, headers, NOW_S).told == told


@pytest.mark.parametrize(
    ("headers", "limit", "window_s"),
    [
        (
            [("RateLimit-Limit", "100, 100;w=60"), ("RateLimit-Reset", "7")],
            100,
            60,
        ),
        ([("X-Rate-Limit-Limit", "50"), ("X-Rate-Limit-Interval", "1s")], 50, 1),
        ([("RateLimit-Policy", '"p";q=100;w=60'), ("RateLimit", '"p";r=9;t=3')], 100, 60),
        ([("RateLimit-Policy", "100;w=10")], 100, 10),
    ],
)
def test_limit_and_window_are_read(headers: list[tuple[str, str]], limit: float, window_s: float) -> None:
    """The quota and its window come from the policy where there is one, else from the fields."""
    seen = observe(200, headers, NOW_S)
    assert (seen.limit, seen.window_s) == (limit, window_s)


def test_policies_keep_name_and_unit() -> None:
    """Every declared policy is kept; requests are the unit that needs no name."""
    seen = observe(
        200, [("RateLimit-Policy", '"a";q=5;qu="requests";w=1, "b";q=9;qu="content-bytes"')], NOW_S
    )
    assert seen.policies == (Policy(5.0, 1.0, "a", ""), Policy(9.0, None, "b", "content-bytes"))
