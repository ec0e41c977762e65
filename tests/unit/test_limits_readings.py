"""Reading waits and budgets from responses: test vectors, and arbitrary bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scrapeq.expression import compile_expression
from scrapeq.plan import OBSERVED_PARTS, Observe, Rate
from scrapeq.responses.budgets import Budget, Policy
from scrapeq.responses.observation import Reported, observe
from scrapeq.responses.presets import NAMES, presets

NOW_S = 1795500000.0
VECTORS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent.parent / "data" / "waits.yaml").read_text(encoding="utf-8")
)["vectors"]


def observe_of(parts: dict[str, Any]) -> Observe:
    """Return the `observe` of a test vector."""
    values: dict[str, Any] = {
        k: compile_expression(v) if k in OBSERVED_PARTS else v for k, v in parts.items()
    }
    return Observe(**values)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_each_vector_gives_its_wait(vector: dict[str, Any]) -> None:
    """Each wait is exact to the millisecond."""
    headers = [(name, value) for name, value in vector["headers"]]
    observation = observe(
        vector["status"],
        headers,
        vector["now"],
        vector.get("body", "").encode(),
        observe_of(vector.get("observe", {})),
    )
    assert observation.refused == vector.get("refused", False)
    wait_s = observation.wait_s
    if vector["expect"] is None:
        assert wait_s is None
    else:
        assert wait_s == pytest.approx(vector["expect"], abs=1e-3)


NAMES_OF_FIELDS = st.sampled_from(
    ["Retry-After", "retry-after-ms", "Date", "Age", "RateLimit", "RateLimit-Policy", "RateLimit-Limit",
     "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Remaining", "X-RateLimit-Reset",
     "X-RateLimit-Limit", "X-RateLimit-Reset-After",
     "X-Retry-In", "x-amzn-RateLimit-Limit", "X-Sentry-Rate-Limits",
     "anthropic-ratelimit-requests-reset", "zendesk-ratelimit-x", "X-Shopify-Shop-Api-Call-Limit",
     "api-key-max-limit", "api-key-use-limit", "x-mbx-used-weight-1m", "x-hubspot-ratelimit-daily",
     "x-ratelimit-limit-minute", "x-ratelimit-interval-milliseconds", "x-ratelimit-reset-ms", "x-ratelimit-cost",
     "x-ratelimit-scope", "x-ratelimit-used"]
) | st.text(max_size=20)  # fmt: skip
PIECES = st.sampled_from(
    ["0", "1", "99999999999999999999", "9" * 400, "0." + "0" * 400 + "1", "-1", "²", "nan", ",", ";", "=",
     '"a"', ";r=0", ";t=5", ";w=60", "Tue, ", "24 Nov 2026 06:02:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
     "2026-11-24T06:05Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60-23:59", "ms", "1h", "(",
     "remaining=0", "reset=1", " ", "40/40", "0/0", "burst:100;rate:0", "1795500060", "global", ";pk=:YQ==:"]
)  # fmt: skip
VALUES = (
    st.lists(PIECES, max_size=6).map("".join)
    | st.text(max_size=40)
    | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1"))
)


BODIES = st.binary(max_size=60) | st.sampled_from(
    [
        b'{"retry_after": %b}' % number
        for number in (b"1e999", b"-1", b"1e308", b'"x"', b"null", b"[]", b"9" * 40)
    ]
    + [
        b'{"error":{"details":[{"retryDelay":"9e9s"}, 3, {"retryDelay": 3}]}}',
        b"[" * 5000 + b"retry_after",
        b"[]",
    ]
    + [
        b'{"errors":[{"type":"RATE_LIMITED"}]}',
        b'{"backoff":-1}',
        b'{"error":[1],"parameters":{"retry_after_ms":7}}',
    ]
)
HOW = [Observe(), *[Observe(name) for name in NAMES]] + [
    observe_of({part: text, "reset_format": form})
    for part in OBSERVED_PARTS
    for text, form in (("text", "auto"), ("body", "epoch_ms"), ("header('retry-after')", "http_date"))
]


@given(
    st.integers(0, 999),
    st.lists(st.tuples(NAMES_OF_FIELDS, VALUES), max_size=8),
    st.sampled_from([NOW_S, 0.0, -1e12, 1e18]),
    BODIES,
    st.sampled_from(HOW),
)
def test_arbitrary_responses_are_read_without_errors(
    status: int, headers: list[tuple[str, str]], now_s: float, body: bytes, how: Observe
) -> None:
    """For any bytes and any reading, every number is finite and not negative."""
    observation = observe(status, headers, now_s, body, how, (Rate(5, 60.0),))
    reported_s = observation.reported.reset_s if observation.reported else None
    for seconds in (observation.wait_s, observation.retry_after_s, observation.reset_s, reported_s):
        assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= 2**31)
    for limit, window_s in observation.rates:
        assert 1 <= limit < math.inf and 0 < window_s <= 2**31


@pytest.mark.parametrize(
    ("headers", "reported"),
    [
        ([("RateLimit", '"burst";r=4;t=1, "daily";r=900;t=3600')], Reported(4, 1.0)),
        ([("RateLimit", '"burst";r=0;t=5'), ("RateLimit", '"daily";r=0;t=3600')], Reported(0, 3600.0)),
        ([("RateLimit", "limit=100, remaining=99, reset=60")], Reported(99, 60.0)),
        ([("X-RateLimit-Remaining", "57"), ("X-RateLimit-Reset", "1795500010")], Reported(57, 10.0)),
        ([("X-RateLimit-Remaining", "0.0"), ("X-RateLimit-Reset", "345")], Reported(0, 345.0)),
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
def test_the_tightest_budget_is_reported(headers: list[tuple[str, str]], reported: Reported | None) -> None:
    """Of several budgets in requests it is the one with the least left; a budget needs a reset."""
    assert observe(200, headers, NOW_S).reported == reported


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
    """They come from the policy if there is one, else from the fields."""
    observation = observe(200, headers, NOW_S)
    assert (observation.limit, observation.window_s) == (limit, window_s)


def test_policies_keep_name_and_unit() -> None:
    """Every declared policy is returned; the default unit is requests."""
    observation = observe(
        200, [("RateLimit-Policy", '"a";q=5;qu="requests";w=1, "b";q=9;qu="content-bytes"')], NOW_S
    )
    assert observation.policies == (Policy(5.0, 1.0, "a", ""), Policy(9.0, None, "b", "content-bytes"))


def test_each_budget_is_complete() -> None:
    """Name, size, window, key and unit come from the policy; all budgets of a response are returned."""
    headers = [
        ("RateLimit-Policy", '"burst";q=10;w=1;pk=:YWJj:, "bytes";q=9000;w=60;qu="content-bytes"'),
        ("RateLimit", '"burst";r=4;t=1, "bytes";r=80;t=30'),
    ]
    observation = observe(200, headers, NOW_S)
    assert observation.budgets == (
        Budget(4, 1.0, 10.0, 1.0, name="burst", key="YWJj"),
        Budget(80, 30.0, 9000.0, 60.0, name="bytes", unit="content-bytes"),
    )
    assert (observation.reported, observation.rates) == (Reported(4, 1.0), ())


@pytest.mark.parametrize(
    ("headers", "rates"),
    [
        ([("RateLimit-Policy", '"p";q=100;w=60')], ((100, 60),)),
        ([("RateLimit-Policy", "100;w=10, 1000;w=3600")], ((100, 10), (1000, 3600))),
        ([("RateLimit-Policy", '"a";q=5;w=1, "b";q=90;w=60'), ("RateLimit", '"b";r=9;t=3')], ((5, 1),)),
        ([("RateLimit-Limit", "10, 10;w=1, 50;w=60"), ("RateLimit-Remaining", "3"), ("RateLimit-Reset", "1")],
         ((50, 60),)),
        ([("RateLimit-Policy", '"p";q=9;w=60;qu="content-bytes"')], ()),
        ([("RateLimit-Policy", '"p";q=9')], ()),
        ([("X-Rate-Limit-Limit", "50"), ("X-Rate-Limit-Interval", "1s")], ((50, 1),)),
        ([("x-amzn-RateLimit-Limit", "0.5")], ((1, 2),)),
        ([("X-HubSpot-RateLimit-Max", "100"), ("X-HubSpot-RateLimit-Remaining", "9"),
          ("X-HubSpot-RateLimit-Interval-Milliseconds", "10000"), ("X-HubSpot-RateLimit-Secondly", "10"),
          ("X-HubSpot-RateLimit-Daily", "250000"), ("X-HubSpot-RateLimit-Daily-Remaining", "99")],
         ((100, 10), (10, 1), (250000, 86400))),
        ([("API-KEY-MAX-LIMIT", "80"), ("API-KEY-USE-LIMIT", "3")], ((80, 60),)),
    ],
)  # fmt: skip
def test_size_and_window_without_a_budget_are_a_rate(
    headers: list[tuple[str, str]], rates: tuple[tuple[float, float], ...]
) -> None:
    """A quota is a rate if the response states only its size and window, and a budget if it states all."""
    assert observe(200, headers, NOW_S).rates == rates


def test_a_rate_can_be_read_by_expressions() -> None:
    """Size and window come from custom fields."""
    how = observe_of({"limit": "header('x-size')", "interval": "header('x-per')"})
    assert observe(200, [("X-Size", "50"), ("X-Per", "2s")], NOW_S, how=how).rates == ((50, 2.0),)


@pytest.mark.parametrize(
    ("headers", "reported"),
    [
        ([("X-Shopify-Shop-Api-Call-Limit", "32/40")], Reported(8, 0.5)),
        (
            [("X-RateLimit-Limit", "60"), ("X-RateLimit-Used", "50"), ("X-RateLimit-Reset", "9")],
            Reported(10, 9.0),
        ),
        ([("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")], Reported(0, 360.0)),
    ],
)
def test_the_remaining_budget_follows_from_the_used_one(
    headers: list[tuple[str, str]], reported: Reported
) -> None:
    """The remaining budget is size minus used; an empty budget of tokens delays requests, too."""
    assert observe(200, headers, NOW_S).reported == reported


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        (b'{"backoff": 10, "left": 250, "again": 3600}', Reported(0, 10.0)),
        (b'{"backoff": 10, "left": 0, "again": 3600}', Reported(0, 3600.0)),
        (b'{"backoff": 0, "left": 250, "again": 3600}', Reported(250, 3600.0)),
        (b'{"left": 250, "again": 3600}', Reported(250, 3600.0)),
    ],
)
def test_a_wait_overrides_the_remaining_budget(body: bytes, reported: Reported) -> None:
    """Requests wait even if some of the budget remains; a longer closure is not shortened."""
    how = observe_of({"wait": "body.backoff", "remaining": "body.left", "reset": "body.again"})
    assert observe(200, [], NOW_S, body, how).reported == reported


def test_a_used_weight_is_compared_with_the_configured_rate() -> None:
    """If a response states only the used weight, the size comes from the limit with the same window."""
    headers = [("X-MBX-USED-WEIGHT-1M", "5990"), ("Date", "Tue, 24 Nov 2026 06:00:20 GMT")]
    observation = observe(200, headers, NOW_S, how=Observe("binance"), rates=(Rate(6000, 60.0),))
    assert observation.reported == Reported(10, 40.0)
    assert observe(200, headers, NOW_S, how=Observe("binance"), rates=(Rate(6000, 10.0),)).reported is None


@pytest.mark.parametrize(
    ("headers", "body", "how", "cost"),
    [
        ([("X-RateLimit-Cost", "3")], b"", Observe(), 3.0),
        ([], b'{"data":{"rateLimit":{"cost":7}}}', Observe("github"), 7.0),
        ([], b'{"extensions":{"cost":{"actualQueryCost":12,"throttleStatus":{"maximumAvailable":1000,'
         b'"currentlyAvailable":900,"restoreRate":50}}}}', Observe("shopify"), 12.0),
        ([], b'{"spent": "2.5"}', observe_of({"cost": "body.spent"}), 2.5),
        ([], b'{"spent": "much"}', observe_of({"cost": "body.spent"}), None),
    ],
)  # fmt: skip
def test_a_response_may_state_its_cost(
    headers: list[tuple[str, str]], body: bytes, how: Observe, cost: float | None
) -> None:
    """The cost is in a header field, in the body for a preset, or given by an expression."""
    assert observe(200, headers, NOW_S, body, how).cost == cost


def test_bucket_and_scope_are_read() -> None:
    """The name of a bucket and a global scope are returned; a global refusal closes the credential's limits."""
    shared = [
        ("X-RateLimit-Bucket", "abcd"),
        ("X-RateLimit-Remaining", "1"),
        ("X-RateLimit-Reset-After", "0.5"),
    ]
    observation = observe(200, shared, NOW_S)
    assert (observation.bucket, observation.scope, observation.budgets[0].name) == ("abcd", "", "abcd")
    for reported in ([("X-RateLimit-Global", "true")], [("X-RateLimit-Scope", "global")]):
        assert observe(429, [*reported, ("Retry-After", "65")], NOW_S).scope == "token"


def test_each_preset_has_its_name() -> None:
    """A configuration may use exactly the existing presets."""
    assert tuple(presets()) == NAMES
