"""
A chat of the shape of Slack's Web API.

Documented: answers are 200 with `ok: false` and an `error`; an empty `next_cursor` is the end; limits are counted per
method and workspace by the minute; history is newest first, `oldest` leaves the time itself out unless `inclusive`;
a thread's replies come with its first message before them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import Asked, Standin, Window, opaque, opened, reply, whole

Record = dict[str, Any]
MAX_LIMIT = 999
TIERS = {"conversations.list": 20, "conversations.history": 50, "conversations.replies": 50}


class Slack(Standin):
    """
    Channels, their messages, and the replies in threads.

    Args:
        token: The token that is known.
        channels: How many there are; the bot is in two of three.
        messages: How many messages each has.
        max_limit: The most records of a page: a smaller one makes small data behave like large.
        minute_s: What a minute of the tiers lasts.
    """

    def __init__(
        self,
        *,
        token: str = "xoxb-1",
        channels: int = 6,
        messages: int = 25,
        max_limit: int = MAX_LIMIT,
        minute_s: float = 60.0,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.token, self.max_limit = token, max_limit
        self.windows = {name: Window(limit, minute_s) for name, limit in TIERS.items()}
        self.channels: list[Record] = []
        self.messages: dict[str, list[Record]] = {}
        self.replies: dict[tuple[str, str], list[Record]] = {}
        self.left: set[str] = set()  # channels that the bot was put out of since the list was read
        self._stamp = 0
        for place in range(channels):
            number = f"C{place:03d}"
            channel = {
                "id": number,
                "name": f"room-{place}",
                "is_member": place % 3 != 2,
                "is_archived": False,
            }
            self.channels.append(channel | {"is_channel": True, "num_members": place})
            self.messages[number] = []
            for one in range(messages):
                self.say(number, replies=one % 10 // 8 * 3)

    def _ts(self) -> str:
        """A time that is also an id: seconds and six digits; two in one second are not seldom."""
        self._stamp += 1
        at = int((self.newest - timedelta(days=2)).timestamp()) + self._stamp // 2
        return f"{at}.{self._stamp:06d}"

    def say(self, channel: str, replies: int = 0) -> Record:
        """One more message."""
        ts = self._ts()
        message: Record = {"type": "message", "user": "U1", "text": f"said {ts} <@U2> & more", "ts": ts}
        self.messages[channel].append(message)
        if replies:
            message |= {"thread_ts": ts, "reply_count": 0}
            self.replies[channel, ts] = []
            for _ in range(replies):
                self.reply_to(channel, message)
        return message

    def reply_to(self, channel: str, message: Record) -> Record:
        """One more reply in a thread."""
        ts = self._ts()
        said = {"type": "message", "user": "U2", "text": f"reply {ts}", "ts": ts, "thread_ts": message["ts"]}
        self.replies[channel, message["ts"]].append(said)
        message |= {"reply_count": message["reply_count"] + 1, "latest_reply": ts}
        return said

    def answer(self, asked: Asked) -> web.Response:
        method = asked.path.removeprefix("/api/")
        if method not in TIERS:
            return _no("unknown_method")
        credential = asked.headers.get("authorization", "")
        if not credential:
            return _no("not_authed")
        if credential != f"Bearer {self.token}":
            return _no("invalid_auth")
        if not self.windows[method].take():
            return self.refusal(asked)
        size = whole(asked.get("limit"), 100)
        if not 1 <= size <= MAX_LIMIT:
            return _no("invalid_limit")
        if method == "conversations.list":
            records: list[Record] | str = self.channels
        elif method == "conversations.history":
            records = self._history(asked)
        else:
            records = self._thread(asked)
        if isinstance(records, str):
            return _no(records)
        start = 0
        if asked.get("cursor"):
            try:
                start = opened(asked.get("cursor") or "")["next"]
            except (ValueError, KeyError, TypeError):
                return _no("invalid_cursor")
        size = min(size, self.max_limit)
        end = start + size
        more = end < len(records)
        key = "channels" if method == "conversations.list" else "messages"
        body = {"ok": True, key: records[start:end], "has_more": more}
        body["response_metadata"] = {"next_cursor": opaque({"next": end}) if more else ""}
        return reply(body)

    def refusal(self, asked: Asked) -> web.Response:
        """The tier's end: by turns 429, and a 200 that says it in the body; both tell when to come back."""
        asked.refused = True
        window = self.windows.get(asked.path.removeprefix("/api/"))
        status = 429 if len(self.asked) % 2 else 200
        wait_s = int(window.left_s()) + 1 if window and window.remaining() <= 0 else 1
        return reply({"ok": False, "error": "ratelimited"}, status, {"Retry-After": str(wait_s)})

    def _channel_error(self, channel: str | None) -> str:
        known = {one["id"]: one["is_member"] for one in self.channels}
        if channel not in known:
            return "channel_not_found"
        return "" if known[channel] and channel not in self.left else "not_in_channel"

    def _history(self, asked: Asked) -> list[Record] | str:
        channel = asked.get("channel") or ""
        error = self._channel_error(channel)
        if error:
            return error
        oldest = asked.get("oldest") or "0"
        try:
            float(oldest)
        except ValueError:
            return "invalid_ts_oldest"
        inclusive = asked.get("inclusive") in ("1", "true")
        found = [
            one
            for one in self.messages[channel]
            if _order(one["ts"]) > _order(oldest) or (inclusive and _order(one["ts"]) == _order(oldest))
        ]
        return found[::-1]

    def _thread(self, asked: Asked) -> list[Record] | str:
        channel, ts = asked.get("channel") or "", asked.get("ts") or ""
        error = self._channel_error(channel)
        if error:
            return error
        first = next((one for one in self.messages[channel] if one["ts"] == ts), None)
        if first is None:
            return "thread_not_found"
        return [first, *self.replies.get((channel, ts), [])]


def _order(ts: str) -> tuple[int, int]:
    whole_s, _, rest = ts.partition(".")
    return int(whole_s), int((rest or "0").ljust(6, "0")[:6])


def _no(error: str) -> web.Response:
    return reply({"ok": False, "error": error})
