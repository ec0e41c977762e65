"""
A stand-in for Stripe's API.

Documented behavior: lists are newest first; `has_more` says whether another page follows; `starting_after` is the id of
the last record, which must exist; at most 100 records a page; an unknown parameter is a 400; the key is the username of
Basic authentication (or a bearer token); `Stripe-Should-Retry` says whether the client should retry.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import ReceivedRequest, Standin, Window, parse_count, reply, unknown_parameters

Record = dict[str, Any]
MAX_LIMIT = 100
PREFIXES = {"charges": "ch", "customers": "cus", "invoices": "in"}
KNOWN = (
    *("limit", "starting_after", "ending_before", "created", "expand[]"),
    *("created[gte]", "created[gt]", "created[lte]", "created[lt]"),
)


class Stripe(Standin):
    """
    Charges, customers and invoices.

    Args:
        key: The valid secret key.
        count: The number of records of each kind, by name.
        max_limit: The maximum page size; a small one makes little data behave like much.
        rate: Requests per second for the whole account.
    """

    def __init__(
        self,
        *,
        key: str = "sk_test_51",
        count: dict[str, int] | None = None,
        max_limit: int = MAX_LIMIT,
        rate: int = 100,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.key, self.max_limit = key, max_limit
        self.records: dict[str, list[Record]] = {name: [] for name in PREFIXES}
        self.broken: set[str] = set()  # resources whose requests fail permanently
        self._window = Window(rate, 1.0)
        for name, number in (count or {"charges": 45, "customers": 20, "invoices": 0}).items():
            for index in range(number):
                self.add(name, minutes_ago=45 * (number - index))

    def add(self, name: str, minutes_ago: float = 0) -> Record:
        """Add a record."""
        number = len(self.records[name])
        created = int((self.newest - timedelta(minutes=minutes_ago)).timestamp())
        record = {"id": f"{PREFIXES[name]}_{number:06d}Ab", "object": name[:-1], "created": created}
        record |= {
            "amount": 100 * number,
            "currency": "eur",
            "livemode": False,
            "metadata": {"n": str(number)},
        }
        record |= {"description": None, "customer": f"cus_{number % 9:06d}Ab"}
        self.records[name].append(record)
        return record

    def respond(self, request: ReceivedRequest) -> web.Response:
        if self._credential(request) != self.key:
            return _error(
                401, "Invalid API Key provided: sk_test_***", "invalid_request_error", should_retry=False
            )
        if not self._window.take():
            return self.refusal(request)
        name = request.path.removeprefix("/v1/")
        if name not in self.records or request.method != "GET":
            return _error(404, f"Unrecognized request URL (GET: {request.path}).", "invalid_request_error")
        if name in self.broken:
            return _error(409, f"{name} cannot be listed now.", "api_error", should_retry=False)
        return self._list(request, name)

    @staticmethod
    def _credential(request: ReceivedRequest) -> str:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind == "Bearer":
            return value
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return ""
        return "" if kind != "Basic" or password else user

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse alternately by a rate limit and a lock, without Retry-After."""
        request.refused = True
        if len(self.requests) % 2:
            return _error(429, "Lock timeout.", "invalid_request_error", "lock_timeout", should_retry=True)
        text = "Request rate limit exceeded."
        return _error(429, text, "invalid_request_error", "rate_limit", should_retry=True)

    def _list(self, request: ReceivedRequest, name: str) -> web.Response:
        unexpected = unknown_parameters(request, KNOWN)
        if unexpected:
            text = f"Received unknown parameter: {unexpected[0]}"
            return _error(400, text, "invalid_request_error", "parameter_unknown", param=unexpected[0])
        limit = parse_count(request.get("limit"), 10)
        if not 1 <= limit <= MAX_LIMIT:
            text = "This value must be between 1 and 100 (inclusive)."
            return _error(400, text, "invalid_request_error", "parameter_invalid_integer", param="limit")
        since = parse_count(request.get("created[gte]"), 0)
        if since < 0:
            text = f"Invalid integer: {request.get('created[gte]')}"
            return _error(
                400, text, "invalid_request_error", "parameter_invalid_integer", param="created[gte]"
            )
        newest_first = sorted(
            self.records[name], key=lambda record: (record["created"], record["id"]), reverse=True
        )
        start = 0
        after = request.get("starting_after")
        if after is not None:
            ids = [record["id"] for record in newest_first]
            if after not in ids:
                text = f"No such {name[:-1]}: '{after}'"
                return _error(400, text, "invalid_request_error", "resource_missing", param="starting_after")
            start = ids.index(after) + 1
        found = [record for record in newest_first[start:] if record["created"] >= since]
        page = found[: min(limit, self.max_limit)]
        more = len(page) < len(found)
        body = {"object": "list", "url": request.path, "has_more": more, "data": page}
        return reply(body, headers={"Request-Id": f"req_{len(self.requests)}"})


def _error(
    status: int, message: str, kind: str, code: str = "", *, should_retry: bool | None = None, param: str = ""
) -> web.Response:
    error = {"message": message, "type": kind, "code": code, "param": param}
    headers = {} if should_retry is None else {"Stripe-Should-Retry": str(should_retry).lower()}
    return reply({"error": {key: value for key, value in error.items() if value}}, status, headers)
