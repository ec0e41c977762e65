"""The configurations that come with scrapeq, run by the real command against stand-ins: what is written is true."""

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
    """The code host: no state older than the data, few windows of the search."""
    began = (api.newest - timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    more = {
        "resources.issues.endpoint.incremental.initial_value": began,
        "resources.search.endpoint.incremental.initial_value": began,
        "rate_limits[0].rates": [{"limit": 5000, "interval": "10s"}],
        "rate_limits[1].rates": [{"limit": 300, "interval": "1s"}],
        "rate_limits[2].rates": [{"limit": 9000, "interval": "1m"}],
        **settings,
    }
    return Scrape(folder, "github", api, env={"GH_TOKENS": "ghp_one,ghp_two"}, settings=more)


def comments_of(api: GitHub) -> list[dict[str, Any]]:
    """Every comment, with what the configuration takes from its issue."""
    return [
        {**comment, "_issues_id": issue["id"], "_issues_number": issue["number"]}
        for name in REPOSITORIES
        for issue in api.issues[name]
        for comment in api.comments[f"/repos/{name}/issues/{issue['number']}"]
    ]


def by_id(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of their ids."""
    return sorted(records, key=lambda record: record["id"])


def all_issues(api: GitHub) -> list[dict[str, Any]]:
    """Of both repositories, by id."""
    return by_id([issue for name in REPOSITORIES for issue in api.issues[name]])


def test_github_is_complete_in_spite_of_refusals(tmp_path: Path) -> None:
    """Issues, comments and the cut search: each record once, as it is; each request answered once, with a token."""
    with GitHub(issues=30, max_per_page=12, search_cap=30, refuse_every=21, search=(300, 60.0)) as api:
        gone = f"/repos/{TOOLS}/issues/3"
        api.gone.add(gone)  # deleted since the list was read: 410, ignored
        scrape = github(tmp_path, api, **{"resources.search.endpoint.incremental.step": "2d"})
        scrape.run()
        assert by_id(scrape.jsonl("out/github/issues.jsonl")) == all_issues(api)
        kept = [one for one in comments_of(api) if one["issue_url"] != gone]
        assert by_id(scrape.jsonl("out/github/comments.jsonl")) == by_id(kept)
        bugs = [{**one, "score": 1.0} for one in all_issues(api) if one["labels"]]
        assert by_id(scrape.jsonl("out/github/search.jsonl")) == bugs
        assert api.twice() == {}
        assert {one.headers["authorization"] for one in api.asked} == {"Bearer ghp_one", "Bearer ghp_two"}
        assert {one.status for one in api.granted()} == {200, 410}


def test_github_is_asked_for_the_newest_first(tmp_path: Path) -> None:
    """One request at a time: the comments of what was touched last come first, over both repositories and all pages."""
    with GitHub(issues=40, max_per_page=15) as api:
        github(tmp_path, api, **ONE_AT_A_TIME).run("--only", "issues,comments")
        touched = [
            api.issue(one.path.removeprefix("/repos/").split("/issues/")[0], int(one.path.split("/")[-2]))
            for one in api.granted()
            if one.path.endswith("/comments")
        ]
        stamps = [issue["updated_at"] for issue in touched]
        assert len(stamps) == len({one["_issues_id"] for one in comments_of(api)})
        assert stamps == sorted(stamps, reverse=True)


def test_github_again_asks_for_what_is_new(tmp_path: Path) -> None:
    """A second run writes exactly what changed; a third one, with nothing new, is told so by 304 and pays nothing."""
    with GitHub(issues=20, max_per_page=15, fresh_s=60) as api:
        scrape = github(tmp_path, api)
        scrape.run("--only", "issues,comments")
        before = {kind: len(scrape.jsonl(f"out/github/{kind}.jsonl")) for kind in ("issues", "comments")}
        api.forget()
        new = api.add(HELLO, 21, api.newest + timedelta(minutes=5), comments=2)
        old = api.comment(TOOLS, 4, api.newest + timedelta(minutes=6))
        scrape.run("--only", "issues,comments")
        issues = scrape.jsonl("out/github/issues.jsonl")[before["issues"] :]
        assert by_id(issues) == by_id([new, api.issue(TOOLS, 4)])
        comments = scrape.jsonl("out/github/comments.jsonl")[before["comments"] :]
        assert {one["id"] for one in comments} == {old["id"], new["id"] * 100, new["id"] * 100 + 1}
        since = datetime.strptime(str(api.granted("/repos/")[0].get("since")), "%Y-%m-%dT%H:%M:%SZ")
        assert since == api.newest.replace(tzinfo=None) - timedelta(minutes=10)
        assert newest_of(scrape.jsonl("out/github/issues.jsonl"), "id") == {
            one["id"]: one for one in all_issues(api)
        }
        written = (tmp_path / "out/github/issues.jsonl").read_bytes()
        scrape.run("--only", "issues,comments")
        api.forget()
        used = [window.remaining(token) for window in api.windows.values() for token in api.tokens]
        scrape.run("--only", "issues,comments")
        assert Counter(one.status for one in api.granted()) == {304: len(api.granted())}
        assert used == [window.remaining(token) for window in api.windows.values() for token in api.tokens]
        assert (tmp_path / "out/github/issues.jsonl").read_bytes() == written


def test_github_killed_and_run_again_loses_nothing(tmp_path: Path) -> None:
    """Killed for real in the middle, the same command goes on where it was: every record is there once."""
    with GitHub(issues=40, max_per_page=15, latency_s=0.02) as api:
        scrape = github(tmp_path, api, **{"run.concurrency": 2})
        scrape.killed(after_requests=25)
        asked = len(api.asked)
        scrape.run()
        assert by_id(scrape.jsonl("out/github/issues.jsonl")) == all_issues(api)
        assert by_id(scrape.jsonl("out/github/comments.jsonl")) == by_id(comments_of(api))
        assert sum(api.twice().values()) - len(api.twice()) <= 2 * 2 + 2, "what was acked was asked again"
        assert len(api.asked) > asked


def test_hackernews_trees_are_whole(tmp_path: Path) -> None:
    """Every item below every story once, nulls and jobs left out; the newest first; never more than 20 in flight."""
    with HackerNews(stories=16, latency_s=0.005, refuse_every=30) as api:
        scrape = Scrape(tmp_path, "hackernews", api, "/v0")
        scrape.run()
        kept = {key: item for key, item in api.truth().items() if item["type"] != "job"}
        records = scrape.jsonl("out/hn/items.jsonl")
        assert len(records) == len(kept)
        assert {one["id"]: one for one in records} == kept
        assert api.twice() == {}
        assert api.max_in_flight <= 20
        story = api.add(comments=2)
        scrape.run()
        later = scrape.jsonl("out/hn/items.jsonl")[len(records) :]
        assert sorted(one["id"] for one in later) == sorted(api.below(story["id"]))


def test_hackernews_is_asked_by_rank(tmp_path: Path) -> None:
    """One request at a time: of all ids that are known, the highest is asked for."""
    with HackerNews(stories=12) as api:
        Scrape(tmp_path, "hackernews", api, "/v0", settings=ONE_AT_A_TIME).run()
        known = set(api.stories)
        for one in api.granted("/v0/item/"):
            number = int(one.path.removeprefix("/v0/item/").removesuffix(".json"))
            assert number == max(known)
            known.remove(number)
            item = api.items.get(number) or {}
            known |= set(item.get("kids", ())) if item.get("type") != "job" else set()
        assert known == set()


def test_crossref_ends_where_a_page_is_short(tmp_path: Path) -> None:
    """Pages of 1,000 by a cursor that never ends; the told limit is kept to; a second run asks from a day on."""
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
        assert len(api.asked) == 4  # 1,250: two pages; 1,000: one, and an empty one
        assert {one.get("mailto") for one in api.asked} == {"bot@acme.test"}
        assert [one.get("cursor") for one in api.asked].count("*") == 2
        assert api.max_in_flight <= 3
        api.forget()
        new, old = api.add("1476-4687"), api.works["1476-4687"][0]
        api.index(new, minutes_ago=-5)
        api.index(old, minutes_ago=-3)
        scrape.run()
        later = scrape.jsonl("out/crossref/1476-4687.jsonl.gz")[1250:]
        assert sorted(one["DOI"] for one in later) == sorted((new["DOI"], old["DOI"]))
        day = (api.newest - timedelta(days=1, minutes=20)).strftime("%Y-%m-%d")
        assert {one.get("filter") for one in api.asked} == {f"from-index-date:{day}"}


def wikipedia(folder: Path, api: Wikipedia) -> Scrape:
    """The wiki."""
    return Scrape(folder, "wikipedia", api, "/w")


def test_wikipedia_walks_by_objects_one_request_at_a_time(tmp_path: Path) -> None:
    """Members and all their revisions, although the wiki lags now and then; what was kept is told by 304 later on."""
    with Wikipedia(max_limit=10, refuse_every=30, pages=14) as api:
        scrape = wikipedia(tmp_path, api)
        scrape.run()
        credentials = scrape.table("out/wikipedia.db", "members")
        assert sorted((one["pageid"], one["title"]) for one in credentials) == sorted(
            (one["pageid"], one["title"]) for one in api.pages
        )
        revisions = scrape.table("out/wikipedia.db", "revisions")
        truth = {
            (one["revid"], one["timestamp"], one["user"], page["pageid"], page["title"])
            for page in api.pages
            for one in api.revisions[page["pageid"]]
        }
        found = [
            (one["revid"], one["timestamp"], one["user"], one["_members_pageid"], one["_members_title"])
            for one in revisions
        ]
        assert (len(found), set(found)) == (len(truth), truth)
        assert (api.max_in_flight, api.twice()) == (1, {})
        assert {one.status for one in api.granted()} == {200}
        api.refuse_every = 0
        api.forget()
        page = api.add(revisions=3)
        edited = api.edit(api.pages[0]["pageid"])
        scrape.run()
        revisions = scrape.table("out/wikipedia.db", "revisions")
        assert len(revisions) == len(truth) + 4
        assert edited["revid"] in {one["revid"] for one in revisions}
        assert page["pageid"] in {one["pageid"] for one in scrape.table("out/wikipedia.db", "members")}
        assert api.twice() == {}
