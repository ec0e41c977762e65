"""Write the request of a curl command as a configuration file, with its credentials as environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from scrapeq.cli.curl import FORM_TYPE, CurlRequest, variable_of
from scrapeq.cli.yaml_text import block, name_of, scalar
from scrapeq.errors import UsageError

_VERSION = re.compile(
    r"api|rest|v\d[\w.]*|\d{4}-\d{2}(?:-\d{2})?", re.IGNORECASE
)  # path segments of a base URL
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_SECRET_HEADER = re.compile(
    r"auth|token|secret|api[-_]?key|access[-_]?key|password|csrf|xsrf|session|^cookie$", re.IGNORECASE
)
_SECRET_PARAM = re.compile(
    r"(?!.*(?:page|next|cont|sync|cursor))(?:.*[-_.])?(?:api[-_]?key|access[-_]?key|app[-_]?key|subscription[-_]?key"
    r"|access[-_]?token|auth[-_]?token|token|secret|password|passwd|pwd|key|auth|signature|sig|appid)",
    re.IGNORECASE,
)
_SECRET_LENGTH = 8  # characters; a shorter `key` or `token` is an ordinary parameter
_SECRET_IN_BODY = re.compile(r".*(?:passw|secret|api[-_]?key|access[-_]?token).*|pwd", re.IGNORECASE)
_PAGE_PARAMS = {"page", "offset", "start", "skip", "cursor", "after", "page_token", "pagetoken", "from"}
_FIRST_PAGE = {"", "0", "1"}
_GENERIC_LABELS = {"www", "api", "rest", "app", "data"}  # host labels that do not name the API
_JSON_TYPES = {"application/json", "text/json"}
_NAME_LENGTH = 64


@dataclass
class _Secrets:
    """The environment variables that stand for a request's credentials."""

    prefix: str
    exports: list[str] = field(default_factory=list)

    def add(self, suffix: str, source: str, variable: str = "") -> str:
        """
        Return `${env:…}` for a credential.

        Args:
            suffix: The end of the name of a new variable.
            source: Tells the user which value the variable needs.
            variable: The variable that the command uses; empty = none, so a new one is named.
        """
        if variable:
            export = f"export {variable}=...   # {source}"
            if not any(line.startswith(f"export {variable}=") for line in self.exports):
                self.exports.append(export)
            return f"${{env:{variable}}}"
        name = stem = f"{self.prefix}_{re.sub('[^A-Z0-9]+', '_', suffix.upper()).strip('_') or 'SECRET'}"
        number = 2
        taken = {line.split("=")[0].removeprefix("export ") for line in self.exports}
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        self.exports.append(f"export {name}=...   # {source}")
        return f"${{env:{name}}}"


def render_config(request: CurlRequest, output: str) -> tuple[str, list[str]]:
    """
    Return the text of the file, and the shell lines that export the variables it needs.

    Raises:
        UsageError: A configuration cannot express the request.
    """
    parts = urlsplit(request.url)
    prefix = _variable_prefix(parts.hostname or "")
    secrets = _Secrets(prefix)
    base, path, name = _split_url(request.url)
    params = _grouped([*parse_qsl(parts.query, True), *parse_qsl("&".join(request.query), True)])
    client: dict[str, Any] = {"base_url": _literal(base)}
    endpoint: dict[str, Any] = {"path": _literal(path)} if path else {"url": _literal(base)}
    headers, agent = _headers(request)
    auth = _auth(request, headers, params, secrets)
    if agent:
        client["user_agent"] = _literal(agent)
    if headers:
        client["headers"] = {
            name: _secret_header(name, value, secrets) if _SECRET_HEADER.search(name) else _literal(value)
            for name, value in headers.items()
        }
    if auth:
        client["auth"] = auth
    if request.max_time.isdecimal():
        client["timeout"] = f"{request.max_time}s"
    if request.method != "GET":
        endpoint["method"] = request.method
    if params:
        endpoint["params"] = _params(params, request)
    endpoint |= _body(request)
    endpoint["paginator"] = "auto"
    file = output if output != "-" else "FILE"
    lines = [
        f"# Run or resume:  scrapeq run {file}",
        f"# Try one page:   scrapeq -c {file} fetch --resource {name}",
    ]
    if secrets.exports:
        lines += [
            "#",
            "# It needs these environment variables:",
            *(f"#   {line}" for line in secrets.exports),
        ]
    queue = name_of(prefix if output == "-" else Path(output).stem)
    lines += ["version: 1", f"name: {scalar(queue)}", "", *block({"client": client}), ""]
    lines += block({"resources": [{"name": name, "endpoint": endpoint}]})
    lines += [
        "    # primary_key: id           # write a record again only when it changed",
        "    # data_selector: data.items  goes under endpoint, if the records are not detected",
        "",
        "outputs:",
        '  - {type: jsonl, path: "out/${resource}.jsonl"}',
    ]
    return "\n".join(lines) + "\n", secrets.exports


def _secret_header(name: str, value: str, secrets: _Secrets) -> str:
    """Return a header as `${env:…}`; the values of cookies that are shell variables each keep their variable."""
    pairs = [pair.partition("=") for pair in value.split(";")]
    if name.lower() == "cookie" and all(variable_of(pair[2]) for pair in pairs):
        parts = [
            f"{pair[0]}={secrets.add('', f'the cookie {pair[0].strip()}', variable_of(pair[2]))}"
            for pair in pairs
        ]
        return ";".join(parts)
    return secrets.add(name, f"the {name} header", variable_of(value))


def _literal(text: str) -> str:
    return text.replace("${", "$${")


