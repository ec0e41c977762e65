"""`scrapeq limits` with a real store: show, set and clear."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from cli_calls import CONFIG, call, json_out, with_queue

from scrapeq import config
from scrapeq.exit_codes import Exit
from scrapeq.queue import Entry, Queue
from scrapeq.queue.commands import ACK
from scrapeq.task import Group

RULES = """\
rate_limits:
  - name: core
    match: {resource: [pages, notes], path: "re:^/[pn]/"}
    partition_by: host
    rates: [{limit: 5000, interval: 1h}, {limit: 100, interval: 1m, burst: 10}]
  - {name: few, match: {resource: notes}, max_concurrency: 2}
"""
CORE = "core|api.example"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str) -> Path:
    """Return a directory with a configuration with limits that the environment names, with the store of the tests."""
    (tmp_path / "t.yaml").write_text(CONFIG + RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


async def use(
    queue: Queue, instance: str, *, responses: int = 0, reported: tuple[float, float] | None = None
) -> None:
    """Make requests under a limit: some with a plain response, then one that reports (remaining, reset in seconds)."""
    for number in range(responses + (reported is not None)):
        lease = await queue.acquire(Group("g" + instance, (), instance), wait_s=5)
        assert lease is not None
        budgets = [(instance, *reported)] if reported is not None and number == responses else []
        await queue.settle(Entry(ACK, lease, reported=budgets))


def known(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return the source of each limit's rate by name."""
    capsys.readouterr()
    assert call("limits", "--json") == 0
    (reported,) = json_out(capsys)
    return {limit["name"]: limit["known"] for limit in reported["limits"]}


