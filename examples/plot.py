"""
Draw the result of a scrape as an SVG file: how many issues were updated in each month.

    scrapeq run configs/api.yaml
    python examples/plot.py out/issues.jsonl issues.svg

A browser shows the file. For more than bars, load the same JSON Lines into pandas or DuckDB.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import orjson

WIDTH, HEIGHT, MARGIN = 800, 300, 40  # pixels
BAR, INK = "#4c78a8", "#333333"


def months(records: Iterable[Mapping[str, Any]], field: str = "updated_at") -> dict[str, int]:
    """Return the number of records per month (`2024-05`), in order."""
    counted = Counter(str(record[field])[:7] for record in records if record.get(field))
    return dict(sorted(counted.items()))


def bars(counted: Mapping[str, int], title: str) -> str:
    """Return a bar chart as SVG."""
    most = max(counted.values(), default=1)
    step = (WIDTH - 2 * MARGIN) / max(len(counted), 1)
    tall = HEIGHT - 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">',
        f'<text x="{MARGIN}" y="{MARGIN - 15}" font-size="16" fill="{INK}">{escape(title)}</text>',
    ]
    for at, (month, number) in enumerate(counted.items()):
        x, size = MARGIN + at * step, tall * number / most
        y = HEIGHT - MARGIN - size
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{size:.1f}" fill="{BAR}">'
            f"<title>{escape(month)}: {number}</title></rect>"
        )
    if counted:
        first, last = next(iter(counted)), list(counted)[-1]
        low = HEIGHT - MARGIN + 16
        parts.append(f'<text x="{MARGIN}" y="{low}" font-size="12" fill="{INK}">{escape(first)}</text>')
        parts.append(
            f'<text x="{WIDTH - MARGIN}" y="{low}" font-size="12" fill="{INK}" text-anchor="end">{escape(last)}</text>'
        )
        parts.append(
            f'<text x="{MARGIN - 6}" y="{MARGIN + 12}" font-size="12" fill="{INK}" text-anchor="end">{most}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Read JSON Lines and write the SVG file."""
    if len(sys.argv) != 3:
        print("usage: plot.py RECORDS.jsonl PICTURE.svg", file=sys.stderr)
        return 2
    source, picture = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        records = [orjson.loads(line) for line in source.read_bytes().splitlines()]
    except OSError as error:
        print(f"error: {source}: {error.strerror}; run the scrape first", file=sys.stderr)
        return 1
    counted = months(records)
    picture.write_text(
        bars(counted, f"{len(records)} issues by month of their last change"), encoding="utf-8"
    )
    print(f"{picture}: {len(records)} records, {len(counted)} months")
    return 0


if __name__ == "__main__":
    sys.exit(main())
