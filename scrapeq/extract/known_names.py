"""What servers call the signs of a next page. Names are compared without case, hyphens, underscores and the like."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_LETTERS = re.compile(r"[^a-z0-9]+")


def normalize(name: str) -> str:
    """A name without case and punctuation: `@odata.nextLink` -> `odatanextlink`."""
    return _LETTERS.sub("", name.lower())


NEXT_LINK_KEYS = frozenset(
    {
        "nextpageurl",
        "nexturl",
        "nextlink",
        "odatanextlink",
        "nexthref",
        "nextpagelink",
        "nextpagehref",
        "nexturi",
        "nextpageuri",
        "nextrecordsurl",
        "nextresults",
        "nextpath",
        "nextpagepath",
        "moretopicsurl",
        "moreurl",
        "loadmoreurl",
        "hydranext",
    }
)
"""Members that are the next page's address wherever they stand."""

NEXT_KEYS = frozenset({"next", "nextpage"})
"""Members that may be an address, a number, an object or a token: their value tells."""

LINK_LISTS = frozenset({"links", "link"})
"""Lists of `{rel: next, href: …}` (Collection+JSON, FHIR, OGC, Siren)."""

ENVELOPES = frozenset(
    {
        "links",
        "link",
        "paging",
        "pagination",
        "pager",
        "paginator",
        "paginginfo",
        "paginationinfo",
        "pagingmetadata",
        "meta",
        "metadata",
        "responsemetadata",
        "searchmetadata",
        "listmetadata",
        "cursormetadata",
        "info",
        "page",
        "pages",
        "pageinfo",
        "pageable",
        "cursor",
        "cursors",
        "response",
        "responsedata",
        "result",
        "results",
        "data",
        "d",
        "view",
        "hydraview",
        "hits",
        "topiclist",
        "embedded",
        "urls",
        "attr",
        "message",
        "search",
    }
)
"""Objects that speak about the page, or lie around its records; a short name is a sign only inside one."""


class CursorName(NamedTuple):
    """What asks for what is behind a cursor: the usual parameter, and others that a request may show to be right."""

    default: str
    others: tuple[str, ...] = ()


CURSOR_KEYS: dict[str, CursorName] = {
    "nextcursor": CursorName(
        "cursor", ("after", "nextcursor", "pagecursor", "startcursor", "startingafter", "pageafter")
    ),
    "nextpagecursor": CursorName("cursor", ("pagecursor", "after", "pageafter")),
    "cursornext": CursorName("cursor", ("after", "nextcursor")),
    "nextpagetoken": CursorName("page_token", ("pagetoken", "token", "nextpagetoken")),
    "nexttoken": CursorName("next_token", ("nexttoken", "paginationtoken", "token", "pagetoken")),
    "continuationtoken": CursorName("continuation_token", ("continuationtoken", "continuation", "token")),
    "nextcontinuationtoken": CursorName("continuation_token", ("continuationtoken", "continuation", "token")),
    "paginationtoken": CursorName("pagination_token", ("paginationtoken", "token")),
    "nextmarker": CursorName("marker", ("marker", "startmarker")),
    "nextcursormark": CursorName("cursorMark"),
    "nextoffset": CursorName("offset", ("start", "skip", "from")),
    "nextskip": CursorName("skip", ("offset",)),
    "nextstart": CursorName("start", ("offset",)),
    "nextpagestart": CursorName("start", ("offset",)),
    "nextpagenumber": CursorName("page", ("pagenumber", "pageno", "p")),
    "aftercursor": CursorName("after", ("cursor", "pageafter", "pagecursor")),
    "endcursor": CursorName("after", ("cursor", "endcursor", "pageafter")),
    "resumptiontoken": CursorName("resumptionToken"),
    "nextbookmark": CursorName("bookmark"),
    "bookmark": CursorName("bookmark"),
}
"""Members that are the next page's cursor; their parameter is written as they are (`nextPageToken`: `pageToken`)."""

LINK_HEADERS = (
    *("next-page", "x-next-page", "x-next-page-url", "x-next-url", "x-next-link", "x-next"),
    *("next-link", "x-pagination-next-url"),
)
"""Headers that hold the next page's address; some of them are a number elsewhere."""
CURSOR_HEADERS: dict[str, CursorName] = {
    "x-next-page": CursorName("page", ("pagenumber", "pageno", "p")),
    "x-nextpage": CursorName("page", ("pagenumber", "pageno", "p")),
    "x-next-cursor": CursorName("cursor", ("after", "nextcursor", "pagecursor")),
    "x-next-page-token": CursorName("page_token", ("pagetoken", "token")),
    "x-next-token": CursorName("next_token", ("nexttoken", "token")),
    "x-ms-continuationtoken": CursorName("continuationToken", ("continuationtoken",)),
    "x-continuation-token": CursorName("continuationToken", ("continuationtoken", "continuation")),
}
PAGE_COUNT_HEADERS = (
    "x-wp-totalpages",
    "x-total-pages",
    "x-totalpages",
    "x-page-count",
    "x-pagination-page-count",
    "x-pagination-total-pages",
    "total-pages",
)
TOTAL_HEADERS = (
    "x-total-count",
    "x-total",
    "x-wp-total",
    "x-pagination-total-count",
    "x-total-results",
    "x-count",
    "total-count",
)

