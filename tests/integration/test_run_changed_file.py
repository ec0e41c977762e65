"""The real command after its file was edited under an unfinished run, or renamed, or copied under the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from page_site import Folder, Site, page_site

from scrapeq.exit_codes import Exit

SEEDS = [{"n": n} for n in range(6)]
FIRST = ["/p/0", "/p/1"]


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield a site."""
    with page_site() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, site: Site) -> Iterator[Folder]:
    """Yield a folder with an unfinished run: two of six pages are fetched."""
    found = Folder(tmp_path, site, len(SEEDS), concurrency=1)
    code, out = found.run("run", "site.yaml", "--max-requests", "2")
    assert code == Exit.STOPPED, out
    assert len(site.requested) == 2
    site.requested.clear()
    yield found
    found.end()


def left(folder: Folder) -> list[str]:
    """Return the pages that the first run has not fetched."""
    return sorted({f"/p/{seed['n']}" for seed in SEEDS} - set(folder.ids()))


def test_new_seeds_and_a_new_resource_are_fetched(folder: Folder, site: Site) -> None:
    """The line says what changed; what is done is not fetched again; a third run has nothing to report."""
    rest = left(folder)

    def change(text: str) -> str:
        more = '  - {name: more, endpoint: "more/${seed.n}", seeds: [{n: a}]}\noutputs:'
        return text.replace("outputs:", more)

    folder.write(site, [*SEEDS[1:], {"n": "new"}], concurrency=1, change=change)
    code, out = folder.run("run", "site.yaml", "--max-requests", "1")
    assert code == Exit.STOPPED, out
    assert (
        "check  the file changed since this run began: resource more added, new seeds of pages: 1, "
        "seeds removed: 1 (queued requests stay); --full-refresh restarts"
    ) in out
    code, out = folder.run("run", "site.yaml")
    assert code == Exit.DONE, out
    assert "the file changed" not in out
    assert sorted(site.requested) == ["/more/a", *rest, "/p/new"]


def test_changed_requests_are_reported(folder: Folder, site: Site) -> None:
    """Queued requests stay as they are, and a new seed is requested in the new form."""
    rest = left(folder)

    def change(text: str) -> str:
        return text.replace(
            'endpoint: "p/${seed.n}"', 'endpoint: {path: "p/${seed.n}", params: {expand: all}}'
        )

    folder.write(site, [*SEEDS, {"n": 9}], concurrency=1, change=change)
    code, out = folder.run("run", "site.yaml")
    assert code == Exit.DONE, out
    assert "resource pages changed (queued requests stay as they are), new seeds of pages: 1;" in out
    assert sorted(site.requested) == [*rest, "/p/9?expand=all"]


def test_tasks_of_a_renamed_resource_cost_no_request(folder: Folder, site: Site) -> None:
    """They are dropped, and the pages of the new resource are fetched; so the run is complete."""
    folder.write(
        site,
        SEEDS,
        concurrency=1,
        change=lambda text: text.replace('name: pages, endpoint: "p/', 'name: things, endpoint: "t/'),
    )
    code, out = folder.run("run", "site.yaml")
    assert code == Exit.DONE, out
    assert (
        "resource pages removed (queued tasks are dropped without a request), resource things added;" in out
    )
    assert out.count("check  queued tasks of pages are dropped") == 1
    assert sorted(site.requested) == [f"/t/{n}" for n in range(6)]
    assert len((folder.path / "out/things.jsonl").read_bytes().splitlines()) == 6


def test_a_child_that_comes_late_is_incomplete(folder: Folder, site: Site) -> None:
    """Parents of the first start are not fetched again, so their children are missing, and the exit code says so."""
    rest = left(folder)

    def change(text: str) -> str:
        return text.replace(
            "outputs:", '  - {name: notes, parent: pages, endpoint: "notes${raw(parent.id)}"}\noutputs:'
        )

    folder.write(site, SEEDS, concurrency=1, change=change)
    code, out = folder.run("run", "site.yaml")
    assert code == Exit.DEAD_LETTERS, out
    assert "missing   notes: 1 incomplete page sequence: added during the run" in out
    assert sorted(site.requested) == [*(f"/notes{path}" for path in rest), *rest]
    code, out = folder.run("run", "site.yaml", "--full-refresh")
    assert code == Exit.DONE, out


def test_an_unchanged_file_and_comments_are_not_reported(folder: Folder, site: Site) -> None:
    """Nor limits and workers, which apply at once."""
    folder.write(
        site, SEEDS, concurrency=2, change=lambda text: "# a comment\n" + text.replace("1000", "999")
    )
    code, out = folder.run("run", "site.yaml")
    assert code == Exit.DONE, out
    assert "the file changed" not in out


def test_a_queue_belongs_to_one_file(folder: Folder, site: Site) -> None:
    """A copy with the same name is refused before it requests or pushes anything; a renamed file takes over."""
    rest = left(folder)
    copy = (folder.path / "site.yaml").read_text().replace("p/${", "copy/${")
    (folder.path / "copy.yaml").write_text(copy)
    for words in (
        ["run", "copy.yaml"],
        ["run", "copy.yaml", "--full-refresh"],
        ["-c", "copy.yaml", "seed", site.url],
    ):
        code, out = folder.run(*words)
        assert code == Exit.USAGE, out
        assert "error: copy.yaml: the queue 'site' belongs to site.yaml: both files have this name" in out
        assert "Give copy.yaml a `name` of its own" in out
        assert "--take-over" in out
    (folder.path / "site.yaml").rename(folder.path / "renamed.yaml")
    code, out = folder.run("run", "renamed.yaml", "--take-over")
    assert code == Exit.DONE, out
    assert sorted(site.requested) == rest
    code, out = folder.run("run", "renamed.yaml")
    assert code == Exit.DONE, out


def test_a_task_of_an_unknown_resource_is_a_dead_letter_without_a_request(folder: Folder, site: Site) -> None:
    """Perhaps another machine has a newer file: the task can be redriven."""
    with_more = (folder.path / "site.yaml").read_text()
    (folder.path / "newer").mkdir()
    (folder.path / "newer/site.yaml").write_text(
        with_more.replace("outputs:", '  - {name: newer, endpoint: "x/${seed.n}", seeds: [{n: 1}]}\noutputs:')
    )
    code, out = folder.run("-c", "newer/site.yaml", "seed", f"{site.url}/x/1", "--resource", "newer")
    assert code == Exit.DONE, out
    code, out = folder.run("run", "site.yaml")
    assert code == Exit.DEAD_LETTERS, out
    assert "/x/1" not in site.requested
    code, out = folder.run("dead", "list", "--json")
    assert [orjson.loads(line)["error"] for line in out.splitlines()] == [
        "the file does not have a resource 'newer'; add it, then redrive"
    ]
