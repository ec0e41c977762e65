"""Options that several commands share, and the readers and checks of option values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import typer

from scrapeq.errors import UsageError

WorkersOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of fetcher processes.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Concurrent requests per fetcher process.")
]

ResourceOption = Annotated[
    str, typer.Option("--resource", metavar="NAME", help="Only tasks of this resource.")
]
HostOption = Annotated[str, typer.Option("--host", metavar="HOST", help="Only requests to this host.")]
GroupOption = Annotated[str, typer.Option("--group", metavar="NAME", help="Only tasks of this group.")]
WhereOption = Annotated[
    str,
    typer.Option(
        "--where",
        metavar="EXPR",
        help='Only tasks for which this holds: "status == 503 and attempts > 1".',
    ),
]
CountOption = Annotated[
    int, typer.Option("-n", "--number", metavar="N", min=1, max=100_000, help="Maximum number of rows.")
]


def read_duration(text: str, option: str) -> float:
    """Return the seconds of a duration such as `10m`. Raises UsageError that names the option."""
    from scrapeq.config.units import UnitError
    from scrapeq.config.units import read_duration as read

    if text.startswith("-"):
        raise UsageError(f"{option}: {text} is negative; it must be 0s or more")
    try:
        return read(text)
    except UnitError as error:
        raise UsageError(f"{option}: {error}") from None


def read_bound(text: str, option: str) -> float | None:
    """Return the seconds of an optional duration; None if the text is empty."""
    return read_duration(text, option) if text else None


def read_priority(text: str, option: str) -> float:
    """Return a finite number, or a time as Unix seconds. Raises UsageError that names the option."""
    from scrapeq.expression import as_number

    number = as_number(text)
    if number is None:
        try:
            number = float(text)
        except ValueError:
            raise UsageError(f"{option}: {text!r} is not a number or a time (2024-05-01T12:00:00Z)") from None
        if not math.isfinite(number):
            raise UsageError(f"{option}: {text} is not a finite number")
    return number


def read_settings(pairs: list[str]) -> dict[str, str]:
    """Return the overrides of `--set run.workers=4`; the values are YAML. Raises UsageError."""
    return dict(split_pair(text, "--set", "run.workers=4") for text in pairs)


def split_pair(text: str, option: str, example: str) -> tuple[str, str]:
    """Return the two sides of KEY=VALUE. Raises UsageError that names the option and shows an example."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option}: expected KEY=VALUE, got {text!r}; for example {option} {example}")
    return name, value


def check_choice(value: str, choices: Sequence[str], option: str) -> None:
    """Raise UsageError if the value is not one of the choices."""
    if value not in choices:
        raise UsageError(f"{option}: unknown value {value!r}; choose one of {', '.join(choices)}")


def check_resource(names: list[str], name: str, option: str) -> None:
    """Raise UsageError with the most similar name if the name is not one of the resources."""
    if name not in names:
        from scrapeq.expression import did_you_mean

        similar = did_you_mean(name, names)
        hint = f"did you mean {similar}?" if similar else f"known resources: {', '.join(names)}"
        raise UsageError(f"{option}: unknown resource {name!r}; {hint}")
