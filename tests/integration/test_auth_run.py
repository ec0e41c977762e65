"""Whole runs of two fetcher processes with credentials that they request from real servers."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from pathlib import Path

import pytest
from auth_server import CLIENT, CLIENT_SECRET, PASSWORD, REFRESH, USER, AuthServer
from digest_server import PASSWORD as WORD
from digest_server import USER as NAME
from digest_server import DigestServer

TASKS = 30
GIVE_UP_S = 60.0
CONFIG = """\
version: 1
name: guarded
client: {base_url: URL, auth: AUTH}
seeds: [SEEDS]
resources: [{name: items, endpoint: "items/${seed.n}"}]
outputs: [{type: jsonl, path: out.jsonl}, {type: warc, path: out.warc.gz}]
"""
SECRETS = {
    "CLIENT": CLIENT,
    "SECRET": CLIENT_SECRET,
    "REFRESH": REFRESH,
    "USER_NAME": USER,
    "PASSWORD": PASSWORD,
}
CREDENTIALS = (
    'access_token_url: TOKEN_URL/oauth/token, client_id: "${env:CLIENT}", client_secret: "${env:SECRET}"'
)
OAUTH2 = "{type: oauth2_client_credentials, " + CREDENTIALS + "}"
REFRESHING = '{type: oauth2_refresh_token, refresh_token: "${env:REFRESH}", ' + CREDENTIALS + "}"
DATA = '{user: "${env:USER_NAME}", password: "${env:PASSWORD}"}'
FORM = '{type: session, login: {path: login, form: "#login", data: ' + DATA + "}}"


async def run(
    folder: Path,
    url: str,
    auth: str,
    *,
    token_url: str = "",
    more: str = "",
    tasks: int = TASKS,
    code: int = 0,
    **env: str,
) -> str:
    """Run the command, which must end with this exit code; return its output."""
    seeds = ", ".join(f"{{n: {n}}}" for n in range(tasks))
    text = (
        CONFIG.replace("AUTH", auth)
        .replace("TOKEN_URL", token_url or url)
        .replace("URL", url)
        .replace("SEEDS", seeds)
    )
    if "run: " not in more:
        more += "run: {workers: 2, concurrency: 8}\n"
    (folder / "guarded.yaml").write_text(text + more)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scrapeq", "run", "guarded.yaml"),
        cwd=folder,
        env={**os.environ, **SECRETS, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), GIVE_UP_S)
    except TimeoutError:
        child.kill()
        raise
    assert child.returncode == code, output.decode()
    return output.decode()


def written(folder: Path) -> int:
    """Return the number of written items."""
    return len((folder / "out.jsonl").read_text().splitlines())


def check_no_secret_is_shown(folder: Path, server: AuthServer, log: str) -> None:
    """Check that the store's files, outputs, logs and console output contain neither secrets nor issued tokens."""
    files = [
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("guarded.tokens")
    ]
    assert any("store" in str(path) for path in files)
    assert any(path.suffix == ".gz" for path in files)
    written = log.encode()
    for path in files:
        raw = path.read_bytes()
        written += _decompressed(raw) if path.suffix == ".gz" else raw
    secrets = [
        CLIENT_SECRET,
        REFRESH,
        server.refresh,
        PASSWORD,
        *server.good,
        *server.tokens,
        *server.sessions,
    ]
    assert [secret for secret in secrets if secret.encode() in written] == []


def _decompressed(raw: bytes) -> bytes:
    import gzip

    return gzip.decompress(raw)


@pytest.mark.parametrize("auth", [OAUTH2, FORM], ids=["client", "form"])
async def test_two_processes_share_one_login_and_show_no_secret(tmp_path: Path, auth: str) -> None:
    """All tasks share one login, and only the user can read its file; a limit may allow one request at first."""
    server = AuthServer(rotates=True)
    async with server.serving() as url:
        log = await run(tmp_path, url, auth)
        assert len(server.login_requests) == 1
        assert server.denied == 0
        assert written(tmp_path) == TASKS
        check_no_secret_is_shown(tmp_path, server, log)
        (tmp_path / "out.jsonl").unlink()
        await run(tmp_path, url, auth)
    assert len(server.login_requests) == 1  # the next run uses the same token
    token_file = tmp_path / ".scrapeq" / "guarded.tokens"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("auth", [REFRESHING, FORM], ids=["refresh", "form"])
async def test_a_refused_credential_is_refreshed_once(tmp_path: Path, auth: str) -> None:
    """If each credential is valid for ten requests, tasks with a 401 are retried, and none fails."""
    server = AuthServer(rotates=True, uses=10)
    async with server.serving() as url:
        log = await run(tmp_path, url, auth)
        check_no_secret_is_shown(tmp_path, server, log)
    assert written(tmp_path) == TASKS
    assert TASKS / 10 <= len(server.login_requests) <= TASKS / 10 + 1
    assert server.served == TASKS


