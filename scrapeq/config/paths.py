"""Paths into a record or a body: JMESPath, or JSONPath (RFC 9535) if the path starts with `$`."""

from __future__ import annotations

import re

from scrapeq.config.nodes import Node
from scrapeq.config.read_context import ReadContext
from scrapeq.config.shapes import Schema, Shape, scalar

MAX_PATH = 2_000

_SIMPLE = re.compile(
    r'@|(?:[A-Za-z_]\w*|"[^"\\]+")(?:\.(?:[A-Za-z_]\w*|"[^"\\]+")|\[-?\d{1,9}\]|\[\])*', re.ASCII
)
_LOCATION = re.compile(r", line \d+, column \d+$", re.ASCII)
_HYPHENATED = re.compile(r'(?<!["\w-])([A-Za-z_]\w*(?:-\w+)+)(?!["\w-])', re.ASCII)


class Path(Shape):
    """A path; its syntax is checked when the file is read."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        node = scalar(node, field, context, "a path")
        path = node.text
        if len(path) > MAX_PATH:
            context.reject(node, field, f"the path is longer than {MAX_PATH} characters")
        # Most paths are plain names. Importing the libraries only for other paths keeps starts fast.
        if not _SIMPLE.fullmatch(path):
            if path.startswith("$"):
                self._check_jsonpath(path, node, field, context)
            else:
                self._check_jmespath(path, node, field, context)
        return path

    @staticmethod
    def _check_jmespath(path: str, node: Node, field: str, context: ReadContext) -> None:
        import jmespath
        from jmespath.exceptions import JMESPathError, ParseError

        try:
            jmespath.compile(path)
            return
        except ParseError as error:
            message = str(getattr(error, "message", "") or error.msg).splitlines()[0]
            index = error.lex_position or 0
        except (JMESPathError, ValueError, RecursionError) as error:
            message, index = str(error).splitlines()[0], 0
        fixed = _HYPHENATED.sub(r'"\1"', path)
        hint = (
            fixed
            if fixed != path
            else "write a JMESPath such as data.items, or a JSONPath such as $.data.items"
        )
        context.reject(node, field, message, hint, offset=min(index, len(path)))

    @staticmethod
    def _check_jsonpath(path: str, node: Node, field: str, context: ReadContext) -> None:
        import jsonpath_rfc9535

        try:
            jsonpath_rfc9535.compile(path)
        except (jsonpath_rfc9535.JSONPathError, ValueError, RecursionError) as error:
            index = getattr(getattr(error, "token", None), "index", 0)
            message = _LOCATION.sub(
                "", str(error).splitlines()[0]
            )  # the problem has the position in the file
            context.reject(
                node, field, f"not a valid JSONPath: {message}", "$.data.items", offset=min(index, len(path))
            )

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}
