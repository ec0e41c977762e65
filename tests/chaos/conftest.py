"""Fixtures of the chaos tests: real processes that are killed, stopped and disconnected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from chaos_job import Job, Target, ending

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as chaos tests; skip them where /proc does not exist."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            if sys.platform != "linux":
                item.add_marker(pytest.mark.skip(reason="looks for processes under /proc"))


@pytest.fixture
def target() -> Iterator[Callable[[float], Target]]:
    """Start target servers: `target(latency_ms)`."""
    with ExitStack() as stack:

        def start(latency_ms: float) -> Target:
            found = Target(latency_ms)
            stack.callback(found.close)
            return found

        yield start


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Make jobs: `job(url, lists, …)`, each in its own folder; their processes end with the test."""
    with ExitStack() as stack:

        def make(url: str, lists: int, **settings: Any) -> Job:
            folder = tmp_path / settings.pop("folder", "job")
            return stack.enter_context(ending(Job(folder, url, lists, **settings)))

        yield make
