"""The cases: a third-party server, the header fields of its responses, and the configured limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quota_figures.cases import Size

WINDOWS = 10  # counted in the figures; after them, an unknown limit must be learned
LATE = 5  # windows after the counted ones
HALF_WINDOWS, DOUBLE_WINDOWS = 3, 10
EXTRA = {"untold": LATE, "bare": LATE, "told": 2.0, "configured": 0.5}  # windows after the counted ones
FULL, SMALL = Size(10.0, 300, 10.0), Size(2.0, 60, 2.0, small=True)
BURST_S = 2.0  # a token bucket holds this many seconds of its rate: throttled-py refills one once a second
PLACES, SERVICE = 16, 0.1  # concurrency limits: requests at once; processing time in windows
ITEMS, ITEMS_LIMIT, ITEMS_WINDOW_S = 300, 30, 3.0


@dataclass(frozen=True)
class Case:
    """
    A case of the benchmark.

    Args:
        kind: `node`, `python` or `nginx`.
        app: The framework's file, or the shape of nginx's limit.
        mode: What is known of the limit: `configured`, `told` (reported by header fields), `untold` (429 with
            Retry-After), `bare` (429 alone), `places` (concurrency, configured), `places-bare` (concurrency, unknown),
            `items` (as `untold`, and the run ends after a number of items).
        options: Options of the server.
        rate_limits: The configured limits.
        limit: Requests per window, or at once.
        window_s: Seconds.
        burst: Size of a token bucket; 0: none.
        windows: Length of the run.
        becomes: The limit after WINDOWS windows; None: it does not change.
        promises: Target of each figure by name: (`>=` or `<=`, value).
    """

    kind: str
    app: str
    mode: str
    options: Mapping[str, Any]
    limit: int
    window_s: float
    windows: float
    promises: Mapping[str, tuple[str, float]]
    rate_limits: list[dict[str, Any]] = field(default_factory=list)
    burst: int = 0
    becomes: int | None = None


def _used(size: Size, percent: float) -> tuple[str, float]:
    return ">=", size.used(percent)


def _promises(mode: str, size: Size, tight: float = 0.1) -> dict[str, tuple[str, float]]:
    """Return the targets of "Spending the quota" by mode."""
    always = {"lost": ("<=", 0.0), "early": ("<=", 0.0), "at opening": ("<=", 1.0)}
    return (
        always
        | {
            "configured": {"used %": _used(size, 99), "refused %": ("<=", tight)},
            "places": {"used %": _used(size, 99), "refused %": ("<=", 0.1)},
            "told": {"used %": _used(size, 95), "refused %": ("<=", 0.0)},
            "untold": {
                "5th window %": _used(size, 90),
                "late used %": _used(size, 97),
                "refused %": ("<=", 1.5),
                "late refused %": ("<=", 0.3),
            },
            "bare": {"late used %": _used(size, 90), "refused %": ("<=", 3.0)},
            "places-bare": {"refused %": ("<=", 3.0)},
            "items": {"items": (">=", ITEMS), "refusals": ("<=", 3.0), "time / ideal": ("<=", 1.05)},
        }[mode]
    )


def _case(size: Size, kind: str, app: str, mode: str, *, burst: int = 0, **options: Any) -> Case:
    promises = _promises(mode, size, 0.2 if options.get("shape") == "sliding-window-counter" else 0.1)
    if app == "rate":  # one request each 1/30 s and never sooner: its cost in quota is unavoidable
        promises = {name: promise for name, promise in promises.items() if name in ("refused %", "lost")}
    if burst and mode == "told":
        promises.pop("used %")  # the size of a bucket is unknown until it was empty once
    server: dict[str, Any] = {"limit": size.limit, "window": f"{size.window_s:g}", **options}
    if burst:
        server["burst"] = burst
    if kind != "nginx":
        server["way-ms"] = size.way_ms
        server["retry-after"] = mode != "bare"
    elif mode == "untold":
        server["retry-after"] = True
    rules: list[dict[str, Any]] = []
    if mode == "configured":
        rate: dict[str, Any] = {"limit": size.limit, "interval": f"{size.window_s:g}s"}
        rules = [{"name": "core", "rates": [rate | ({"burst": burst} if burst else {})]}]
    return Case(
        kind,
        app,
        mode,
        server,
        size.limit,
        size.window_s,
        WINDOWS + EXTRA[mode],
        promises,
        rules,
        burst,
    )


def _changed(size: Size, kind: str, app: str, mode: str, times: float, **options: Any) -> Case:
    """The limit changes after WINDOWS windows."""
    case = _case(size, kind, app, mode, **options)
    within = HALF_WINDOWS if times < 1 else DOUBLE_WINDOWS
    promises = {"windows to 90 %": ("<=", float(within)), "lost": ("<=", 0.0)}
    becomes = round(case.limit * times)
    return Case(
        case.kind,
        app,
        mode,
        case.options,
        case.limit,
        case.window_s,
        WINDOWS + within + 1,
        promises,
        becomes=becomes,
    )


def _places(size: Size, mode: str) -> Case:
    options = {"limit": PLACES, "window": f"{size.window_s:g}", "service": size.window_s * SERVICE}
    rules = [{"name": "core", "max_concurrency": PLACES}] if mode == "places" else []
    return Case(
        "nginx", "places", mode, options, PLACES, size.window_s, WINDOWS, _promises(mode, size), rules
    )


def _items(size: Size, kind: str, app: str, **options: Any) -> Case:
    """300 items at 30 in 3 s with an unknown limit: the same job as for the rivals."""
    server = {
        "limit": ITEMS_LIMIT,
        "window": f"{ITEMS_WINDOW_S:g}",
        "retry-after": True,
        "way-ms": size.way_ms,
        **options,
    }
    windows = ITEMS / ITEMS_LIMIT * 4  # the run ends after four times the ideal time
    return Case(kind, app, "items", server, ITEMS_LIMIT, ITEMS_WINDOW_S, windows, _promises("items", size))


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name: `server/mode`."""
    found: dict[str, Case] = {}
    for tells in ("legacy", "draft-6", "draft-7", "draft-8"):
        found[f"express/told-{tells}"] = _case(size, "node", "express", "told", tells=tells)
    for mode in ("configured", "untold", "bare"):
        found[f"express/{mode}"] = _case(size, "node", "express", mode)
    for word, times in (("halved", 0.5), ("doubled", 2.0)):
        found[f"express/untold-{word}"] = _changed(size, "node", "express", "untold", times)
        found[f"express/told-{word}"] = _changed(size, "node", "express", "told", times, tells="draft-8")
    for tells in ("x", "draft-6"):
        found[f"fastify/told-{tells}"] = _case(size, "node", "fastify", "told", tells=tells)
    for mode in ("configured", "untold"):
        found[f"fastify/{mode}"] = _case(size, "node", "fastify", mode)
    for punish in ("ban", "renew_leader", "double"):
        found[f"fastify-{punish}/untold"] = _case(size, "node", "fastify", "untold", punish=punish)
    found["fastify-ban/told"] = _case(size, "node", "fastify", "told", punish="ban", tells="x")
    for app, tells in (("koa", "x"), ("hono", "draft-7"), ("flexible", "x")):
        found[f"{app}/told"] = _case(size, "node", app, "told", tells=tells)
        found[f"{app}/configured"] = _case(size, "node", app, "configured")
        found[f"{app}/untold"] = _case(size, "node", app, "untold")
    found["flexible-block/untold"] = _case(size, "node", "flexible", "untold", punish="block")
    for word, shape in (
        ("fixed", "fixed-window"),
        ("moving", "moving-window"),
        ("counter", "sliding-window-counter"),
    ):
        app = "flask_limiter_app"
        found[f"flask-{word}/configured"] = _case(size, "python", app, "configured", shape=shape)
        found[f"flask-{word}/told"] = _case(size, "python", app, "told", shape=shape, tells="x")
        found[f"flask-{word}/untold"] = _case(size, "python", app, "untold", shape=shape)
    found["flask-moving/bare"] = _case(size, "python", "flask_limiter_app", "bare", shape="moving-window")
    burst = round(BURST_S * size.limit / size.window_s)
    for word, shape in (("gcra", "gcra"), ("token", "token_bucket")):
        app = "throttled_app"
        for mode in ("configured", "untold", "told"):
            tells = "x" if mode == "told" else "none"
            found[f"throttled-{word}/{mode}"] = _case(
                size, "python", app, mode, shape=shape, burst=burst, tells=tells
            )
    found["throttled-sliding/configured"] = _case(
        size, "python", "throttled_app", "configured", shape="sliding_window", burst=0
    )
    for mode in ("configured", "untold"):
        found[f"rest-framework/{mode}"] = _case(size, "python", "rest_framework_app", mode)
    for mode in ("configured", "bare"):
        found[f"nginx-rate/{mode}"] = _case(size, "nginx", "rate", mode)
        found[f"nginx-burst/{mode}"] = _case(size, "nginx", "burst", mode, burst=burst)
    found["nginx-burst/untold"] = _case(size, "nginx", "burst", "untold", burst=burst)
    found["nginx-places/configured"] = _places(size, "places")
    found["nginx-places/bare"] = _places(size, "places-bare")
    for app in ("express", "fastify", "flexible"):
        found[f"{app}/items"] = _items(size, "node", app)
    found["flask-moving/items"] = _items(size, "python", "flask_limiter_app", shape="moving-window")
    found["rest-framework/items"] = _items(size, "python", "rest_framework_app")
    return found
