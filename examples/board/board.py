"""The hooks of board.yaml: a handler for issues, and a transformation of comments before they are written."""

from collections.abc import Iterator

from scrapeq import Context, Page, Record, Result

WORDS_SHOWN = 8


def issues(page: Page, context: Context) -> Iterator[Result]:
    """Yield one record per issue, its labels, and its comments, those of open issues first."""
    for issue in page.json():
        is_open = issue["state"] == "open"
        yield {
            "id": issue["id"],
            "title": issue["title"].strip(),
            "open": is_open,
            "touched": issue["updated_at"],
        }
        yield context.follow("labels", issue)
        yield context.follow("comments", issue, priority=context.priority if is_open else 0)


async def comment(record: Record, context: Context) -> Record | None:
    """Return the start of a comment and its author; drop the comments of bots."""
    author = record["user"]["login"]
    if author.endswith("[bot]"):
        return None
    words = record["body"].split()
    text = " ".join(words[:WORDS_SHOWN]) + (" …" if len(words) > WORDS_SHOWN else "")
    return {"id": record["id"], "issue": context.parent["number"], "author": author, "text": text}
