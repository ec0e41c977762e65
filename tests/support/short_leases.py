"""`python short_leases.py run FILE …`: the command with short leases, so that a killed run's tasks return soon."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from scrapeq.cli import main
from scrapeq.supervise import options


@dataclass(frozen=True, slots=True)
class ShortLeases(options.RunOptions):
    """The options of a run with short leases."""

    lease_s: float = 3.0


if __name__ == "__main__":
    options.RunOptions = ShortLeases  # type: ignore[misc]  # the command takes the class from there
    sys.exit(main(sys.argv[1:]))
