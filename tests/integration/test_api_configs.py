"""The configurations that ship with scrapeq, run by the real command against stand-ins: the records are complete."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from api_scrapes import Scrape, newest_of
from standins.crossref import Crossref
from standins.github import REPOSITORIES, GitHub
from standins.hackernews import HackerNews
from standins.wikipedia import Wikipedia

ONE_AT_A_TIME = {"run.workers": 1, "run.concurrency": 1}
TOOLS, HELLO = "acme/tools", "octocat/hello-world"


def github(folder: Path, api: GitHub, **settings: Any) -> Scrape:
    """Return the code host's scrape; it starts 90 days before the newest record, so the search has few windows."""
    start = (api.newest - timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    more = {
        "resources.issues.endpoint.incremental.initial_value": start,
        "resources.search.endpoint.incremental.initial_value": start,
        "rate_limits[0].rates": [{"limit": 5000, "interval": "10s"}],
        "rate_limits[1].rates": [{"limit": 300, "interval": "1s"}],
        "rate_limits[2].rates": [{"limit": 9000, "interval": "1m"}],
        **settings,
    }
    return Scrape(folder, "github", api, env={"GH_TOKENS": "ghp_one,ghp_two"}, settings=more)


def comments_of(api: GitHub) -> list[dict[str, Any]]:
    """Return every comment, with the fields that the configuration includes from its issue."""
    return [
        {**comment, "_issues_id": issue["id"], "_issues_number": issue["number"]}
        for name in REPOSITORIES
        for issue in api.issues[name]
        for comment in api.comments[f"/repos/{name}/issues/{issue['number']}"]
    ]


def by_id(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records in the order of their ids."""
    return sorted(records, key=lambda record: record["id"])


def all_issues(api: GitHub) -> list[dict[str, Any]]:
    """Return the issues of both repositories, by id."""
    return by_id([issue for name in REPOSITORIES for issue in api.issues[name]])


def test_github_records_are_complete_despite_refusals(tmp_path: Path) -> None:
    """Each issue, comment and search result is written once, unchanged; each request is sent once, with a token."""
    with GitHub(issues=30, max_per_page=12, search_cap=30, refuse_every=21, search=(300, 60.0)) as api:
        gone = f"/repos/{TOOLS}/issues/3"
        api.gone.add(gone)  # deleted after the list was read: 410, ignored
        scrape = github(tmp_path, api, **{"resources.search.endpoint.incremental.step": "2d"})
        scrape.run()
        assert by_id(scrape.jsonl("out/github/issues.jsonl")) == all_issues(api)
        expected = [one for one in comments_of(api) if one["issue_url"] != gone]
        assert by_id(scrape.jsonl("out/github/comments.jsonl")) == by_id(expected)
        bugs = [{**one, "score": 1.0} for one in all_issues(api) if one["labels"]]
        assert by_id(scrape.jsonl("out/github/search.jsonl")) == bugs
        assert api.repeated() == {}
        assert {one.headers["authorization"] for one in api.requests} == {"Bearer ghp_one", "Bearer ghp_two"}
        assert {one.status for one in api.accepted()} == {200, 410}


def test_github_newest_issues_are_requested_first(tmp_path: Path) -> None:
    """With one request at a time, the comments of recently updated issues come first, over all repositories."""
    with GitHub(issues=40, max_per_page=15) as api:
        github(tmp_path, api, **ONE_AT_A_TIME).run("--only", "issues,comments")
        updated = [
            api.issue(one.path.removeprefix("/repos/").split("/issues/")[0], int(one.path.split("/")[-2]))
            for one in api.accepted()
            if one.path.endswith("/comments")
        ]
        stamps = [issue["updated_at"] for issue in updated]
        assert len(stamps) == len({one["_issues_id"] for one in comments_of(api)})
        assert stamps == sorted(stamps, reverse=True)


def test_a_second_github_run_requests_only_changes(tmp_path: Path) -> None:
    """A second run writes exactly the changes; a later run without changes gets only 304s and spends no quota."""
    with GitHub(issues=20, max_per_page=15, fresh_s=60) as api:
        scrape = github(tmp_path, api)
        scrape.run("--only", "issues,comments")
        before = {kind: len(scrape.jsonl(f"out/github/{kind}.jsonl")) for kind in ("issues", "comments")}
        api.clear_log()
        new = api.add(HELLO, 21, api.newest + timedelta(minutes=5), comments=2)
        old = api.comment(TOOLS, 4, api.newest + timedelta(minutes=6))
        scrape.run("--only", "issues,comments")
        issues = scrape.jsonl("out/github/issues.jsonl")[before["issues"] :]
        assert by_id(issues) == by_id([new, api.issue(TOOLS, 4)])
        comments = scrape.jsonl("out/github/comments.jsonl")[before["comments"] :]
        assert {one["id"] for one in comments} == {old["id"], new["id"] * 100, new["id"] * 100 + 1}
        since = datetime.strptime(str(api.accepted("/repos/")[0].get("since")), "%Y-%m-%dT%H:%M:%SZ")
        assert since == api.newest.replace(tzinfo=None) - timedelta(minutes=10)
        assert newest_of(scrape.jsonl("out/github/issues.jsonl"), "id") == {
            one["id"]: one for one in all_issues(api)
        }
        written = (tmp_path / "out/github/issues.jsonl").read_bytes()
        scrape.run("--only", "issues,comments")
        api.clear_log()
        used = [window.remaining(token) for window in api.windows.values() for token in api.tokens]
        scrape.run("--only", "issues,comments")
        assert Counter(one.status for one in api.accepted()) == {304: len(api.accepted())}
        assert used == [window.remaining(token) for window in api.windows.values() for token in api.tokens]
        assert (tmp_path / "out/github/issues.jsonl").read_bytes() == written


def test_a_killed_github_run_resumes_without_loss(tmp_path: Path) -> None:
    """After SIGKILL, the same command continues where the run stopped, and every record is written once."""
    with GitHub(issues=40, max_per_page=15, latency_s=0.02) as api:
        scrape = github(tmp_path, api, **{"run.concurrency": 2})
        scrape.kill_run(after_requests=25)
        requests_before = len(api.requests)
        scrape.run()
        assert by_id(scrape.jsonl("out/github/issues.jsonl")) == all_issues(api)
        assert by_id(scrape.jsonl("out/github/comments.jsonl")) == by_id(comments_of(api))
        assert sum(api.repeated().values()) - len(api.repeated()) <= 2 * 2 + 2, (
            "acknowledged requests were repeated"
        )
        assert len(api.requests) > requests_before


def test_hackernews_trees_are_complete(tmp_path: Path) -> None:
    """Every item of every tree is written once, without nulls and jobs, with at most 20 requests in flight."""
    with HackerNews(stories=16, latency_s=0.005, refuse_every=30) as api:
        scrape = Scrape(tmp_path, "hackernews", api, "/v0")
        scrape.run()
        expected = {key: item for key, item in api.reachable().items() if item["type"] != "job"}
        records = scrape.jsonl("out/hn/items.jsonl")
        assert len(records) == len(expected)
        assert {one["id"]: one for one in records} == expected
        assert api.repeated() == {}
        assert api.max_in_flight <= 20
        story = api.add(comments=2)
        scrape.run()
        later = scrape.jsonl("out/hn/items.jsonl")[len(records) :]
        assert sorted(one["id"] for one in later) == sorted(api.below(story["id"]))


def test_hackernews_requests_the_highest_known_id(tmp_path: Path) -> None:
    """With one request at a time, the highest of all known ids is requested next."""
    with HackerNews(stories=12) as api:
        Scrape(tmp_path, "hackernews", api, "/v0", settings=ONE_AT_A_TIME).run()
        known = set(api.stories)
        for one in api.accepted("/v0/item/"):
            number = int(one.path.removeprefix("/v0/item/").removesuffix(".json"))
            assert number == max(known)
            known.remove(number)
            item = api.items.get(number) or {}
            known |= set(item.get("kids", ())) if item.get("type") != "job" else set()
        assert known == set()


def test_crossref_pagination_ends_at_a_short_page(tmp_path: Path) -> None:
    """The cursor never ends, the reported limit is respected, and a second run requests the changes since a day."""
    with Crossref() as api:
        scrape = Scrape(
            tmp_path,
            "crossref",
            api,
            env={"CONTACT": "bot@acme.test"},
            settings={"resources.works.endpoint.incremental.initial_value": "2020-01-01"},
        )
        scrape.run()
        for issn, works in api.works.items():
            found = scrape.jsonl(f"out/crossref/{issn}.jsonl.gz")
            assert sorted(found, key=lambda work: work["DOI"]) == sorted(works, key=lambda work: work["DOI"])
        assert len(api.requests) == 4  # 1,250: two pages; 1,000: one, and an empty one
        assert {one.get("mailto") for one in api.requests} == {"bot@acme.test"}
        assert [one.get("cursor") for one in api.requests].count("*") == 2
        assert api.max_in_flight <= 3
        api.clear_log()
        new, old = api.add("1476-4687"), api.works["1476-4687"][0]
        api.index(new, minutes_ago=-5)
        api.index(old, minutes_ago=-3)
        scrape.run()
        later = scrape.jsonl("out/crossref/1476-4687.jsonl.gz")[1250:]
        assert sorted(one["DOI"] for one in later) == sorted((new["DOI"], old["DOI"]))
        day = (api.newest - timedelta(days=1, minutes=20)).strftime("%Y-%m-%d")
        assert {one.get("filter") for one in api.requests} == {f"from-index-date:{day}"}


def wikipedia(folder: Path, api: Wikipedia) -> Scrape:
    """Return the wiki's scrape."""
    return Scrape(folder, "wikipedia", api, "/w")


def test_wikipedia_pages_by_continue_objects_one_request_at_a_time(tmp_path: Path) -> None:
    """Members and revisions are complete although the wiki lags at times; a second run adds only new revisions."""
    with Wikipedia(max_limit=10, refuse_every=30, pages=14) as api:
        scrape = wikipedia(tmp_path, api)
        scrape.run()
        members = scrape.table("out/wikipedia.db", "members")
        assert sorted((one["pageid"], one["title"]) for one in members) == sorted(
            (one["pageid"], one["title"]) for one in api.pages
        )
        revisions = scrape.table("out/wikipedia.db", "revisions")
        expected = {
            (one["revid"], one["timestamp"], one["user"], page["pageid"], page["title"])
            for page in api.pages
            for one in api.revisions[page["pageid"]]
        }
        found = [
            (one["revid"], one["timestamp"], one["user"], one["_members_pageid"], one["_members_title"])
            for one in revisions
        ]
        assert (len(found), set(found)) == (len(expected), expected)
        assert (api.max_in_flight, api.repeated()) == (1, {})
        assert {one.status for one in api.accepted()} == {200}
        api.refuse_every = 0
        api.clear_log()
        page = api.add(revisions=3)
        edited = api.edit(api.pages[0]["pageid"])
        scrape.run()
        revisions = scrape.table("out/wikipedia.db", "revisions")
        assert len(revisions) == len(expected) + 4
        assert edited["revid"] in {one["revid"] for one in revisions}
        assert page["pageid"] in {one["pageid"] for one in scrape.table("out/wikipedia.db", "members")}
        assert api.repeated() == {}
