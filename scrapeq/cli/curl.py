"""A curl command as the request that it sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from scrapeq.cli.shell_words import shell_words
from scrapeq.errors import UsageError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a client sets by itself, or what would make the answer another one.
NOISE = _words(
    "accept-encoding connection content-length host transfer-encoding te priority dnt upgrade-insecure-requests "
    "pragma cache-control if-none-match if-modified-since expect traceparent tracestate "
    "x-request-id keep-alive proxy-connection"
)
FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"

_SHORT = dict(
    pair.split("=")
    for pair in _words(
        "X=request H=header d=data u=user A=user-agent b=cookie e=referer F=form T=upload-file x=proxy m=max-time "
        "o=output c=cookie-jar r=range K=config w=write-out E=cert y=speed-time Y=speed-limit D=dump-header "
        "C=continue-at U=proxy-user z=time-cond t=telnet-option G=get I=head L=location k=insecure "
        "s=silent S=show-error v=verbose i=include f=fail g=globoff N=no-buffer O=remote-name J=remote-header-name "
        "a=append n=netrc q=disable 4=ipv4 6=ipv6 0=http1.0 #=progress-bar"
    )
)
_FLAGS = _words(
    "get head location silent show-error verbose include globoff no-buffer compressed remote-name append "
    "ipv4 ipv6 http1.0 http1.1 http2 http3 progress-bar fail fail-with-body location-trusted no-progress-meter "
    "tcp-nodelay raw remote-header-name ssl-reqd http2-prior-knowledge http3-only path-as-is "
    "parallel basic anyauth tlsv1.2 tlsv1.3 no-keepalive create-dirs disable remote-time fail-early tr-encoding"
)
_NOTED = {
    "insecure": "-k is left out: certificates are always checked",
    "netrc": "-n is left out: write auth: {type: http_basic, …}",
    "proxy": "the proxy is left out",
    "cert": "the client certificate is left out",
    "key": "the client certificate's key is left out",
    "cacert": "--cacert is left out: set SSL_CERT_FILE",
    "proxy-user": "the proxy is left out",
}
# with a value
_UNUSED = _words(
    "output cookie-jar connect-timeout retry retry-delay retry-max-time write-out limit-rate resolve max-redirs "
    "dump-header speed-time speed-limit stderr trace trace-ascii keepalive-time interface dns-servers "
    "ciphers tls-max proto proto-default output-dir proxy-header noproxy connect-to max-filesize "
    "rate create-file-mode time-cond"
)
_REFUSED = {
    "form": "a multipart form cannot be sent",
    "form-string": "a multipart form cannot be sent",
    "upload-file": "a file cannot be sent",
    "config": "options in a file are not read: write them in the command",
    "aws-sigv4": "requests signed for AWS need an auth of your own: docs/reference/extending.md",
    "digest": "digest authentication needs an auth of your own: docs/reference/extending.md",
    "ntlm": "NTLM needs an auth of your own: docs/reference/extending.md",
    "negotiate": "Negotiate needs an auth of your own: docs/reference/extending.md",
    "continue-at": "a part of a file cannot be asked for",
    "telnet-option": "this is no HTTP",
}


@dataclass
class CurlRequest:
    """
    A request as a curl command says it.

    `data`: the body, or the query with -G; `user`: name and password; `bearer`: an OAuth 2 token; `notes`: what was
    left out. `headers` keep their order and spelling; there is no noise in them.
    """

    url: str = ""
    method: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    query: list[str] = field(default_factory=list)
    user: str | None = None
    bearer: str = ""
    max_time: str = ""
    is_json: bool = False
    is_get: bool = False
    is_head: bool = False
    notes: list[str] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """A header by name, any case; the last one counts."""
        found = [value for own, value in self.headers if own.lower() == name.lower()]
        return found[-1] if found else None

    def set_header(self, name: str, value: str) -> None:
        """A header that an option stands for, unless -H says it."""
        if self.header(name) is None:
            self.headers.append((name, value))

    @property
    def body(self) -> str | None:
        """The body; None if there is none."""
        if not self.data or self.is_get:
            return None
        return "".join(self.data) if self.is_json else "&".join(self.data)


def read_curl(command: str) -> CurlRequest:
    """
    The request of a curl command, as a person types it or a browser copies it.

    Raises:
        UsageError: it is none, or says what scrapeq cannot do.
    """
    text = command.strip().removeprefix("$ ").lstrip()
    if "^\n" in text or "^\r\n" in text or '^"' in text:
        raise UsageError("--curl: this was copied for the Windows command line; copy it as cURL (bash)")
    words = shell_words(text)
    if not words or Path(words[0]).name.lower() not in ("curl", "curl.exe"):
        raise UsageError('--curl: this is no curl command: --curl "curl https://api.example.com/items"')
    asked = CurlRequest()
    for name, value in _options(words[1:]):
        _take(asked, name, value)
    _finish(asked)
    return asked


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Options by their long names, with their values; an address is a `url`."""
    rest = iter(words)

    def following(option: str) -> str:
        value = next(rest, None)
        if value is None:
            raise UsageError(f"--curl: {option} has no value")
        return value

    for word in rest:
        if word == "--":
            for address in rest:
                yield "url", address
        elif word.startswith("--"):
            name = word[2:]
            yield name, "" if _is_flag(name, word) else following(word)
        elif word.startswith("-") and word != "-":
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                known = _SHORT.get(letter)
                if known is None:
                    raise UsageError(f"--curl: -{letter} is no option that is known here; leave it out")
                if _is_flag(known, word):
                    yield known, ""
                else:
                    yield known, letters or following(f"-{letter}")
                    letters = ""
        else:
            yield "url", word


