"""
Errors that a server states in the body of a successful response, in the forms that widespread APIs use.

JSON: GraphQL (`errors`), JSON:API, OData, JSON-RPC, Google, ArcGIS, Slack, MediaWiki, Socrata, CKAN (`error`), JSend
(`status: fail`). XML: OAI-PMH (3.6), OGC exception reports, SOAP faults, AWS. A statement counts only where the records
are missing: an empty list of errors, `error: null` or `error: false` beside data is a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from scrapeq.expression import as_text
from scrapeq.extract.known_names import normalize

MESSAGE_LENGTH = 200

_ERROR_NAMES = frozenset({"error", "errors", "odataerror", "fault", "exception", "exceptions"})
_MESSAGE_NAMES = (
    *("message", "errormessage", "msg", "info", "title", "detail", "description", "errordescription"),
    *("reason", "faultstring", "exceptiontext", "text", "value", "code", "errorcode"),
)
_NO_ERROR_TEXTS = frozenset({"", "0", "false", "no", "none", "null", "ok", "success"})
_FLAG_NAMES = frozenset({"success", "succeeded", "ok", "issuccess"})
_STATUS_NAMES = frozenset({"status", "stat", "result", "state"})
_FAILED_STATUSES = frozenset({"error", "errors", "fail", "failed", "failure"})
_ENVELOPE_NAMES = frozenset(  # members beside an error that hold no data
    {
        *(
            "message",
            "msg",
            "code",
            "status",
            "statuscode",
            "statustext",
            "success",
            "ok",
            "type",
            "title",
            "stat",
        ),
        *(
            "detail",
            "details",
            "reason",
            "info",
            "description",
            "errorcode",
            "errormessage",
            "errordescription",
        ),
        *(
            "requestid",
            "traceid",
            "correlationid",
            "timestamp",
            "time",
            "took",
            "path",
            "help",
            "helplink",
            "docs",
        ),
        *("documentationurl", "moreinfo", "instance", "extensions", "jsonrpc", "servedby", "responseheader"),
        *("version", "apiversion", "meta", "context", "state", "docref", "warnings", "errorid", "errorname"),
    }
)
_XML_ERROR_ROOTS = frozenset(
    {"exceptionreport", "serviceexceptionreport", "fault", "error", "errors", "errorresponse", "exception"}
)
_OAI_EMPTY = "noRecordsMatch"  # OAI-PMH 2.0, 3.6: the list is empty, which is not an error for us


Records = Literal["missing", "empty", "body"]
"""What a selector found: nothing; an empty list; or the whole body, which may be a record or an envelope."""


def stated_error(body: Any, records: Records) -> str:
    """
    Return the error that a JSON body without records states, in one line; empty if it states none.

    Beside an empty list, flags such as `success: false` do not count: servers send them for a search without results.
    """
    if not isinstance(body, Mapping):
        return ""
    if records == "empty":
        return _named_error(body)
    statement = _statement(body)
    if records == "body":
        is_rpc = "jsonrpc" in body
        members = ((name, value) for name, value in body.items() if not (is_rpc and name == "id"))
        return statement if all(_is_envelope(name, value) for name, value in members) else ""
    if statement:
        return statement
    inner = (value for value in body.values() if isinstance(value, Mapping))  # {"response": {"error": …}}
    return next((found for found in map(_named_error, inner) if found), "")


def stated_xml_error(tree: Any) -> str:
    """Return the error that an XML document without records states, in one line; empty if it states none."""
    if not isinstance(tree, Mapping) or len(tree) != 1:
        return ""
    ((name, root),) = tree.items()
    name = _local(name)
    if name == "oai-pmh":
        stated = root.get("error") if isinstance(root, Mapping) else None
        errors = [one for one in _as_list(stated) if isinstance(one, Mapping)]
        if is_empty_list(tree):
            return ""
        return "; ".join(f"{one.get('@code', 'error')}: {one.get('#text', '')}" for one in errors)[
            :MESSAGE_LENGTH
        ]
    if name == "envelope" and isinstance(root, Mapping):  # SOAP
        body = next((value for key, value in root.items() if _local(key) == "body"), None)
        return stated_xml_error(body)
    return (_message(root) or name) if name in _XML_ERROR_ROOTS else ""


def is_empty_list(tree: Any) -> bool:
    """Return whether an XML document is OAI-PMH's statement that no records match."""
    root = next(iter(tree.values()), None) if isinstance(tree, Mapping) and len(tree) == 1 else None
    errors = _as_list(root.get("error")) if isinstance(root, Mapping) else []
    return any(isinstance(one, Mapping) and one.get("@code") == _OAI_EMPTY for one in errors)


