"""
A script of its own that asks an API within its limits, newest first, and stops when it has enough.

    python -m scrapeq.demo --port 8600 &                        # the sample API, or any other of its shape
    python examples/newest.py http://127.0.0.1:8600 octo/tools octo/site

`Fetcher` waits by itself where a limit is closed, and learns one that nobody tells it. With `redis=Redis(...)` all
scripts that name the same `queue_name` share what is known of the limits.
"""

import asyncio
import sys

from scrapeq import Fetcher, ScrapeqError

ENOUGH = 10


async def newest(base_url: str, repositories: list[str]) -> tuple[list[tuple[str, str]], list[ScrapeqError]]:
    """The issues touched last over all repositories (when, and their titles), and what could not be had."""
    found: list[tuple[str, str]] = []
    errors: list[ScrapeqError] = []
    paths = [f"repos/{name}/issues?state=all&sort=updated&direction=desc" for name in repositories]
    async with Fetcher(base_url=base_url, concurrency=4) as fetcher:
        async for page in fetcher.stream(paths, on_error=lambda url, error: errors.append(error)):
            if page.status == 200:
                found += [(issue["updated_at"], issue["title"]) for issue in page.json()]
            else:  # a 404 is a page, too
                errors.append(ScrapeqError(f"{page.url}: {page.status}"))
    return sorted(found, reverse=True)[:ENOUGH], errors


def main() -> int:
    """Print them; 1 when a repository could not be asked about."""
    if len(sys.argv) < 3:
        print("usage: newest.py URL OWNER/NAME...", file=sys.stderr)
        return 2
    issues, errors = asyncio.run(newest(sys.argv[1], sys.argv[2:]))
    for moment, title in issues:
        print(moment, title)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
