"""
Presets: how the responses of well-known APIs are read, by name.

`auto` reads every field of every dialect, and detects the format of resets. A preset adds what cannot be seen in a
response: the format of a reset, fields to ignore, refusals with a status that does not say so, and expressions for
values in a body. It uses the same grammar as `observe` in a configuration.
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
    """A response is a refusal when `when` holds, whatever its status; `wait_s` applies where it states no wait."""

    when: Expression
    wait_s: float | None = None
    scope: str = "limit"  # as in response_actions


@dataclass(frozen=True, slots=True)
class Preset:
    """
    How the responses of an API are read.

    Args:
        reset_format: The format of reset fields.
        only: Prefixes of the names of fields that are read; () = all fields.
        reads: Expressions by the part of `observe` that they replace.
        refusals: Rules for refusals; the first that holds counts.
        aligned: Windows start on the clock, so their resets follow from the time.
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
    """Return all presets by name."""
    return {
        "auto": _PLAIN,
        "none": Preset(only=("\0",)),  # matches no field name
        "ietf": Preset("delta", only=("ratelimit", "retry-after", "age", "date")),
        "github": Preset(
            "epoch",
            reads=_reads(cost="if(contains(text, 'rateLimit'), body.data.rateLimit.cost, null)"),
            refusals=(
                _refused(_SECONDARY.format("secondary rate limit"), 60.0, "token"),
                _refused(_SECONDARY.format("abuse detection"), 60.0, "token"),
                _refused(_TYPES.format("RATE_LIMITED", "type")),  # GraphQL responds with 200
            ),
        ),
        "gitlab": Preset("epoch"),
        "discord": Preset("epoch"),
        "reddit": Preset("delta"),
        "shopify": Preset(
            reads=_reads(
                # GraphQL reports its bucket in the body, REST in a field that `auto` reads
                limit=_THROTTLED.format("throttleStatus.maximumAvailable"),
                remaining=_THROTTLED.format("throttleStatus.currentlyAvailable"),
                reset="if(contains(text, 'throttleStatus'), "
                "1 / body.extensions.cost.throttleStatus.restoreRate, null)",
                cost=_THROTTLED.format("actualQueryCost"),
            ),
            refusals=(
                _refused(_TYPES.format("THROTTLED", "extensions.code")),
                _refused("status == 430"),  # the status of Shopify for clients that send far too much
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
    """Return the preset of an `observe`; an unknown one reads like `auto`."""
    return _PLAIN if how.preset == "auto" else presets().get(how.preset, _PLAIN)