def test_each_limit_names_the_source_of_its_rate(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Configured, concurrency, reported, unknown, parked and unused limits differ; the file's order is kept."""

    async def work(queue: Queue) -> None:
        await use(queue, "default|reporting.example,", reported=(39, 600))
        await queue.park(["default|new.example,"], for_s=600)

    assert call("limits", "show") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["LIMIT", "core", "few"]
    with_queue(store_url, lambda queue: use(queue, CORE, responses=3))
    with_queue(store_url, work)
    assert known(capsys) == {
        CORE: "configured",
        "few": "concurrency",
        "default|new.example,": "unknown",
        "default|reporting.example,": "reported",
    }
    assert call("limits") == 0
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "5,000/1h, 100/1m burst 10" in rows["core api.example"]
    assert "3 of 5,000" in rows["core api.example"]
    assert "unused" in rows["few"] and "2 concurrent" in rows["few"]
    assert re.search(r"parked .* in (10m|9m\d+s)", rows["default new.example"])
    assert re.search(r"39 left, resets in (10m|9m\d+s)", rows["default reporting.example"])


def test_named_limits_are_shown_in_detail(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of a limit selects all its instances; an unknown name is an error with a suggestion."""
    with_queue(store_url, lambda queue: queue.park([CORE, "core|other.example"], for_s=90))
    assert call("limits", "show", "core") == 0
    printed = capsys.readouterr().out
    assert printed.count("parked, opens") == 2 and "one probe first" in printed
    assert call("limits", "show", CORE, "--json") == 0
    (reported,) = json_out(capsys)
    assert [limit["name"] for limit in reported["limits"]] == [CORE]
    assert 80 < reported["limits"][0]["parked_s"] <= 90 and reported["limits"][0]["consecutive_refusals"] == 0
    assert call("limits", "show", "cores") == Exit.USAGE
    assert "unknown limit 'cores'; did you mean core?" in capsys.readouterr().err


def test_the_printed_yaml_is_read_back_as_the_same_limits(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration with the output of --yaml is valid and has the limits in force."""
    before = config.load("t.yaml").rate_limits
    with_queue(store_url, lambda queue: use(queue, CORE, responses=1))
    assert call("limits", "show", "--yaml") == 0
    written = capsys.readouterr().out
    (folder / "again.yaml").write_text(CONFIG + written)
    assert config.load("again.yaml").rate_limits == before
    assert call("limits", "set", "core", "7.5/90s") == 0
    capsys.readouterr()
    assert call("limits", "show", "--yaml") == 0
    written = capsys.readouterr().out
    assert yaml.safe_load(written)["rate_limits"][0]["rates"] == [{"limit": 7.5, "interval": "1m30s"}]
    (folder / "again.yaml").write_text(CONFIG + written)
    assert [rate.limit for rate in config.load("again.yaml").rate_limits[0].rates] == [7.5]


async def learn(queue: Queue, instance: str, *, wait_s: float = 0.2) -> None:
    """Let the queue learn a limit: some responses, a refusal, and the probe that ends its park."""
    group = Group("g" + instance, (), instance)
    for refused in (False, False, True, False):
        lease = await queue.acquire(group, wait_s=5)
        assert lease is not None
        await queue.settle(Entry(ACK, lease, refused=[(instance, wait_s)] if refused else []))


def test_learned_rates_are_shown_with_their_history(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates learned from refusals and rates reported by the server differ; both become valid rules per host."""

    async def work(queue: Queue) -> None:
        await learn(queue, "default|shy.example:8080,")
        lease = await queue.acquire(Group("n", (), "default|names.example,"))
        assert lease is not None
        await queue.settle(Entry(ACK, lease, rates=[("default|names.example,", 40, 60.0)]))

    assert call("status") == 0  # defines the limits of the file in the store
    with_queue(store_url, work)
    found = known(capsys)
    assert (found["default|shy.example:8080,"], found["default|names.example,"]) == ("learned", "reported")
    assert call("limits", "show", "default") == 0
    printed = capsys.readouterr().out
    assert "reported, 40/1m" in printed and "40/1m reported by the server" in printed
    assert re.search(r"history +\d\d:\d\d:\d\d .* learned", printed)
    assert call("limits", "show", "default", "--json") == 0
    (reported,) = json_out(capsys)
    assert [limit["history"][-1]["source"] for limit in reported["limits"]] == ["named", "learned"]
    assert call("limits", "show", "--yaml") == 0
    (folder / "again.yaml").write_text(CONFIG + capsys.readouterr().out)
    rules = {rule.name: rule for rule in config.load("again.yaml").rate_limits}
    assert rules["names-example"].match.host == ("names.example",)
    assert (rules["names-example"].rates[0].limit, rules["names-example"].rates[0].interval_s) == (40, 60)
    assert rules["shy-example-8080"].match.host == ("shy.example:8080",)


def test_without_known_limits_the_yaml_is_an_empty_list(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text says that no limits are known."""
    (folder / "t.yaml").write_text(CONFIG)
    assert call("limits") == 0
    assert "no limits known yet" in capsys.readouterr().out
    assert call("limits", "show", "--yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"rate_limits": []}


def test_a_manual_setting_overrides_the_file_until_it_is_cleared(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It applies at once, commands that read the file keep it, and clear restores the limits of the file."""
    assert call("limits", "set", "core", "2/1h", "--max-concurrency", "9") == 0
    assert capsys.readouterr().out.startswith("core: 2/1h, 9 concurrent; to undo: scrapeq limits clear core")
    assert call("status", "--json") == 0  # reads the file and defines its limits
    with_queue(store_url, lambda queue: use(queue, CORE, responses=1))
    assert known(capsys) == {CORE: "manual", "few": "concurrency"}
    assert call("limits", "show", "core") == 0
    assert "scrapeq limits clear core" in capsys.readouterr().out
    assert call("limits", "clear", "core", "--json") == 0
    assert json_out(capsys) == [{"v": 1, "queue": "t", "forgotten": [CORE], "was_set": True}]
    assert known(capsys) == {"core": "configured", "few": "concurrency"}
    definition = with_queue(store_url, lambda queue: queue.definitions())["core"]
    assert [rate.limit for rate in definition.rates] == [5000, 100] and definition.max_concurrency is None


def test_a_manual_setting_keeps_what_it_does_not_give(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates keep the concurrency of the file, a concurrency keeps its rates; the implicit limit can be set too."""
    assert call("limits", "set", "few", "30/1m", "100/1d") == 0
    assert call("limits", "set", "core", "--max-concurrency", "3") == 0
    assert call("limits", "set", "default", "1/2s", "--burst", "4") == 0
    defined = with_queue(store_url, lambda queue: queue.definitions())
    assert [(rate.limit, rate.interval_s) for rate in defined["few"].rates] == [(30, 60), (100, 86_400)]
    assert defined["few"].max_concurrency == 2
    assert (len(defined["core"].rates), defined["core"].max_concurrency) == (2, 3)
    assert defined["default"].rates[0].burst == 4 and not defined["default"].learn
    assert call("limits", "set", "few", "0.5/1m") == 0
    (rate,) = with_queue(store_url, lambda queue: queue.definitions())["few"].rates
    assert (rate.limit, rate.interval_s) == (1, 120), (
        "half a request per minute is one request per two minutes, as in a file"
    )


def test_a_manual_concurrency_keeps_aligned_rates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--yaml prints aligned rates as the file has them."""
    (folder / "t.yaml").write_text(
        CONFIG + "rate_limits: [{name: day, rates: [{limit: 9, interval: 1d, aligned: UTC}]}]\n"
    )
    assert call("limits", "set", "day", "--max-concurrency", "3") == 0
    capsys.readouterr()
    assert call("limits", "show", "--yaml") == 0
    (folder / "again.yaml").write_text(CONFIG + capsys.readouterr().out)
    (rule,) = config.load("again.yaml").rate_limits
    assert (rule.rates[0].aligned, rule.max_concurrency) == ("UTC", 3)


def test_clearing_one_instance_keeps_the_others(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the named instance is deleted, and the output names the lifted wait."""
    with_queue(store_url, lambda queue: queue.park([CORE, "core|other.example"], for_s=600))
    assert call("limits", "clear", CORE) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(
        r"deleted: the state of core api\.example \(lifted a wait of (10m|9m\d+s)\)\n", printed
    )
    assert list(known(capsys)) == ["core|other.example", "few"]
    assert call("limits", "clear", "few") == 0
    assert capsys.readouterr().out == "deleted: nothing, the store had no data about it\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["set", "core"], "limits set: give a rate or --max-concurrency"),
        (["set", "core", "30"], "'30' is not a rate; write requests/interval, for example 30/1m"),
        (["set", "core", "30/m"], "'30/m' is not a rate; write 30/1m"),
        (["set", "core", "30/60"], "60 has no unit"),
        (["set", "core", "0/1m"], "must be more than 0"),
        (["set", "core", "5/0s"], "must be more than 0"),
        (["set", "core", "-5/1m"], "No such option"),
        (["set", "core", "30/1m", "--max-concurrency", "0"], "--max-concurrency"),
        (["set", "few", "--burst", "3"], "needs a rate"),
        (["set", "cor", "30/1m"], "did you mean core?"),
        (["set", "core|api.example", "30/1m"], "is one instance"),
        (["clear"], "missing argument"),
        (["clear", "nots"], "unknown limit 'nots'"),
        (["shw"], "No such command"),
    ],
)
def test_wrong_usage_is_one_error_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    """Each mistake gives one error on standard error, code 2, and nothing on standard output."""
    assert call("limits", *args) == Exit.USAGE
    printed = capsys.readouterr()
    assert message.lower() in printed.err.lower()
    assert printed.err.startswith("error: ") and printed.err.count("error: ") == 1
    assert printed.out == "" and "Traceback" not in printed.err