def _variable_prefix(host: str) -> str:
    """Return `ACME` for api.acme.test."""
    is_ip = ":" in host or host.rpartition(".")[2].isdigit()
    labels = [] if is_ip else [label for label in host.split(".") if label]
    named = [label for label in labels[:-1] if label.lower() not in _GENERIC_LABELS] or labels[:1]
    prefix = re.sub(r"[^A-Z0-9]+", "_", named[-1].upper()).strip("_") if named else "API"
    return prefix if prefix[:1].isalpha() else f"API_{prefix}".rstrip("_")


def _split_url(url: str) -> tuple[str, str, str]:
    """Return base_url, the path below it, and a name for the resource."""
    parts = urlsplit(url)
    segments = parts.path.split("/")[1:]
    at = 0
    while at < len(segments) - 1 and _VERSION.fullmatch(segments[at]):
        at += 1
    base = "/".join([f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}", *segments[:at]])
    names = [_NOT_IN_NAME.sub("-", unquote(part)).strip("-") for part in segments[at:]]
    names = [name for name in names if name and not name[0].isdigit()]
    return base, "/".join(segments[at:]), names[-1][:_NAME_LENGTH] if names else "items"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return values by name; a name that occurs more than once has a list."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _headers(request: CurlRequest) -> tuple[dict[str, str], str]:
    """Return the last header of each name, and the user agent."""
    by_lower = {name.lower(): (name, value) for name, value in request.headers}
    agent = by_lower.pop("user-agent", ("", ""))[1]
    if by_lower.get("accept", ("", ""))[1] == "*/*":
        del by_lower["accept"]
    if request.body is not None or request.method == "GET":
        by_lower.pop("content-type", None)  # `_body` writes it beside the body
    return dict(by_lower.values()), agent


def _auth(
    request: CurlRequest, headers: dict[str, str], params: dict[str, Any], secrets: _Secrets
) -> dict[str, Any]:
    """Return the `auth` of the client, and remove the credential from where the request has it."""
    authorization = next((name for name in headers if name.lower() == "authorization"), "")
    scheme = headers.get(authorization, "").partition(" ")[0].lower()
    if request.auth == "bearer" or scheme == "bearer":
        given = headers.pop(authorization, "").partition(" ")[2]
        variable = request.variables.get("token") or variable_of(given)
        return {"type": "bearer", "token": secrets.add("token", "the bearer token", variable)}
    if request.auth == "basic" or scheme == "basic":
        if not request.auth:
            del headers[authorization]
        return {
            "type": "http_basic",
            "username": secrets.add("username", "the user name", request.variables.get("username", "")),
            "password": secrets.add("password", "the password", request.variables.get("password", "")),
        }
    for name in [authorization, *headers]:
        if name and name.lower() != "cookie" and _SECRET_HEADER.search(name):
            variable = variable_of(headers.pop(name))
            suffix = "token" if name == authorization else "api_key"
            secret = secrets.add(suffix, f"the {name} header", variable)
            return {"type": "api_key", "name": name, "location": "header", "api_key": secret}
    for name, value in params.items():
        if _is_secret(name, value):
            del params[name]
            secret = secrets.add("api_key", f"the {name} parameter", variable_of(value))
            return {"type": "api_key", "name": name, "location": "query", "api_key": secret}
    return {}


def _is_secret(name: str, value: Any) -> bool:
    if not isinstance(value, str) or not _SECRET_PARAM.fullmatch(name):
        return False
    return len(value) >= _SECRET_LENGTH or bool(variable_of(value)) or bool(_SECRET_IN_BODY.fullmatch(name))


def _params(params: dict[str, Any], request: CurlRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in params.items():
        if _is_secret(name, value):
            request.notes.append(
                f"the parameter {name} was left out: a second credential, beside the one under auth"
            )
        else:
            found[name] = [_number(one) for one in value] if isinstance(value, list) else _number(value)
        if name.lower() in _PAGE_PARAMS and str(value) not in _FIRST_PAGE:
            request.notes.append(f"{name}={value} stays in params: the scrape starts at that page")
    return found


def _number(text: str) -> Any:
    """Return a whole number as an int, any other text as it is."""
    return int(text) if len(text) < 16 and text.isdecimal() and str(int(text)) == text else _literal(text)


def _body(request: CurlRequest) -> dict[str, Any]:
    body = request.body
    if body is None:
        return {}
    content_type = request.header("content-type") or ""
    kind = content_type.partition(";")[0].strip().lower()
    header = {"headers": {"Content-Type": _literal(content_type)}}
    if kind in _JSON_TYPES or kind.endswith("+json") or body.lstrip()[:1] in ("{", "["):
        try:
            value = orjson.loads(body)
        except ValueError:
            value = None
        if isinstance(value, dict | list):
            return {**({} if kind in _JSON_TYPES else header), "json": _without_secrets(value, request)}
    if kind == FORM_TYPE:
        pairs = parse_qsl(body, keep_blank_values=True)
        if pairs and all("=" in piece for piece in body.split("&")) and body[:1] not in "{[<":
            return {"data": _without_secrets(_grouped(pairs), request)}
    if "\0" in body:
        raise UsageError("--curl: binary bodies are not supported")
    return {**header, "data": _literal(body)}


def _without_secrets(value: Any, request: CurlRequest) -> Any:
    """Return a part of a body without its credentials: tasks, and so their bodies, are stored in the queue."""
    if isinstance(value, list):
        return [_without_secrets(member, request) for member in value]
    if not isinstance(value, dict):
        return _literal(value) if isinstance(value, str) else value
    found = {}
    for name, member in value.items():
        if _SECRET_IN_BODY.fullmatch(name) and isinstance(member, str) and member:
            request.notes.append(
                f"{name} was left out of the body: the queue would store it; for a login write "
                "client: {auth: {type: session, …}}"
            )
        else:
            found[name] = _without_secrets(member, request)
    return found
