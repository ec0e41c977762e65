"""Read a curl command, as typed or as a browser copies it, into the request that curl would send."""

from __future__ import annotations

import getopt
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from scrapeq.cli.shell_words import shell_words
from scrapeq.errors import UsageError

FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"


def _words(text: str) -> list[str]:
    return text.split()


# Headers that scrapeq sets itself, and headers that would change the response (conditional and tracing headers).
NOISE = _words(
    "accept-encoding connection content-length host transfer-encoding te priority dnt upgrade-insecure-requests pragma "
    "cache-control if-none-match if-modified-since expect traceparent tracestate x-request-id keep-alive "
    "proxy-connection"
)
NOISE_PREFIXES = ("sec-", "x-forwarded-")

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)

# curl's options, as `name`, or `name:letter` with a short form. Those with a value come second.
_FLAGS = _words(
    "get:G head:I location:L silent:s show-error:S verbose:v include:i fail:f globoff:g no-buffer:N remote-name:O "
    "remote-header-name:J append:a insecure:k netrc:n disable:q ipv4:4 ipv6:6 http1.0:0 progress-bar:# compressed "
    "http1.1 http2 http3 http2-prior-knowledge http3-only fail-with-body location-trusted no-progress-meter raw "
    "tcp-nodelay ssl-reqd path-as-is parallel basic anyauth digest ntlm negotiate tlsv1.2 tlsv1.3 no-keepalive "
    "create-dirs remote-time fail-early tr-encoding"
)
_VALUED = _words(
    "url request:X header:H data:d data-ascii data-raw data-binary data-urlencode json url-query user:u oauth2-bearer "
    "user-agent:A referer:e cookie:b range:r max-time:m form:F form-string upload-file:T config:K aws-sigv4 proxy:x "
    "proxy-user:U cert:E key cacert continue-at:C telnet-option:t output:o cookie-jar:c write-out:w speed-time:y "
    "speed-limit:Y dump-header:D time-cond:z connect-timeout retry retry-delay retry-max-time limit-rate resolve "
    "max-redirs stderr trace trace-ascii keepalive-time interface dns-servers ciphers tls-max proto proto-default "
    "output-dir proxy-header noproxy connect-to max-filesize rate create-file-mode"
)
_NOTES = {
    "insecure": "-k was left out: scrapeq always verifies certificates",
    "netrc": "-n was left out: write auth: {type: http_basic, …}",
    "proxy": "the proxy was left out",
    "cert": "the client certificate was left out",
    "key": "the key of the client certificate was left out",
    "cacert": "--cacert was left out: set SSL_CERT_FILE",
    "proxy-user": "the proxy was left out",
}
_UNSUPPORTED = {
    "form": "multipart forms are not supported",
    "form-string": "multipart forms are not supported",
    "upload-file": "uploads of a file are not supported",
    "config": "option files are not read: write the options in the command",
    "aws-sigv4": "AWS signatures need a custom auth: docs/reference/extending.md",
    "digest": "digest authentication needs a custom auth: docs/reference/extending.md",
    "ntlm": "NTLM needs a custom auth: docs/reference/extending.md",
    "negotiate": "Negotiate needs a custom auth: docs/reference/extending.md",
    "continue-at": "resuming a download is not supported",
    "telnet-option": "only HTTP is supported",
}


