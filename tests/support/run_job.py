"""
`python run_job.py FILE OPTIONS`: run a file as the command does, with any RunOptions (JSON).

It prints events as lines on standard output; its exit code is the run's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scrapeq import config
from scrapeq.cli.error_output import report_error
from scrapeq.protocols import Snapshot
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.supervisor import run_plans_blocking


class Lines:
    """Prints events and, at the end, the state of each run."""

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Show nothing."""

    def event(self, text: str) -> None:
        """Print one line."""
        print(text, flush=True)

    def close(self) -> None:
        """Do nothing: the terminal was not changed."""

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        """Print the summary."""
        for last in snapshots:
            print(f"end {last.state}: {last.done} done, {last.left} left, {last.dead} dead", flush=True)


def main(file: str, options: RunOptions) -> int:
    """Run the file; return the exit code."""
    try:
        plan = config.load(file)
        return run_plans_blocking([plan], options, Lines(), folder=Path(".scrapeq"))
    except BaseException as error:
        return int(report_error(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], RunOptions(**json.loads(sys.argv[2]))))