def error_beside_data(body: Any) -> str:
    """Return the first error of a GraphQL response that has data as well (partial data); empty if it has none."""
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), Mapping):
        return ""
    errors = body.get("errors")
    if not isinstance(errors, list) or not {"data", "errors", "extensions"}.issuperset(body):
        return ""
    messages = [one["message"] for one in errors if isinstance(one, Mapping) and one.get("message")]
    return (as_text(messages[0]) or "")[:MESSAGE_LENGTH] if messages else ""


def _statement(body: Mapping[str, Any]) -> str:
    if named := _named_error(body):
        return named
    for name, value in body.items():
        key = normalize(str(name))
        is_failed = isinstance(value, str) and value.lower() in _FAILED_STATUSES
        if (key in _FLAG_NAMES and (value is False or value == "false")) or (
            key in _STATUS_NAMES and is_failed
        ):
            return _message(body, own=True) or f"{name}: {as_text(value)}"
    return ""


def _named_error(body: Mapping[str, Any]) -> str:
    """Return the error at a member that is called so."""
    for name, value in body.items():
        if normalize(str(name)) not in _ERROR_NAMES or not value:
            continue
        if isinstance(value, str):
            if value.strip().lower() not in _NO_ERROR_TEXTS:
                return (value.strip().splitlines()[0] + _suffix(body))[:MESSAGE_LENGTH]
        elif isinstance(value, Mapping | list):
            if found := _message(value):
                return found
        elif normalize(str(name)) == "error":  # true or a code, with the message beside it
            return _message(body, own=True) or f"{name}: {as_text(value)}"
    return ""


def _suffix(body: Mapping[str, Any]) -> str:
    message = _message(body, own=True)
    return f": {message}" if message else ""


def _message(value: Any, *, own: bool = False) -> str:
    """Return the message of an error; with `own`, only from the texts of the map itself."""
    if isinstance(value, list):
        return next((found for found in map(_message, value) if found), "")
    if not isinstance(value, Mapping):
        return "" if value is None else (as_text(value) or "")[:MESSAGE_LENGTH]
    by_name = {normalize(_local(str(name))): one for name, one in value.items()}
    named = [by_name[name] for name in _MESSAGE_NAMES if by_name.get(name)]
    for one in named:
        if isinstance(one, str) and one.strip():
            return one.strip().splitlines()[0][:MESSAGE_LENGTH]
    if own:
        return ""
    if named:
        return _message(named[0])
    return next((found for found in map(_message, value.values()) if found), "")


def _is_envelope(name: Any, value: Any) -> bool:
    """Return whether a member holds no data: an error, its circumstances, or nothing."""
    key = normalize(str(name))
    if key in _ERROR_NAMES or value in (None, "", False) or value == [] or value == {}:
        return True
    if key in ("data", "result", "results", "response") and isinstance(value, Mapping):
        return all(one is None for one in value.values())
    return key in _ENVELOPE_NAMES or key in _STATUS_NAMES


def _local(name: str) -> str:
    """Return the local part of an XML name, in lower case."""
    return name.rpartition(":")[2].lower()


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
