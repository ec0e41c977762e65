"""
`python run_job.py FILE OPTIONS`: one run of a file as the command does it, with any RunOptions (JSON).

Says events as lines on standard output; its exit code is the run's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scrapeq import config
from scrapeq.cli.error_output import exit_of
from scrapeq.protocols import Snapshot
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.supervisor import run_plans_blocking


class Lines:
    """Events as lines; the last of each run as it stands at its end."""

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Nobody watches."""

    def event(self, text: str) -> None:
        """One line."""
        print(text, flush=True)

    def close(self) -> None:
        """There is nothing to leave clean."""

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        """The summary."""
        for last in snapshots:
            print(f"end {last.state}: {last.done} done, {last.left} left, {last.dead} dead", flush=True)


def main(file: str, options: RunOptions) -> int:
    """The exit code."""
    try:
        plan = config.load(file)
        return run_plans_blocking([plan], options, Lines(), folder=Path(".scrapeq"))
    except BaseException as error:
        return int(exit_of(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], RunOptions(**json.loads(sys.argv[2]))))
