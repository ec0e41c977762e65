#!/usr/bin/env python
"""
Write the blocking verbs of the queue from the asyncio ones, as httpcore does: the difference is a few words.

    python tools/unasync.py            # write the generated files
    python tools/unasync.py --check    # exit code 1 if one of them is out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

QUEUE = Path(__file__).resolve().parents[1] / "scrapeq" / "queue"
GENERATED = {"async_admin.py": "sync_admin.py", "async_tasks.py": "sync_tasks.py"}
HEADER = """\
# Generated from {source} by tools/unasync.py; change that file, then run the script.
# ruff: noqa
# fmt: off
"""
WORDS = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\bAsync(?=[A-Z])", "Sync"),
    (r"\basync_", "sync_"),
    (r"\bQueue(?=[.(])", "DPQ"),
    (r"\basyncio verbs\b", "blocking verbs"),
)


def unasync(source: str, name: str) -> str:
    """Return the blocking form of a module's source text; `name` is the file name that its header mentions."""
    for pattern, replacement in WORDS:
        source = re.sub(pattern, replacement, source)
    return HEADER.format(source=name) + source


def outdated() -> dict[Path, str]:
    """Return the text that each generated file should have, for those that have another."""
    expected = {
        QUEUE / target: unasync((QUEUE / name).read_text("utf-8"), name) for name, target in GENERATED.items()
    }
    return {
        path: text for path, text in expected.items() if not path.exists() or path.read_text("utf-8") != text
    }


def main() -> int:
    """Write or check the generated files; return the exit code."""
    stale = outdated()
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path}: out of date; run python tools/unasync.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, "utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
