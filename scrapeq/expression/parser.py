"""
The parser of expressions: a Pratt parser that turns text into closures.

Operators from loosest to tightest: `or`, `and`, `not`, comparisons and `in`, `+ -`, `* / %`, unary `-`, `.name`,
`[-1]`. Comparisons do not chain. `and`, `or` and `not` return booleans; null, false, 0 and empty values are false.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from scrapeq.errors import ExpressionError
from scrapeq.expression.functions import CALLS, FUNCTIONS, LITERAL_SECOND
from scrapeq.expression.suggest import did_you_mean
from scrapeq.expression.tokens import Token, tokenize
from scrapeq.expression.values import calculate, compare, contains, equal, negative

MAX_DEPTH = 50
MAX_OPERATORS = 200  # evaluating one may take a Python stack frame

Scope = Mapping[str, Any]
Node = Callable[[Scope], Any]

_OR, _AND, _NOT, _COMPARE, _ADD, _MULTIPLY, _UNARY = 10, 20, 30, 40, 50, 60, 70
_BINDING = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "not"), _COMPARE),
    **dict.fromkeys(("+", "-"), _ADD),
    **dict.fromkeys(("*", "/", "%"), _MULTIPLY),
}


class Parser:
    """A parser for one expression; `names` and `paths` collect what the expression reads."""

    def __init__(self, text: str, known_names: Collection[str] | None) -> None:
        self._tokens = tokenize(text)
        self._next = 0
        self._known = known_names
        self._depth = 0
        self._operators = 0
        self.names: set[str] = set()
        self.paths: set[tuple[str, ...]] = set()

    def parse(self) -> Node:
        """Parse the whole text and return one closure. Raises ExpressionError."""
        if self._peek().kind == "end":
            raise ExpressionError("the expression is empty", 0)
        node = self._expression(0)
        rest = self._peek()
        if rest.kind != "end":
            raise self._unexpected(rest)
        return node

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _is(self, symbol: str) -> bool:
        token = self._peek()
        return token.kind in ("symbol", "keyword") and token.value == symbol

    def _expect(self, symbol: str) -> None:
        if not self._is(symbol):
            token = self._peek()
            raise ExpressionError(f"expected '{symbol}', found {token}", token.position)
        self._take()

    def _unexpected(self, token: Token) -> ExpressionError:
        if token.kind == "end":
            return ExpressionError("the expression ends too early", token.position)
        if token.kind == "quoted":
            return ExpressionError(f"unexpected '\"': write text as '{token.value}'", token.position)
        if token.kind == "name" and token.value in ("is", "eq", "equals"):
            return ExpressionError(f"unexpected '{token.value}': use '=='", token.position)
        if token.value in (")", "]"):
            return ExpressionError(f"unexpected {token}: no bracket is open here", token.position)
        return ExpressionError(f"unexpected {token}", token.position)

    def _count_operator(self, position: int) -> None:
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            raise ExpressionError(f"the expression has more than {MAX_OPERATORS} operators", position)

    def _expression(self, binding: int) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested deeper than {MAX_DEPTH}", self._peek().position)
        left = self._prefix()
        while True:
            token = self._peek()
            power = _BINDING.get(token.value, 0) if token.kind in ("symbol", "keyword") else 0
            if power <= binding:
                break
            self._take()
            self._count_operator(token.position)
            operator = token.value
            if operator == "not":
                self._expect("in")
                operator = "not in"
            left = _binary(operator, left, self._expression(power))
            after = self._peek()
            if power == _COMPARE and _BINDING.get(after.value, 0) == _COMPARE and after.kind != "text":
                raise ExpressionError(
                    f"unexpected {after}: comparisons do not chain, use 'and'", after.position
                )
        self._depth -= 1
        return left

    def _prefix(self) -> Node:
        token = self._take()
        if token.kind in ("number", "text"):
            return _constant(token.value)
        if token.kind == "name":
            return self._call(token) if self._is("(") else self._name(token)
        if token.kind == "keyword":
            if token.value in ("true", "false", "null"):
                return _constant({"true": True, "false": False, "null": None}[token.value])
            if token.value == "not":
                self._count_operator(token.position)
                inner = self._expression(_NOT)
                return lambda scope: not inner(scope)
        if token.kind == "symbol":
            if token.value == "(":
                inside = self._expression(0)
                self._expect(")")
                return self._postfix(inside)
            if token.value == "[":
                return self._postfix(_list(self._arguments("]")))
            if token.value == "-":
                self._count_operator(token.position)
                positive = self._expression(_UNARY)
                return lambda scope: negative(positive(scope))
        raise self._unexpected(token)

    def _arguments(self, closing: str) -> list[Node]:
        nodes: list[Node] = []
        while not self._is(closing):
            nodes.append(self._expression(0))
            if not self._is(","):
                break
            self._take()
        self._expect(closing)
        return nodes

    def _name(self, token: Token) -> Node:
        self._check_name(token)
        steps = self._steps()
        keys: list[str] = [token.value]
        for step in steps:
            if not isinstance(step, str):
                break
            keys.append(step)
        self.paths.add(tuple(keys))
        return _lookup(token.value, steps)

    def _check_name(self, token: Token) -> None:
        name = token.value
        if self._known is not None and name not in self._known:
            if name in CALLS:
                raise ExpressionError(f"'{name}' is a function: write {name}(...)", token.position)
            near = did_you_mean(name, [*self._known, "null", "true", "false"])
            if not near and "record" in self._known:
                near = f"record.{name}"
            hint = f" (did you mean '{near}'?)" if near else ""
            known = ", ".join(sorted(self._known))
            raise ExpressionError(f"unknown name '{name}'{hint}", token.position, f"available names: {known}")
        self.names.add(name)

    def _steps(self) -> tuple[str | int, ...]:
        steps: list[str | int] = []
        while True:
            if self._is("."):
                self._take()
                token = self._take()
                if token.kind not in ("name", "keyword", "quoted"):
                    raise ExpressionError(f"expected a name after '.', found {token}", token.position)
                steps.append(token.value)
            elif self._is("["):
                self._take()
                sign = -1 if self._is("-") else 1
                if sign < 0:
                    self._take()
                token = self._take()
                if token.kind == "text":
                    raise ExpressionError(
                        f"unexpected '[': write the key as .\"{token.value}\"", token.position
                    )
                if token.kind != "number" or not isinstance(token.value, int):
                    raise ExpressionError(f"expected a whole number in [ ], found {token}", token.position)
                steps.append(sign * token.value)
                self._expect("]")
            else:
                return tuple(steps)

    def _postfix(self, node: Node) -> Node:
        steps = self._steps()
        return (lambda scope: _follow(node(scope), steps)) if steps else node

    def _call(self, token: Token) -> Node:
        name = token.value
        if name not in CALLS:
            near = did_you_mean(name, CALLS)
            hint = f" (did you mean '{near}'?)" if near else ""
            raise ExpressionError(
                f"unknown function '{name}'{hint}", token.position, f"functions: {', '.join(sorted(CALLS))}"
            )
        self._take()
        arguments = self._arguments_of_call()
        count = len(arguments.nodes)
        if name == "if":
            _check_count(token, count, 2, 3, "2 to 3 arguments")
            return self._postfix(_if(arguments.nodes))
        if name == "header":
            _check_count(token, count, 1, 1, "1 argument")
            self._check_header(token)
            return self._postfix(_header(arguments.nodes[0]))
        if name in LITERAL_SECOND:
            _check_count(token, count, 2, 2, "2 arguments")
            literal = arguments.literals[1]
            if literal is None:
                raise ExpressionError(
                    f"the second argument of {name}() must be a string literal: '...'", token.position
                )
            program = LITERAL_SECOND[name](literal.value, literal.position)
            subject = arguments.nodes[0]
            return self._postfix(lambda scope: program(subject(scope)))
        function = FUNCTIONS[name]
        _check_count(token, count, function.min_arguments, function.max_arguments, function.describe_arity())
        return self._postfix(_apply(function.call, arguments.nodes))

    def _check_header(self, token: Token) -> None:
        if self._known is not None and "header" not in self._known:
            raise ExpressionError("header() is available only where there is a response", token.position)
        self.names.add("header")

    def _arguments_of_call(self) -> _Arguments:
        found = _Arguments()
        while not self._is(")"):
            start = self._next
            found.nodes.append(self._expression(0))
            alone = self._next - start == 1 and self._tokens[start].kind == "text"
            found.literals.append(self._tokens[start] if alone else None)
            if not self._is(","):
                break
            self._take()
        self._expect(")")
        return found


class _Arguments:
    """The arguments of a call; `literals` holds the token of each argument that is a string literal, else None."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.literals: list[Token | None] = []


