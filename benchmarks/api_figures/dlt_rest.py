"""
dlt's REST source doing the same, in an environment of its own; imports nothing of scrapeq.

    python dlt_rest.py BASE_URL FOLDER pipeline|source nested|pages

pipeline: extract, normalize, load into JSON Lines files. source: its records are asked for and counted, and nothing is
kept, which is the least that it can do. Prints how many items there were, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

URL, FOLDER, KIND, SHAPE = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ.update(
    {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": str(FOLDER / "dlt"),
        "DESTINATION__FILESYSTEM__BUCKET_URL": (FOLDER / "out").as_uri(),
        "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
    }
)

import dlt  # noqa: E402 - its settings must stand before it is imported
from dlt.sources.rest_api import rest_api_source  # noqa: E402

ITEMS: Any = {
    "name": "items",
    "primary_key": "id",
    "endpoint": {
        "path": "items",
        "data_selector": "data",
        "paginator": {"type": "page_number", "base_page": 1, "total_path": "total_pages"},
    },
}
CHILDREN: Any = {
    "name": "children",
    "primary_key": "id",
    "include_from_parent": ["id"],
    "endpoint": {
        "path": "items/{resources.items.id}/children",
        "data_selector": "data",
        "paginator": "single_page",
    },
}


def source() -> Any:
    """Items; with `pages`, the page of children of each."""
    resources = [ITEMS, CHILDREN] if SHAPE == "pages" else [ITEMS]
    return rest_api_source({"client": {"base_url": URL}, "resources": resources})


def main() -> None:
    """Run it, and say how much came out."""
    made = source()
    if KIND == "source":
        print(json.dumps({"items": sum(1 for _ in made)}))
        return
    pipeline = dlt.pipeline("bench", destination="filesystem", dataset_name="api")
    pipeline.run(made, loader_file_format="jsonl")
    counts = pipeline.last_trace.last_normalize_info.row_counts
    kept = [name for name in counts if not name.startswith("_dlt")]
    print(json.dumps({"items": sum(counts[name] for name in kept)}))


if __name__ == "__main__":
    main()
