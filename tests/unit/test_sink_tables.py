"""The SQLite sink: upserts by key, new columns, and digests and tokens in the transaction of the rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sink_outputs import item

from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError, UsageError
from scrapeq.expression import compile_template
from scrapeq.protocols import Item
from scrapeq.sink import OutputSet
from scrapeq.sink import sqlite as sqlite_sink
from scrapeq.sink.commit_log import SqliteCommitLog


def output(table: str = "${resource}", path: str = "out/items.db", **more: Any) -> plan.Output:
    return plan.Output("sqlite", compile_template(path), table=compile_template(table), **more)


@contextmanager
def sink_at(base: Path, *outputs: plan.Output) -> Iterator[OutputSet]:
    sink = OutputSet(outputs or (output(),), base=base)
    try:
        yield sink
    finally:
        sink.close()


def rows(base: Path, table: str = "issues") -> list[dict[str, Any]]:
    """Return the rows as another program reads them, without the key column."""
    with sqlite3.connect(base / "out/items.db") as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute(f'SELECT * FROM "{table}" ORDER BY rowid')]
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    database.close()
    return [{name: value for name, value in row.items() if name != "_scrapeq_key"} for row in found]


def types(base: Path, table: str = "issues") -> dict[str, str]:
    with sqlite3.connect(base / "out/items.db") as database:
        found = {row[1]: row[2] for row in database.execute(f'PRAGMA table_info("{table}")')}
    database.close()
    return found


def test_an_item_is_one_row_with_its_newest_fields(tmp_path: Path) -> None:
    """Covers repetitions inside one batch and after a restart; unchanged items are not written."""
    with sink_at(tmp_path) as sink:
        batch = [("t1", "1.1", [item(1, a="old"), item(2, a="x"), item(1, a="new")])]
        assert sink.commit_many(batch) == [3]
        assert sink.commit_many([("t2", "2.1", [item(2, a="x")])]) == [0]
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t3", "3.1", [item(2, a="y"), item(1, a="new")])]) == [1]
    assert sorted(rows(tmp_path), key=lambda row: row["id"]) == [{"id": 1, "a": "new"}, {"id": 2, "a": "y"}]


def test_a_missing_field_is_null_and_columns_of_the_user_stay(tmp_path: Path) -> None:
    """The newest record replaces the older one completely; a column that the user added keeps its value."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1, a=1, b=2)])])
    with sqlite3.connect(tmp_path / "out/items.db") as database:
        database.execute("ALTER TABLE issues ADD COLUMN mine TEXT DEFAULT 'own'")
    database.close()
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t2", "2.1", [item(1, a=3)])])
    assert rows(tmp_path) == [{"id": 1, "a": 3, "b": None, "mine": "own"}]


def test_columns_have_types(tmp_path: Path) -> None:
    """Integers, floats, booleans and text; nested values are JSON text; a column of nulls is untyped."""
    record = {"i": 1, "f": 1.5, "b": True, "t": "x", "n": None, "list": [1, {"a": None}], "big": 2**64 - 1}
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", record)])])
    assert rows(tmp_path)[0] == {**record, "list": '[1,{"a":null}]', "b": 1, "big": str(2**64 - 1)}
    named = {name: type_ for name, type_ in types(tmp_path).items() if not name.startswith("_")}
    assert named == {
        "i": "INTEGER",
        "f": "REAL",
        "b": "BOOLEAN",
        "t": "TEXT",
        "n": "",
        "list": "TEXT",
        "big": "TEXT",
    }


def test_new_fields_add_columns_and_text_in_a_number_column_stays_text(tmp_path: Path) -> None:
    """`007` in a column of numbers does not become 7: the column becomes text, with its old values."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1, code=5, flag=True, x=None)])])
        sink.commit_many([("t2", "2.1", [item(2, code="007", flag="maybe", x=1.5, new=[1])])])
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t3", "3.1", [item(3, code=8, flag=False, x="y")])])
    assert rows(tmp_path) == [
        {"id": 1, "x": None, "new": None, "code": "5", "flag": "true"},
        {"id": 2, "x": "1.5", "new": "[1]", "code": "007", "flag": "maybe"},
        {"id": 3, "x": "y", "new": None, "code": "8", "flag": "false"},
    ]


def test_any_name_can_be_a_column(tmp_path: Path) -> None:
    """Covers quotes, spaces, keywords, names that differ only in case, and an empty name."""
    record = {'a"b': 1, "select": 2, "x y": 3, "Id": 4, "ID": 5, "": 6, "_scrapeq_key": 7, "nul\0": 8}
    with sink_at(tmp_path, output(table='my "${resource}"')) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", record)])])
        sink.commit_many([("t1", "1.1", [Item("issues", "2", {"id": 9})])])
    with sqlite3.connect(tmp_path / "out/items.db") as database:
        found = database.execute('SELECT * FROM "my ""issues"""').fetchall()
    database.close()
    assert [value for value in found[0] if value is not None] == [1, 2, 3, 4, 5, 6, 7, 8, "1"]


def test_append_writes_every_record_once_per_task(tmp_path: Path) -> None:
    """A repetition of the task changes nothing; another task adds the same record again."""
    with sink_at(tmp_path, output(write_disposition="append")) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(1)]), ("t2", "2.1", [item(1)])]) == [1, 1]
    with sink_at(tmp_path, output(write_disposition="append")) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1)]), ("t3", "3.1", [item(1)])]) == [0, 1]
    assert rows(tmp_path) == [{"id": 1}] * 3