def _check_count(token: Token, count: int, min_arguments: int, max_arguments: int | None, arity: str) -> None:
    if count < min_arguments or (max_arguments is not None and count > max_arguments):
        raise ExpressionError(f"{token.value}() takes {arity}, not {count}", token.position)


def _constant(value: Any) -> Node:
    return lambda scope: value


def _list(nodes: list[Node]) -> Node:
    return lambda scope: [node(scope) for node in nodes]


def _if(nodes: list[Node]) -> Node:
    condition, then = nodes[0], nodes[1]
    otherwise = nodes[2] if len(nodes) > 2 else _constant(None)
    return lambda scope: then(scope) if condition(scope) else otherwise(scope)


def _header(name: Node) -> Node:
    def node(scope: Scope) -> Any:
        header, requested = scope.get("header"), name(scope)
        return header(requested) if callable(header) and isinstance(requested, str) else None

    return node


def _apply(call: Callable[..., Any], nodes: list[Node]) -> Node:
    if len(nodes) == 1:
        only = nodes[0]
        return lambda scope: call(only(scope))
    return lambda scope: call(*[node(scope) for node in nodes])


def _lookup(name: str, steps: tuple[str | int, ...]) -> Node:
    if not steps:
        return lambda scope: scope.get(name)
    return lambda scope: _follow(scope.get(name), steps)


def _follow(value: Any, steps: tuple[str | int, ...]) -> Any:
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, Mapping):
                return None
            value = value.get(step)
        else:
            if not isinstance(value, list | tuple) or not -len(value) <= step < len(value):
                return None
            value = value[step]
    return value


def _binary(operator: str, left: Node, right: Node) -> Node:
    if operator == "or":
        return lambda scope: bool(left(scope)) or bool(right(scope))
    if operator == "and":
        return lambda scope: bool(left(scope)) and bool(right(scope))
    if operator == "==":
        return lambda scope: equal(left(scope), right(scope))
    if operator == "!=":
        return lambda scope: not equal(left(scope), right(scope))
    if operator == "in":
        return lambda scope: contains(right(scope), left(scope))
    if operator == "not in":
        return lambda scope: not contains(right(scope), left(scope))
    if operator in ("<", "<=", ">", ">="):
        return lambda scope: compare(operator, left(scope), right(scope))
    return lambda scope: calculate(operator, left(scope), right(scope))
