"""The PostgreSQL sink against a real server: upserts, types, several writers, a server that goes away."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import PostgresServer

from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError
from scrapeq.expression import compile_template
from scrapeq.protocols import Item
from scrapeq.sink import OutputSet
from scrapeq.sink.postgres_commit_log import PostgresCommitLog

_names = (f"t{number}" for number in itertools.count())


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Create a database for this test and return its URL."""
    name = next(_names)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.url(name)


def output(url: str, table: str = "", **more: Any) -> plan.Output:
    return plan.Output("postgres", url=url, table=compile_template(table) if table else None, **more)


@contextmanager
def sink_at(
    *outputs: plan.Output, unavailable_s: float = 20.0, base: Path = Path("/nowhere")
) -> Iterator[OutputSet]:
    sink = OutputSet(outputs, base=base, unavailable_s=unavailable_s)
    try:
        yield sink
    finally:
        sink.close()


def item(number: int, resource: str = "issues", **more: Any) -> Item:
    return Item(resource, str(number), {"id": number, **more})


def rows(url: str, table: str = "issues") -> list[dict[str, Any]]:
    """Return the rows in the order of their ids, without the key column."""
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute(f'SELECT * FROM "{table}" ORDER BY id'.encode()).fetchall()
    return [{name: value for name, value in row.items() if name != "_scrapeq_key"} for row in found]


def types(url: str, table: str = "issues") -> dict[str, str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", (table,)
        ).fetchall()
    return {name: type_ for name, type_ in found if name != "_scrapeq_key"}


def test_an_item_is_one_row_with_its_newest_fields(url: str) -> None:
    """Items are upserted by key; unchanged items are not written; a missing field is null."""
    with sink_at(output(url)) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1, a="old"), item(2, a="x"), item(1, a="new")])]) == [3]
        assert sink.commit_many([("t2", "2.1", [item(2, a="x")])]) == [0]
    with sink_at(output(url)) as sink:
        assert sink.commit_many([("t3", "3.1", [item(2), item(1, a="new")])]) == [1]
    assert rows(url) == [{"id": 1, "a": "new"}, {"id": 2, "a": None}]


def test_columns_have_types_and_nested_values_are_jsonb(url: str) -> None:
    """Columns are integers, floats, booleans or text; characters that PostgreSQL does not allow are replaced."""
    record = {"id": 1, "f": 1.5, "b": True, "t": "x\0", "n": None, "j": [1, {"a": "\0"}], "big": 2**64 - 1}
    with sink_at(output(url)) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", record)])])
    assert rows(url) == [{**record, "t": "x\ufffd", "j": [1, {"a": "\ufffd"}], "big": str(2**64 - 1)}]
    assert types(url) == {
        "id": "bigint",
        "f": "double precision",
        "b": "boolean",
        "t": "text",
        "n": "text",
        "j": "jsonb",
        "big": "text",
    }


def test_columns_grow_and_widen(url: str) -> None:
    """New fields add columns; a value that does not fit widens its column, with its old values."""
    with sink_at(output(url)) as sink:
        sink.commit_many([("t1", "1.1", [item(1, n=5, b=True, j=[1], late=None, text=7)])])
    with sink_at(output(url)) as sink:
        sink.commit_many(
            [("t2", "2.1", [item(2, n=1.5, b="no", j="plain", late=3, text="007", new={"x": 1})])]
        )
    assert rows(url) == [
        {"id": 1, "n": 5.0, "b": "true", "j": "[1]", "late": None, "text": "7", "new": None},
        {"id": 2, "n": 1.5, "b": "no", "j": "plain", "late": 3, "text": "007", "new": {"x": 1}},
    ]


def test_any_name_is_quoted(url: str) -> None:
    """Tables, schemas and columns can have any name; long names are truncated and stay distinct."""
    long = "x" * 70
    record = {"id": 1, 'a"; DROP TABLE x; --': 2, "%s": 3, long: 4, long + "y": 5, "select": 6}
    with sink_at(output(url, 'raw.my "${resource}"')) as sink:
        sink.commit_many([("t1", "1.1", [Item("is-sues", "1", record)])])
    with psycopg.connect(url) as connection:
        row = connection.execute('SELECT * FROM raw."my ""is-sues"""').fetchone()
    assert row == (1, 2, 3, 4, 5, 6, "1")


@pytest.mark.parametrize(("mode", "prices"), [("append", [5, 5, 6, 5]), ("append_changes", [5, 6, 5])])
def test_append_mode_adds_a_row_per_task_or_change(url: str, mode: Any, prices: list[int]) -> None:
    """A row is added once per task, or only if it changed; a repeated commit adds nothing."""
    with sink_at(output(url, write_disposition=mode)) as sink:
        for number, price in enumerate([5, 5, 6, 5]):
            sink.commit_many([(f"t{number}", f"{number}.1", [item(1, price=price)])])
        assert sink.commit_many([("t3", "3.1", [item(1, price=5)])]) == [0]
    with psycopg.connect(url) as connection:
        found = [row[0] for row in connection.execute("SELECT price FROM issues ORDER BY ctid").fetchall()]
    assert found == prices


