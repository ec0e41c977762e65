"""`python short_leases.py run FILE …`: the command with short leases, so that a killed run's tasks return soon."""

from __future__ import annotations

import functools
import sys

from scrapeq.cli import main
from scrapeq.supervise import options

LEASE_S = 3.0

if __name__ == "__main__":
    options.RunOptions = functools.partial(options.RunOptions, lease_s=LEASE_S)  # type: ignore[misc]
    sys.exit(main(sys.argv[1:]))
