"""Find, check and call the hooks of a plan. Errors of a hook name it, with its file and line."""

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
RESULT_TIMEOUT_S = 600.0  # an async hook without a result for this long fails
FORM = "package.module:function"
_RESULTS = (Mapping, NewItem, FollowUp, NewRequest)


@dataclass(slots=True)
class Hook:
    """
    One hook of a plan.

    Args:
        key: handler, on_page or on_item.
        reference: As written in the file.
        function: The function.
        longest_call_s: The longest time that a call has blocked the event loop, seconds.
    """

    key: str
    reference: str
    function: Callable[..., Any] = field(repr=False)
    longest_call_s: float = 0.0

    @property
    def name(self) -> str:
        """Its name in messages, for example `handler blog:posts`."""
        return f"{self.key} {self.reference}"

    @contextmanager
    def named(self, **facts: Any) -> Iterator[None]:
        """Turn exceptions into a HookError, and write the traceback with these facts to the log."""
        try:
            yield
        except HookError as error:  # a result that cannot be used: the function itself has not failed
            raise HookError(f"{self.name}: {error} ({self.definition})") from None
        except (Exception, SystemExit) as error:
            log.error("a hook failed", hook=self.name, exc_info=error, **facts)
            message = (str(error).splitlines() or [""])[0]
            kind = type(error).__name__
            text = message if isinstance(error, ScrapeqError) else f"{kind}: {message}" if message else kind
            raise HookError(f"{self.name}: {text} ({self.line_of(error)})") from None

    async def call(self, *arguments: Any, **facts: Any) -> Any:
        """Call the function, and return its result, awaited if it is awaitable. Raises HookError."""
        with self.named(**facts):
            found = self._timed(self.function, *arguments)
            if inspect.isawaitable(found):
                async with self._result_timeout():
                    found = await found
            return found

    def _timed(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that blocks the event loop, and measure how long."""
        started_s = time.monotonic()
        try:
            return function(*arguments)
        finally:
            self.longest_call_s = max(self.longest_call_s, time.monotonic() - started_s)

    @asynccontextmanager
    async def _result_timeout(self) -> AsyncIterator[None]:
        """Limit one wait for a hook: a task that never ends would occupy its slot forever."""
        try:
            async with asyncio.timeout(RESULT_TIMEOUT_S) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise HookError(f"no result for {RESULT_TIMEOUT_S:g} s") from None

    async def results(self, *arguments: Any, **facts: Any) -> AsyncIterator[Any]:
        """Yield the results of a handler one by one. Raises HookError."""
        found = await self.call(*arguments, **facts)
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
                            async with self._result_timeout():
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
                        one = self._timed(next, each)
                    except StopIteration:
                        return
                yield one
        else:
            raise HookError(
                f"{self.name}: returned a {type(found).__name__}; expected records ({self.definition})"
            )

    @property
    def definition(self) -> str:
        """Where the function is defined, for example `blog.py:12`."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{_near(code.co_filename)}:{code.co_firstlineno}" if code else "no Python source"

    def line_of(self, error: BaseException) -> str:
        """Return the last line of the hook's own files in a traceback, for example `blog.py:17`."""
        home = os.path.dirname(inspect.getsourcefile(inspect.unwrap(self.function)) or "")
        return _last_line(error.__traceback__, home) or "no Python source"


def _last_line(traceback: TracebackType | None, home: str) -> str:
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
    Return the hooks of each resource that has any, by their key.

    Raises:
        UsageError: a hook cannot be found, or its signature does not fit.
    """
    found: dict[str, dict[str, Hook]] = {}
    for resource in plan.resources:
        hooks = {key: _load(plan, resource, key) for key in KEYS if getattr(resource, key)}
        if hooks:
            found[resource.name] = hooks
    return found


def check_hooks(plan: Plan) -> list[Problem]:
    """Return the problems of a plan's hooks with their positions in the file. Imports their modules."""
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
                line, col = _position(root, at, key)
                problems.append(Problem(plan.file, line, col, f"resources[{at}].{key}", message, hint))
    return problems


def _position(root: Any, at: int, key: str) -> tuple[int, int]:
    """Return line and column of a resource's key, or of its default."""
    resources, defaults = root.get("resources"), root.get("resource_defaults")
    own = resources.items[at] if resources is not None and at < len(resources.items) else None
    for owner in (own, defaults):
        node = owner.get(key) if owner is not None and owner.kind == "map" else None
        if node is not None:
            return node.line, node.col
    return 0, 0


def _load(plan: Plan, resource: Resource, key: str) -> Hook:
    if resource.endpoint is None and key != "on_item":
        raise UsageError(f"{resource.name} has no endpoint and so no pages\nuse on_item for its records")
    reference = str(getattr(resource, key))
    return Hook(key, reference, load_function(reference, key, Path(plan.file).parent if plan.file else None))


def load_function(reference: str, key: str, folder: Path | None = None) -> Callable[..., Any]:
    """
    Return the function `package.module:function`, searched beside the YAML file, in the current folder and on sys.path.

    Raises:
        UsageError: it does not exist, or it cannot be called as a hook of this key. The second line is a hint.
    """
    module_name, colon, path = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *path.split("."))):
        raise UsageError(f"{reference!r} is not a function reference\n{key}: {FORM}")
    module = _import(module_name, folder)
    function: Any = module
    for part in path.split("."):
        if not hasattr(function, part):
            own = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            near = did_you_mean(part, own)
            raise UsageError(
                f"{module_name} does not define {part}" + (f"\ndid you mean {near}?" if near else "")
            )
        function = getattr(function, part)
    _check_signature(function, reference, key)
    return function  # type: ignore[no-any-return]


def _import(name: str, folder: Path | None) -> Any:
    folders = [str(one.resolve()) for one in (folder, Path.cwd()) if one is not None]
    for one in reversed(folders):  # at the front, like the folder of a script
        if one not in sys.path:
            sys.path.insert(0, one)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            beside = f"beside the file ({folders[0]})" if folder is not None else "in the current folder"
            raise UsageError(f"module {error.name!r} not found\nlooked {beside}, in the current folder and on "
                             "sys.path") from None  # fmt: skip
        raise UsageError(f"{name} cannot be imported: {_describe(error)}") from None
    except (Exception, SystemExit) as error:  # importing a module may raise anything
        raise UsageError(f"{name} cannot be imported: {_describe(error)}") from None


def _describe(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.msg} ({_near(error.filename)}:{error.lineno})"
    home = os.path.dirname(__file__)
    line = ""
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and os.path.dirname(file) != home and "importlib" not in file:
            line = f" ({_near(file)}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return f"{type(error).__name__}: {first}{line}"


def _check_signature(function: Any, reference: str, key: str) -> None:
    if not callable(function) or isinstance(function, type):
        raise UsageError(f"{reference} is a {type(function).__name__}, not a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise UsageError(f"{reference} takes {signature}, but is called with {TAKES[key]}") from None
    if key != "handler" and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        what = "page" if key == "on_page" else "record"
        raise UsageError(
            f"{reference} is a generator, but must return one {what}\nuse return instead of yield"
        )
