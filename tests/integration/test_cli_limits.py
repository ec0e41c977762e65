"""The verb `limits` over a real store: what it shows, what it sets and what it forgets."""

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
    """A folder with a configuration that has limits, which the environment names; its store is the tests'."""
    (tmp_path / "t.yaml").write_text(CONFIG + RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


async def use(
    queue: Queue, instance: str, *, answered: int = 0, reported: tuple[float, float] | None = None
) -> None:
    """Requests of this limit: some answered, and one that told what is left (remaining, reset in seconds)."""
    for number in range(answered + (reported is not None)):
        lease = await queue.acquire(Group("g" + instance, (), instance), wait_s=5)
        assert lease is not None
        says = [(instance, *reported)] if reported is not None and number == answered else []
        await queue.settle(Entry(ACK, lease, reported=says))


def known(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """How each limit is known, by its name."""
    capsys.readouterr()
    assert call("limits", "--json") == 0
    (reported,) = json_out(capsys)
    return {limit["name"]: limit["known"] for limit in reported["limits"]}


def test_each_limit_says_how_it_is_known(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Configured, concurrency, told, unknown, parked and unused ones are told apart, in the file's order."""

    async def work(queue: Queue) -> None:
        await use(queue, "default|told.example,", reported=(39, 600))
        await queue.park(["default|new.example,"], for_s=600)

    assert call("limits", "show") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["LIMIT", "core", "few"]
    with_queue(store_url, lambda queue: use(queue, CORE, answered=3))
    with_queue(store_url, work)
    assert known(capsys) == {
        CORE: "configured",
        "few": "concurrency",
        "default|new.example,": "unknown",
        "default|told.example,": "told",
    }
    assert call("limits") == 0
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "5,000/1h, 100/1m burst 10" in rows["core api.example"]
    assert "3 of 5,000" in rows["core api.example"]
    assert "unused" in rows["few"] and "2 at once" in rows["few"]
    assert re.search(r"parked .* in (10m|9m\d+s)", rows["default new.example"])
    assert re.search(r"39 left, resets in (10m|9m\d+s)", rows["default told.example"])


def test_named_limits_are_shown_whole(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit's name means all its instances, an instance's name itself; an unknown one is an error with a hint."""
    with_queue(store_url, lambda queue: queue.park([CORE, "core|other.example"], for_s=90))
    assert call("limits", "show", "core") == 0
    said = capsys.readouterr().out
    assert said.count("parked, opens") == 2 and "one request first" in said
    assert call("limits", "show", CORE, "--json") == 0
    (reported,) = json_out(capsys)
    assert [limit["name"] for limit in reported["limits"]] == [CORE]
    assert 80 < reported["limits"][0]["parked_s"] <= 90 and reported["limits"][0]["consecutive_refusals"] == 0
    assert call("limits", "show", "cores") == Exit.USAGE
    assert "no limit is called 'cores'; did you mean core?" in capsys.readouterr().err


def test_the_yaml_validates_and_means_the_same(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What --yaml prints, put in the file's place, is read back as the limits that stand."""
    before = config.load("t.yaml").rate_limits
    with_queue(store_url, lambda queue: use(queue, CORE, answered=1))
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
    """Some answers, a refusal, and the probe that ends its park: size and window are estimated."""
    group = Group("g" + instance, (), instance)
    for refused in (False, False, True, False):
        lease = await queue.acquire(group, wait_s=5)
        assert lease is not None
        await queue.settle(Entry(ACK, lease, refused=[(instance, wait_s)] if refused else []))


def test_what_was_learned_is_shown_with_its_history(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Learned from refusals and named by an answer are told apart; both become rules per host that validate."""

    async def work(queue: Queue) -> None:
        await learn(queue, "default|shy.example:8080,")
        lease = await queue.acquire(Group("n", (), "default|names.example,"))
        assert lease is not None
        await queue.settle(Entry(ACK, lease, rates=[("default|names.example,", 40, 60.0)]))

    assert call("status") == 0  # the limits are known to the store
    with_queue(store_url, work)
    found = known(capsys)
    assert (found["default|shy.example:8080,"], found["default|names.example,"]) == ("learned", "told")
    assert call("limits", "show", "default") == 0
    said = capsys.readouterr().out
    assert "told, 40/1m" in said and "40/1m named by an answer" in said
    assert re.search(r"history +\d\d:\d\d:\d\d .* learned", said)
    assert call("limits", "show", "default", "--json") == 0
    (reported,) = json_out(capsys)
    assert [limit["history"][-1]["source"] for limit in reported["limits"]] == ["named", "learned"]
    assert call("limits", "show", "--yaml") == 0
    (folder / "again.yaml").write_text(CONFIG + capsys.readouterr().out)
    rules = {rule.name: rule for rule in config.load("again.yaml").rate_limits}
    assert rules["names-example"].match.host == ("names.example",)
    assert (rules["names-example"].rates[0].limit, rules["names-example"].rates[0].interval_s) == (40, 60)
    assert rules["shy-example-8080"].match.host == ("shy.example:8080",)


def test_nothing_known_is_an_empty_block(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no limit is known, that is said, as YAML and as text."""
    (folder / "t.yaml").write_text(CONFIG)
    assert call("limits") == 0
    assert "no limit is known yet" in capsys.readouterr().out
    assert call("limits", "show", "--yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"rate_limits": []}


def test_what_is_set_by_hand_stands_above_the_file_until_cleared(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It holds at once, other commands that read the file leave it, and clear brings the file's word back."""
    assert call("limits", "set", "core", "2/1h", "--max-concurrency", "9") == 0
    assert capsys.readouterr().out.startswith("core: 2/1h, 9 at once, by hand")
    assert call("status", "--json") == 0  # reads the file, and defines its limits
    with_queue(store_url, lambda queue: use(queue, CORE, answered=1))
    assert known(capsys) == {CORE: "by hand", "few": "concurrency"}
    assert call("limits", "show", "core") == 0
    assert "scrapeq limits clear core" in capsys.readouterr().out
    assert call("limits", "clear", "core", "--json") == 0
    assert json_out(capsys) == [{"v": 1, "queue": "t", "forgotten": [CORE], "was_set": True}]
    assert known(capsys) == {"core": "configured", "few": "concurrency"}
    definition = with_queue(store_url, lambda queue: queue.definitions())["core"]
    assert [rate.limit for rate in definition.rates] == [5000, 100] and definition.max_concurrency is None


def test_what_is_not_given_stays_as_the_file_says(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates keep the file's concurrency, a concurrency the file's rates; the implicit limit can be set too."""
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
    assert (rate.limit, rate.interval_s) == (1, 120), "half a request a minute is one in two, as in a file"


def test_a_concurrency_by_hand_leaves_the_files_calendar(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As YAML, too: windows of the calendar are written as they stand in the file."""
    (folder / "t.yaml").write_text(
        CONFIG + "rate_limits: [{name: day, rates: [{limit: 9, interval: 1d, aligned: UTC}]}]\n"
    )
    assert call("limits", "set", "day", "--max-concurrency", "3") == 0
    capsys.readouterr()
    assert call("limits", "show", "--yaml") == 0
    (folder / "again.yaml").write_text(CONFIG + capsys.readouterr().out)
    (rule,) = config.load("again.yaml").rate_limits
    assert (rule.rates[0].aligned, rule.max_concurrency) == ("UTC", 3)


def test_clear_of_one_instance_leaves_the_others(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the instance that is named is forgotten, and the wait that is lifted is said."""
    with_queue(store_url, lambda queue: queue.park([CORE, "core|other.example"], for_s=600))
    assert call("limits", "clear", CORE) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"forgotten: what was known of core api\.example \(a wait of (10m|9m\d+s) is lifted\)\n", said
    )
    assert list(known(capsys)) == ["core|other.example", "few"]
    assert call("limits", "clear", "few") == 0
    assert capsys.readouterr().out == "forgotten: nothing, for nothing was known\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["set", "core"], "set core to what?"),
        (["set", "core", "30"], "'30' is no rate: write 30/1m"),
        (["set", "core", "30/m"], "'30/m' is no rate: write 30/1m"),
        (["set", "core", "30/60"], "60 has no unit"),
        (["set", "core", "0/1m"], "must be more than 0"),
        (["set", "core", "5/0s"], "must be more than 0"),
        (["set", "core", "-5/1m"], "No such option"),
        (["set", "core", "30/1m", "--max-concurrency", "0"], "--max-concurrency"),
        (["set", "few", "--burst", "3"], "needs a rate"),
        (["set", "cor", "30/1m"], "did you mean core?"),
        (["set", "core|api.example", "30/1m"], "is one instance"),
        (["clear"], "missing argument"),
        (["clear", "nots"], "no limit is called 'nots'"),
        (["shw"], "No such command"),
    ],
)
def test_bad_usage_is_one_error_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    """Each mistake: one clear error, code 2, nothing on standard output."""
    assert call("limits", *args) == Exit.USAGE
    said = capsys.readouterr()
    assert words.lower() in said.err.lower()
    assert said.err.startswith("error: ") and said.err.count("error: ") == 1
    assert said.out == "" and "Traceback" not in said.err
