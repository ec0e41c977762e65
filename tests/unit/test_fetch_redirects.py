"""Redirects: resolved locations, methods and bodies, and credentials that never leave their origin."""

from __future__ import annotations

import itertools

import httpx
import pytest

from scrapeq import errors
from scrapeq.fetch import Egress, HopClosed
from scrapeq.plan import Auth, Client

SECRET = "s3cr3t-Value"
HOME = "https://api.example"

AUTHS = {
    "Authorization": Auth("bearer", token=SECRET),
    "basic": Auth("http_basic", username="me", password=SECRET),
    "X-Api-Key": Auth("api_key", token=SECRET, name="X-Api-Key"),
    "Cookie": Auth("api_key", token=SECRET, name="session", location="cookie"),
    "query": Auth("api_key", token=SECRET, name="key", location="query"),
    "client header": Auth(),
    "request header": Auth(),
    "Proxy-Authorization": Auth(),
}
TARGETS = [
    f"{scheme}://{host}{port}/next"
    for scheme, host, port in itertools.product(
        ["http", "https"],
        ["api.example", "www.api.example", "example", "other.example", "api.example.evil.example"],
        ["", ":8443"],
    )
]
STATUSES = [301, 302, 303, 307, 308]
MATRIX = list(itertools.product(AUTHS, TARGETS, STATUSES))
BASIC = "bWU6czNjcjN0LVZhbHVl"  # me:s3cr3t-Value


def contains_secret(request: httpx.Request) -> bool:
    """Return whether the URL or a header contains the secret."""
    text = str(request.url) + repr(request.headers.raw)
    return SECRET in text or BASIC in text


@pytest.mark.parametrize("kind", AUTHS)
async def test_credentials_stay_with_their_origin(kind: str) -> None:
    """Scheme x host x port x subdomain x status x location: the secret goes to base_url's origin and nowhere else."""
    headers = {"client header": {"X-Secret": SECRET}, "Proxy-Authorization": {"Proxy-Authorization": SECRET}}
    client = Client(base_url=HOME, auth=AUTHS[kind], headers=headers.get(kind, {}))
    own = [("X-Mine", SECRET), ("Accept-Language", "de")] if kind == "request header" else []
    for _, target, status in (one for one in MATRIX if one[0] == kind):
        sent: list[httpx.Request] = []

        async def respond(
            request: httpx.Request,
            sent: list[httpx.Request] = sent,
            status: int = status,
            target: str = target,
        ) -> httpx.Response:
            sent.append(request)
            if request.url.path == "/next":
                return httpx.Response(200, content=b"ok")
            echoed = f"{target}?key={SECRET}" if kind == "query" else target  # servers echo the query
            return httpx.Response(status, headers={"Location": echoed})

        async with Egress(client, transport=httpx.MockTransport(respond)) as egress:
            page = await egress.send("GET", f"{HOME}/start", headers=own)
        first, last = sent
        assert contains_secret(first)
        assert contains_secret(last) is (target == f"{HOME}/next"), (kind, target, status)
        assert SECRET not in page.url
        if own:
            assert last.headers["accept-language"] == "de"


def test_the_matrix_is_large() -> None:
    """At least 500 combinations are tried."""
    assert len(MATRIX) >= 500


async def test_without_base_url_the_credential_needs_a_named_origin() -> None:
    """It is sent only to the origin of the URL that the user named for it."""
    sent: list[httpx.Request] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    async with Egress(Client(auth=AUTHS["X-Api-Key"]), transport=httpx.MockTransport(respond)) as egress:
        await egress.send("GET", "https://found.example/")
        await egress.send("GET", "https://given.example/", credential_url="https://given.example/")
    assert [contains_secret(one) for one in sent] == [False, True]


METHODS = [
    (
        method,
        status,
        "GET" if (status == 303 and method != "HEAD") or (status < 303 and method == "POST") else method,
    )
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
    for status in STATUSES
]


@pytest.mark.parametrize(("method", "status", "next_method"), METHODS)
async def test_the_status_decides_the_next_method_and_body(
    method: str, status: int, next_method: str
) -> None:
    """If the method becomes GET, the body and its headers are dropped; otherwise both are sent again."""
    body = b"{}" if method in ("POST", "PUT") else None
    sent: list[httpx.Request] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return (
            httpx.Response(status, headers={"Location": "/next"}) if len(sent) == 1 else httpx.Response(200)
        )

    async with Egress(Client(), transport=httpx.MockTransport(respond)) as egress:
        fields = [("Content-Type", "application/json")] if body else []
        page = await egress.send(method, f"{HOME}/a?b=1", headers=fields, body=body)
    assert (sent[1].method, str(sent[1].url)) == (next_method, f"{HOME}/next")
    assert (page.method, page.url, page.requested_url) == (next_method, f"{HOME}/next", f"{HOME}/a?b=1")
    expected_body = body if next_method == method else None
    assert sent[1].content == (expected_body or b"")
    assert ("content-type" in sent[1].headers) is bool(expected_body)


