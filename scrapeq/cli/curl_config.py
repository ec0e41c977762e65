"""The request of a curl command as a configuration, its credentials as environment variables."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from scrapeq.cli.curl import FORM_TYPE, CurlRequest
from scrapeq.cli.yaml_text import block, name_of, scalar
from scrapeq.errors import UsageError

_VERSION = re.compile(
    r"api|rest|v\d[\w.]*|\d{4}-\d{2}(?:-\d{2})?", re.IGNORECASE
)  # segments that begin every path
_RESOURCE_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_SECRET_HEADER = re.compile(
    r"auth|token|secret|api[-_]?key|access[-_]?key|password|csrf|xsrf|session", re.IGNORECASE
)
_SECRET_NAME = re.compile(
    r"(?!.*(?:page|next|cont|sync|cursor))(?:.*[-_.])?(?:api[-_]?key|access[-_]?key|app[-_]?key|subscription[-_]?key"
    r"|access[-_]?token|auth[-_]?token|token|secret|password|passwd|pwd|key|auth|signature|sig|appid)",
    re.IGNORECASE,
)
_SECRET_LENGTH = 8  # characters; a `key` or `token` that is shorter is another thing
_SECRET_IN_BODY = re.compile(r".*(?:passw|secret|api[-_]?key|access[-_]?token).*|pwd", re.IGNORECASE)
_PAGE_PARAMS = frozenset(
    {"page", "offset", "start", "skip", "cursor", "after", "page_token", "pagetoken", "from"}
)
_FIRST_PAGE = frozenset({"", "0", "1"})
_OUTER = frozenset({"www", "api", "rest", "app", "data"})  # labels of a host that name nothing
_JSON_TYPES = {"application/json", "text/json"}


@dataclass
class _Credentials:
    """The secrets of a request, each under the name of a variable."""

    stem: str
    exports: list[str] = field(default_factory=list)

    def keep(self, what: str, value: str, where: str) -> str:
        """`${env:…}` in its place."""
        name = stem = f"{self.stem}_{re.sub('[^A-Z0-9]+', '_', what.upper()).strip('_') or 'SECRET'}"
        number = 2
        taken = {line.split("=")[0].removeprefix("export ") for line in self.exports}
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        self.exports.append(f"export {name}=...   # {where}")
        return f"${{env:{name}}}"


def written(asked: CurlRequest, output: str) -> tuple[str, list[str]]:
    """
    The file's text, and the lines that set the variables it names.

    Raises:
        UsageError: the request cannot be said in a file.
    """
    parts = urlsplit(asked.url)
    host = parts.hostname or ""
    stem = _stem(host)
    kept = _Credentials(stem)
    base, path, name = _divided(asked.url)
    params = _pairs(
        [*parse_qsl(parts.query, keep_blank_values=True), *parse_qsl("&".join(asked.query), True)]
    )
    client: dict[str, Any] = {"base_url": _literal(base)}
    endpoint: dict[str, Any] = {"path": _literal(path)} if path else {"url": _literal(base)}
    headers, agent = _headers(asked)
    auth = _auth(asked, headers, params, parts.username, parts.password, kept)
    if agent:
        client["user_agent"] = _literal(agent)
    if headers:
        client["headers"] = _headers_kept(headers, kept)
    if auth:
        client["auth"] = auth
    if asked.max_time.isdecimal():
        client["timeout"] = f"{asked.max_time}s"
    if asked.method != "GET":
        endpoint["method"] = asked.method
    if params:
        endpoint["params"] = _params(params, asked)
    endpoint |= _body(asked)
    endpoint["paginator"] = "auto"
    resource = {"name": name, "endpoint": endpoint}
    return _text(name_of(stem.lower()), client, resource, output, kept.exports), kept.exports


def _text(
    name: str, client: dict[str, Any], resource: dict[str, Any], output: str, exports: Iterable[str]
) -> str:
    file = output if output != "-" else "FILE"
    lines = [f"# scrapeq run {file}", "#"]
    lines += [f"#   {line}" for line in exports]
    lines += ["#"] if exports else []
    lines += [
        f"# scrapeq -c {file} fetch --resource {resource['name']}   shows the first page as it is seen."
    ]
    lines += ["version: 1", f"name: {scalar(name)}", "", *block({"client": client}), ""]
    lines += block({"resources": [resource]})
    lines += [
        "    # primary_key: id           # a record with such a key is written again only when it changed",
        "    # data_selector: data.items  below endpoint says where the records are, if they are not found",
        "",
        "outputs:",
        '  - {type: jsonl, path: "out/${resource}.jsonl"}',
    ]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    return text.replace("${", "$${")


def _stem(host: str) -> str:
    """`ACME` of api.acme.test."""
    labels = [label for label in host.split(".") if label]
    try:
        ipaddress.ip_address(host.strip("[]"))
        labels = []
    except ValueError:
        pass
    named = [label for label in labels[:-1] if label.lower() not in _OUTER] or labels[:1]
    stem = re.sub(r"[^A-Z0-9]+", "_", named[-1].upper()).strip("_") if named else "API"
    return stem if stem[:1].isalpha() else f"API_{stem}".rstrip("_")


def _divided(url: str) -> tuple[str, str, str]:
    """base_url, path below it, and a name for the resource."""
    parts = urlsplit(url)
    address = (parts.netloc.rpartition("@")[2]).lower()
    segments = parts.path.split("/")[1:]
    at = 0
    while at < len(segments) - 1 and _VERSION.fullmatch(segments[at]):
        at += 1
    base = "/".join([f"{parts.scheme}://{address}", *segments[:at]])
    named = [_RESOURCE_NAME.sub("-", unquote(part)).strip("-") for part in segments[at:]]
    words = [word for word in named if word and not word[0].isdigit()]
    return base, "/".join(segments[at:]), words[-1][:64] if words else "items"


def _pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Names and values; a name that is there twice has a list."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found


def _headers(asked: CurlRequest) -> tuple[dict[str, str], str]:
    """The headers by their names, the last of each; and the user agent."""
    by_lower: dict[str, tuple[str, str]] = {}
    for name, value in asked.headers:
        by_lower[name.lower()] = (name, value)
    agent = by_lower.pop("user-agent", ("", ""))[1]
    if by_lower.get("accept", ("", ""))[1] == "*/*":
        del by_lower["accept"]
    if asked.body is not None or asked.method == "GET":
        by_lower.pop("content-type", None)  # of the body: it stands there
    return dict(by_lower.values()), agent


def _auth(
    asked: CurlRequest,
    headers: dict[str, str],
    params: dict[str, Any],
    user: str | None,
    password: str | None,
    kept: _Credentials,
) -> dict[str, Any]:
    """What the request is allowed by; taken out of where it stood."""
    if asked.user is None and user is not None:
        asked.user = f"{unquote(user)}:{unquote(password or '')}"
    authorization = next((name for name in headers if name.lower() == "authorization"), "")
    scheme, _, value = headers.get(authorization, "").partition(" ")
    if asked.bearer or scheme.lower() == "bearer":
        headers.pop(authorization, None)
        where = "what stood behind Authorization: Bearer" if authorization else "the token of --oauth2-bearer"
        return {"type": "bearer", "token": kept.keep("token", asked.bearer or value, where)}
    if asked.user is None and scheme.lower() == "basic":
        try:
            asked.user = base64.b64decode(value.strip(), validate=True).decode()
            del headers[authorization]
        except ValueError:
            asked.user = None
    if asked.user is not None:
        name, _, secret = asked.user.partition(":")
        return {
            "type": "http_basic",
            "username": kept.keep("username", name, "the user's name"),
            "password": kept.keep("password", secret, "the password"),
        }
    for name in [authorization, *headers]:
        if name and name.lower() != "cookie" and _SECRET_HEADER.search(name):
            secret = kept.keep(
                "token" if name == authorization else "api_key", headers.pop(name), f"the header {name}"
            )
            return {"type": "api_key", "name": name, "location": "header", "api_key": secret}
    for name, given in params.items():
        if _is_secret(name, given):
            del params[name]
            secret = kept.keep("api_key", given, f"the parameter {name}")
            return {"type": "api_key", "name": name, "location": "query", "api_key": secret}
    return {}


def _headers_kept(headers: dict[str, str], kept: _Credentials) -> dict[str, str]:
    found = {}
    for name, value in headers.items():
        is_secret = name.lower() == "cookie" or _SECRET_HEADER.search(name)
        found[name] = kept.keep(name, value, f"the header {name}") if is_secret else _literal(value)
    return found


def _is_secret(name: str, value: Any) -> bool:
    named = isinstance(value, str) and bool(_SECRET_NAME.fullmatch(name))
    return named and (len(value) >= _SECRET_LENGTH or bool(_SECRET_IN_BODY.fullmatch(name)))


def _params(params: dict[str, Any], asked: CurlRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in params.items():
        if _is_secret(name, value):
            asked.notes.append(f"the parameter {name} is left out: a credential beside the one under auth")
        else:
            found[name] = [_plain(one) for one in value] if isinstance(value, list) else _plain(value)
        if name.lower() in _PAGE_PARAMS and str(value) not in _FIRST_PAGE:
            asked.notes.append(f"{name}={value} stays in params: the scrape begins there")
    return found


def _plain(text: str) -> Any:
    """A whole number as one; all else as text."""
    return int(text) if len(text) < 16 and text.isdecimal() and str(int(text)) == text else _literal(text)


def _body(asked: CurlRequest) -> dict[str, Any]:
    body = asked.body
    if body is None:
        return {}
    given = asked.header("content-type") or ""
    kind = given.partition(";")[0].strip().lower()
    if kind in _JSON_TYPES or kind.endswith("+json") or body.lstrip()[:1] in ("{", "["):
        try:
            value = orjson.loads(body)
        except ValueError:
            value = None
        if isinstance(value, dict | list):
            more = {} if kind in _JSON_TYPES else {"headers": {"Content-Type": _literal(given)}}
            return {**more, "json": _in_body(value, asked)}
    if kind == FORM_TYPE:
        pairs = parse_qsl(body, keep_blank_values=True)
        if pairs and all("=" in piece for piece in body.split("&")) and body[:1] not in "{[<":
            return {"data": _in_body(_pairs(pairs), asked)}
    if "\0" in body:
        raise UsageError("--curl: the body holds bytes that are no text")
    return {"headers": {"Content-Type": _literal(given)}, "data": _literal(body)}


def _in_body(value: Any, asked: CurlRequest) -> Any:
    """A part of a body; what is a credential by its name is left out, since tasks are kept in the store."""
    if isinstance(value, dict):
        kept = {}
        for name, member in value.items():
            if _SECRET_IN_BODY.fullmatch(name) and isinstance(member, str) and member:
                asked.notes.append(
                    f"{name} is left out of the body: it would be kept in the store; a login is "
                    "client: {auth: {type: session, …}}"
                )
            else:
                kept[name] = _in_body(member, asked)
        return kept
    if isinstance(value, list):
        return [_in_body(member, asked) for member in value]
    return _literal(value) if isinstance(value, str) else value
