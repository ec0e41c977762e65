#!/usr/bin/env python
"""Measures how the quota of servers that others wrote is spent: `python benchmarks/foreign.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root comes first on the path, in place of this folder, where a file has the name of a standard module.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.foreign_figures.command import main

if __name__ == "__main__":
    sys.exit(main())