def test_append_changes_keeps_the_history(tmp_path: Path) -> None:
    """A change and its reversal are three rows; no change adds none."""
    with sink_at(tmp_path, output(write_disposition="append_changes")) as sink:
        for number, price in enumerate([5, 6, 6, 5]):
            sink.commit_many([(f"t{number}", f"{number}.1", [item(1, price=price)])])
    assert [row["price"] for row in rows(tmp_path)] == [5, 6, 5]


def test_stale_tokens_are_rejected_after_a_restart(tmp_path: Path) -> None:
    """The tokens are stored in the same database."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "9.1", [item(1)])])
    with sink_at(tmp_path) as sink:
        assert isinstance(sink.commit_many([("t1", "8.1", [item(2)])])[0], LeaseLost)
    assert rows(tmp_path) == [{"id": 1}]


@pytest.mark.parametrize(("when", "rewritten"), [("before", 1), ("after", 0)])
def test_a_kill_around_the_commit_loses_and_repeats_nothing(
    tmp_path: Path, when: str, rewritten: int
) -> None:
    """A process dies right before or right after the commit of rows and tokens."""
    with sink_at(tmp_path, output(write_disposition="append")) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    child = os.fork()
    if child == 0:
        commit = SqliteCommitLog.commit

        def crash(self: SqliteCommitLog) -> None:
            if when == "after":
                commit(self)
            os._exit(9)

        sink = OutputSet((output(write_disposition="append"),), base=tmp_path)
        sink.check()
        SqliteCommitLog.commit = crash  # type: ignore[method-assign]  # ends the fork
        sink.commit_many([("t2", "2.1", [item(2)])])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with sink_at(tmp_path, output(write_disposition="append")) as sink:
        assert sink.commit_many([("t2", "2.1", [item(2)])]) == [rewritten]
    assert rows(tmp_path) == [{"id": 1}, {"id": 2}]


def test_other_programs_read_while_it_writes(tmp_path: Path) -> None:
    """A reader in a transaction neither waits nor blocks the writer."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        reader = sqlite3.connect(tmp_path / "out/items.db", isolation_level=None, timeout=0.0)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM issues").fetchone() == (1,)
        sink.commit_many([("t2", "2.1", [item(2)])])
        assert reader.execute("SELECT count(*) FROM issues").fetchone() == (1,)
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM issues").fetchone() == (2,)
        reader.close()


def test_removed_rows_and_tables_are_written_again(tmp_path: Path) -> None:
    """The commit log forgets items whose rows are gone."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1), item(2), item(1, "users")])])
    with sqlite3.connect(tmp_path / "out/items.db") as database:
        database.execute("DELETE FROM issues WHERE id = 1")
        database.execute("DROP TABLE users")
    database.close()
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t2", "2.1", [item(1), item(2), item(1, "users")])])
    assert sorted(row["id"] for row in rows(tmp_path)) == [1, 2]
    assert rows(tmp_path, "users") == [{"id": 1}]


def test_two_outputs_share_a_database_but_not_a_table(tmp_path: Path) -> None:
    """Both write their tables in one transaction; sharing a table is an error."""
    news = output(table="news_${resource}", write_disposition="append_changes")
    with sink_at(tmp_path, output(), news) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1)])]) == [1]
    assert rows(tmp_path) == rows(tmp_path, "news_issues") == [{"id": 1}]
    with (
        sink_at(tmp_path, output(), output(write_disposition="append")) as sink,
        pytest.raises(OutputError, match="two outputs write to the table issues"),
    ):
        sink.commit_many([("t2", "2.1", [item(2)])])


def test_resources_in_one_table_stay_distinct(tmp_path: Path) -> None:
    """The same id in two resources is two items."""
    with sink_at(tmp_path, output(table="everything")) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(1, "users")])]) == [2]
    assert len(rows(tmp_path, "everything")) == 2


def test_a_table_for_each_seed(tmp_path: Path) -> None:
    """The value of the seed is a quoted part of the table name."""
    items = [Item("issues", "1", {"id": 1}, {"repo": name}) for name in ("a", 'b"; DROP TABLE a; --')]
    with sink_at(tmp_path, output(table="issues_${seed.repo}")) as sink:
        assert sink.commit_many([("t1", "1.1", items)]) == [2]
    assert rows(tmp_path, "issues_a") == [{"id": 1}]


def test_impossible_settings_are_errors_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Covers a path with a placeholder, a second writer, a file of another type, and a table of another program."""
    monkeypatch.setattr(sqlite_sink, "LOCK_TIMEOUT_S", 0.05)
    with pytest.raises(UsageError, match="use one database, and placeholders in table"):
        OutputSet((output(path="out/${resource}.db"),), base=tmp_path)
    with sink_at(tmp_path) as first, sink_at(tmp_path) as second:
        first.check()
        with pytest.raises(OutputError, match=r"items\.db: another writer"):
            second.check()
    (tmp_path / "out/no.db").write_bytes(b"no database" * 100)
    with sink_at(tmp_path, output(path="out/no.db")) as sink, pytest.raises(OutputError, match=r"no\.db"):
        sink.check()
    with sqlite3.connect(tmp_path / "out/items.db") as database:
        database.execute("CREATE TABLE issues (id)")
    database.close()
    with sink_at(tmp_path) as sink, pytest.raises(OutputError, match="not created by scrapeq"):
        sink.commit_many([("t1", "1.1", [item(1)])])
