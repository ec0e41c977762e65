"""Names that servers use for links, cursors and page numbers, without case and punctuation."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_LETTERS = re.compile(r"[^a-z0-9]+")


def normalize(name: str) -> str:
    """Return a name without case and punctuation: `@odata.nextLink` -> `odatanextlink`."""
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
"""Members that hold the URL of the next page, wherever they are."""

NEXT_KEYS = frozenset({"next", "nextpage", "nextrequest", "nextpagerequest"})
"""Members that may hold a URL, a number, an object or a token, which depends on the value."""

LINK_LISTS = frozenset({"links", "link", "atomlink"})
"""Lists of `{rel: next, href: …}` (Collection+JSON, FHIR, OGC, Siren; Atom and RSS in XML)."""

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
"""Objects that describe the page or wrap its records; members with short names are signals only inside them."""


class CursorName(NamedTuple):
    """The parameter that sends a cursor back, and others that it may be if the request has one of them."""

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
    "continuation": CursorName("continuation", ("continuationtoken", "continue")),
    "searchafter": CursorName("search_after"),
    "nextsearchafter": CursorName("search_after", ("searchafter",)),
    "nextbookmark": CursorName("bookmark"),
    "bookmark": CursorName("bookmark"),
    "lastevaluatedkey": CursorName("ExclusiveStartKey"),
}
"""Members that hold the next page's cursor; the parameter is spelled like the member (`nextPageToken`: `pageToken`)."""

EXCLUSIVE_CURSORS = frozenset({"resumptiontoken"})
"""Cursors whose requests must not have other parameters (OAI-PMH 2.0, 3.5.1); the verb stays."""
UNREADABLE_CURSORS = frozenset(
    {"scrollid", "pagestate", "lastkey", "pitid", "pagetoken", "pagecursor", "cursortoken", "continuationkey"}
)
"""Members that lead on, but in a form that only the API's documentation explains."""

LINK_HEADERS = (
    *("next-page", "x-next-page", "x-next-page-url", "x-next-url", "x-next-link", "x-next"),
    *("next-link", "x-pagination-next-url"),
)
"""Headers that hold the URL of the next page; in some APIs they hold a number."""
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
        "hasmoredata",
        "moredata",
        "moretocome",
        "morepages",
        "canloadmore",
        "hasnextset",
    }
)
"""Flags that are true while more pages follow."""
TRUNCATION_FLAGS = frozenset({"istruncated", "truncated"})
"""The flags among them that may be about one page only, as in Datasette."""

LAST_FLAGS = frozenset(
    {"last", "islast", "islastpage", "lastpage", "endofstream", "done", "iscomplete", "exhausted"}
    | {"eof", "end", "atend", "isend", "endreached", "reachedend", "finished", "isfinished", "isdone"}
    | {"nomore", "nomoreresults", "nomorepages", "nomoredata", "islastbatch", "endofresults", "endoflist"}
)
"""Flags that are true on the last page."""
LAST_NUMBERS = frozenset({"last", "lastpage", "end"})
"""The names among them that may also be those of a number."""

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
    **dict.fromkeys(("count", "found"), "count"),  # of all records, or of those on this page
    **dict.fromkeys(("remaining", "remainingcount", "remainingitems", "remainingpages"), "remaining"),
}
"""What a number means: number of the page, number of pages, number of records, page size, or offset."""

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
"""The parameter that usually goes with that of the page size, for responses that report more and nothing else."""

SIZE_PARAMS = frozenset(
    {"perpage", "pagesize", "limit", "size", "count", "maxresults", "hitsperpage", "top", "rows", "pagelimit"}
    | {
        "n",
        "take",
        "first",
        "itemsperpage",
        "results",
        "max",
        "maxitems",
        "maxrecords",
        "maxpagesize",
        "maxcount",
    }
    | {
        "num",
        "length",
        "pagelen",
        "pagelength",
        "resultsperpage",
        "recordsperpage",
        "entriesperpage",
        "perpagecount",
    }
    | {
        "batchsize",
        "chunksize",
        "resultrecordcount",
        "rpp",
        "ps",
        "psize",
        "pgsize",
        "nb",
        "cnt",
        "countperpage",
    }
    | {"limitperpage", "limitcount", "pagecount", "fetch", "show", "fetchsize", "paginationlimit"}
    | {"paginationpagesize", "maxentries", "maxnumresults", "maximumrecords", "sizelimit", "querylimit"}
)

_URL = re.compile(r"(?:https?:)?//\S+|/\S*|\?\S+|[\w.~/-]+\?\S*=\S*", re.IGNORECASE)


def looks_like_url(value: Any) -> bool:
    """Return whether a text is a URL or a path, and neither a token nor a URL template."""
    return isinstance(value, str) and bool(_URL.fullmatch(value.strip())) and "{" not in value


def match_style(name: str, of: str) -> str:
    """
    Spell a parameter like a member: `page_token` as `pageToken` beside `nextPageToken`.

    Args:
        name: The parameter in snake case.
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
