"""Queue and DPQ have the same verbs with the same parameters, and the blocking ones are generated."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

from scrapeq.queue import DPQ, Queue
from scrapeq.queue.worker_queue import WorkerQueue

ROOT = Path(__file__).parents[2]
# `pop` differs by design: DPQ returns the founding document's triple. `get_size` is a founding name.
FOUNDING = {"get_size"}


def verbs(queue: type[Any]) -> set[str]:
    """Return the names of a class's public methods."""
    return {name for name, _ in inspect.getmembers(queue, inspect.isfunction) if not name.startswith("_")}


def parameters(queue: type[Any], verb: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a verb by name."""
    return dict(inspect.signature(getattr(queue, verb)).parameters)


def test_the_blocking_verbs_are_up_to_date() -> None:
    """`python tools/unasync.py` would change nothing."""
    outdated = runpy.run_path(str(ROOT / "tools" / "unasync.py"))["outdated"]
    assert sorted(path.name for path in outdated()) == []


def test_both_queues_have_the_same_verbs() -> None:
    """A verb that only one of them has would force a program to change its driver."""
    assert verbs(DPQ) - FOUNDING == verbs(Queue)


@pytest.mark.parametrize("verb", sorted(verbs(Queue)))
def test_both_queues_take_the_same_parameters(verb: str) -> None:
    """Names, defaults and annotations agree; the additional names of the founding document are excluded."""
    of_dpq, of_queue = parameters(DPQ, verb), parameters(Queue, verb)
    for name, parameter in of_queue.items():
        same = of_dpq[name]
        assert (same.default, same.annotation) == (parameter.default, parameter.annotation), name
        assert same.kind in (parameter.kind, inspect.Parameter.POSITIONAL_OR_KEYWORD), name
    assert of_dpq.keys() - of_queue.keys() <= {"delay"}


def test_both_constructors_take_the_same_parameters() -> None:
    """Only the default of `on_full` differs: blocking code does not wait unless it says so."""
    of_dpq, of_queue = parameters(DPQ, "__init__"), parameters(Queue, "__init__")
    assert of_dpq.keys() - of_queue.keys() == {"queue_name"}
    assert of_queue.keys() <= of_dpq.keys()
    differing = {name for name in of_queue if of_dpq[name].default != of_queue[name].default}
    assert differing == {"name", "on_full"}


def test_worker_calls_are_not_public() -> None:
    """Calls that only worker loops need are not methods of Queue."""
    internal = {"arrive", "leave", "poll", "wait", "interrupt", "settle_soon", "try_acquire", "sweep_once"}
    assert verbs(WorkerQueue) - verbs(Queue) == internal
    assert not verbs(DPQ) & internal


@pytest.mark.parametrize("queue", [Queue, DPQ])
@pytest.mark.parametrize("verb", sorted(verbs(Queue)))
def test_every_verb_has_a_docstring(queue: type[Any], verb: str) -> None:
    """The reference of the Python API shows it."""
    assert getattr(queue, verb).__doc__
