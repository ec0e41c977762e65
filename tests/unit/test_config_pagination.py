"""Loading paginators, decoders and incremental settings, and the messages for invalid ones."""

from __future__ import annotations

import pytest
from config_texts import HEAD, plan, reported

from scrapeq.plan import Decoder, Endpoint, Incremental, Paginator


def endpoint(inner: str) -> Endpoint:
    """Return the endpoint of a file whose only resource has these keys under `endpoint`."""
    found = plan(file_with(inner)).resources[0].endpoint
    assert found is not None
    return found


def file_with(inner: str, more: str = "") -> str:
    """Return a file whose only resource has these keys under `endpoint`."""
    return HEAD + f"resources: [{{name: a, endpoint: {{path: b, {inner}}}{more}}}]\n"


PAGINATORS: list[tuple[str, Paginator]] = [
    ("json_link, next_url_path: links.next", Paginator("json_link", next_url_path="links.next")),
    ("header_link, links_next_key: more", Paginator("header_link", links_next_key="more")),
    ("header_link, fan_out: true", Paginator("header_link", fan_out=True)),
    ("auto, fan_out: true", Paginator("auto", fan_out=True)),
    ("header_link, link_header: Next-Page", Paginator("header_link", link_header="Next-Page")),
    (
        "header_cursor, cursor_key: X-Next, cursor_header: X-After",
        Paginator("header_cursor", cursor_key="X-Next", cursor_header="X-After"),
    ),
    (
        "cursor, cursor_path: next, cursor_body_path: query.after, has_more_path: more",
        Paginator("cursor", cursor_path="next", cursor_body_path="query.after", has_more_path="more"),
    ),
    ("cursor, cursor_path: continue", Paginator("cursor", cursor_path="continue")),
    (
        "offset, limit: 50, offset: 10, offset_param: skip, limit_param: take, total_path: total, fan_out: true",
        Paginator(
            "offset",
            limit=50,
            offset=10,
            offset_param="skip",
            limit_param="take",
            total_path="total",
            fan_out=True,
        ),
    ),
    (
        "page_number, base_page: 0, page_body_path: page, page_path: meta.page, maximum_page: 9, fan_out: true",
        Paginator(
            "page_number",
            base_page=0,
            page_body_path="page",
            page_path="meta.page",
            maximum_page=9,
            fan_out=True,
        ),
    ),
    ("single_page", Paginator()),
    (
        "auto, max_pages: 3, stop_after_empty_page: false",
        Paginator("auto", max_pages=3, stop_after_empty_page=False),
    ),
]


@pytest.mark.parametrize(("text", "expected"), PAGINATORS)
def test_each_paginator_is_read(text: str, expected: Paginator) -> None:
    """Covers all keys of all types, and the shorthand."""
    assert endpoint(f"paginator: {{type: {text}}}").paginator == expected
    if "," not in text:
        assert endpoint(f"paginator: {text}").paginator == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: json_link", "paginator.next_url_path: is missing\n  next_url_path: links.next"),
        (
            "type: header_cursor, cursor_key: X",
            "does not say where to send the cursor\n  cursor_param: cursor",
        ),
        (
            "type: offset, limit_param: n",
            "limit_param needs limit, the number of records per page\n  limit: 100",
        ),
        (
            "type: offset, total_path: n, fan_out: true",
            "fan_out needs limit, the number of records per page",
        ),
        (
            "type: cursor, cursor_path: a, cursor_param: b, cursor_header: c",
            "cursor_param and cursor_header are mutually exclusive",
        ),
        ("type: cursor, cursor_path: a, cursor_body_path: b..c", "is not a dotted path into the body"),
        ("type: offset, limit: 5, fan_out: true", "fan_out needs to know the number of pages"),
        (
            "type: page_number, fan_out: true",
            "fan_out needs to know the number of pages\n  total_path: total, or maximum_page:",
        ),
        (
            "type: cursor, cursor_path: a, fan_out: true",
            "fan_out needs a paginator type with numbered pages\n  type: page_number, offset, header_link or auto",
        ),
        (
            "type: header_link, stop_when: length(recods) < 1",
            "unknown name 'recods' (did you mean 'records'?)",
        ),
        (
            "type: header_link, cursor_key: a",
            "unknown key 'cursor_key'\n  cursor_key belongs to type header_cursor",
        ),
        ("type: ofset", "unknown type 'ofset'\n  did you mean offset?"),
    ],
)
def test_invalid_paginator_is_rejected(text: str, message: str) -> None:
    """Covers keys that are missing, duplicated or of another type."""
    assert message in reported(file_with(f"paginator: {{{text}}}"))


def test_fan_out_and_incremental_are_mutually_exclusive() -> None:
    """The cursor is stored only when the page sequence is complete."""
    keys = "paginator: {type: page_number, total_path: pages, fan_out: true}, incremental: {cursor_path: at}"
    assert (
        "fan_out and incremental are mutually exclusive: incremental requests page by page\n  keep one of them"
        in reported(file_with(keys))
    )


