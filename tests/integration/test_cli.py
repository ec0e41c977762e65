"""The command line over a real store: the verbs that look at a queue and change it, and every bad usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import CONFIG, URL, call, json_out, make_dead, with_queue

from scrapeq.exit_codes import Exit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str) -> Path:
    """A folder of its own with a configuration, which the environment names; its store is the tests'."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


# --- seed


def test_seed_says_what_was_new(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses are added once; what was there already is counted as a duplicate."""
    assert call("seed", f"{URL}/1", f"{URL}/2", "--resource", "pages", "--priority", "-5") == 0
    assert capsys.readouterr().out == "t: 2 new tasks\n"
    assert call("seed", f"{URL}/1", f"{URL}/3", "--resource", "pages", "--json") == 0
    assert json_out(capsys) == [{"v": 1, "queue": "t", "new": 1, "duplicates": 1, "dead": 0, "junk": 0}]
    assert call("peek", "--json") == 0
    assert [(task["url"], task["priority"]) for task in json_out(capsys)][1:] == [
        (f"{URL}/1", -5.0),
        (f"{URL}/2", -5.0),
    ]


def test_junk_lines_are_named_and_the_others_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with junk: each junk line by its number, the good lines in the queue, exit code 2."""
    (folder / "seeds").write_text(
        f'# seeds\n{URL}/1\nnonsense\n\n{{"n": 7}}\n{{"url": "{URL}/2", "delay": "1h"}}\n{{"seed": {{}}}}\n'
        f'{{"url": "{URL}/3", "resource": "nots"}}\n'
    )
    assert call("seed", "-f", "seeds", "--resource", "notes") == Exit.USAGE
    said = capsys.readouterr()
    assert "3 new tasks" in said.out
    assert "error: seeds, line 3: 'nonsense' is neither" in said.err
    assert "error: seeds, line 7: " in said.err
    assert "error: seeds, line 8: no resource is called 'nots'" in said.err
    assert said.err.count("error:") == 3
    assert call("peek", "--json") == 0
    assert sorted(task["url"] for task in json_out(capsys)) == [URL + "/1", "http://127.0.0.1:9/n/7"]
    assert call("peek", "--state", "delayed", "--json") == 0
    (delayed,) = json_out(capsys)
    assert 3500 < delayed["due_in_s"] <= 3600


def test_a_payload_too_large_takes_no_neighbour_with_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A seed that makes a task over the queue's bound is named; those beside it are added."""
    big = "ü" * 450_000  # percent-encoded in the address it is six times as long
    (folder / "seeds").write_text(f'{{"n": 1}}\n{{"n": "{big}"}}\n{{"n": 3}}\n')
    assert call("seed", "-f", "seeds", "--resource", "pages") == Exit.USAGE
    said = capsys.readouterr()
    assert "2 new tasks" in said.out
    assert "error: seeds, line 2: " in said.err


@pytest.mark.parametrize("source", [["-f", "-"], ["-"]])
def test_a_slow_pipe_is_added_as_it_comes(folder: Path, store_url: str, source: list[str]) -> None:
    """Lines on standard input are in the queue before the pipe ends; Ctrl-C ends it at once, nothing lost."""
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
    ("args", "words"),
    [
        (["seed"], "seed what?"),
        (["seed", "ftp://x/", "--resource", "pages"], "'ftp://x/' is neither"),
        (["seed", URL], "which resource"),
        (["seed", URL, "--resource", "page"], "did you mean pages?"),
        (["seed", URL, "--resource", "pages", "--priority", "nan"], "--priority: nan is no finite number"),
        (["seed", URL, "--resource", "pages", "--priority", "-inf"], "no finite number"),
        (["seed", URL, "--resource", "pages", "--priority", "soon"], "no number and no time"),
        (["seed", URL, "--resource", "pages", "--delay", "-5s"], "negative"),
        (["seed", URL, "--resource", "pages", "--delay", "5"], "5 has no unit"),
        (["seed", "-f", "nowhere", "--resource", "pages"], "nowhere: cannot be read"),
        (["seed", "-f", ".", "--resource", "pages"], "cannot be read: Is a directory"),
        (["peek", "--state", "gone"], "--state: 'gone' is none"),
        (["peek", "--where", "status = 503"], "use '=='"),
        (["peek", "--where", "statos == 503"], "did you mean"),
        (["dead", "redrive"], "redrive which?"),
        (["dead", "drop", "1", "--all"], "drop which?"),
        (["dead", "show", "x1"], "is no task id"),
        (["dead", "show", "77"], "there is no task 77"),
        (["purge"], "purge what?"),
        (["run", "t.yaml", "--for", "10"], "--for: 10 has no unit"),
        (["run", "t.yaml", "--role", "boss"], "--role: 'boss' is none"),
        (["run", "t.yaml", "--progress", "loud"], "--progress: 'loud' is none"),
        (["run", "t.yaml", "--workers", "0"], "--workers"),
        (["run", "t.yaml", "--set", "workers"], "--set: 'workers' is no KEY=VALUE"),
        (["run", "t.yaml", "--only", "pagse"], "pagse"),
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["stauts"], "Did you mean 'status'"),
        (["status", "--frobnicate"], "--frobnicate"),
        (["status", "-q", "-v"], "contradict"),
        (["-c"], "argument"),
        (["-c", "t.yaml", "validate", "t.yaml"], "not both"),
    ],
)
def test_bad_usage_is_one_error_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    """Each mistake: one clear error on standard error, code 2, nothing on standard output, no traceback."""
    assert call(*args) == Exit.USAGE
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("error: ") and said.err.count("error: ") == 1
    assert said.out == "" and "Traceback" not in said.err


# --- looking


def test_status_without_a_run(folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status tells the states apart, names the store without its secrets, and shows limits that are closed."""
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


def test_peek_takes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best come first, conditions choose among them, and they stay where they are."""
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
    assert "none of 5 is meant" in capsys.readouterr().out
    assert call("status", "--json") == 0
    assert json_out(capsys)[0]["ready"] == 5


# --- dead letters


def test_dead_letters_are_listed_shown_and_sent_again(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """List counts the reasons; redrive by condition takes those alone; drop deletes; missing ids are named."""
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
    said = capsys.readouterr()
    assert said.out == "1 dead letter deleted\n"
    assert said.err == f"error: {first.lstrip('0')} is no dead letter\n"
    assert call("dead", "list") == 0
    assert capsys.readouterr().out == "no dead letters\n"
    assert third not in (first, second)


def test_redrive_all_goes_beyond_one_piece(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """More dead letters than are read in one call: all are sent again, each once."""
    make_dead(store_url, *["500 Internal Server Error"] * 1203)
    assert call("dead", "redrive", "--all", "--json") == 0
    assert json_out(capsys)[0]["redrive"] == 1203
    assert call("status", "--json") == 0
    reported = json_out(capsys)[0]
    assert (reported["ready"], reported["dead"]) == (1203, 0)


# --- purge


def test_purge_asks_or_wants_yes(folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody can be asked it wants --yes and deletes nothing; with it, only what was named."""
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
