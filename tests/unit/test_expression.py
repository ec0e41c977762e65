"""Expressions and templates: their values, the names they read, and the messages for invalid ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeq.errors import ExpressionError
from scrapeq.expression import as_number, compile_expression, compile_template
from scrapeq.expression.scope import response_scope
from scrapeq.page import Page

DAY_S = 86400
NEW_YEAR_S = 1704067200  # 2024-01-01T00:00:00Z

RECORD = {
    "id": 7,
    "comments": 3,
    "locked": False,
    "updated_at": "2024-01-01T00:00:00Z",
    "x-y": {"z": 1},
    "tags": ["a", "b"],
    "text": "Secondary Rate",
    "price": "12.50",
    "nothing": None,
}
SCOPE: dict[str, Any] = {"record": RECORD, "records": [1, 2], "now": NEW_YEAR_S + DAY_S, "depth": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 % 4 - -1", 4),
        ("-depth", -2),
        ("10 / 4", 2.5),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("7d + 1s", 7 * DAY_S + 1),
        ("record.comments > 0 and not record.locked", True),
        ("record.comments > 5 or record.id == 7", True),
        ('record."x-y".z', 1),
        ("record.tags[-1]", "b"),
        ("record.tags[5]", None),
        ("record.missing.deeper[0].still", None),
        ("record.missing > 1", None),
        ("record.nothing + 1", None),
        ("record.nothing == null", True),
        ("record.id != null", True),
        ("not record.missing", True),
        ("'a' in record.tags", True),
        ("'c' not in record.tags", True),
        ("7 in ['7', '8']", True),
        ("'Rate' in record.text", True),
        ("'it\\'s'", "it's"),
        ("'\\d'", "\\d"),
        ("'1' < '2'", True),
        ("record.price > 12", True),
        ("record.price == 12.5", True),
        ("record.updated_at > now - 2d", True),
        ("now - record.updated_at", DAY_S),
        ("'a' + 'b'", "ab"),
        ("1 / 0", None),
        ("true == 1", False),
        ("record.locked == false", True),
        ("if(record.locked, 1, 2)", 2),
        ("if(record.locked, 1)", None),
        ("default(record.nothing, record.missing, 'x')", "x"),
        ("length(records) < 100", True),
        ("length('abc')", 3),
        ("length(record.nothing)", None),
        ("contains(lower(record.text), 'secondary rate')", True),
        ("starts_with(record.text, 'Sec')", True),
        ("split('a,b', ',')", ["a", "b"]),
        ("join(record.tags, '-')", "a-b"),
        ("join(split('a/b', '/'), '')", "ab"),
        (r"regex('id=42;', '(\d+)')", "42"),
        (r"regex('id=42;', '\d')", "4"),
        (r"regex('none', '\d')", None),
        ("number('12')", 12),
        ("number('12.5x')", None),
        ("format(7, '03d')", "007"),
        ("format(2.5, '.2f')", "2.50"),
        ("format(7, '999999d')", None),
        ("min(3, 1, 2)", 1),
        ("max([3, 1, 2])", 3),
        ("max(1, null)", None),
        ("time('2024-01-01')", NEW_YEAR_S),
        ("time('Mon, 01 Jan 2024 00:00:00 GMT')", NEW_YEAR_S),
        ("date(now, '%Y-%m-%d')", "2024-01-02"),
        ("date('2024-01-01T23:00:00-05:00', '%Y-%m-%d')", "2024-01-02"),
        ("date(0)", "1970-01-01T00:00:00Z"),
        ("date(null, '%Y')", None),
        ("json('[1, {\"a\": 2}]')", [1, {"a": 2}]),
        ("json([1, 2])", "[1,2]"),
        ("json('no')", None),
        ("path(record, 'tags[0]')", "a"),
        ("json('{\"a\": [5]}').a[0]", 5),
        ("9223372036854775807 + 0", 9223372036854775807),
    ],
)
def test_expression_evaluates_to_value(text: str, value: Any) -> None:
    """Covers operators, paths, function calls, null and coercion."""
    found = compile_expression(text).evaluate(SCOPE)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        ("3.5", 3.5),
        (" 3 ", 3.0),
        ("2024-01-01", NEW_YEAR_S),
        ("2024-01-01T00:00:00Z", NEW_YEAR_S),
        ("2024-01-01T01:00:00+01:00", NEW_YEAR_S),
        ("2024-01-01T00:00:00.123456789Z", NEW_YEAR_S + 0.123456),
        ("2024-01", NEW_YEAR_S),
        ("20240101", 20240101.0),
        (True, None),
        (None, None),
        ("nan", None),
        ("inf", None),
        ("1_000", None),
        (float("nan"), None),
        (10**400, None),
        ("yesterday", None),
        ([1], None),
        ("9" * 5000, None),
    ],
)
def test_as_number_reads_numbers_and_times(value: Any, number: float | None) -> None:
    """Numbers, numeric strings and ISO times become finite floats; anything else is null."""
    assert as_number(value) == number


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("a & b", "unexpected '&': use 'and'", 2),
        ("a && b", "unexpected '&&': use 'and'", 2),
        ("a || b", "unexpected '||': use 'or'", 2),
        ("!a", "unexpected '!': use 'not'", 0),
        ("a = 1", "unexpected '=': use '=='", 2),
        ("a === 1", "unexpected '===': use '=='", 2),
        ("recrod.id", "unknown name 'recrod' (did you mean 'record'?)", 0),
        ("lenght(record)", "unknown function 'lenght' (did you mean 'length'?)", 0),
        ("length()", "length() takes 1 argument, not 0", 0),
        ("length", "'length' is a function: write length(...)", 0),
        ('record == "x"', "unexpected '\"': write text as 'x'", 10),
        ("record['x']", "unexpected '[': write the key as .\"x\"", 7),
        ("1 < 2 < 3", "unexpected '<': comparisons do not chain, use 'and'", 6),
        ("record.", "expected a name after '.', found the end", 7),
        ("record +", "the expression ends too early", 8),
        ("", "the expression is empty", 0),
        ("(record", "expected ')', found the end", 7),
        ("record)", "unexpected ')': no bracket is open here", 6),
        ("'x", "this string is never closed: add '", 0),
        ("1M", "months and years have no fixed length; write days", 1),
        ("1x", "unexpected 'x' after a number; units are ms s m h d", 1),
        ("record None", "unexpected 'None'", 7),
        (
            "regex(record, '(')",
            "not a valid regular expression: missing ), unterminated subpattern at position 0",
            14,
        ),
        ("regex(record, record)", "the second argument of regex() must be a string literal: '...'", 0),
        ("header('x')", "header() is available only where there is a response", 0),
        ("(" * 60 + "1" + ")" * 60, "the expression is nested deeper than 50", 50),
        ("1" + "+1" * 300, "the expression has more than 200 operators", 401),
    ],
)
def test_invalid_expression_is_rejected_with_message_and_position(
    text: str, message: str, position: int
) -> None:
    """The message names the remedy; the position is the 0-based index of the mistake."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, {"record", "records", "a", "b"})
    assert caught.value.message == message
    assert caught.value.position == position


