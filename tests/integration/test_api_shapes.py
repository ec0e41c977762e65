"""Three more shapes of APIs (a leaky bucket, a chat, an export by bookmark), run by the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api_scrapes import Scrape
from standins.shopify import Shopify
from standins.slack import Slack
from standins.zendesk import Zendesk

JSONL = [{"type": "jsonl", "path": "out/${resource}.jsonl"}]


def shopify(folder: Path, api: Shopify, **settings: Any) -> Scrape:
    """The shop, with a bucket that leaks faster than the real one; into files."""
    env = {"SHOP": "acme", "SHOPIFY_TOKEN": api.token, "DATABASE_URL": "postgresql://127.0.0.1/none"}
    rates = [{"limit": api.leak, "interval": "1s", "burst": api.bucket}]
    settings = {"outputs": JSONL, "rate_limits[0].rates": rates, **settings}
    return Scrape(folder, "shopify", api, "/admin/api/2025-01", env=env, settings=settings)


def test_shopify_keeps_to_its_bucket(tmp_path: Path) -> None:
    """Orders, their line items and products by links that are taken as they are; the bucket never runs over."""
    with Shopify(orders=63, products=12, max_limit=5, bucket=8, leak=20) as api:
        scrape = shopify(tmp_path, api)
        scrape.run()
        orders = scrape.jsonl("out/orders.jsonl")
        assert sorted(orders, key=lambda one: one["id"]) == api.records["orders"]
        lines = [
            {**line, "_orders_id": order["id"], "_orders_updated_at": order["updated_at"]}
            for order in api.records["orders"]
            for line in order["line_items"]
        ]
        found = scrape.jsonl("out/line_items.jsonl")
        assert sorted(found, key=lambda one: one["id"]) == sorted(lines, key=lambda one: one["id"])
        assert sorted(one["id"] for one in scrape.jsonl("out/products.jsonl")) == list(range(7000, 7012))
        assert (api.twice(), {one.status for one in api.asked}) == ({}, {200})
        assert all(
            set(dict(one.query)) == {"limit", "page_info"} for one in api.asked if one.get("page_info")
        )
        api.forget()
        new, old = api.order(minutes_ago=-3), api.records["orders"][7]
        api.touch(old, minutes_later=2)
        scrape.run()
        later = scrape.jsonl("out/orders.jsonl")[len(orders) :]
        assert {one["id"]: one for one in later} == {new["id"]: new, old["id"]: old}
        assert len(api.granted("/admin/api/2025-01/orders.json")) == 1


def slack(folder: Path, api: Slack, **settings: Any) -> Scrape:
    """The chat, with minutes that are shorter than real ones."""
    rates = {
        "rate_limits[0].rates": [{"limit": 20, "interval": "1s"}],
        "rate_limits[1].rates": [{"limit": 50, "interval": "1s"}],
    }
    return Scrape(
        folder, "slack", api, "/api", env={"SLACK_TOKEN": api.token}, settings={**rates, **settings}
    )


def said(api: Slack) -> set[tuple[str, str, str]]:
    """All that can be read: `(channel, ts, text)`."""
    rooms = {one["id"] for one in api.channels if one["is_member"]} - api.left
    return {(room, one["ts"], one["text"]) for room in rooms for one in api.messages[room]}


def test_slack_reads_errors_in_answers_that_are_fine(tmp_path: Path) -> None:
    """Channels, messages, replies, each once; a refusal in a 200 is waited for; a channel that was left is no error."""
    with Slack(max_limit=7, minute_s=1.0, refuse_every=10) as api:
        api.left.add("C001")
        scrape = slack(tmp_path, api)
        scrape.run()
        assert len(scrape.table("out/slack.db", "channels")) == len(api.channels)
        rows = scrape.table("out/slack.db", "messages")
        found = [(one["_channels_id"], one["ts"], one["text"]) for one in rows]
        assert (len(found), set(found)) == (len(said(api)), said(api))
        rows = scrape.table("out/slack.db", "replies")
        replies = {
            (room, one["ts"], thread)
            for (room, thread), kept in api.replies.items()
            for one in kept
            if room in {message[0] for message in said(api)}
        }
        threads = [(one["channel"], one["ts"], one["thread_ts"]) for one in rows]
        assert (len(threads), set(threads)) == (len(replies), replies)
        assert api.twice() == {}
        assert {one.headers["authorization"] for one in api.asked} == {f"Bearer {api.token}"}


def test_slack_keeps_a_state_for_each_channel(tmp_path: Path) -> None:
    """A second run asks each channel from its own newest message on."""
    with Slack(max_limit=7, minute_s=1.0, messages=9) as api:
        scrape = slack(tmp_path, api)
        scrape.run()
        newest = {room: messages[-1]["ts"] for room, messages in api.messages.items()}
        api.forget()
        new = [api.say("C000"), api.say("C000", replies=2)]
        scrape.run()
        asked = {one.get("channel"): one.get("oldest") for one in api.granted("/api/conversations.history")}
        assert asked == {room: newest[room] for room in ("C000", "C001", "C003", "C004")}
        texts = {one["text"] for one in scrape.table("out/slack.db", "messages")}
        assert {one["text"] for one in new} < texts
        assert len(texts) == len(said(api))


def test_slack_stops_at_once_when_the_token_is_refused(tmp_path: Path) -> None:
    """`action: fail` ends the run with its message and code 8; the token is nowhere to be seen."""
    with Slack() as api:
        scrape = slack(tmp_path, api)
        scrape.env["SLACK_TOKEN"] = "xoxb-revoked-1"
        reported = scrape.run(code=8)
        assert "the token is refused: invalid_auth" in reported
        assert "xoxb-revoked-1" not in reported
        assert len(api.asked) == 1


def zendesk(folder: Path, api: Zendesk, **settings: Any) -> Scrape:
    """The help desk, with minutes that are shorter than real ones; into files."""
    user, _, token = api.credential.partition("/token:")
    env = {"ZENDESK_SUBDOMAIN": "acme", "ZENDESK_EMAIL": user, "ZENDESK_TOKEN": token}
    rates = {
        "rate_limits[0].rates": [{"limit": 400, "interval": "1s"}],
        "rate_limits[1].rates": [{"limit": 10, "interval": "1s"}],
        "resources.tickets.endpoint.params.start_time": "${if(incremental.token == null, 1262304000, null)}",
    }
    return Scrape(
        folder,
        "zendesk",
        api,
        "/api/v2",
        env={**env, "DATABASE_URL": "postgresql://127.0.0.1/none"},
        settings={"outputs": JSONL, **rates, **settings},
    )


def test_zendesk_goes_on_from_the_bookmark(tmp_path: Path) -> None:
    """All tickets and comments; the next run sends the last cursor alone, and gets exactly what changed."""
    with Zendesk(max_tickets=7, max_comments=2, minute_s=1.0) as api:
        scrape = zendesk(tmp_path, api)
        scrape.run()
        tickets = scrape.jsonl("out/tickets.jsonl")
        assert sorted(tickets, key=lambda one: one["id"]) == sorted(api.tickets, key=lambda one: one["id"])
        deleted = {one["id"] for one in api.tickets if one["status"] == "deleted"}
        comments = scrape.jsonl("out/comments.jsonl")
        truth = [one for number, kept in api.comments.items() if number not in deleted for one in kept]
        assert sorted(comments, key=lambda one: one["id"]) == truth
        assert (api.twice(), {one.status for one in api.asked}) == ({}, {200})
        api.forget()
        changed, new = api.tickets[3], api.add()
        api.change(changed)
        comment = api.comment(changed["id"])
        scrape.run()
        later = scrape.jsonl("out/tickets.jsonl")[len(tickets) :]
        assert {one["id"]: one for one in later} == {one["id"]: one for one in (changed, new)}
        assert comment in scrape.jsonl("out/comments.jsonl")[len(comments) :]
        export = api.granted("/api/v2/incremental/")
        assert [sorted(dict(one.query)) for one in export] == [["cursor", "per_page"]]


def test_zendesk_killed_and_run_again_keeps_its_bookmark(tmp_path: Path) -> None:
    """The bookmark is kept when the walk has ended, not before: killed in the middle, nothing is left out."""
    with Zendesk(max_tickets=3, max_comments=2, minute_s=1.0, latency_s=0.02) as api:
        scrape = zendesk(tmp_path, api)
        scrape.killed(after_requests=12)
        scrape.run()
        tickets = scrape.jsonl("out/tickets.jsonl")
        assert sorted(one["id"] for one in tickets) == sorted(one["id"] for one in api.tickets)
        deleted = {one["id"] for one in api.tickets if one["status"] == "deleted"}
        truth = sum(len(kept) for number, kept in api.comments.items() if number not in deleted)
        assert len(scrape.jsonl("out/comments.jsonl")) == truth
