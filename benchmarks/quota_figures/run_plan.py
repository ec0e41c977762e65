"""`python run_plan.py FILE`: run one configuration to its end in this folder, like `scrapeq run`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from scrapeq import config
from scrapeq.errors import ScrapeqError
from scrapeq.protocols import Snapshot
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.supervisor import run_plans


class Events:
    """Progress without output; events go to stderr."""

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        pass

    def event(self, text: str) -> None:
        print(text, file=sys.stderr)

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        pass


def main() -> int:
    """Run the configuration; return the exit code."""
    try:
        plan = config.load(sys.argv[1])
        return asyncio.run(run_plans([plan], RunOptions(), Events(), folder=Path(".scrapeq")))
    except ScrapeqError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
