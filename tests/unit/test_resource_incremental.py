"""Start values of incremental resources, their windows, the state they store, and its key."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from scrapeq.expression import compile_template as template
from scrapeq.plan import Endpoint, Incremental, Parent, Plan, Resource
from scrapeq.resource.identity import Ancestry, Identities
from scrapeq.resource.incremental import (
    add_cursor,
    add_token,
    detached_payload,
    final_state,
    incremental_scope,
    merge_state,
    next_window,
    start_progress,
    without_future,
)
from scrapeq.resource.payload import IncrementalProgress, Payload

NEXT = ("2024-04-01T07:50:00Z", "2024-05-01T12:00:00Z")
NOW_S = datetime.fromisoformat("2024-05-01T12:00:00Z").timestamp()


def progress_at_start(incremental: Incremental, state: dict[str, Any] | None = None) -> IncrementalProgress:
    """Return the progress at the start."""
    scope = {"now": NOW_S, "seed": {"since": "2024-02-01"}, "parent": None}
    return start_progress(incremental, "k", "", state, scope)


@pytest.mark.parametrize(
    ("incremental", "state", "start", "end"),
    [
        (Incremental("at", "2024-01-01"), None, "2024-01-01", "2024-05-01"),
        (Incremental("at", "2024-01-01", 600.0), None, "2024-01-01", "2024-05-01"),
        (Incremental("at"), None, None, None),
        (
            Incremental("at", "2024-01-01", 600.0),
            "2024-04-01T10:00:00Z",
            "2024-04-01",
            "2024-05-01",
        ),
        (Incremental("at", "2024-01-01T00:00:00Z", 600.0), "2024-04-01T10:00:00.5+02:00", *NEXT),
        (Incremental("at", 1704067200000), "2024-04-01T07:50:00Z", 1711957800000, 1714564800000),
        (Incremental("u", 20240101, 86_400.0), 20240402, 20240401, 20240501),
        (Incremental("u", "01/01/2024", cursor_format="%d/%m/%Y"), "31/03/2024", "31/03/2024", "01/05/2024"),
        (Incremental("u", "2024-01-01", cursor_format="%d/%m/%Y"), "31/03/2024", "2024-03-31", "2024-05-01"),
        (
            Incremental("u", lookback_s=86_400.0, cursor_format="%d/%m/%Y"),
            "01/03/2024",
            "29/02/2024",
            "01/05/2024",
        ),
        (Incremental("at", 0, 600.0), 1711965600, 1711965000, 1714564800),
        (Incremental("id", 0), 17, 17, 1714564800),
        (Incremental("id", "a", 600.0), "v10", "v10", None),
        (Incremental("at", template("${seed.since}")), None, "2024-02-01", "2024-05-01"),
        (Incremental("at", template("${now - 1d}")), None, NOW_S - 86_400, NOW_S),
    ],
)
def test_start_values(incremental: Incremental, state: Any, start: Any, end: Any) -> None:
    """The start is the stored cursor minus the lookback, else the initial value; the end is now, in the same form."""
    progress = progress_at_start(incremental, None if state is None else {"cursor": state, "token": "t"})
    token = None if state is None else "t"
    assert incremental_scope(progress) == {"start_value": start, "end_value": end, "token": token}
    assert incremental_scope(None) == {"start_value": None, "end_value": None, "token": None}


@pytest.mark.parametrize(
    ("initial", "stored", "step_s", "bounds"),
    [
        ("2024-04-10", None, 10 * 86_400.0, ["2024-04-10", "2024-04-20", "2024-04-30", "2024-05-01"]),
        ("2024-01-01", "2024-04-25T10:00:00Z", 3 * 86_400.0, ["2024-04-25", "2024-04-28", "2024-05-01"]),
        (
            "2024-04-29",
            None,
            3600.0,
            ["2024-04-29", "2024-04-30", "2024-05-01"],
        ),  # at least its resolution
        (1714550400, None, 7200.0, [1714550400, 1714557600, 1714564800]),
        ("2024-01-01T00:00:00Z", 1714557600, 3600.0, [f"2024-05-01T{h}:00:00Z" for h in (10, 11, 12)]),
        ("2024-06-01", None, 86_400.0, ["2024-06-01", "2024-06-01"]),  # starts in the future
    ],
)
def test_windows_are_contiguous(initial: Any, stored: Any, step_s: float, bounds: list[Any]) -> None:
    """Bounds have the form of the initial value; the last window ends now."""
    incremental = Incremental("at", initial, step_s=step_s)
    progress: IncrementalProgress | None = progress_at_start(
        incremental, {"cursor": stored} if stored else None
    )
    found = []
    while progress is not None:
        found.append((progress["start"], progress["end"]))
        progress = next_window(incremental, progress)
    assert found == list(pairwise(bounds))


def test_the_final_state_has_the_highest_cursor_and_the_last_token() -> None:
    """The cursor keeps its spelling; without a cursor and a token, there is nothing to store."""
    progress = progress_at_start(Incremental("at", "2024-01-01"))
    assert final_state(progress, None, "r", {}, NOW_S) is None
    for cursor in ("2024-03-01", None, "2024-04-01T00:00:00+02:00", "2024-02-01"):
        progress = add_cursor(progress, cursor)
    for token in ("a", None, "b", ""):
        progress = add_token(progress, token)
    key, state = final_state(progress, None, "r", {"s": 1}, NOW_S) or ("", {})
    assert key == "k"
    assert state == {
        "resource": "r",
        "seed": {"s": 1},
        "parent": "",
        "cursor": "2024-04-01T00:00:00+02:00",
        "token": "b",
        "at": NOW_S,
        "begun": [None, None],
    }


def test_the_stored_cursor_never_goes_back() -> None:
    """The records of the lookback are older than the stored cursor."""
    progress = progress_at_start(Incremental("at", None, 600.0), {"cursor": 100_000, "token": None})
    _, state = final_state(add_cursor(progress, 99_500), None, "r", {}, NOW_S) or ("", {})
    assert state["cursor"] == 100_000


def state_of(cursor: Any, token: Any = None, started_from: list[Any] | None = None) -> dict[str, Any]:
    """Return a stored state or, with `started_from` (cursor and token at the start), the state at the end."""
    state = {"resource": "r", "seed": {}, "parent": "", "cursor": cursor, "token": token, "at": NOW_S}
    return state if started_from is None else {**state, "begun": started_from}


@pytest.mark.parametrize(
    ("stored", "final", "moves"),
    [
        (None, state_of(5, started_from=[None, None]), True),
        (state_of(3), state_of(5, started_from=[3, None]), True),
        (state_of(5), state_of(5, "new", started_from=[5, "old"]), True),
        (
            state_of(4),
            state_of(5, started_from=[3, None]),
            True,
        ),  # another pagination, or a window of this one
        (state_of(9), state_of(5, started_from=[3, None]), False),  # another pagination has come further
        (
            state_of("2024-05-02"),
            state_of("2024-05-01T23:00:00Z", started_from=["2024-01-01", None]),
            False,
        ),
        (state_of(2), state_of(5, started_from=[3, None]), False),  # reset by the user
        (None, state_of(5, started_from=[3, None]), False),  # deleted by the user
        (None, state_of(None, "b", started_from=[None, None]), True),
        (state_of(None, "a"), state_of(None, "b", started_from=[None, "a"]), True),
        (state_of(None, "c"), state_of(None, "b", started_from=[None, "a"]), False),
        (None, state_of(None, "b", started_from=[None, "a"]), False),
    ],
)
def test_merging_the_final_state(stored: dict[str, Any] | None, final: dict[str, Any], moves: bool) -> None:
    """The stored state advances, never goes back, and stays where the user has reset it."""
    expected = {name: value for name, value in final.items() if name != "begun"} if moves else None
    assert merge_state(stored, final) == expected


def test_a_detached_payload_stores_no_state() -> None:
    """It is outside the chain, but has the start and end values."""
    progress = progress_at_start(Incremental("at", "2024-01-01"))
    plain: Payload = {"v": 1, "resource": "r", "url": "u"}
    detached = detached_payload({**plain, "chain": "c", "incremental": progress})
    assert detached == {**plain, "incremental": {**progress, "key": ""}}
    assert detached_payload(plain) == plain


def identities(
    primary_key: tuple[str, ...] = (), path: str = "c/${parent.number}"
) -> tuple[Identities, Resource]:
    """Return the identities of a plan, and its child resource."""
    child = Resource("child", Endpoint(path=template(path), incremental=Incremental("at")), (Parent("top"),))
    top = Resource("top", Endpoint(path=template("t")), primary_key=primary_key)
    return Identities(Plan("t", "t.yaml", resources=(top, child))), child


def ancestry(record: dict[str, Any], seed: dict[str, Any] | None = None) -> Ancestry:
    """Return the ancestry of a child of this record."""
    return Ancestry(seed or {}, record, "top", {"top": record})


def test_a_parent_is_identified_by_its_primary_key() -> None:
    """Other fields may change, even those that the request reads."""
    found, child = identities(("id",))
    first = found.state_key(child, ancestry({"id": 1, "number": 5}))
    assert first == found.state_key(child, ancestry({"id": 1, "number": 6, "x": 1}))
    assert first[1] == "1"
    assert first != found.state_key(child, ancestry({"id": 2, "number": 5}))
    assert first != found.state_key(child, ancestry({"id": 1, "number": 5}, {"repo": "b"}))


def test_without_a_primary_key_the_fields_in_the_request_identify_a_parent() -> None:
    """Two records that share a part of the key are different."""
    for primary_key in ((), ("id", "_account")):
        found, child = identities(primary_key)
        first = found.state_key(child, ancestry({"id": 1, "number": 5, "x": 1}))
        assert first == found.state_key(child, ancestry({"id": 1, "number": 5, "x": 2}))
        assert first != found.state_key(child, ancestry({"id": 1, "number": 6, "x": 1}))


def test_elements_of_one_record_have_different_states() -> None:
    """Each element that `each` selects has its own state."""
    found, child = identities(("id",), "c/${parent}")
    tags = ["a", "b"]
    record = {"id": 1, "tags": tags}
    one, other = (Ancestry({}, tag, "top", {"top": record}) for tag in tags)
    assert found.state_key(child, one) != found.state_key(child, other)


def test_grandparents_are_identified_by_the_fields_in_the_request() -> None:
    """A number may be unique only within its repository."""
    found, child = identities(("number",), "c/${resources.repos.name}/${parent.number}")
    record = {"number": 5}
    keys = {
        found.state_key(child, Ancestry({}, record, "top", {"top": record, "repos": {"name": name, "x": x}}))
        for name, x in (("a", 1), ("a", 2), ("b", 1))
    }
    assert len(keys) == 2


def test_the_label_contains_the_grandparents() -> None:
    """It distinguishes, for the user, branches of the same name in two repositories."""
    found, child = identities(("number",), "c/${resources.repos.name}/${parent.number}")
    record = {"number": 5}
    labels = [
        found.state_key(child, Ancestry({}, record, "top", {"repos": {"name": name}, "top": record}))[1]
        for name in ("a", "b")
    ]
    assert labels == ["a/5", "b/5"]


DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("incremental", "cursor", "stored", "is_reported"),
    [
        (Incremental("u", "2024-01-01"), "2099-12-31T00:00:00Z", "2024-05-01T12:00:00Z", True),
        (Incremental("u", "2024-01-01"), "9999-12-31", "2024-05-01", True),
        (
            Incremental("u", "2024-01-01"),
            "2024-05-01T12:30:00Z",
            "2024-05-01T12:30:00Z",
            False,
        ),  # during the run
        (
            Incremental("u", "2024-01-01"),
            "2024-05-01T20:00:00",
            "2024-05-01T12:00:00",
            False,
        ),  # in a local time
        (
            Incremental("u", "2024-01-01"),
            "Thu, 31 Dec 2099 00:00:00 GMT",
            "Wed, 01 May 2024 12:00:00 GMT",
            True,
        ),
        (Incremental("u", 1704067200), 4102358400, 1714564800, True),
        (Incremental("u", 1704067200), 253402214400, 1714564800, True),  # the year 9999, in seconds
        (Incremental("u", 1704067200000), 253402214400000, 1714564800000, True),
        (Incremental("u", "1704067200"), "4102358400", "1714564800", True),
        (Incremental("u", lookback_s=60.0), 4102358400, 1714564800, True),
        (Incremental("meta.updated_at"), 4102358400000, 1714564800000, True),
        (Incremental("updatedAt", 0), 4102358400, 1714564800, True),
        (Incremental("id", 0), 4102358400, 4102358400, False),
        (Incremental("id", 1704067200), 4102358400, 4102358400, False),
        (Incremental("user_id", 1704067200), 4102358400, 4102358400, False),
        (Incremental("u", 0), 1899999999999999999, 1899999999999999999, False),
        (Incremental("u"), "v2099", "v2099", False),
        (Incremental("u", cursor_format="%d/%m/%Y"), "31/12/2099", "01/05/2024", True),
        (Incremental("u", 20240101), 20991231, 20240501, True),
    ],
)
def test_a_time_in_the_future_is_not_stored(
    incremental: Incremental, cursor: Any, stored: Any, is_reported: bool
) -> None:
    """The time at which the pages began is stored in its form; IDs and other numbers stay as they are."""
    progress = add_cursor(progress_at_start(incremental), cursor)
    progress, message = without_future(incremental, progress, NOW_S + 3600, None)
    _, state = final_state(progress, None, "r", {}, NOW_S) or ("", {})
    assert state["cursor"] == stored
    assert type(state["cursor"]) is type(cursor)
    assert bool(message) == is_reported


def test_the_servers_clock_counts_if_it_is_behind() -> None:
    """A record that changes at the server's present must not lie before what is stored."""
    incremental = Incremental("u", "2024-01-01")
    progress = add_cursor(progress_at_start(incremental), "2099-01-01T00:00:00Z")
    progress, _ = without_future(incremental, progress, NOW_S + 60, NOW_S + 60 - 300)
    assert progress["cursor"] == "2024-05-01T11:55:00Z"


