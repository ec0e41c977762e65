"""Example configurations for a leaky bucket, a chat and an incremental export, run by the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api_scrapes import Scrape
from standins.shopify import Shopify
from standins.slack import Slack
from standins.zendesk import Zendesk

JSONL = [{"type": "jsonl", "path": "out/${resource}.jsonl"}]


def shopify(folder: Path, api: Shopify, **settings: Any) -> Scrape:
    """Return the shop's scrape, with a bucket that leaks faster than the real one and file outputs."""
    env = {"SHOP": "acme", "SHOPIFY_TOKEN": api.token, "DATABASE_URL": "postgresql://127.0.0.1/none"}
    rates = [{"limit": api.leak, "interval": "1s", "burst": api.bucket}]
    settings = {"outputs": JSONL, "rate_limits[0].rates": rates, **settings}
    return Scrape(folder, "shopify", api, "/admin/api/2025-01", env=env, settings=settings)


def test_shopify_never_overflows_its_bucket(tmp_path: Path) -> None:
    """Orders, line items and products are complete, next links are used unchanged, and the bucket never overflows."""
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
        assert (api.repeated(), {one.status for one in api.requests}) == ({}, {200})
        assert all(
            set(dict(one.query)) == {"limit", "page_info"} for one in api.requests if one.get("page_info")
        )
        api.clear_log()
        new, old = api.order(minutes_ago=-3), api.records["orders"][7]
        api.touch(old, minutes_later=2)
        scrape.run()
        later = scrape.jsonl("out/orders.jsonl")[len(orders) :]
        assert {one["id"]: one for one in later} == {new["id"]: new, old["id"]: old}
        assert len(api.accepted("/admin/api/2025-01/orders.json")) == 1


def slack(folder: Path, api: Slack, **settings: Any) -> Scrape:
    """Return the chat's scrape, with minutes that are shorter than real ones."""
    rates = {
        "rate_limits[0].rates": [{"limit": 20, "interval": "1s"}],
        "rate_limits[1].rates": [{"limit": 50, "interval": "1s"}],
    }
    return Scrape(
        folder, "slack", api, "/api", env={"SLACK_TOKEN": api.token}, settings={**rates, **settings}
    )


def readable_messages(api: Slack) -> set[tuple[str, str, str]]:
    """Return all messages that the bot can read: `(channel, ts, text)`."""
    rooms = {one["id"] for one in api.channels if one["is_member"]} - api.left
    return {(room, one["ts"], one["text"]) for room in rooms for one in api.messages[room]}


def test_slack_errors_in_200_responses_are_recognized(tmp_path: Path) -> None:
    """
    Channels, messages and replies are each written once.

    A refusal in a 200 is waited for, and a channel that the bot left does not fail the run.
    """
    with Slack(max_limit=7, minute_s=1.0, refuse_every=10) as api:
        api.left.add("C001")
        scrape = slack(tmp_path, api)
        scrape.run()
        assert len(scrape.table("out/slack.db", "channels")) == len(api.channels)
        rows = scrape.table("out/slack.db", "messages")
        found = [(one["_channels_id"], one["ts"], one["text"]) for one in rows]
        assert (len(found), set(found)) == (len(readable_messages(api)), readable_messages(api))
        rows = scrape.table("out/slack.db", "replies")
        replies = {
            (room, one["ts"], thread)
            for (room, thread), messages in api.replies.items()
            for one in messages
            if room in {message[0] for message in readable_messages(api)}
        }
        threads = [(one["channel"], one["ts"], one["thread_ts"]) for one in rows]
        assert (len(threads), set(threads)) == (len(replies), replies)
        assert api.repeated() == {}
        assert {one.headers["authorization"] for one in api.requests} == {f"Bearer {api.token}"}


def test_slack_stores_a_cursor_per_channel(tmp_path: Path) -> None:
    """A second run requests each channel from its own newest message on."""
    with Slack(max_limit=7, minute_s=1.0, messages=9) as api:
        scrape = slack(tmp_path, api)
        scrape.run()
        newest = {room: messages[-1]["ts"] for room, messages in api.messages.items()}
        api.clear_log()
        new = [api.say("C000"), api.say("C000", replies=2)]
        scrape.run()
        sent = {one.get("channel"): one.get("oldest") for one in api.accepted("/api/conversations.history")}
        assert sent == {room: newest[room] for room in ("C000", "C001", "C003", "C004")}
        texts = {one["text"] for one in scrape.table("out/slack.db", "messages")}
        assert {one["text"] for one in new} < texts
        assert len(texts) == len(readable_messages(api))


def test_slack_stops_immediately_on_a_revoked_token(tmp_path: Path) -> None:
    """`action: fail` ends the run with its message and exit code 8; the output does not contain the token."""
    with Slack() as api:
        scrape = slack(tmp_path, api)
        scrape.env["SLACK_TOKEN"] = "xoxb-revoked-1"
        output = scrape.run(code=8)
        assert "the token is refused: invalid_auth" in output
        assert "xoxb-revoked-1" not in output
        assert len(api.requests) == 1


def zendesk(folder: Path, api: Zendesk, **settings: Any) -> Scrape:
    """Return the help desk's scrape, with minutes that are shorter than real ones and file outputs."""
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


def test_zendesk_continues_from_the_stored_cursor(tmp_path: Path) -> None:
    """The first run reads everything; the next one sends only the last cursor and reads exactly the changes."""
    with Zendesk(max_tickets=7, max_comments=2, minute_s=1.0) as api:
        scrape = zendesk(tmp_path, api)
        scrape.run()
        tickets = scrape.jsonl("out/tickets.jsonl")
        assert sorted(tickets, key=lambda one: one["id"]) == sorted(api.tickets, key=lambda one: one["id"])
        deleted = {one["id"] for one in api.tickets if one["status"] == "deleted"}
        comments = scrape.jsonl("out/comments.jsonl")
        expected = [one for number, thread in api.comments.items() if number not in deleted for one in thread]
        assert sorted(comments, key=lambda one: one["id"]) == expected
        assert (api.repeated(), {one.status for one in api.requests}) == ({}, {200})
        api.clear_log()
        changed, new = api.tickets[3], api.add()
        api.change(changed)
        comment = api.comment(changed["id"])
        scrape.run()
        later = scrape.jsonl("out/tickets.jsonl")[len(tickets) :]
        assert {one["id"]: one for one in later} == {one["id"]: one for one in (changed, new)}
        assert comment in scrape.jsonl("out/comments.jsonl")[len(comments) :]
        export = api.accepted("/api/v2/incremental/")
        assert [sorted(dict(one.query)) for one in export] == [["cursor", "per_page"]]


def test_a_killed_zendesk_run_resumes_without_loss(tmp_path: Path) -> None:
    """The cursor is stored only when the pagination has ended, so a killed run does not skip records."""
    with Zendesk(max_tickets=3, max_comments=2, minute_s=1.0, latency_s=0.02) as api:
        scrape = zendesk(tmp_path, api)
        scrape.kill_run(after_requests=12)
        scrape.run()
        tickets = scrape.jsonl("out/tickets.jsonl")
        assert sorted(one["id"] for one in tickets) == sorted(one["id"] for one in api.tickets)
        deleted = {one["id"] for one in api.tickets if one["status"] == "deleted"}
        expected = sum(len(thread) for number, thread in api.comments.items() if number not in deleted)
        assert len(scrape.jsonl("out/comments.jsonl")) == expected
