"""
Presets: how the answers of well-known APIs are read, by name.

`auto` reads every field of every dialect and tells resets apart by form and size. A preset adds what cannot be seen
in an answer: the form of a reset, which fields not to believe, answers that are refusals though their status is
none, expressions for what stands in a body. All of it is in the grammar that a file has for `observe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from scrapeq.expression import Expression, compile_expression
from scrapeq.plan import Observe, ResetFormat

NAMES = (
    "auto",
    "none",
    "ietf",
    "github",
    "gitlab",
    "discord",
    "reddit",
    "shopify",
    "zendesk",
    "openai",
    "anthropic",
    "hubspot",
    "okta",
    "twitter",
    "jira",
    "crossref",
    "amazon",
    "docker",
    "coinglass",
    "qomon",
    "prisjakt",
    "binance",
    "sentry",
    "google",
    "mediawiki",
    "etherscan",
    "stackexchange",
    "slack",
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is a refusal when `when` holds, whatever its status; `wait_s` where it does not say how long."""

    when: Expression
    wait_s: float | None = None
    scope: str = "limit"  # as in response_actions


@dataclass(frozen=True, slots=True)
class Preset:
    """
    What is known of an API's answers.

    Args:
        reset_format: How reset fields are written.
        only: Fields are read only if their names begin so; () = all.
        reads: Expressions by the part of `observe` that they stand for.
        refusals: The first that holds counts.
        aligned: Windows begin on the clock, so their resets need not be told.
    """

    reset_format: ResetFormat = "auto"
    only: tuple[str, ...] = ()
    reads: Mapping[str, Expression] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    aligned: bool = False


_PLAIN = Preset()


def _refused(when: str, wait_s: float | None = None, scope: str = "limit") -> Refusal:
    return Refusal(compile_expression(when), wait_s, scope)


def _reads(**expressions: str) -> dict[str, Expression]:
    return {part: compile_expression(text) for part, text in expressions.items()}


_SECONDARY = "status in [403, 429] and contains(lower(text), '{}')"
_TYPES = "contains(text, '{0}') and contains(path(body, 'errors[].{1}'), '{0}')"
_THROTTLED = "if(contains(text, 'throttleStatus'), body.extensions.cost.{}, null)"


@cache
def presets() -> Mapping[str, Preset]:
    """All of them, by name."""
    return {
        "auto": _PLAIN,
        "none": Preset(only=("\0",)),  # no field is called so
        "ietf": Preset("delta", only=("ratelimit", "retry-after", "age", "date")),
        "github": Preset(
            "epoch",
            reads=_reads(cost="if(contains(text, 'rateLimit'), body.data.rateLimit.cost, null)"),
            refusals=(
                _refused(_SECONDARY.format("secondary rate limit"), 60.0, "token"),
                _refused(_SECONDARY.format("abuse detection"), 60.0, "token"),
                _refused(_TYPES.format("RATE_LIMITED", "type")),  # GraphQL answers 200
            ),
        ),
        "gitlab": Preset("epoch"),
        "discord": Preset("epoch"),
        "reddit": Preset("delta"),
        "shopify": Preset(
            reads=_reads(
                # GraphQL tells its bucket in the body; REST in a field that auto reads
                limit=_THROTTLED.format("throttleStatus.maximumAvailable"),
                remaining=_THROTTLED.format("throttleStatus.currentlyAvailable"),
                reset="if(contains(text, 'throttleStatus'), "
                "1 / body.extensions.cost.throttleStatus.restoreRate, null)",
                cost=_THROTTLED.format("actualQueryCost"),
            ),
            refusals=(
                _refused(_TYPES.format("THROTTLED", "extensions.code")),
                _refused("status == 430"),  # what Shopify answers to more than it wants to look at
            ),
        ),
        "zendesk": Preset("delta"),
        "openai": Preset(),
        "anthropic": Preset("iso"),
        "hubspot": Preset(),
        "okta": Preset("epoch"),
        "twitter": Preset("epoch"),
        "jira": Preset("iso"),
        "crossref": Preset(),
        "amazon": Preset(),
        "docker": Preset(),
        "coinglass": Preset(),
        "qomon": Preset("delta"),
        "prisjakt": Preset("delta_ms"),
        "binance": Preset(
            aligned=True, refusals=(_refused("status == 403 and header('retry-after') != null"),)
        ),
        "sentry": Preset(refusals=(_refused("status == 429", 60.0),)),
        "google": Preset(
            refusals=(
                _refused(
                    "status == 403 and (contains(text, 'ateLimitExceeded') or contains(text, 'RESOURCE_EXHAUSTED'))"
                ),
            )
        ),
        "mediawiki": Preset(
            refusals=(
                _refused("header('mediawiki-api-error') in ['maxlag', 'ratelimited']", 5.0),
                _refused("contains(text, 'maxlag') and path(body, 'error.code') == 'maxlag'", 5.0),
                _refused("contains(text, 'ratelimited') and path(body, 'error.code') == 'ratelimited'"),
            )
        ),
        "etherscan": Preset(refusals=(_refused("contains(text, 'rate limit reached')"),)),
        "stackexchange": Preset(
            reads=_reads(
                limit="body.quota_max",
                remaining="body.quota_remaining",
                wait="body.backoff",
            ),
            refusals=(_refused("contains(text, 'throttle_violation') and body.error_id == 502"),),
        ),
        "slack": Preset(
            refusals=(_refused("contains(text, 'ratelimited') and body.error == 'ratelimited'"),)
        ),
    }


def preset_of(how: Observe) -> Preset:
    """The preset of an `observe`; one that does not exist reads like auto."""
    return _PLAIN if how.preset == "auto" else presets().get(how.preset, _PLAIN)
