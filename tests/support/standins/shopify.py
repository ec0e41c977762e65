"""
A stand-in for Shopify's REST Admin API.

Documented behavior: the Link header has the URL of the next page with `page_info`, which can only be combined with
`limit` and `fields`; at most 250 records a page; a leaky bucket of 40 requests that leaks 2 a second, reported as
`n/40`; 429 with Retry-After when it is full; only open orders are listed unless `status` is set.
"""

from __future__ import annotations

import math
import re
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from standins.base import (
    ReceivedRequest,
    Standin,
    decode_cursor,
    encode_cursor,
    from_stamp,
    link_header,
    parse_count,
    reply,
    stamp,
)

Record = dict[str, Any]
MAX_LIMIT = 250
WITH_PAGE_INFO = ("page_info", "limit", "fields")


class Shopify(Standin):
    """
    Orders with line items, and products.

    Args:
        token: The valid access token.
        orders, products: The number of records.
        max_limit: The maximum page size; a small one makes little data behave like much.
        bucket, leak: The size of the bucket in requests, and how many leak per second.
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
        **options: Any,
    ) -> None:
        super().__init__(**options)
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
        """Add an order."""
        number = len(self.records["orders"])
        lines = [
            {
                "id": (5000 + number) * 10 + index,
                "sku": f"SKU-{index}",
                "quantity": index + 1,
                "price": "9.90",
            }
            for index in range(number % 4)
        ]
        at = stamp(self.newest - timedelta(minutes=minutes_ago))
        order = {"id": 5000 + number, "name": f"#{number}", "email": None, "total_price": "19.80"}
        order |= {"updated_at": at, "created_at": at, "closed_at": None if number % 2 else at}
        order["line_items"] = lines
        self.records["orders"].append(order)
        return order

    def touch(self, order: Record, minutes_later: float = 0) -> None:
        """Change an order."""
        order["total_price"] = "99.00"
        order["updated_at"] = stamp(self.newest + timedelta(minutes=minutes_later))

    def respond(self, request: ReceivedRequest) -> web.Response:
        if request.headers.get("x-shopify-access-token") != self.token:
            return reply({"errors": "[API] Invalid API key or access token (unrecognized login)"}, 401)
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._at_s) * self.leak)
        self._at_s = now
        if self._level + 1 > self.bucket:
            response = self.refusal(request)
        else:
            self._level += 1
            response = self._resource(request)
        self.fullest = max(self.fullest, self._level)
        response.headers["X-Shopify-Shop-Api-Call-Limit"] = f"{math.ceil(self._level)}/{self.bucket}"
        return response

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse because the bucket is full."""
        request.refused = True
        text = "Exceeded 2 calls per second for api client. Reduce request rates to resume uninterrupted service."
        return reply({"errors": text}, 429, {"Retry-After": "1.0"})

    def _resource(self, request: ReceivedRequest) -> web.Response:
        one = re.fullmatch(r"/admin/api/\d{4}-\d\d/(orders|products)\.json", request.path)
        if not one:
            return reply({"errors": "Not Found"}, 404)
        name = one[1]
        size = parse_count(request.get("limit"), 50)
        if not 1 <= size <= MAX_LIMIT:
            return reply({"errors": {"limit": "must be between 1 and 250"}}, 400)
        size = min(size, self.max_limit)
        parameters = dict(request.query)
        at = None
        if "page_info" in parameters:
            unexpected = [key for key in parameters if key not in WITH_PAGE_INFO]
            if unexpected:
                text = f"{unexpected[0]} cannot be passed when page_info is present."
                return reply({"errors": {unexpected[0]: text}}, 400)
            try:
                parameters, at = decode_cursor(parameters["page_info"])
            except ValueError:
                return reply({"errors": {"page_info": "Invalid value."}}, 400)
        records = self._ordered(name, parameters)
        keys = [key for key, _ in records]
        start = 0 if at is None else next((i for i, key in enumerate(keys) if list(key) == at), -1) + 1
        response = reply({name: [record for _, record in records[start : start + size]]})
        links = []
        if start > 0:
            links.append(("previous", self._to(request, size, parameters, keys[max(0, start - size - 1)])))
        if start + size < len(records):
            links.append(("next", self._to(request, size, parameters, keys[start + size - 1])))
        if links:
            response.headers["Link"] = link_header(links)
        return response

    def _ordered(self, name: str, parameters: dict[str, str]) -> list[tuple[tuple[Any, int], Record]]:
        records = self.records[name]
        if name == "orders" and parameters.get("status", "open") == "open":
            records = [record for record in records if record["closed_at"] is None]
        if parameters.get("updated_at_min"):
            since = from_stamp(parameters["updated_at_min"])
            records = [record for record in records if from_stamp(record["updated_at"]) >= since]
        field, _, direction = parameters.get("order", "id asc").partition(" ")
        keyed = [((record[field], record["id"]), record) for record in records]
        return sorted(keyed, key=lambda one: one[0], reverse=direction == "desc")

    def _to(
        self, request: ReceivedRequest, size: int, parameters: dict[str, str], key: tuple[Any, int]
    ) -> str:
        query = {"limit": size, "page_info": encode_cursor([parameters, list(key)])}
        return f"{self.url}{request.path}?{urlencode(query)}"
