"""
Scrape the API with dlt's REST source. Runs in a separate environment and imports nothing from scrapeq.

    python dlt_rest.py BASE_URL FOLDER pipeline|source nested|pages

pipeline: extract, normalize, and load into JSON Lines files. source: only request and count the records, which is the
minimum that dlt can do. Prints the number of items as JSON.
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

import dlt  # noqa: E402 - dlt reads its settings at import
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
    """Return the source of items, and with `pages` also of the page of children of each item."""
    resources = [ITEMS, CHILDREN] if SHAPE == "pages" else [ITEMS]
    return rest_api_source({"client": {"base_url": URL}, "resources": resources})


def main() -> None:
    """Run the scrape and print the number of items."""
    pipeline_source = source()
    if KIND == "source":
        print(json.dumps({"items": sum(1 for _ in pipeline_source)}))
        return
    pipeline = dlt.pipeline("bench", destination="filesystem", dataset_name="api")
    pipeline.run(pipeline_source, loader_file_format="jsonl")
    counts = pipeline.last_trace.last_normalize_info.row_counts
    tables = [name for name in counts if not name.startswith("_dlt")]
    print(json.dumps({"items": sum(counts[name] for name in tables)}))


if __name__ == "__main__":
    main()
