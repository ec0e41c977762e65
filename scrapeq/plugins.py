"""What other packages add by entry point: sinks, paginators, credentials."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from scrapeq.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

SINKS, PAGINATORS, AUTHS = "scrapeq.sinks", "scrapeq.paginators", "scrapeq.auth"

EXTRAS = {"postgres": "psycopg", "parquet": "pyarrow", "warc": "warcio"}
"""The types of outputs that need an extra of the same name, and the package that it brings."""


def missing_extra(type_: str) -> str:
    """What to install before an output of this type can be used; empty when nothing is missing."""
    package = EXTRAS.get(type_)
    if package is None or find_spec(package) is not None:
        return ""
    return f"{type_} needs the package {package}: pip install 'scrapeq[{type_}]'"


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # costs a start 15 ms, and few need it

    return {point.name: point for point in entry_points(group=group)}


def names(group: str) -> list[str]:
    """The names that installed packages add to a group, sorted."""
    return sorted(_entry_points(group))


def load(group: str, name: str) -> Any:
    """
    What an entry point leads to.

    Raises:
        UsageError: none has that name, or it cannot be imported.
    """
    point = _entry_points(group).get(name)
    if point is None:
        raise UsageError(
            f"no package adds {name!r} to {group}; there are: {', '.join(names(group)) or 'none'}"
        )
    try:
        return point.load()
    except Exception as error:  # whatever a foreign module raises when it is imported
        raise UsageError(f"{group}: {name} ({point.value}) cannot be imported: {error}") from None
