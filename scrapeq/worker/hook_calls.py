"""The functions that a plan names: found, checked, called. Whatever they raise gets their name, file and line."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import structlog

from scrapeq.config import reader
from scrapeq.errors import HookError, Problem, ScrapeqError, UsageError
from scrapeq.expression import did_you_mean
from scrapeq.hooks import FollowUp, NewItem, NewRequest
from scrapeq.plan import Plan, Resource

T = TypeVar("T")
log = structlog.get_logger("scrapeq.hooks")

KEYS = ("handler", "on_page", "on_item")
TAKES = {"handler": "(page, context)", "on_page": "(page, context)", "on_item": "(record, context)"}
ANSWER_S = 600.0  # without a result an async hook is given up
FORM = "package.module:function"
_RESULTS = (Mapping, NewItem, FollowUp, NewRequest)


@dataclass(slots=True)
class Hook:
    """
    One function of a plan, under its key; `reference` as written.

    `held_s`: the longest that it held up the event loop so far.
    """

    key: str
    reference: str
    function: Callable[..., Any] = field(repr=False)
    held_s: float = 0.0

    @property
    def name(self) -> str:
        """`handler blog:posts`."""
        return f"{self.key} {self.reference}"

    @contextmanager
    def named(self, **facts: Any) -> Iterator[None]:
        """What is raised inside becomes a HookError; the traceback goes to the log, with these facts."""
        try:
            yield
        except HookError as error:  # what it gave is wrong, and it has given it already
            raise HookError(f"{self.name}: {error} ({self.begin})") from None
        except (Exception, SystemExit) as error:
            log.error("a hook failed", hook=self.name, exc_info=error, **facts)
            said = (str(error).splitlines() or [""])[0]
            kind = type(error).__name__
            reported = said if isinstance(error, ScrapeqError) else f"{kind}: {said}" if said else kind
            raise HookError(f"{self.name}: {reported} ({self.place_of(error)})") from None

    async def call(self, *given: Any, **facts: Any) -> Any:
        """What the function returns, awaited where that is asked for. Raises HookError."""
        with self.named(**facts):
            found = self._held(self.function, *given)
            if inspect.isawaitable(found):
                async with self._answering():
                    found = await found
            return found

    def _held(self, function: Callable[..., T], *given: Any) -> T:
        """What a function returns that nothing else can run beside."""
        began_s = time.monotonic()
        try:
            return function(*given)
        finally:
            self.held_s = max(self.held_s, time.monotonic() - began_s)

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """One wait for a hook; a task that nobody ends would hold its slot for ever."""
        try:
            async with asyncio.timeout(ANSWER_S) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise HookError(f"no result for {ANSWER_S:g} s") from None

    async def results(self, *given: Any, **facts: Any) -> AsyncIterator[Any]:
        """What a handler gives, one after the other. Raises HookError."""
        found = await self.call(*given, **facts)
        if found is None:
            return
        if isinstance(found, _RESULTS):
            yield found
        elif isinstance(found, AsyncIterable):
            rest = aiter(found)
            try:
                while True:
                    with self.named(**facts):
                        try:
                            async with self._answering():
                                one = await anext(rest)
                        except StopAsyncIteration:
                            return
                    yield one
            finally:
                close = getattr(rest, "aclose", None)
                if close is not None:
                    await close()
        elif isinstance(found, Iterable) and not isinstance(found, str | bytes):
            each = iter(found)
            while True:
                with self.named(**facts):
                    try:
                        one = self._held(next, each)
                    except StopIteration:
                        return
                yield one
        else:
            raise HookError(f"{self.name}: gave a {type(found).__name__}, no records ({self.begin})")

    @property
    def begin(self) -> str:
        """`blog.py:12`: where the function begins."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{_near(code.co_filename)}:{code.co_firstlineno}" if code else "no line of Python is known"

    def place_of(self, error: BaseException) -> str:
        """`blog.py:17`: the last line of the hook's own files that the error went through."""
        home = os.path.dirname(inspect.getsourcefile(inspect.unwrap(self.function)) or "")
        return _place(error.__traceback__, home) or "no line of Python is known"


def _place(traceback: TracebackType | None, home: str) -> str:
    last = own = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        last = f"{_near(code.co_filename)}:{traceback.tb_lineno}"
        if home and os.path.dirname(code.co_filename) == home:
            own = last
        traceback = traceback.tb_next
    return own or last