def test_decoders_are_read_or_rejected() -> None:
    """A decoder is a string or a map."""
    assert endpoint("decoder: xml").decoder == Decoder("xml")
    made = endpoint(r'decoder: {type: csv, delimiter: "\t", encoding: latin-1, compression: gzip}').decoder
    assert made == Decoder("csv", "\t", "latin-1", "gzip")
    assert endpoint("decoder: {encoding: cp1252}").decoder == Decoder("auto", encoding="cp1252")
    assert "'html' is not implemented" in reported(file_with("decoder: html"))
    assert "';;' is not one character" in reported(file_with("decoder: {type: csv, delimiter: ;;}"))
    assert "unknown encoding 'utf-9'" in reported(file_with("decoder: {type: csv, encoding: utf-9}"))
    assert "unknown encoding 'hex'" in reported(file_with("decoder: {type: csv, encoding: hex}"))
    assert "unknown compression 'gz'" in reported(file_with("decoder: {type: csv, compression: gz}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "cursor_path: at, initial_value: 2024-01-01, lookback: 10m",
            Incremental("at", "2024-01-01", 600.0),
        ),
        (
            "cursor_path: id, initial_value: 1735689600, step: 1d",
            Incremental("id", 1735689600, step_s=86400.0),
        ),
        ("cursor_path: ts, initial_value: '0'", Incremental("ts", "0")),
        ("cursor_path: ts, initial_value: '${env:NONE:-2020-05-06}'", Incremental("ts", "2020-05-06")),
        ("token_path: after", Incremental(token_path="after")),
    ],
)
def test_incremental_is_read(text: str, expected: Incremental) -> None:
    """Dates keep their spelling; numbers are read as numbers."""
    found = endpoint(f"incremental: {{{text}}}").incremental
    assert found == expected
    assert found is not None and type(found.initial_value) is not bool


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("incremental: {lookback: 1h}", "incremental: has neither cursor_path nor token_path"),
        ("incremental: {token_path: a, lookback: 1h}", "lookback needs cursor_path"),
        (
            "incremental: {cursor_path: a, step: 1d}",
            "step needs initial_value, the start of the first window\n  initial_value: 2024-01-01",
        ),
        (
            "incremental: {cursor_path: a, step: 1d, initial_value: abc}",
            "'abc' is not a time, but step needs one",
        ),
        ("incremental: {cursor_path: a, initial_value: true}", "'true' is not a valid initial value"),
        (
            "params: {since: '${incremental.start_value}'}",
            "params.since: incremental is used, but this resource does not define it\n"
            "  add incremental: under endpoint:",
        ),
        (
            "incremental: {cursor_path: a}, params: {s: '${incremental.start}'}",
            "unknown name 'incremental.start'\n  did you mean start_value?",
        ),
        ("incremental: {cursor_path: a}, params: {s: '${incremental}'}", "incremental itself is not a value"),
        (
            "incremental: {cursor_path: a}, params: {s: '${incremental.token}'}",
            "incremental.token needs token_path",
        ),
        (
            "incremental: {token_path: a}, json: {s: ['${incremental.end_value}']}",
            "json.s[0]: incremental.end_value needs cursor_path",
        ),
    ],
)
def test_invalid_incremental_is_rejected(text: str, message: str) -> None:
    """Covers missing keys, and expressions that read values that do not exist."""
    assert message in reported(file_with(text))


def test_initial_value_may_be_relative_to_now() -> None:
    """It may contain placeholders with seed, parent and now; `step` accepts such a value instead of a date."""
    found = endpoint("incremental: {cursor_path: at, initial_value: '${now - 30d}', step: 1d}").incremental
    assert found is not None and found.initial_value.render({"now": 30 * 86400 + 5}) == 5
    assert "unknown name 'record'" in reported(
        file_with("incremental: {cursor_path: at, initial_value: '${record.x}'}")
    )


def test_stop_when_may_use_incremental_bounds() -> None:
    """For servers without a filter; a resource without `incremental` cannot use them."""
    stop = "paginator: {type: header_link, stop_when: 'records[-1].at < incremental.start_value'}"
    assert endpoint("incremental: {cursor_path: at}, " + stop).paginator.stop_when is not None
    assert "incremental is used, but this resource does not define it" in reported(file_with(stop))


def test_incremental_bounds_are_available_in_every_part_of_a_request() -> None:
    """Covers params, headers and the body."""
    value = "'${incremental.start_value}'"
    made = endpoint(
        f"incremental: {{cursor_path: a}}, params: {{s: {value}}}, headers: {{s: {value}}}, json: [{value}]"
    )
    scope = {"incremental": {"start_value": 7}}
    assert (
        made.json[0].render(scope) == made.params["s"].render(scope) == made.headers["s"].render(scope) == 7
    )