def _is_flag(name: str, written: str) -> bool:
    if name in _FLAGS or name in ("insecure", "netrc", "digest", "ntlm", "negotiate"):
        return True
    if name in _TAKEN or name in _UNUSED or name in _NOTED or name in _REFUSED:
        return False
    raise UsageError(f"--curl: {written} is no option that is known here; leave it out")


def _take(asked: CurlRequest, name: str, value: str) -> None:
    if name in _REFUSED:
        raise UsageError(f"--curl: {_REFUSED[name]}")
    if name in _NOTED:
        asked.notes.append(_NOTED[name])
    elif name in _TAKEN:
        _TAKEN[name](asked, value)
    elif name == "get":
        asked.is_get = True
    elif name == "head":
        asked.is_head = True


def _url(asked: CurlRequest, value: str) -> None:
    if asked.url:
        raise UsageError(f"--curl: two addresses, {asked.url} and {value}; one command is one request")
    asked.url = value


def _header(asked: CurlRequest, value: str) -> None:
    if value.startswith("@"):
        raise UsageError("--curl: headers in a file are not read: write them in the command")
    name, colon, text = value.partition(":")
    name, text = name.strip(), text.strip()
    if not colon and value.endswith(";"):
        name = value[:-1].strip()
    elif not colon or not text:
        return  # curl takes the header out
    lower = name.lower()
    if (
        name
        and not name.startswith(":")
        and lower not in NOISE
        and not lower.startswith(("sec-", "x-forwarded-"))
    ):
        asked.headers.append((name, text))


def _data(asked: CurlRequest, value: str) -> None:
    asked.data.append(_file(value[1:]).replace("\r", "").replace("\n", "") if value[:1] == "@" else value)


def _binary(asked: CurlRequest, value: str) -> None:
    asked.data.append(_file(value[1:]) if value[:1] == "@" else value)


def _urlencoded(value: str) -> str:
    """`content`, `=content`, `name=content`, `@file`, `name@file`, as --data-urlencode takes them."""
    name, equals, content = value.partition("=")
    if not equals:
        name, at, path = value.partition("@")
        content = _file(path) if at else value
        name = name if at else ""
    return f"{name}={quote(content, safe='')}" if name else quote(content, safe="")


def _json(asked: CurlRequest, value: str) -> None:
    _binary(asked, value)
    asked.is_json = True


def _cookie(asked: CurlRequest, value: str) -> None:
    if "=" not in value:
        raise UsageError(f"--curl: -b {value}: cookies in a file are not read: write them in the command")
    asked.set_header("Cookie", value)


def _file(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"--curl: {path}: cannot be read: {reason}") from None


def _finish(asked: CurlRequest) -> None:
    if not asked.url:
        raise UsageError("--curl: there is no address in this command")
    if "://" not in asked.url:
        asked.url = f"http://{asked.url}"
    parts = urlsplit(asked.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--curl: {asked.url} is no http(s) address")
    if asked.is_get:
        asked.query += asked.data
    if asked.is_json:
        asked.set_header("Content-Type", JSON_TYPE)
        asked.set_header("Accept", JSON_TYPE)
    elif asked.body is not None:
        asked.set_header("Content-Type", FORM_TYPE)
    implied = "HEAD" if asked.is_head else "POST" if asked.body is not None else "GET"
    asked.method = (asked.method or implied).upper()


def _set(name: str) -> Callable[[CurlRequest, str], None]:
    return lambda asked, value: setattr(asked, name, value)


_TAKEN: dict[str, Callable[[CurlRequest, str], None]] = {
    "url": _url,
    "request": _set("method"),
    "header": _header,
    "data": _data,
    "data-ascii": _data,
    "data-raw": lambda asked, value: asked.data.append(value),
    "data-binary": _binary,
    "data-urlencode": lambda asked, value: asked.data.append(_urlencoded(value)),
    "json": _json,
    "url-query": lambda asked, value: asked.query.append(_urlencoded(value)),
    "user": _set("user"),
    "oauth2-bearer": _set("bearer"),
    "user-agent": lambda asked, value: asked.set_header("User-Agent", value),
    "referer": lambda asked, value: asked.set_header("Referer", value),
    "cookie": _cookie,
    "range": lambda asked, value: asked.set_header("Range", f"bytes={value}"),
    "max-time": _set("max_time"),
}
