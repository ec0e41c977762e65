#!/usr/bin/env python
"""Measures how well the quota is spent: `python benchmarks/quota.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# benchmarks/queue.py has the name of a standard module, so this folder leaves the path. The simulation needs the
# reference model of the queue, which lives with the tests.
if __name__ == "__main__":
    sys.path[:1] = [str(ROOT), str(ROOT / "tests" / "support")]

SIMULATED, PICTURE = "--simulated", "--picture"

if __name__ == "__main__":
    if SIMULATED in sys.argv:
        from benchmarks.quota_sim.command import main as simulate

        sys.exit(simulate([one for one in sys.argv[1:] if one != SIMULATED]))
    if PICTURE in sys.argv:
        from benchmarks.quota_sim.picture import main as draw

        sys.exit(draw([one for one in sys.argv[1:] if one != PICTURE]))
    from benchmarks.quota_figures.command import main

    sys.exit(main())
