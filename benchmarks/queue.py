#!/usr/bin/env python
"""Measures every figure that the queue promises: `python benchmarks/queue.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# This file shadows the module `queue` of the standard library, so the project's root replaces its folder on the path.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.queue_figures.command import main

if __name__ == "__main__":
    sys.exit(main())
