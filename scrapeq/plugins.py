"""Entry points of other packages: sinks, paginators and types of auth."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from scrapeq.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

SINKS, PAGINATORS, AUTHS = "scrapeq.sinks", "scrapeq.paginators", "scrapeq.auth"

EXTRAS = {"postgres": "psycopg", "parquet": "pyarrow", "warc": "warcio"}
"""Output types that need the extra of the same name, and the package that the extra installs."""


def missing_extra(type_: str) -> str:
    """Return a message that says what to install for an output type; empty if nothing is missing."""
    package = EXTRAS.get(type_)
    if package is None or find_spec(package) is not None:
        return ""
    return f"{type_} needs the package {package}: pip install 'scrapeq[{type_}]'"


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # the import takes 15 ms, and few runs need it

    return {point.name: point for point in entry_points(group=group)}


def names(group: str) -> list[str]:
    """Return the sorted names of the entry points that installed packages add to a group."""
    return sorted(_entry_points(group))


def load(group: str, name: str) -> Any:
    """
    Return the object that an entry point refers to.

    Raises:
        UsageError: The entry point does not exist or cannot be imported.
    """
    point = _entry_points(group).get(name)
    if point is None:
        raise UsageError(
            f"no installed package provides {name!r} in {group}; available: {', '.join(names(group)) or 'none'}"
        )
    try:
        return point.load()
    except Exception as error:  # importing another package may raise anything
        raise UsageError(f"{group}: {name} ({point.value}) cannot be imported: {error}") from None