async def test_a_wrong_secret_ends_the_run(tmp_path: Path) -> None:
    """The exit code is 8, the output has the endpoint's reason, and the tasks stay queued."""
    server = AuthServer()
    async with server.serving() as url:
        log = await run(tmp_path, url, OAUTH2, tasks=3, code=8, SECRET="wrong-secret")
        assert "did not issue a token: 401, invalid_client: not ***" in " ".join(log.split())
        assert "wrong-secret" not in log
        assert len(server.login_requests) <= 2
        assert server.served == server.denied == 0
        await run(tmp_path, url, OAUTH2, tasks=3)  # with the right secret, the remaining tasks run
    assert written(tmp_path) == 3


async def test_a_token_endpoint_that_is_down_is_retried(tmp_path: Path) -> None:
    """One task retries the login after growing pauses; meanwhile, the API receives no request."""
    server = AuthServer()
    server.failures = [(503, {}, {}), (500, {}, {})]
    async with server.serving() as url:
        log = await run(tmp_path, url, OAUTH2)
    assert len(server.login_requests) == 3
    assert server.requested_at_s[1] - server.requested_at_s[0] >= 1.0
    assert server.requested_at_s[2] - server.requested_at_s[1] >= 1.0
    assert server.denied == 0
    assert written(tmp_path) == TASKS
    assert "30 pages, 30 items" in log


async def test_a_refusal_by_the_token_endpoint_is_waited_out(tmp_path: Path) -> None:
    """The Retry-After closes the endpoint's own limit until its time, and does not count as an attempt."""
    api, tokens = AuthServer(), AuthServer()
    tokens.failures = [(429, {}, {"Retry-After": "2"})]
    async with api.serving() as url, tokens.serving() as token_url:
        api.good = tokens.good
        log = await run(tmp_path, url, OAUTH2, token_url=token_url)
    assert len(tokens.login_requests) == 2
    assert tokens.requested_at_s[1] - tokens.requested_at_s[0] >= 2.0
    assert api.served == TASKS
    assert api.denied == 0
    assert "parked all tasks that need the credential for " in log
    assert " for 0 s: " not in log
    assert written(tmp_path) == TASKS


async def test_logins_keep_their_own_limit(tmp_path: Path) -> None:
    """With one login per second, tokens that are valid for five requests make the run wait."""
    server = AuthServer(uses=5)
    limit = "rate_limits: [{name: logins, match: {path: /oauth/*}, rates: [{limit: 1, interval: 1s}]}]\n"
    # Fewer requests in flight than a token is valid for: a task never meets three tokens that others have used up.
    limit += "run: {workers: 2, concurrency: 2}\n"
    async with server.serving() as url:
        started_s = time.monotonic()
        await run(tmp_path, url, OAUTH2, more=limit, tasks=20)
    gaps = [
        later - earlier
        for earlier, later in zip(server.requested_at_s, server.requested_at_s[1:], strict=False)
    ]
    assert len(server.requested_at_s) >= 4
    assert min(gaps) >= 0.95
    assert time.monotonic() - started_s >= 3
    assert written(tmp_path) == 20


async def test_a_login_fits_into_a_limit_of_one(tmp_path: Path) -> None:
    """A limit of one request in flight, including token requests, does not cause a deadlock."""
    server = AuthServer(uses=4)
    limit = "rate_limits: [{name: all, partition_by: [], max_concurrency: 1}]\n"
    async with server.serving() as url:
        await run(tmp_path, url, OAUTH2, more=limit, tasks=12)
    assert server.max_in_flight == 1
    assert written(tmp_path) == 12


PLUGIN = """\
import httpx


def acme(user: str, word: str) -> httpx.Auth:
    return httpx.DigestAuth(user, word)
"""


async def test_an_entry_point_provides_the_credential(tmp_path: Path) -> None:
    """The auth of another package receives its options and takes part in the run."""
    plugins = tmp_path / "plugins"
    (plugins / "acme-1.dist-info").mkdir(parents=True)
    (plugins / "acme_auth.py").write_text(PLUGIN)
    (plugins / "acme-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (plugins / "acme-1.dist-info" / "entry_points.txt").write_text("[scrapeq.auth]\nacme = acme_auth:acme\n")
    server = DigestServer()
    path = os.pathsep.join([str(plugins), os.environ.get("PYTHONPATH", "")])
    async with server.serving() as url:
        auth = '{type: acme, user: "${env:NAME}", word: "${env:WORD}"}'
        await run(tmp_path, url, auth, tasks=10, PYTHONPATH=path, NAME=NAME, WORD=WORD)
        log = await run(
            tmp_path, url, auth.replace("word", "wrod"), code=2, PYTHONPATH=path, NAME=NAME, WORD=WORD
        )
    assert "client.auth: acme does not accept these options: acme() got an unexpected keyword argument" in log
    assert server.statuses.count(200) == 10
    assert 1 <= server.statuses.count(401) <= 4  # one per process, or two concurrent ones
    assert written(tmp_path) == 10
