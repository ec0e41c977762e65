"""Errors in the bodies of successful responses: which are recognized, and which bodies are data."""

from __future__ import annotations

from typing import Any

import pytest
from paged_server import Server

from scrapeq.errors import BrokenBody
from scrapeq.expression import compile_expression as expression
from scrapeq.extract.body_check import check_body
from scrapeq.extract.compiled_resource import compile_resources
from scrapeq.extract.decode import decode
from scrapeq.extract.error_bodies import Records, stated_error, stated_xml_error
from scrapeq.extract.xml_tree import xml_tree
from scrapeq.page import Page
from scrapeq.plan import Decoder, Endpoint, Paginator, Plan, Resource

MESSAGE = {"message": "try again"}


@pytest.mark.parametrize(
    "body",
    [
        {"data": None, "errors": [MESSAGE]},  # GraphQL
        {"data": {"items": None}, "errors": [{**MESSAGE, "path": ["items"]}]},
        {"errors": [{"status": "500", "title": "try again"}]},  # JSON:API
        {"error": {"code": 500, "message": "try again", "details": []}},  # ArcGIS
        {
            "error": {"code": 503, "message": "try again", "errors": [MESSAGE], "status": "UNAVAILABLE"}
        },  # Google
        {"odata.error": {"code": "", "message": {"lang": "en", "value": "try again"}}},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": -32000, "message": "try again"}},
        {"error": {"code": "readonly", "info": "try again", "*": "See"}, "servedby": "mw1"},  # MediaWiki
        {"ok": False, "error": "try again"},  # Slack
        {"error": True, "code": "query.timeout", "message": "try again"},  # Socrata
        {"error": 10, "message": "try again"},  # Last.fm
        {"success": False, "errors": [{"code": 1, **MESSAGE}], "messages": [], "result": None},  # Cloudflare
        {"help": "https://x.test", "success": False, "error": {"__type": "Timeout", **MESSAGE}},  # CKAN
        {"status": "error", "message": "try again"},  # JSend
        {"stat": "fail", "code": 105, "message": "try again"},  # Flickr
        {"fault": {"faultstring": "try again", "detail": {"errorcode": "x"}}},  # Apigee
        {"errors": ["try again"]},
        {"errors": {"base": ["try again"]}},
        {"error": "try again"},
    ],
)
def test_known_errors_are_recognized(body: dict[str, Any]) -> None:
    """Whether the selector leads nowhere, or the body itself would be the record."""
    assert "try again" in stated_error(body, "missing")
    assert "try again" in stated_error(body, "body")


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ({"errors": [], "data": None}, "missing"),
        ({"error": None}, "missing"),
        ({"error": False, "items": []}, "empty"),
        ({"error": "", "errors": {}}, "missing"),
        ({"error": "none"}, "missing"),
        ({"error": 0, "message": "OK"}, "missing"),
        ({"success": True, "status": "ok"}, "missing"),
        ({"success": False, "message": "no results", "items": []}, "empty"),
        ({"id": 17, "status": "error", "error": "disk full"}, "body"),
        ({"name": "a job", "status": "failed"}, "body"),
        ({"errors": [MESSAGE], "name": "a report"}, "body"),
        ([], "missing"),
        ("error", "missing"),
    ],
)
def test_data_and_empty_results_are_not_errors(body: Any, records: Records) -> None:
    """Empty members are not errors, and a record may have a status or an error of its own."""
    assert stated_error(body, records) == ""


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('<OAI-PMH><error code="badArgument">no</error></OAI-PMH>', "badArgument: no"),
        ('<OAI-PMH><error code="noRecordsMatch">none</error></OAI-PMH>', ""),
        ("<OAI-PMH><ListRecords><record/></ListRecords></OAI-PMH>", ""),
        ('<ows:ExceptionReport><ows:Exception exceptionCode="X"><ows:ExceptionText>no</ows:ExceptionText>'
         "</ows:Exception></ows:ExceptionReport>", "no"),
        ("<ServiceExceptionReport><ServiceException>no</ServiceException></ServiceExceptionReport>", "no"),
        ("<s:Envelope><s:Body><s:Fault><faultstring>no</faultstring></s:Fault></s:Body></s:Envelope>", "no"),
        ("<Error><Code>SlowDown</Code><Message>no</Message></Error>", "no"),
        ("<feed><entry><title>error</title></entry></feed>", ""),
    ],
)  # fmt: skip
def test_known_errors_in_xml_are_recognized(document: str, expected: str) -> None:
    """By the root, and in OAI-PMH by the code: an empty list is a success."""
    assert stated_xml_error(xml_tree(document)) == expected


