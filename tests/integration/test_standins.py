"""The stand-ins behave as the documentation of their APIs says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from standins.crossref import Crossref
from standins.ecb import Ecb
from standins.github import GitHub
from standins.hackernews import HackerNews
from standins.shopify import Shopify
from standins.slack import Slack
from standins.stripe import Stripe
from standins.wikipedia import Wikipedia
from standins.zendesk import Zendesk

AGENT = {"User-Agent": "acme/1.0 (bot@acme.test)"}
Follow = Callable[[httpx.Response], "tuple[str, dict[str, Any]] | None"]


def follow_pages(
    client: httpx.Client, url: str, params: dict[str, Any], following: Follow
) -> Iterator[httpx.Response]:
    """Yield all pages; `following` returns the URL and parameters of the next one."""
    to: tuple[str, dict[str, Any]] | None = (url, params)
    while to:
        response = client.get(to[0], params=to[1] or None)
        assert response.status_code == 200, response.text
        yield response
        to = following(response)


def by_link(response: httpx.Response) -> tuple[str, dict[str, Any]] | None:
    """Return the next page from the Link header."""
    following = response.links.get("next")
    return (following["url"], {}) if following else None


def test_github_paginates_by_links_and_caps_searches() -> None:
    """Each issue comes once, newest first; a known ETag is a 304 that spends no quota; a search ends at its cap."""
    with GitHub(max_per_page=20, search_cap=40) as api:
        headers = {**AGENT, "Authorization": "Bearer ghp_one"}
        with httpx.Client(base_url=api.url, headers=headers) as client:
            path = "/repos/acme/tools/issues"
            params: dict[str, Any] = {"state": "all", "sort": "updated", "per_page": 100}
            pages = list(follow_pages(client, path, params, by_link))
            issues = [one for page in pages for one in page.json()]
            assert [one["number"] for one in issues] == list(range(60, 0, -1))
            assert "/repositories/7654321/issues?" in pages[0].links["next"]["url"]
            again = client.get(path, params=params, headers={"If-None-Match": pages[0].headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["X-RateLimit-Used"] == "3"
            found = list(follow_pages(client, "/search/issues", {"q": "label:bug", "per_page": 20}, by_link))
            assert [len(page.json()["items"]) for page in found] == [20, 20]
            assert found[0].json()["total_count"] == 60
            assert client.get("/search/issues", params={"q": "label:bug", "page": 3}).status_code == 422
            assert client.get(path, headers={"Authorization": "Bearer no"}).status_code == 401


def test_hackernews_returns_null_and_stubs() -> None:
    """A listed id may be null; a deleted comment is a stub, and its kids can still be reached."""
    with HackerNews() as api, httpx.Client(base_url=f"{api.url}/v0") as client:
        ids = client.get("/newstories.json").json()
        assert ids == sorted(ids, reverse=True)
        items, to_do = {}, list(ids)
        while to_do:
            item = client.get(f"/item/{to_do.pop()}.json").json()
            if item:
                items[item["id"]] = item
                to_do += item.get("kids", [])
        assert items == api.reachable()
        assert any("deleted" in one and "kids" in one for one in items.values())
        assert len(set(ids) - items.keys()) > 0
        assert client.get("/item/1.json?print=pretty").status_code == 400


def test_crossref_returns_a_cursor_even_after_the_end() -> None:
    """The cursor never ends; unknown parameters and journals are errors."""
    with Crossref(works={"1476-4687": 1250}, public=50) as api, httpx.Client(base_url=api.url) as client:
        path = "/journals/1476-4687/works"
        cursor, dois, sizes = "*", set(), []
        for _ in range(3):
            message = client.get(path, params={"rows": 1000, "cursor": cursor}).json()["message"]
            cursor = message["next-cursor"]
            sizes.append(len(message["items"]))
            dois |= {one["DOI"] for one in message["items"]}
        assert (sizes, len(dois)) == ([1000, 250, 0], 1250)
        assert client.get(path, params={"rows": 1001}).status_code == 400
        assert client.get(path, params={"page": 2}).json()["message"][0]["type"] == "unknown-parameter"
        assert client.get("/journals/0000-0000/works").status_code == 404


def test_wikipedia_requires_the_whole_continue_object() -> None:
    """Every member of `continue` must be sent back; a lag has status 200."""
    common = {"action": "query", "format": "json", "formatversion": 2}
    members = {"list": "categorymembers", "cmtitle": Wikipedia.category, "cmlimit": 5, "cmdir": "desc"}
    ask: dict[str, Any] = common | members

    def onward(page: httpx.Response) -> tuple[str, dict[str, Any]] | None:
        return ("/w/api.php", ask | page.json()["continue"]) if "continue" in page.json() else None

    with Wikipedia(refuse_every=6) as api, httpx.Client(base_url=api.url, headers=AGENT) as client:
        pages = list(follow_pages(client, "/w/api.php", ask, onward))
        found = [one["pageid"] for page in pages for one in page.json()["query"]["categorymembers"]]
        assert (found, len(pages)) == (list(range(511, 499, -1)), 3)
        half = pages[0].json()["continue"]["cmcontinue"]
        wrong = client.get("/w/api.php", params=ask | {"cmcontinue": half})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (200, "badcontinue")
        client.get("/w/api.php", params=ask)
        lag = client.get("/w/api.php", params=ask)
        assert (lag.status_code, lag.json()["error"]["code"], lag.headers["Retry-After"]) == (
            200,
            "maxlag",
            "1",
        )
        assert client.get("/w/api.php", params=ask, headers={"User-Agent": "x"}).status_code == 403


def test_shopify_rejects_filters_beside_page_info() -> None:
    """The unchanged link leads to the next page; a filter beside it is a 400; the bucket level is reported."""
    with Shopify(max_limit=25, bucket=6, leak=0.01) as api:
        headers = {"X-Shopify-Access-Token": api.token}
        with httpx.Client(base_url=f"{api.url}/admin/api/2025-01", headers=headers) as client:
            pages = list(
                follow_pages(client, "/orders.json", {"status": "any", "order": "updated_at desc"}, by_link)
            )
            orders = [one for page in pages for one in page.json()["orders"]]
            assert [one["id"] for one in orders] == list(range(5059, 4999, -1))
            wrong = client.get(pages[0].links["next"]["url"] + "&status=any")
            assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["status"])
            assert len(client.get("/orders.json").json()["orders"]) == 25
            assert client.get("/products.json").headers["X-Shopify-Shop-Api-Call-Limit"] == "6/6"
            full = client.get("/products.json")
            assert (full.status_code, full.headers["Retry-After"]) == (429, "1.0")


def test_stripe_rejects_unknown_cursors_and_parameters() -> None:
    """Every charge comes once; an unknown cursor or parameter is a 400, an unknown key a 401."""
    with Stripe() as api, httpx.Client(base_url=api.url, auth=(api.key, "")) as client:

        def onward(page: httpx.Response) -> tuple[str, dict[str, Any]] | None:
            body = page.json()
            return (
                ("/v1/charges", {"limit": 20, "starting_after": body["data"][-1]["id"]})
                if body["has_more"]
                else None
            )

        pages = list(follow_pages(client, "/v1/charges", {"limit": 20}, onward))
        assert [len(page.json()["data"]) for page in pages] == [20, 20, 5]
        for wrong in (
            {"starting_after": "ch_none"},
            {"page": 2},
            {"limit": 101},
            {"created[gte]": "2025-01-01"},
        ):
            assert client.get("/v1/charges", params=wrong).status_code == 400
        refused = client.get("/v1/charges", auth=("other", ""))
        assert (refused.status_code, refused.headers["Stripe-Should-Retry"]) == (401, "false")


def test_slack_ends_pagination_with_an_empty_cursor() -> None:
    """Errors have status 200; `oldest` excludes its own time by default; a thread starts with its first message."""
    with (
        Slack(max_limit=10) as api,
        httpx.Client(base_url=f"{api.url}/api", headers={"Authorization": f"Bearer {api.token}"}) as client,
    ):

        def onward(page: httpx.Response) -> tuple[str, dict[str, Any]] | None:
            cursor = page.json()["response_metadata"]["next_cursor"]
            return ("conversations.history", {"channel": "C000", "cursor": cursor}) if cursor else None

        pages = list(follow_pages(client, "conversations.history", {"channel": "C000"}, onward))
        messages = [one for page in pages for one in page.json()["messages"]]
        assert [one["ts"] for one in messages] == [one["ts"] for one in api.messages["C000"]][::-1]
        third = messages[2]["ts"]
        for more, count in (({}, 2), ({"inclusive": "true"}, 3)):
            page = client.get("conversations.history", params={"channel": "C000", "oldest": third, **more})
            assert len(page.json()["messages"]) == count
        thread = next(one for one in messages if one.get("reply_count"))
        page = client.get("conversations.replies", params={"channel": "C000", "ts": thread["ts"]})
        assert [one["ts"] != thread["ts"] for one in page.json()["messages"]] == [False, True, True, True]
        refused = client.get("conversations.history", params={"channel": "C002"})
        assert (refused.status_code, refused.json()) == (200, {"ok": False, "error": "not_in_channel"})


def test_zendesk_continues_from_its_cursor() -> None:
    """The last cursor of the export returns later changes; the last page of comments still has a link."""
    with Zendesk(max_tickets=12, max_comments=2) as api:
        user, _, token = api.credential.partition(":")
        with httpx.Client(base_url=f"{api.url}/api/v2", auth=(user, token)) as client:

            def onward(page: httpx.Response) -> tuple[str, dict[str, Any]] | None:
                return None if page.json()["end_of_stream"] else (page.json()["after_url"], {})

            pages = list(follow_pages(client, "incremental/tickets/cursor.json", {"start_time": 0}, onward))
            assert [len(page.json()["tickets"]) for page in pages] == [12, 12, 6]
            api.change(api.tickets[0])
            later = client.get(pages[-1].json()["after_url"]).json()
            assert ([one["id"] for one in later["tickets"]], later["end_of_stream"]) == ([1], True)
            both = {"start_time": 0, "cursor": later["after_cursor"]}
            assert client.get("incremental/tickets/cursor.json", params=both).status_code == 400
            first = client.get("tickets/4/comments", params={"page[size]": 2}).json()
            second = client.get(first["links"]["next"]).json()
            assert (first["meta"]["has_more"], second["meta"]["has_more"]) == (True, False)
            assert second["links"]["next"] is not None
            assert client.get("tickets/9/comments").status_code == 404


def test_ecb_returns_404_for_an_empty_period() -> None:
    """A series is compressed; an unmodified series is a 304; a period without data is a 404."""
    with Ecb() as api, httpx.Client(base_url=f"{api.url}/service/data/EXR") as client:
        path, params = "D.USD.EUR.SP00.A", {"format": "csvdata"}
        page = client.get(path, params=params)
        assert page.headers["Content-Encoding"] == "gzip"
        assert (
            len(page.text.splitlines()) == 2 * len(api.rates["USD"]) + 1
        )  # each record contains a string of two lines
        since = {"If-Modified-Since": page.headers["Last-Modified"]}
        assert client.get(path, params=params, headers=since).status_code == 304
        assert client.get(path, params={**params, "startPeriod": "2999-01-01"}).status_code == 404
        assert client.get(path, params={"format": "jsondata"}).status_code == 400


@pytest.mark.parametrize("kind", [GitHub, HackerNews, Crossref, Shopify, Stripe, Slack, Zendesk, Ecb])
def test_periodic_refusals_are_logged(kind: Any) -> None:
    """Every n-th request is refused; refused requests count neither as accepted nor as repeated."""
    with kind(refuse_every=2) as api:
        client = httpx.Client(headers=AGENT)
        for _ in range(4):
            client.get(f"{api.url}/x")
        assert [one.refused for one in api.requests] == [False, True, False, True]
        assert len(api.accepted()) == 2
        assert api.repeated() == {"GET /x ": 2}