@dataclass
class CurlRequest:
    """
    The request that a curl command describes.

    Attributes:
        headers: Names and values in the command's order and spelling, without `NOISE`.
        data: The pieces of the body, or of the query with -G.
        auth: "basic" or "bearer" if an option or the URL has credentials. Their values are not stored.
        variables: The shell variables that such a credential consists of, by `username`, `password` or `token`.
        notes: What was left out, for the user.
    """

    url: str = ""
    method: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    query: list[str] = field(default_factory=list)
    auth: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    max_time: str = ""
    is_json: bool = False
    is_get: bool = False
    is_head: bool = False
    notes: list[str] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return the last header with this name, in any case."""
        found = [value for own, value in self.headers if own.lower() == name.lower()]
        return found[-1] if found else None

    def default_header(self, name: str, value: str) -> None:
        """Add a header that an option implies, unless the command has it."""
        if self.header(name) is None:
            self.headers.append((name, value))

    @property
    def body(self) -> str | None:
        """The body; None if the request has none."""
        if not self.data or self.is_get:
            return None
        return ("" if self.is_json else "&").join(self.data)


def variable_of(text: str) -> str:
    """Return the name of the shell variable that a text consists of (`$TOKEN`, `${TOKEN}`), or an empty string."""
    found = _VARIABLE.fullmatch(text.strip())
    return found[1] or found[2] if found else ""


def read_curl(command: str) -> CurlRequest:
    """
    Return the request that a curl command sends.

    Raises:
        UsageError: The text is not a curl command, or uses an option that scrapeq cannot follow.
    """
    text = command.strip().removeprefix("$ ").lstrip()
    if re.search(r'\^(?:\r?\n|")', text):
        raise UsageError("--curl: the command is quoted for Windows; copy it as cURL (bash)")
    words = shell_words(text)
    if not words or Path(words[0]).name.lower() not in ("curl", "curl.exe"):
        raise UsageError(
            '--curl: not a curl command; for example --curl "curl https://api.example.com/items"'
        )
    request = CurlRequest()
    for name, value in _options(words[1:]):
        _apply(request, name, value)
    _complete(request)
    return request


def _options(words: list[str]) -> list[tuple[str, str]]:
    """Return the options by their long names, with their values; any other word is a `url`."""
    short, long, names = "", [], {}
    for table, colon, equals in ((_FLAGS, "", ""), (_VALUED, ":", "=")):
        for name, _, letter in (option.partition(":") for option in table):
            long.append(name + equals)
            if letter:
                short += letter + colon
                names[f"-{letter}"] = name
    # getopt rather than argparse: like curl, it takes the next word as the value even if that begins with a dash.
    try:
        options, urls = getopt.gnu_getopt(words, short, long)
    except getopt.GetoptError as error:
        hint = "; leave it out" if "not recognized" in error.msg else ""
        raise UsageError(f"--curl: {error.msg}{hint}") from None
    return [(names.get(option, option[2:]), value) for option, value in options] + [
        ("url", url) for url in urls
    ]


def _apply(request: CurlRequest, name: str, value: str) -> None:
    """Change the request as one option says; options that do not concern it are ignored."""
    if name in _UNSUPPORTED:
        raise UsageError(f"--curl: {_UNSUPPORTED[name]}")
    if name in _NOTES:
        request.notes.append(_NOTES[name])
    match name:
        case "url":
            if request.url:
                raise UsageError(
                    f"--curl: two URLs, {request.url} and {value}; give a command with one request"
                )
            request.url = value
        case "request":
            request.method = value
        case "header":
            _add_header(request, value)
        case "data" | "data-ascii":
            request.data.append(re.sub("[\r\n]", "", _read(value[1:])) if value[:1] == "@" else value)
        case "data-raw":
            request.data.append(value)
        case "data-binary" | "json":
            request.data.append(_read(value[1:]) if value[:1] == "@" else value)
            request.is_json = request.is_json or name == "json"
        case "data-urlencode":
            request.data.append(_urlencoded(value))
        case "url-query":
            request.query.append(_urlencoded(value))
        case "user":
            _add_user(request, *value.partition(":")[::2])
        case "oauth2-bearer":
            request.auth = "bearer"
            request.variables = {"token": variable_of(value)}
        case "user-agent":
            request.default_header("User-Agent", value)
        case "referer":
            request.default_header("Referer", value)
        case "cookie":
            if "=" not in value:
                raise UsageError(
                    f"--curl: -b {value}: cookie files are not read; write the cookies in the command"
                )
            request.default_header("Cookie", value)
        case "range":
            request.default_header("Range", f"bytes={value}")
        case "max-time":
            request.max_time = value
        case "get":
            request.is_get = True
        case "head":
            request.is_head = True


def _add_user(request: CurlRequest, user: str, password: str) -> None:
    request.auth = "basic"
    request.variables = {"username": variable_of(user), "password": variable_of(password)}


def _add_header(request: CurlRequest, text: str) -> None:
    if text.startswith("@"):
        raise UsageError("--curl: header files are not read; write the headers in the command")
    name, _, value = (text[:-1] + ":" if ":" not in text and text.endswith(";") else text).partition(":")
    is_empty = not value.strip() and not text.endswith(
        ";"
    )  # `Name:` removes a header, `Name;` sends an empty one
    name = name.strip()
    if name and not is_empty and name.lower() not in NOISE and not name.lower().startswith(NOISE_PREFIXES):
        request.headers.append((name, value.strip()))


def _urlencoded(value: str) -> str:
    """Encode `content`, `=content`, `name=content`, `@file` or `name@file`, as --data-urlencode does."""
    name, equals, content = value.partition("=")
    if not equals:
        name, at, path = value.partition("@")
        name, content = (name, _read(path)) if at else ("", value)
    return (f"{name}=" if name else "") + quote(content, safe="")


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"--curl: {path}: cannot be read: {reason}") from None


def _complete(request: CurlRequest) -> None:
    """Add what the options imply together: scheme, method, content type."""
    if not request.url:
        raise UsageError("--curl: missing URL")
    if "://" not in request.url:
        request.url = f"http://{request.url}"
    parts = urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--curl: {request.url}: not an http(s) URL")
    if parts.username is not None and not request.auth:
        _add_user(request, unquote(parts.username), unquote(parts.password or ""))
    if request.is_get:
        request.query += request.data
    if request.is_json:
        request.default_header("Content-Type", JSON_TYPE)
        request.default_header("Accept", JSON_TYPE)
    elif request.body is not None:
        request.default_header("Content-Type", FORM_TYPE)
    implied = "HEAD" if request.is_head else "POST" if request.body is not None else "GET"
    request.method = (request.method or implied).upper()