def test_names_and_paths_list_what_an_expression_reads() -> None:
    """`names` holds the root names, `header` included; `paths` holds attribute paths up to the first index."""
    expression = compile_expression("parent.a.b + parent.c[0].d and header('x') == seed.\"x-y\"")
    assert expression.names == {"parent", "seed", "header"}
    assert expression.paths == {("parent", "a", "b"), ("parent", "c"), ("seed", "x-y")}


def test_a_long_chain_of_operators_evaluates() -> None:
    """The Python stack is deep enough for the maximum number of operators."""
    assert compile_expression("1" + "+1" * 200).evaluate({}) == 201


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "a",
                ".b",
                "(",
                ")",
                "1h",
                "'x'",
                " and ",
                "[",
                "]",
                "-",
                "not ",
                "in ",
                "if(",
                ",",
                "1",
                "==",
                "%",
                "$",
            ]
        )
    ).map("".join)
)
def test_any_text_compiles_or_raises_expression_error(text: str) -> None:
    """Neither compiling nor evaluating an arbitrary text raises any other exception."""
    try:
        expression = compile_expression(text)
    except ExpressionError as error:
        assert 0 <= error.position <= len(text)
        return
    expression.evaluate({"a": {"b": [1, "x", None]}})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("2024-01-01"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
CALLS_OF_TWO = ["format", "split", "join", "contains", "starts_with", "min", "max", "date", "default"]
CALLS_OF_ONE = ["length", "lower", "number", "time", "date", "json", "raw", "segments", "min", "-", "not "]


@given(VALUES, VALUES)
def test_evaluation_never_raises(x: Any, y: Any) -> None:
    """Every operator and function accepts any two values."""
    scope = {"x": x, "y": y}
    for operator in ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]:
        compile_expression(f"x {operator} y").evaluate(scope)
    for name in CALLS_OF_TWO:
        compile_expression(f"{name}(x, y)").evaluate(scope)
    for name in CALLS_OF_ONE:
        compile_expression(f"{name}(x)").evaluate(scope)
    compile_template("a ${x} ${y}").render(scope)
    compile_template("a/${x}/${y}").render_path(scope)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${record.id}", 7),
        ("${record.nothing}", None),
        ("${record.tags}", ["a", "b"]),
        ("n ${record.id}", "n 7"),
        ("<${record.nothing}>", "<>"),
        ("${2.0}x", "2x"),
        ("${2.5}x", "2.5x"),
        ("${true}x", "truex"),
        ("${record.tags}x", '["a","b"]x'),
        ("$${record.id}", "${record.id}"),
        ("$5 and ${record.id}", "$5 and 7"),
        ("${default(record.nothing, '}')}!", "}!"),
        ("${raw('a/b')}", "a/b"),
    ],
)
def test_a_template_renders(text: str, value: Any) -> None:
    """A lone placeholder keeps its type, null inside text is empty, `$${` is literal."""
    assert compile_template(text).render(SCOPE) == value


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/${x}/b", "a/s%20p%2Fq%3F/b"),
        ("a/${raw(x)}/b", "a/s p/q?/b"),
        ("a/${segments(x)}/b", "a/s%20p/q%3F/b"),
        ("a/${segments(missing)}", None),
        ("a/${segments('b/../c')}", None),
        ("a/${segments('')}", "a/"),
        ("a/${n}", "a/7"),
        ("a/${missing}", None),
        ("a/${raw(missing)}", None),
        ("a/${dots}/b", None),
        ("a/${umlaut}", "a/%C3%BC"),
    ],
)
def test_render_path_encodes_each_value_as_one_segment(text: str, path: str | None) -> None:
    """A slash in a value is percent-encoded; for a null or a dot segment the result is None."""
    scope = {"x": "s p/q?", "n": 7.0, "dots": "..", "umlaut": "ü"}
    assert compile_template(text).render_path(scope) == path