def _near(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def hooks_of(plan: Plan) -> dict[str, dict[str, Hook]]:
    """
    The hooks of each resource that has any, by their key.

    Raises:
        UsageError: one cannot be found, or its signature does not fit.
    """
    found: dict[str, dict[str, Hook]] = {}
    for resource in plan.resources:
        hooks = {key: _load(plan, resource, key) for key in KEYS if getattr(resource, key)}
        if hooks:
            found[resource.name] = hooks
    return found


def check_hooks(plan: Plan) -> list[Problem]:
    """What is wrong with the hooks of a plan, each with its place in the file. Imports their modules."""
    problems = []
    root = None
    for at, resource in enumerate(plan.resources):
        for key in KEYS:
            if not getattr(resource, key):
                continue
            try:
                _load(plan, resource, key)
            except UsageError as error:
                root = root or reader.read(plan.source, plan.file)
                message, _, hint = str(error).partition("\n")
                line, col = _where(root, at, key)
                problems.append(Problem(plan.file, line, col, f"resources[{at}].{key}", message, hint))
    return problems


def _where(root: Any, at: int, key: str) -> tuple[int, int]:
    """Where a resource's key is written, or the default that stands for it."""
    resources, defaults = root.get("resources"), root.get("resource_defaults")
    own = resources.items[at] if resources is not None and at < len(resources.items) else None
    for owner in (own, defaults):
        node = owner.get(key) if owner is not None and owner.kind == "map" else None
        if node is not None:
            return node.line, node.col
    return 0, 0


def _load(plan: Plan, resource: Resource, key: str) -> Hook:
    if resource.endpoint is None and key != "on_item":
        raise UsageError(f"{resource.name} has no endpoint, so it has no pages\non_item sees its records")
    reference = str(getattr(resource, key))
    return Hook(key, reference, load_function(reference, key, Path(plan.file).parent if plan.file else None))


def load_function(reference: str, key: str, folder: Path | None = None) -> Callable[..., Any]:
    """
    The function of `package.module:function`, sought beside the YAML file, in this folder, and where Python looks.

    Raises:
        UsageError: there is none, or it cannot be called as a hook of this key; a hint in the second line.
    """
    module_name, colon, path = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *path.split("."))):
        raise UsageError(f"{reference!r} names no function\n{key}: {FORM}")
    module = _import(module_name, folder)
    function: Any = module
    for part in path.split("."):
        if not hasattr(function, part):
            own = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            near = did_you_mean(part, own)
            raise UsageError(f"{module_name} has no {part}" + (f"\ndid you mean {near}?" if near else ""))
        function = getattr(function, part)
    _check_signature(function, reference, key)
    return function  # type: ignore[no-any-return]


def _import(name: str, folder: Path | None) -> Any:
    places = [str(place.resolve()) for place in (folder, Path.cwd()) if place is not None]
    for place in reversed(places):  # in front, as a script's own folder is
        if place not in sys.path:
            sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            beside = f"beside the file ({places[0]})" if folder is not None else "here"
            raise UsageError(f"there is no module {error.name!r}\nit is sought {beside}, in this folder, and where "
                             "Python looks") from None  # fmt: skip
        raise UsageError(f"{name} cannot be imported: {_said(error)}") from None
    except (Exception, SystemExit) as error:  # whatever a foreign module raises when it is imported
        raise UsageError(f"{name} cannot be imported: {_said(error)}") from None


def _said(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.msg} ({_near(error.filename)}:{error.lineno})"
    home = os.path.dirname(__file__)
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and os.path.dirname(file) != home and "importlib" not in file:
            place = f" ({_near(file)}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return f"{type(error).__name__}: {first}{place}"


def _check_signature(function: Any, reference: str, key: str) -> None:
    if not callable(function) or isinstance(function, type):
        raise UsageError(f"{reference} is a {type(function).__name__}, no function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in ones have none
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise UsageError(f"{reference} takes {signature}, and is called with {TAKES[key]}") from None
    if key != "handler" and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        what = "page" if key == "on_page" else "record"
        raise UsageError(f"{reference} is a generator, and gives one {what}\nreturn it, in place of yield")
