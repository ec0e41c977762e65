"""
A shop of the shape of Shopify's REST Admin API.

Documented: the next page stands in the Link header as a whole URL with `page_info`, beside which only `limit` and
`fields` may be sent; at most 250 a page; a leaky bucket of 40 that loses 2 a second, told as `n/40`; 429 with
Retry-After when it is full; orders are the open ones unless `status` says otherwise.
"""

from __future__ import annotations

import math
import re
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from standins.base import Asked, Standin, from_stamp, link_header, opaque, opened, reply, stamp, whole

Record = dict[str, Any]
MAX_LIMIT = 250
BESIDE_PAGE_INFO = ("page_info", "limit", "fields")


class Shopify(Standin):
    """
    Orders with line items, and products.

    Args:
        token: The access token that is known.
        orders, products: How many there are.
        max_limit: The most records of a page: a smaller one makes small data behave like large.
        bucket, leak: Requests that the bucket holds, and how many it loses a second.
    """

    def __init__(
        self,
        *,
        token: str = "shpat_secret",
        orders: int = 60,
        products: int = 30,
        max_limit: int = MAX_LIMIT,
        bucket: int = 40,
        leak: float = 2.0,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.token, self.max_limit, self.bucket, self.leak = token, max_limit, bucket, leak
        self.fullest = 0.0
        self._level, self._at_s = 0.0, time.monotonic()
        self.records: dict[str, list[Record]] = {"orders": [], "products": []}
        for number in range(orders):
            self.order(minutes_ago=90 * (orders - number))
        for number in range(products):
            at = stamp(self.newest - timedelta(hours=number))
            product = {"id": 7000 + number, "title": f"Product {number}", "updated_at": at, "variants": []}
            self.records["products"].append(product)

    def order(self, minutes_ago: float = 0) -> Record:
        """One more order."""
        number = len(self.records["orders"])
        lines = [
            {
                "id": (5000 + number) * 10 + place,
                "sku": f"SKU-{place}",
                "quantity": place + 1,
                "price": "9.90",
            }
            for place in range(number % 4)
        ]
        at = stamp(self.newest - timedelta(minutes=minutes_ago))
        order = {"id": 5000 + number, "name": f"#{number}", "email": None, "total_price": "19.80"}
        order |= {"updated_at": at, "created_at": at, "closed_at": None if number % 2 else at}
        order["line_items"] = lines
        self.records["orders"].append(order)
        return order

    def touch(self, order: Record, minutes_later: float = 0) -> None:
        """The order changes, now."""
        order["total_price"] = "99.00"
        order["updated_at"] = stamp(self.newest + timedelta(minutes=minutes_later))

    def answer(self, asked: Asked) -> web.Response:
        if asked.headers.get("x-shopify-access-token") != self.token:
            return reply({"errors": "[API] Invalid API key or access token (unrecognized login)"}, 401)
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._at_s) * self.leak)
        self._at_s = now
        if self._level + 1 > self.bucket:
            response = self.refusal(asked)
        else:
            self._level += 1
            response = self._found(asked)
        self.fullest = max(self.fullest, self._level)
        response.headers["X-Shopify-Shop-Api-Call-Limit"] = f"{math.ceil(self._level)}/{self.bucket}"
        return response

    def refusal(self, asked: Asked) -> web.Response:
        """The bucket is full."""
        asked.refused = True
        text = "Exceeded 2 calls per second for api client. Reduce request rates to resume uninterrupted service."
        return reply({"errors": text}, 429, {"Retry-After": "1.0"})

    def _found(self, asked: Asked) -> web.Response:
        one = re.fullmatch(r"/admin/api/\d{4}-\d\d/(orders|products)\.json", asked.path)
        if not one:
            return reply({"errors": "Not Found"}, 404)
        name = one[1]
        size = whole(asked.get("limit"), 50)
        if not 1 <= size <= MAX_LIMIT:
            return reply({"errors": {"limit": "must be between 1 and 250"}}, 400)
        size = min(size, self.max_limit)
        asked_for = dict(asked.query)
        at = None
        if "page_info" in asked_for:
            strange = [key for key in asked_for if key not in BESIDE_PAGE_INFO]
            if strange:
                text = f"{strange[0]} cannot be passed when page_info is present."
                return reply({"errors": {strange[0]: text}}, 400)
            try:
                asked_for, at = opened(asked_for["page_info"])
            except ValueError:
                return reply({"errors": {"page_info": "Invalid value."}}, 400)
        records = self._ordered(name, asked_for)
        keys = [key for key, _ in records]
        start = 0 if at is None else next((i for i, key in enumerate(keys) if list(key) == at), -1) + 1
        response = reply({name: [record for _, record in records[start : start + size]]})
        links = []
        if start > 0:
            links.append(("previous", self._to(asked, size, asked_for, keys[max(0, start - size - 1)])))
        if start + size < len(records):
            links.append(("next", self._to(asked, size, asked_for, keys[start + size - 1])))
        if links:
            response.headers["Link"] = link_header(links)
        return response

    def _ordered(self, name: str, asked_for: dict[str, str]) -> list[tuple[tuple[Any, int], Record]]:
        records = self.records[name]
        if name == "orders" and asked_for.get("status", "open") == "open":
            records = [record for record in records if record["closed_at"] is None]
        if asked_for.get("updated_at_min"):
            since = from_stamp(asked_for["updated_at_min"])
            records = [record for record in records if from_stamp(record["updated_at"]) >= since]
        field, _, direction = asked_for.get("order", "id asc").partition(" ")
        keyed = [((record[field], record["id"]), record) for record in records]
        return sorted(keyed, key=lambda one: one[0], reverse=direction == "desc")

    def _to(self, asked: Asked, size: int, asked_for: dict[str, str], key: tuple[Any, int]) -> str:
        query = {"limit": size, "page_info": opaque([asked_for, list(key)])}
        return f"{self.url}{asked.path}?{urlencode(query)}"