FIRST: dict[str, Any] = {"data": [{"id": 1}, {"id": 2}], "next": "?p=2", "total": 9}


@pytest.mark.parametrize(
    ("paginator", "later", "is_broken"),
    [
        (Paginator("page_number"), {"status": "busy"}, True),
        (Paginator("page_number"), {"data": None}, True),
        (Paginator("page_number"), None, True),
        (Paginator("page_number"), {"data": []}, False),
        (Paginator("page_number", stop_when=expression("body.data == null")), {"data": None}, False),
        (Paginator("page_number", has_more_path="more"), {"data": None, "more": False}, False),
        (Paginator("page_number", total_path="total"), {"data": None, "total": 9}, False),
        (Paginator("json_link", next_url_path="next"), {"status": "busy"}, True),
        (Paginator("json_link", next_url_path="next"), {"next": "?p=3"}, False),
        (Paginator("json_link", next_url_path="next"), {"data": None, "next": None}, False),
        (Paginator("cursor", cursor_path="next"), {}, True),
        (Paginator("auto"), {"status": "busy"}, True),
        (Paginator("auto"), {"total": 9, "next": None}, False),
    ],
)
def test_records_that_vanish_after_the_first_page(paginator: Paginator, later: Any, is_broken: bool) -> None:
    """A later page without the place of the records is broken, unless it says what follows or that it is the last."""
    server = Server(paginator)
    assert server.respond(FIRST).follow_ups
    if is_broken:
        with pytest.raises(BrokenBody, match="on the first page but not on page 2"):
            server.respond(later)
    else:
        assert server.respond(later).items == []


def test_without_a_selector_a_list_must_stay_a_list() -> None:
    """An unknown error after lists is not read as a record."""
    resource = Resource("r", Endpoint(paginator=Paginator("page_number")))
    compiled = compile_resources(Plan("t", "t.yaml", resources=(resource,)))["r"]
    for body, is_broken in ((b'{"message": "busy"}', True), (b"[]", False), (b'{"items": []}', False)):
        page = Page("https://a.test/", 200, (), body)
        value = decode(page, Decoder()).value
        records = compiled.records(value)

        def check(page: Page = page, value: Any = value, records: list[Any] = records) -> None:
            check_body(
                compiled,
                {"v": 1, "resource": "r", "url": page.url, "page": 2, "walk": {"matched": True}},
                page,
                value,
                records,
                is_tree=False,
                states_what_follows=lambda: False,
            )

        if is_broken:
            with pytest.raises(BrokenBody):
                check()
        else:
            check()


def test_a_declared_success_is_not_checked() -> None:
    """What a response action accepts is read as it is."""
    server = Server(Paginator())
    error = {"error": {"code": 500, "message": "x"}}
    with pytest.raises(BrokenBody, match="the response states an error: x"):
        server.respond(error)
    resource = Resource("r", Endpoint(data_selector="data", paginator=Paginator()))
    compiled = compile_resources(Plan("t", "t.yaml", resources=(resource,)))["r"]
    accepted = Page("https://a.test/", 200, (), b"{}", is_accepted=True)
    checked = check_body(
        compiled,
        {"v": 1, "resource": "r", "url": "https://a.test/"},
        accepted,
        error,
        [],
        is_tree=False,
        states_what_follows=lambda: False,
    )
    assert not checked.has_place
