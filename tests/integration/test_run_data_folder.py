"""What a run leaves in its data folder: files of their owner only, no limits of dead ports, no obsolete failures."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_site import Folder, page_site

from scrapeq.exit_codes import Exit
from scrapeq.private_files import keep_owner_bits, private_file, private_folder

SAMPLE = """\
version: 1
name: sample
client: {base_url: "demo://", cache: {}}
resources:
  - {name: issues, endpoint: {path: repos/octo/tools/issues, params: {per_page: 100}, paginator: header_link}}
  - {name: missing, endpoint: no/such/page}
outputs: [{type: stdout}, {type: jsonl, path: "out/${resource}.jsonl"}]
"""


@pytest.fixture
def umask() -> Iterator[None]:
    """Restore the umask."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of everything below a folder that differs from 0700 and 0600."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if stat.S_IMODE(path.stat().st_mode) != (0o700 if path.is_dir() else 0o600)
    }


def test_files_ports_and_failures_after_two_runs(tmp_path: Path, umask: None) -> None:
    """Two runs under a umask that allows everything, on a folder that everybody could read."""
    os.umask(0)
    with page_site() as site:
        runs = Folder(tmp_path, site, 1)
    (tmp_path / "sample.yaml").write_text(SAMPLE)
    (tmp_path / ".scrapeq").mkdir(mode=0o777)
    code, out = runs.run("run", "sample.yaml", "--progress", "none")
    assert code == Exit.DEAD_LETTERS, out
    assert modes(tmp_path / ".scrapeq") == {}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777, "outputs follow the umask"
    code, out = runs.run("run", "sample.yaml", "--full-refresh", "--progress", "none")
    assert code == Exit.DEAD_LETTERS, out
    _, listed = runs.run("dead", "list", "--json")
    assert len(listed.splitlines()) == 1, "the failure of the first run is obsolete"
    _, limits = runs.run("limits", "--json")
    assert len(set(re.findall(r"127\.0\.0\.1:\d+", limits))) == 1


def test_the_owner_keeps_its_rights_under_a_umask_that_takes_them(tmp_path: Path, umask: None) -> None:
    """Group and others stay as the umask says; existing files are changed."""
    os.umask(0o777)
    keep_owner_bits()
    folder, file = tmp_path / "folder", tmp_path / "folder/file"
    private_folder(folder)
    private_file(file)
    (tmp_path / "plain").touch()
    assert modes(folder) == {}
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o600
    folder.chmod(0o755)
    file.chmod(0o644)
    private_folder(folder)
    private_file(file)
    assert modes(folder) == {}
