"""
A stand-in for Slack's Web API.

Documented behavior: errors have status 200, `ok: false` and an `error`; an empty `next_cursor` marks the end; limits
count requests per minute, method and workspace; history is newest first; `oldest` excludes its own time unless
`inclusive` is set; the replies of a thread follow its first message.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import ReceivedRequest, Standin, Window, decode_cursor, encode_cursor, parse_count, reply

Record = dict[str, Any]
MAX_LIMIT = 999
TIERS = {"conversations.list": 20, "conversations.history": 50, "conversations.replies": 50}


class Slack(Standin):
    """
    Channels, their messages, and the replies in threads.

    Args:
        token: The valid token.
        channels: The number of channels; the bot is a member of two in three.
        messages: The number of messages in each channel.
        max_limit: The maximum page size; a small one makes little data behave like much.
        minute_s: The length of a minute for the limits, in seconds.
    """

    def __init__(
        self,
        *,
        token: str = "xoxb-1",
        channels: int = 6,
        messages: int = 25,
        max_limit: int = MAX_LIMIT,
        minute_s: float = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.token, self.max_limit = token, max_limit
        self.windows = {name: Window(limit, minute_s) for name, limit in TIERS.items()}
        self.channels: list[Record] = []
        self.messages: dict[str, list[Record]] = {}
        self.replies: dict[tuple[str, str], list[Record]] = {}
        self.left: set[str] = set()  # channels that removed the bot after the list was read
        self._stamp = 0
        for index in range(channels):
            number = f"C{index:03d}"
            channel = {
                "id": number,
                "name": f"room-{index}",
                "is_member": index % 3 != 2,
                "is_archived": False,
            }
            self.channels.append(channel | {"is_channel": True, "num_members": index})
            self.messages[number] = []
            for one in range(messages):
                self.say(number, replies=one % 10 // 8 * 3)

    def _ts(self) -> str:
        """Return a time that is also an id: seconds and six digits; two messages share each second."""
        self._stamp += 1
        at = int((self.newest - timedelta(days=2)).timestamp()) + self._stamp // 2
        return f"{at}.{self._stamp:06d}"

    def say(self, channel: str, replies: int = 0) -> Record:
        """Add a message."""
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
        """Add a reply to a thread."""
        ts = self._ts()
        record = {
            "type": "message",
            "user": "U2",
            "text": f"reply {ts}",
            "ts": ts,
            "thread_ts": message["ts"],
        }
        self.replies[channel, message["ts"]].append(record)
        message |= {"reply_count": message["reply_count"] + 1, "latest_reply": ts}
        return record

    def respond(self, request: ReceivedRequest) -> web.Response:
        method = request.path.removeprefix("/api/")
        if method not in TIERS:
            return _failure("unknown_method")
        credential = request.headers.get("authorization", "")
        if not credential:
            return _failure("not_authed")
        if credential != f"Bearer {self.token}":
            return _failure("invalid_auth")
        if not self.windows[method].take():
            return self.refusal(request)
        size = parse_count(request.get("limit"), 100)
        if not 1 <= size <= MAX_LIMIT:
            return _failure("invalid_limit")
        if method == "conversations.list":
            records: list[Record] | str = self.channels
        elif method == "conversations.history":
            records = self._history(request)
        else:
            records = self._thread(request)
        if isinstance(records, str):
            return _failure(records)
        start = 0
        if request.get("cursor"):
            try:
                start = decode_cursor(request.get("cursor") or "")["next"]
            except (ValueError, KeyError, TypeError):
                return _failure("invalid_cursor")
        size = min(size, self.max_limit)
        end = start + size
        more = end < len(records)
        key = "channels" if method == "conversations.list" else "messages"
        body = {"ok": True, key: records[start:end], "has_more": more}
        body["response_metadata"] = {"next_cursor": encode_cursor({"next": end}) if more else ""}
        return reply(body)

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse alternately with a 429 and a 200 with an error in the body, both with Retry-After."""
        request.refused = True
        window = self.windows.get(request.path.removeprefix("/api/"))
        status = 429 if len(self.requests) % 2 else 200
        wait_s = int(window.left_s()) + 1 if window and window.remaining() <= 0 else 1
        return reply({"ok": False, "error": "ratelimited"}, status, {"Retry-After": str(wait_s)})

    def _channel_error(self, channel: str | None) -> str:
        known = {one["id"]: one["is_member"] for one in self.channels}
        if channel not in known:
            return "channel_not_found"
        return "" if known[channel] and channel not in self.left else "not_in_channel"

    def _history(self, request: ReceivedRequest) -> list[Record] | str:
        channel = request.get("channel") or ""
        error = self._channel_error(channel)
        if error:
            return error
        oldest = request.get("oldest") or "0"
        try:
            float(oldest)
        except ValueError:
            return "invalid_ts_oldest"
        inclusive = request.get("inclusive") in ("1", "true")
        found = [
            one
            for one in self.messages[channel]
            if _order(one["ts"]) > _order(oldest) or (inclusive and _order(one["ts"]) == _order(oldest))
        ]
        return found[::-1]

    def _thread(self, request: ReceivedRequest) -> list[Record] | str:
        channel, ts = request.get("channel") or "", request.get("ts") or ""
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


def _failure(error: str) -> web.Response:
    return reply({"ok": False, "error": error})