def test_a_stored_time_in_the_future_is_corrected() -> None:
    """It starts when it was stored, and the state at the end replaces it although it is lower."""
    incremental = Incremental("u", "2024-01-01T00:00:00Z")
    stored = {"resource": "r", "cursor": "2099-12-31T00:00:00Z", "token": None, "at": NOW_S - DAY_S}
    progress = progress_at_start(incremental, stored)
    assert progress["start"] == "2024-04-30T12:00:00Z"
    progress = add_cursor(progress, "2024-05-01T10:00:00Z")
    _, final = final_state(progress, None, "r", {}, NOW_S) or ("", {})
    merged = merge_state(stored, final)
    assert merged is not None
    assert merged["cursor"] == "2024-05-01T10:00:00Z"
    assert set(merged) == {"resource", "seed", "parent", "cursor", "token", "at"}


def test_declared_dates_compare_as_dates() -> None:
    """As text, 31/01 would be higher than 05/12."""
    incremental = Incremental("u", cursor_format="%d/%m/%Y")
    progress = progress_at_start(incremental)
    for cursor in ("31/01/2024", "05/03/2024", "30/01/2024"):
        progress = add_cursor(progress, cursor)
    assert progress["cursor"] == "05/03/2024"
    _, final = final_state(progress, None, "r", {}, NOW_S) or ("", {})
    stored = {"cursor": "31/01/2024", "token": None}
    assert merge_state(stored, {**final, "begun": [None, None]}) is not None
    assert merge_state({**stored, "cursor": "06/03/2024"}, final) is None