MORE_FLAGS = frozenset(
    {
        "hasmore",
        "hasnext",
        "hasnextpage",
        "more",
        "hasmorepages",
        "hasmoreitems",
        "hasmoreresults",
        "moreitems",
    }
    | {
        "morerecords",
        "moreresultsavailable",
        "istruncated",
        "truncated",
        "nextpageavailable",
        "moreavailable",
    }
)
"""Flags that are true while there is more."""
TRUNCATION_FLAGS = frozenset({"istruncated", "truncated"})
"""Those of them that may speak of one page only, as datasette's does."""

LAST_FLAGS = frozenset(
    {"last", "islast", "islastpage", "lastpage", "endofstream", "done", "iscomplete", "exhausted"}
)
"""Flags that are true on the last page."""

NUMBER_ROLES: dict[str, str] = {
    **dict.fromkeys(("page", "currentpage", "pagenumber", "pageno", "pageindex", "pagenum", "number"), "own"),
    **dict.fromkeys(("currentpagenumber", "current"), "own"),
    **dict.fromkeys(("totalpages", "lastpage", "pagecount", "numpages", "nbpages", "pages"), "pages"),
    **dict.fromkeys(("pagestotal", "totalpagecount", "numberofpages", "pagetotal", "maxpage"), "pages"),
    **dict.fromkeys(("total", "totalcount", "totalresults", "totalitems", "totalelements"), "total"),
    **dict.fromkeys(
        ("totalrecords", "numfound", "totalhits", "nbhits", "totalrows", "recordstotal"), "total"
    ),
    **dict.fromkeys(("totalsize", "totalmatches", "totalnumber", "hydratotalitems", "odatacount"), "total"),
    **dict.fromkeys(("perpage", "pagesize", "limit", "size", "itemsperpage", "maxresults"), "size"),
    **dict.fromkeys(("hitsperpage", "pagelimit", "resultsperpage", "rows"), "size"),
    **dict.fromkeys(("offset", "start", "skip", "startat", "startindex", "from"), "offset"),
    **dict.fromkeys(("count", "found"), "count"),  # of all records, or of this page's
}
"""What a number says: the page's own, how many pages, how many records, the page's size, the records before it."""

PAGE_PARAMS = (
    *("page", "p", "pg", "paged", "_page", "page_number", "pageNumber", "page_no", "pageNo", "page[number]"),
    "pagination[page]",
)
OFFSET_PARAMS = (
    *(
        "offset",
        "skip",
        "start",
        "from",
        "startAt",
        "startIndex",
        "_start",
        "$skip",
        "$offset",
        "page[offset]",
    ),
    "pagination[start]",
)
SIZE_PARAM_PARTNERS = {
    **dict.fromkeys(("per_page", "perPage", "page_size", "pageSize", "pagesize"), "page"),
    "_limit": "_page",
    "limit": "offset",
    "take": "skip",
    "$top": "$skip",
    "$limit": "$offset",
    "maxResults": "startAt",
}
"""What the parameter of a page's size goes together with, where an answer says that there is more and nothing else."""

SIZE_PARAMS = frozenset(
    {"perpage", "pagesize", "limit", "size", "count", "maxresults", "hitsperpage", "top", "rows", "pagelimit"}
    | {"n", "take", "first", "itemsperpage", "results"}
)

_ADDRESS = re.compile(r"(?:https?:)?//\S+|/\S*|\?\S+|[\w.~/-]+\?\S*=\S*", re.IGNORECASE)


def looks_like_address(value: Any) -> bool:
    """Whether a text is an address or a path, and neither a token nor a template of one."""
    return isinstance(value, str) and bool(_ADDRESS.fullmatch(value.strip())) and "{" not in value


def match_style(name: str, of: str) -> str:
    """
    A parameter's name in the style of a member: `page_token` as `pageToken` beside `nextPageToken`.

    Args:
        name: In snake case.
        of: The member.
    """
    if "_" in of or "_" not in name:
        if of[:1].isupper() and "_" not in name:
            return name[:1].upper() + name[1:]
        return name
    words = name.split("_")
    if "-" in of:
        return "-".join(words)
    joined = "".join(word.capitalize() for word in words)
    return joined if of[:1].isupper() else joined[:1].lower() + joined[1:]
