"""The figures of a benchmark with their targets: as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

NAME_WIDTH = 66


class WrongResultError(Exception):
    """The queue did something wrong while it was measured, so its figures mean nothing."""


def expect(condition: bool, what: str) -> None:
    """Raise WrongResultError unless the condition holds; unlike `assert` also under -O."""
    if not condition:
        raise WrongResultError(what)


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One measured value.

    Args:
        row: The row of the benchmark that it belongs to.
        name: What was measured.
        value: In `unit`.
        bound: Whether the target is the `least` or the `most` that is good.
        target: None = for information only.
        exact: It does not depend on the machine, so a miss is a bug.
        note: Details.
        others: Share of the cores that other processes took meanwhile, 0 to 1.
    """

    row: str
    name: str
    value: float
    unit: str
    target: float | None = None
    bound: Literal["least", "most"] = "most"
    exact: bool = False
    note: str = ""
    others: float = 0.0

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.bound == "least" else self.value <= self.target


def number(value: float) -> str:
    """Format a number with three significant digits."""
    if value != value:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'>=' if figure.bound == 'least' else '<='} {number(figure.target)}"


def line(figure: Figure) -> str:
    """Format a figure as a line of the table."""
    result = {True: "met", False: "MISSED", None: ""}[figure.met]
    text = (
        f"  {figure.name:<{NAME_WIDTH}} {number(figure.value):>11} {figure.unit:<11}"
        f"{_target(figure):>10}  {result:<6} {figure.others:>4.0%}"
    )
    return f"{text}  {figure.note}".rstrip()


def heading(text: str) -> str:
    """Format the header of an engine's table."""
    columns = f"  {'':<{NAME_WIDTH}} {'measured':>11} {'':<11}{'target':>10}  {'':<6} {'busy':>4}"
    return f"\n{text}\n{columns}"


def machine() -> dict[str, Any]:
    """Describe the machine."""
    return {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return the figures as plain values."""
    return [{**asdict(figure), "met": figure.met} for figure in figures]
