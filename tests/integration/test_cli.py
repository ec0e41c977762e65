"""The verbs that show and change a queue, with a real store, and wrong usage of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import CONFIG, URL, call, json_out, make_dead, with_queue

from scrapeq.exit_codes import Exit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str) -> Path:
    """Return a directory with a configuration that the environment names, with the store of the tests."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


# --- seed


def test_seed_reports_new_tasks_and_duplicates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """URLs are added once; those that the queue has are counted as duplicates."""
    assert call("seed", f"{URL}/1", f"{URL}/2", "--resource", "pages", "--priority", "-5") == 0
    assert capsys.readouterr().out == "t: 2 new tasks\n"
    assert call("seed", f"{URL}/1", f"{URL}/3", "--resource", "pages", "--json") == 0
    assert json_out(capsys) == [{"v": 1, "queue": "t", "new": 1, "duplicates": 1, "dead": 0, "junk": 0}]
    assert call("peek", "--json") == 0
    assert [(task["url"], task["priority"]) for task in json_out(capsys)][1:] == [
        (f"{URL}/1", -5.0),
        (f"{URL}/2", -5.0),
    ]


def test_invalid_seed_lines_are_reported_and_the_others_added(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each invalid line is reported with its number, the valid ones are in the queue, the exit code is 2."""
    (folder / "seeds").write_text(
        f'# seeds\n{URL}/1\nnonsense\n\n{{"n": 7}}\n{{"url": "{URL}/2", "delay": "1h"}}\n{{"seed": {{}}}}\n'
        f'{{"url": "{URL}/3", "resource": "nots"}}\n'
    )
    assert call("seed", "-f", "seeds", "--resource", "notes") == Exit.USAGE
    printed = capsys.readouterr()
    assert "3 new tasks" in printed.out
    assert "error: seeds, line 3: 'nonsense' is neither" in printed.err
    assert "error: seeds, line 7: " in printed.err
    assert "error: seeds, line 8: " in printed.err and "'nots'" in printed.err
    assert printed.err.count("error:") == 3
    assert call("peek", "--json") == 0
    assert sorted(task["url"] for task in json_out(capsys)) == [URL + "/1", "http://127.0.0.1:9/n/7"]
    assert call("peek", "--state", "delayed", "--json") == 0
    (delayed,) = json_out(capsys)
    assert 3500 < delayed["due_in_s"] <= 3600


def test_a_payload_that_is_too_large_does_not_affect_its_neighbors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A seed whose task exceeds the queue's bound is reported; those beside it are added."""
    big = "ü" * 450_000  # six times as long when percent-encoded in the URL
    (folder / "seeds").write_text(f'{{"n": 1}}\n{{"n": "{big}"}}\n{{"n": 3}}\n')
    assert call("seed", "-f", "seeds", "--resource", "pages") == Exit.USAGE
    printed = capsys.readouterr()
    assert "2 new tasks" in printed.out
    assert "error: seeds, line 2: " in printed.err


@pytest.mark.parametrize("source", [["-f", "-"], ["-"]])
def test_lines_of_a_slow_pipe_are_added_as_they_arrive(
    folder: Path, store_url: str, source: list[str]
) -> None:
    """Lines on standard input are in the queue before the pipe ends; Ctrl-C stops at once without losing any."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scrapeq", "seed", *source, "--resource", "pages"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(f"{URL}/slow\n".encode())
        process.stdin.flush()

        task = with_queue(store_url, lambda queue: queue.pop(wait_s=20))
        assert task.payload["url"] == f"{URL}/slow"
        process.send_signal(2)
        assert process.wait(10) == Exit.SECOND_SIGNAL
        assert process.stderr.read() == b"stopped\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["seed"], "seed: give URLs or -f FILE"),
        (["seed", "ftp://x/", "--resource", "pages"], "'ftp://x/' is neither"),
        (["seed", URL], "choose one with --resource: pages, notes"),
        (["seed", URL, "--resource", "page"], "did you mean pages?"),
        (["seed", URL, "--resource", "pages", "--priority", "nan"], "--priority: nan is not a finite number"),
        (["seed", URL, "--resource", "pages", "--priority", "-inf"], "is not a finite number"),
        (["seed", URL, "--resource", "pages", "--priority", "soon"], "is not a number or a time"),
        (["seed", URL, "--resource", "pages", "--delay", "-5s"], "negative"),
        (["seed", URL, "--resource", "pages", "--delay", "5"], "5 has no unit"),
        (["seed", "-f", "nowhere", "--resource", "pages"], "nowhere: cannot be read"),
        (["seed", "-f", ".", "--resource", "pages"], "cannot be read: Is a directory"),
        (["peek", "--state", "gone"], "--state: unknown value 'gone'"),
        (["peek", "--where", "status = 503"], "use '=='"),
        (["peek", "--where", "statos == 503"], "did you mean"),
        (["dead", "redrive"], "dead redrive: give either IDs"),
        (["dead", "drop", "1", "--all"], "dead drop: give either IDs"),
        (["dead", "show", "x1"], "'x1' is not a task id"),
        (["dead", "show", "77"], "task 77 does not exist"),
        (["purge"], "purge: choose --tasks"),
        (["run", "t.yaml", "--for", "10"], "--for: 10 has no unit"),
        (["run", "t.yaml", "--role", "boss"], "--role: unknown value 'boss'"),
        (["run", "t.yaml", "--progress", "loud"], "--progress: unknown value 'loud'"),
        (["run", "t.yaml", "--workers", "0"], "--workers"),
        (["run", "t.yaml", "--set", "workers"], "--set: expected KEY=VALUE, got 'workers'"),
        (["run", "t.yaml", "--only", "pagse"], "pagse"),
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["stauts"], "Did you mean 'status'"),
        (["status", "--frobnicate"], "--frobnicate"),
        (["status", "-q", "-v"], "contradict"),
        (["-c"], "argument"),
        (["-c", "t.yaml", "validate", "t.yaml"], "not both"),
    ],
)
def test_wrong_usage_is_one_error_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    """Each mistake gives one error on standard error, code 2, nothing on standard output and not a traceback."""
    assert call(*args) == Exit.USAGE
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ") and printed.err.count("error: ") == 1
    assert printed.out == "" and "Traceback" not in printed.err


# --- show


def test_status_works_without_a_run(folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts tasks by state, names the store without its secrets, and shows closed limits."""
    make_dead(store_url, "503 Service Unavailable")
    call("seed", f"{URL}/1", "--resource", "pages")
    call("seed", f"{URL}/2", "--resource", "pages", "--delay", "1h")
    with_queue(store_url, lambda queue: queue.park(["default|127.0.0.1:9,"], for_s=600))
    capsys.readouterr()
    assert call("status", "--json") == 0
    (reported,) = json_out(capsys)
    states = {name: reported[name] for name in ("ready", "delayed", "leased", "dead", "left")}
    assert states == {"ready": 1, "delayed": 1, "leased": 0, "dead": 1, "left": 2}
    assert [limit["state"] for limit in reported["limits"] if limit["name"] == "default|127.0.0.1:9,"] == [
        "parked"
    ]
    assert call("status") == 0
    text = capsys.readouterr().out
    for words in (
        "ready 1  delayed 1  leased 0  dead 1",
        "default 127.0.0.1:9",
        "parked",
        "scrapeq dead",
        store_url,
    ):
        assert words in text


def test_peek_does_not_take_tasks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the highest priorities first, filters by conditions, and leaves all tasks ready."""
    for number in range(5):
        call("seed", f"{URL}/{number}", "--resource", "pages", "--priority", str(number))
    capsys.readouterr()
    assert call("peek", "-n", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "PRIORITY", "DUE", "RESOURCE", "REQUEST", "GROUP"]
    assert [line.split()[1] for line in lines[1:]] == ["4", "3"]
    assert call("peek", "--where", "priority < 2", "--json") == 0
    assert [task["priority"] for task in json_out(capsys)] == [1.0, 0.0]
    assert call("peek", "--resource", "notes") == 0
    assert "none of 5 ready tasks matches" in capsys.readouterr().out
    assert call("status", "--json") == 0
    assert json_out(capsys)[0]["ready"] == 5


# --- dead letters


def test_dead_letters_are_listed_shown_redriven_and_dropped(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """list counts the reasons; redrive takes those that match; drop deletes; ids that are not dead are reported."""
    first, second, third = make_dead(
        store_url, "503 Service Unavailable", "404 Not Found", "503 Service Unavailable"
    )
    assert call("dead") == 0
    text = capsys.readouterr().out
    assert "3 dead letters: 2 503 Service Unavailable, 1 404 Not Found" in text
    assert call("dead", "show", second.lstrip("0")) == 0
    assert "404 Not Found" in capsys.readouterr().out
    assert call("dead", "redrive", "--where", "status == 503", "--json") == 0
    assert json_out(capsys) == [{"v": 1, "redrive": 2, "not_dead": []}]
    assert call("dead", "list", "--json") == 0
    assert [task["id"] for task in json_out(capsys)] == [second]
    assert call("dead", "drop", first, second) == Exit.USAGE
    printed = capsys.readouterr()
    assert printed.out == "1 dead letter deleted\n"
    assert printed.err == f"error: task {first.lstrip('0')} is not a dead letter\n"
    assert call("dead", "list") == 0
    assert capsys.readouterr().out == "no dead letters\n"
    assert third not in (first, second)


def test_redrive_all_takes_more_than_one_batch(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If there are more dead letters than one call reads, all of them become ready, each once."""
    make_dead(store_url, *["500 Internal Server Error"] * 1203)
    assert call("dead", "redrive", "--all", "--json") == 0
    assert json_out(capsys)[0]["redrive"] == 1203
    assert call("status", "--json") == 0
    reported = json_out(capsys)[0]
    assert (reported["ready"], reported["dead"]) == (1203, 0)


# --- purge


def test_purge_without_a_terminal_needs_yes(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --yes it deletes nothing; with it, only what the options name."""
    make_dead(store_url, "404 Not Found")
    call("seed", f"{URL}/1", "--resource", "pages")
    capsys.readouterr()
    assert call("purge", "--dead") == Exit.USAGE
    assert "--yes" in capsys.readouterr().err
    assert call("purge", "--dead", "--yes") == 0
    assert capsys.readouterr().out == "deleted from t: 1 dead letter\n"
    assert call("status", "--json") == 0
    reported = json_out(capsys)[0]
    assert (reported["ready"], reported["dead"]) == (1, 0)
    assert call("seed", f"{URL}/1", "--resource", "pages", "--json") == 0
    assert json_out(capsys)[0]["duplicates"] == 1
    assert call("purge", "--all", "--yes", "--json") == 0
    assert json_out(capsys)[0]["purged"]["tasks"] == 1
    assert call("seed", f"{URL}/1", "--resource", "pages", "--json") == 0
    assert json_out(capsys)[0]["new"] == 1
