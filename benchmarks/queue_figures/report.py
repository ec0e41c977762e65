"""A figure beside its target, the table of them, and their JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

NAME_WIDTH = 66


class WrongAnswerError(Exception):
    """The queue did something wrong while it was measured: a figure of it would mean nothing."""


def expect(condition: bool, what: str) -> None:
    """Raise WrongAnswerError unless it holds. (An `assert` would vanish under -O.)"""
    if not condition:
        raise WrongAnswerError(what)


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One measured value.

    Args:
        row: Which promise it belongs to.
        name: What was measured.
        value: In `unit`.
        bound: `least`: the target is the least that is good; `most`: the most.
        target: None = told beside the others, nothing was promised of it.
        exact: The same on every machine, however busy: a miss is a bug, not a slow moment.
        note: What it is made of.
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
        """Is the target reached? None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.bound == "least" else self.value <= self.target


def number(value: float) -> str:
    """A number as short as it may be: three digits that mean something."""
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
    """One line of the table."""
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    text = (
        f"  {figure.name:<{NAME_WIDTH}} {number(figure.value):>11} {figure.unit:<11}"
        f"{_target(figure):>10}  {verdict:<6} {figure.others:>4.0%}"
    )
    return f"{text}  {figure.note}".rstrip()


def heading(text: str) -> str:
    """The table's head for one engine."""
    columns = f"  {'':<{NAME_WIDTH}} {'measured':>11} {'':<11}{'target':>10}  {'':<6} {'busy':>4}"
    return f"\n{text}\n{columns}"


def machine() -> dict[str, Any]:
    """What these figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as plain values."""
    return [{**asdict(figure), "met": figure.met} for figure in figures]
