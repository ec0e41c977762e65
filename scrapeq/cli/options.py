"""Options that several verbs have, and how their values are read."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from scrapeq.errors import UsageError

ResourceOption = Annotated[
    str, typer.Option("--resource", metavar="NAME", help="Only tasks of this resource.")
]
HostOption = Annotated[str, typer.Option("--host", metavar="HOST", help="Only requests to this host.")]
GroupOption = Annotated[str, typer.Option("--group", metavar="NAME", help="Only tasks of this group.")]
WhereOption = Annotated[
    str,
    typer.Option("--where", metavar="EXPR", help='Only where this holds: "status == 503 and attempts > 1".'),
]
CountOption = Annotated[
    int, typer.Option("-n", "--number", metavar="N", min=1, max=100_000, help="How many at most.")
]


def read_duration(text: str, option: str) -> float:
    """Seconds of `10m`. Raises UsageError that names the option."""
    from scrapeq.config.units import UnitError
    from scrapeq.config.units import read_duration as read

    if text.startswith("-"):
        raise UsageError(f"{option}: {text} is negative; it must be 0s or more")
    try:
        return read(text)
    except UnitError as error:
        raise UsageError(f"{option}: {error}") from None


def read_bound(text: str, option: str) -> float | None:
    """Seconds of an optional duration; None when it was not given."""
    return read_duration(text, option) if text else None


def read_priority(text: str, option: str) -> float:
    """A finite number, or a time as Unix seconds. Raises UsageError that names the option."""
    from scrapeq.expression import as_number

    number = as_number(text)
    if number is None:
        try:
            finite = math.isfinite(float(text))
        except ValueError:
            raise UsageError(f"{option}: {text!r} is no number and no time (2024-05-01T12:00:00Z)") from None
        if not finite:
            raise UsageError(f"{option}: {text} is no finite number")
        number = float(text)
    return number


def check_resource(known: list[str], name: str, option: str) -> None:
    """Raises UsageError that names the nearest one, if no resource has this name."""
    if name not in known:
        from scrapeq.expression import did_you_mean

        near = did_you_mean(name, known)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
        raise UsageError(f"{option}: no resource is called {name!r}; {hint}")


def read_settings(given: list[str]) -> dict[str, str]:
    """`--set run.workers=4` as overrides; the value is read as YAML. Raises UsageError."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set: {text!r} is no KEY=VALUE: --set run.workers=4")
        found[name] = value
    return found