def test_a_stale_lease_of_another_machine_is_rejected(url: str, tmp_path: Path) -> None:
    """The fencing tokens are stored in the database, even if the run also writes files."""
    lines = plan.Output("jsonl", compile_template("out.jsonl"))
    with (
        sink_at(lines, output(url), base=tmp_path / "a") as one,
        sink_at(output(url), lines, base=tmp_path / "b") as two,
    ):
        assert one.commit_many([("t1", "9.1", [item(1)])]) == [1]
        assert isinstance(two.commit_many([("t1", "8.1", [item(2)])])[0], LeaseLost)
        assert two.commit_many([("t1", "9.2", [item(3)])]) == [1]
    assert [row["id"] for row in rows(url)] == [1, 3]


def test_several_machines_write_to_one_table(url: str) -> None:
    """Concurrent writers succeed with the same keys in different orders, and with added and widened columns."""
    errors: list[BaseException] = []

    def write(machine: int) -> None:
        try:
            with sink_at(output(url)) as sink:
                for turn in range(8):
                    fields: dict[str, Any] = {f"by{machine}": turn, "mixed": turn if machine else str(turn)}
                    items = [item(n, **fields) for n in range(20)]
                    sink.commit_many([(f"m{machine}", f"{turn + 1}.1", items[:: 1 if machine else -1])])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(machine,)) for machine in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [row["id"] for row in rows(url)] == list(range(20))


def test_the_sink_reconnects_and_repeats_the_commit(url: str) -> None:
    """The result after a disconnection between or during commits is the same as without one."""
    with sink_at(output(url)) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        _cut_all(url)
        assert sink.commit_many([("t2", "2.1", [item(2), item(3)])]) == [2]
    assert [row["id"] for row in rows(url)] == [1, 2, 3]


def test_a_commit_with_an_unknown_result_is_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the connection breaks after the commit and before its reply, nothing is written twice."""
    commit = PostgresCommitLog.commit
    cut = [True]

    def lost(self: PostgresCommitLog) -> None:
        commit(self)
        if self._commits > 1 and cut.pop() if cut else False:
            _cut_all(url)
            self.begin()  # the connection notices

    with sink_at(output(url, write_disposition="append")) as sink:
        sink.check()
        monkeypatch.setattr(PostgresCommitLog, "commit", lost)
        assert sink.commit_many([("t1", "1.1", [item(1)])]) == [1]
    assert cut == []
    assert rows(url) == [{"id": 1}]


def _cut_all(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_the_sink_waits_for_a_server_and_then_fails(postgres: PostgresServer, url: str) -> None:
    """If the server comes back, the commit succeeds. If not, there is one error, without the password."""
    with sink_at(output(url), unavailable_s=30.0) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        postgres.stop(signal.SIGQUIT)
        back = threading.Timer(0.5, postgres.start)
        back.start()
        assert sink.commit_many([("t2", "2.1", [item(2)])]) == [1]
        back.join()
    assert [row["id"] for row in rows(url)] == [1, 2]
    postgres.stop()
    try:
        with (
            sink_at(output(url), unavailable_s=0.3) as sink,
            pytest.raises(OutputError, match="postgres: the output") as error,
        ):
            sink.commit_many([("t3", "3.1", [item(3)])])
    finally:
        postgres.start()
    assert postgres.password not in str(error.value)


@pytest.mark.parametrize(
    "broken", ["postgresql://u:{}@[::1", "postgresql://u:{}@h:port/d", "host=h password={} x"]
)
def test_an_invalid_url_is_an_error_without_the_password(broken: str) -> None:
    """The error omits the password, whatever the driver reports."""
    secret = "s3cr3t-w0rd"
    with (
        sink_at(output(broken.format(secret)), unavailable_s=0.0) as sink,
        pytest.raises(OutputError) as error,
    ):
        sink.check()
    assert secret not in str(error.value)


def test_removed_rows_and_tables_are_written_again(url: str) -> None:
    """The commit log forgets items whose rows are gone; a table of another program stays untouched."""
    with sink_at(output(url)) as sink:
        sink.commit_many([("t1", "1.1", [item(1), item(2), item(1, "users")])])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM issues WHERE id = 1")
        connection.execute("DROP TABLE users")
        connection.execute("CREATE TABLE other (id int)")
    with sink_at(output(url)) as sink:
        sink.commit_many([("t2", "2.1", [item(1), item(2), item(1, "users")])])
        with pytest.raises(OutputError, match="not created by scrapeq"):
            sink.commit_many([("t3", "3.1", [item(1, "other")])])
    assert [row["id"] for row in rows(url)] == [1, 2]
    assert rows(url, "users") == [{"id": 1}]
