"""
A stand-alone script that reads the newest issues of several repositories, within the API's rate limits.

    python -m scrapeq.demo --port 8600 &                        # the sample API, or one with the same shape
    python examples/newest.py http://127.0.0.1:8600 octo/tools octo/site

`Fetcher` waits when a limit is closed, and learns limits that the API does not advertise. With `redis=Redis(...)`, all
scripts with the same `queue_name` share the state of the limits.
"""

import asyncio
import sys

from scrapeq import Fetcher, ScrapeqError

ENOUGH = 10


async def newest(base_url: str, repositories: list[str]) -> tuple[list[tuple[str, str]], list[ScrapeqError]]:
    """Return the last updated issues of all repositories (time and title), and the errors."""
    found: list[tuple[str, str]] = []
    errors: list[ScrapeqError] = []
    paths = [f"repos/{name}/issues?state=all&sort=updated&direction=desc" for name in repositories]
    async with Fetcher(base_url=base_url, concurrency=4) as fetcher:
        async for page in fetcher.stream(paths, on_error=lambda url, error: errors.append(error)):
            if page.status == 200:
                found += [(issue["updated_at"], issue["title"]) for issue in page.json()]
            else:  # a 404 is also a page
                errors.append(ScrapeqError(f"{page.url}: {page.status}"))
    return sorted(found, reverse=True)[:ENOUGH], errors


def main() -> int:
    """Print the issues. Return 1 if a repository could not be read."""
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
