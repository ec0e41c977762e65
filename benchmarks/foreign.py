#!/usr/bin/env python
"""Measures how well the quota of third-party servers is used: `python benchmarks/foreign.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# `queue.py` in this folder shadows a standard module, so the project's root replaces the folder on the path.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.foreign_figures.command import main

if __name__ == "__main__":
    sys.exit(main())