async def chain(*locations: str, start: str = f"{HOME}/0", client: Client | None = None) -> list[str]:
    """Return the requested URLs if each response redirects to the next location."""
    sent: list[str] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        if len(sent) > len(locations):
            return httpx.Response(200)
        return httpx.Response(302, headers=[(b"Location", locations[len(sent) - 1].encode())])

    async with Egress(client or Client(), transport=httpx.MockTransport(respond)) as egress:
        await egress.send("GET", start)
    return sent


@pytest.mark.parametrize(
    ("location", "expected_url"),
    [
        ("/b", f"{HOME}/b"),
        ("b?c=1", f"{HOME}/a/b?c=1"),
        ("?c=1", f"{HOME}/a/0?c=1"),
        ("../b", f"{HOME}/b"),
        ("//other.example/b", "https://other.example/b"),
        ("HTTPS://Other.example/b#part", "https://other.example/b"),
        ("/ü b", f"{HOME}/%C3%BC%20b"),
        (" /b ", f"{HOME}/b"),
        ("https://me:pw@other.example/", "https://other.example/"),
    ],
)
async def test_locations_are_resolved(location: str, expected_url: str) -> None:
    """Relative references, capitals and spaces are treated as in browsers; user information is removed."""
    assert (await chain(location, start=f"{HOME}/a/0"))[1] == expected_url


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://a.example/",
        "javascript:alert(1)",
        "data:,x",
        "http://[x",
        "https://a:b",
    ],
)
async def test_a_redirect_to_another_scheme_is_blocked(location: str) -> None:
    """The error names both URLs, and nothing more is sent."""
    with pytest.raises((errors.Blocked, errors.BadResponse), match="redirects"):
        await chain(location)


async def test_loops_and_long_chains_end() -> None:
    """A loop is detected at its first repetition; a chain ends after ten hops."""
    with pytest.raises(errors.TooManyRedirects, match="loop"):
        await chain("/1", "/2", "/0")
    with pytest.raises(errors.TooManyRedirects, match="more than 10"):
        await chain(*(f"/{n}" for n in range(1, 50)))
    assert len(await chain(*(f"/{n}" for n in range(1, 11)))) == 11


async def test_a_body_is_not_sent_from_https_to_http() -> None:
    """Only a redirect that drops the body may downgrade."""

    async def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers={"Location": "http://api.example/"})

    async with Egress(Client(), transport=httpx.MockTransport(respond)) as egress:
        with pytest.raises(errors.Blocked, match="from https to http"):
            await egress.send("POST", HOME, body=b"secret")


async def test_a_hop_that_may_not_be_followed_raises_hop_closed() -> None:
    """`may_follow` is called for every hop but the first; HopClosed has the request of the hop, without credentials."""
    hops: list[tuple[str, str]] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers={"Location": "https://other.example/b"})

    async def gate(url: str, method: str) -> bool:
        hops.append((url, method))
        return False

    client = Client(base_url=HOME, auth=AUTHS["Authorization"])
    async with Egress(client, transport=httpx.MockTransport(respond)) as egress:
        with pytest.raises(HopClosed) as caught:
            await egress.send(
                "POST",
                f"{HOME}/a",
                headers=[("Accept", "x/y"), ("X-Mine", SECRET)],
                body=b"b",
                may_follow=gate,
            )
    closed = caught.value
    assert hops == [("https://other.example/b", "POST")]
    assert (closed.method, closed.url, closed.headers, closed.body) == (
        "POST", "https://other.example/b", (("Accept", "x/y"),), b"b",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "followed"),
    [("0", True), ("soon", True), ("5", False), ("Tue, 24 Nov 2026 06:02:00 GMT", False)],
)
async def test_a_redirect_with_retry_after_is_not_followed(value: str, followed: bool) -> None:
    """The redirect is returned as the response, so the limits can read its wait."""

    async def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/b":
            return httpx.Response(200)
        return httpx.Response(302, headers={"Location": "/b", "Retry-After": value})

    async with Egress(Client(), transport=httpx.MockTransport(respond)) as egress:
        page = await egress.send("GET", f"{HOME}/a")
    assert page.status == (200 if followed else 302)


@pytest.mark.parametrize("field", [("X-A", "a\r\nX-B: c"), ("X-A\n", "b"), ("X-A", "a\0")])
async def test_header_injection_is_blocked(field: tuple[str, str]) -> None:
    """With a control character in a header, nothing is sent."""
    async with Egress(Client(), transport=httpx.MockTransport(lambda _: httpx.Response(200))) as egress:
        with pytest.raises(errors.Blocked, match="control character"):
            await egress.send("GET", HOME, headers=[field])


async def test_the_defaults_can_be_overridden() -> None:
    """User-Agent and Accept-Encoding are sent once: the request's own, else the client's, else the default."""
    sent: list[httpx.Request] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    client = Client(user_agent="acme/1.0", headers={"accept": "text/html"})
    async with Egress(client, transport=httpx.MockTransport(respond)) as egress:
        await egress.send("GET", HOME)
        await egress.send("GET", HOME, headers=[("ACCEPT", "text/csv")])
    assert sent[0].headers.get_list("user-agent") == ["acme/1.0"]
    assert [one.headers.get_list("accept") for one in sent] == [["text/html"], ["text/csv"]]
    assert sent[0].headers["accept-encoding"] == "gzip, br, zstd"