def test_template_error_position_counts_from_the_start_of_the_string() -> None:
    """The position is not relative to the placeholder."""
    with pytest.raises(ExpressionError) as caught:
        compile_template("abc ${seed.x} ${recrod}", {"seed", "record"})
    assert caught.value.position == 16
    with pytest.raises(ExpressionError, match="never closed"):
        compile_template("abc ${seed.x")


def test_text_returned_by_fill_is_never_parsed() -> None:
    """The text is literal even if it looks like a placeholder."""
    template = compile_template(
        "a-${env:X}-${seed.id}", {"seed"}, fill=lambda p: "${boom" if ":" in p.source else None
    )
    assert template.render({"seed": {"id": 1}}) == "a-${boom-1"
    assert template.names == {"seed"}


def test_response_scope_reads_the_page_lazily() -> None:
    """A body that is not JSON is null; without a page every name is null."""
    page = Page("http://a.test/", 200, (("X-Left", "0"),), b'{"ok": false}')
    scope = response_scope(page, retry_after=5, record={"id": 1})
    assert compile_expression("header('x-left') == '0' and body.ok == false and status == 200").evaluate(
        scope
    )
    assert compile_expression("retry_after + record.id").evaluate(scope) == 6
    assert dict(scope)["url"] == "http://a.test/"
    broken = response_scope(Page("http://a.test/", 200, (), b"<html>"))
    assert compile_expression("body.ok == null and contains(text, 'html')").evaluate(broken)
    assert compile_expression("header('x')").evaluate(response_scope(None)) is None
    assert compile_expression("status").evaluate(response_scope(None)) is None


def test_a_body_that_takes_long_to_parse_is_null() -> None:
    """Response actions are evaluated on the event loop, so a decompression bomb must not be parsed there."""
    small = Page("https://a.test", 200, (), b'{"a": [1]}')
    assert response_scope(small)["body"] == {"a": [1]}
    assert response_scope(Page("https://a.test", 200, (), b"[" + b"[]," * 200_000 + b"[]]"))["body"] is None
    assert response_scope(Page("https://a.test", 200, (), b'"' + b"x" * 8_000_000 + b'"'))["body"] is None
