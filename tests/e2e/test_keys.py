"""Keys over two coordinators for real: 600 a minute, rotation by a changed file, and what a loaded run leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.serving import Served
from orchestrator.keys import hash_of, make_key
from tests.postgres import PASSWORD, Postgres, programs
from tests.upstream import Upstream

pytestmark = pytest.mark.timed

PROVIDER_KEY, SECOND_KEY, WRONG_PASSWORD = "sk-provider-4f1d2c9a7b", "sk-provider-8e3b6d0c5a", "secret-0d9c8b7a6e"
ROOT, JOHN, EVEN, BURST, ROTATED = (make_key() for _ in range(5))
LIMIT = 600
CONFIG = """
providers:
  sim: {{simulate: {{latency_s: {{median: 0.01, p99: 0.02}}, tokens_per_s: 5000}}}}
  up:
    base_url: http://127.0.0.1:{port}/v1
    api_key: [{first}, "${{SECOND_PROVIDER_KEY}}"]
    models: [ok]
    retry: {{attempts: 2, backoff_s: 0.01}}
    timeouts: {{connect_s: 2, first_token_s: 1, idle_s: 1, answer_s: 1, total_s: 3}}
tiers: {{both: [up/unavailable, sim/chat]}}
users: {{john: {{experiments: {{one: [sim/chat]}}}}}}
ledger: {{url: "{ledger}"}}
server:
  keys:
{keys}
"""


def entry(key: str, name: str, more: str = "") -> str:
    return f"    - {{name: {name}, key_sha256: {hash_of(key)}{more}}}\n"


ALL = (
    entry(ROOT, "root", ", admin: true")
    + entry(JOHN, "john", ", user: john, models: ['sim/*', 'tier:*', 'user:*', 'up/*']")
    + entry(EVEN, "even", f", requests_per_minute: {LIMIT}")
    + entry(BURST, "burst", f", requests_per_minute: {LIMIT}")
)


Written = Callable[..., str]


@pytest.fixture(scope="module")
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its database: one with a password, where this machine can have one."""
    if programs() is None and os.environ.get("CI") != "true":
        return f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture(scope="module")
def written(upstream: Upstream, ledger: str) -> Written:
    def one(keys: str, url: str = ledger) -> str:
        return CONFIG.format(port=upstream.port, first=PROVIDER_KEY, keys=keys, ledger=url)

    return one


@pytest.fixture(scope="module")
def locked(written: Written, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    """The endpoint with keys and two coordinators."""
    config = tmp_path_factory.mktemp("keys") / "config.yaml"
    config.write_text(written(ALL))
    os.environ["SECOND_PROVIDER_KEY"] = SECOND_KEY
    try:
        served = Served(config, "--replicas", "2")
    finally:
        del os.environ["SECOND_PROVIDER_KEY"]
    yield config, served
    if served.process.poll() is None:
        served.stop()
    assert served.left() == []


def client(served: Served, connections: int = 100) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=served.root, timeout=30, limits=limits)


async def chat(http: httpx.AsyncClient, key: str, model: str = "sim/chat", **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    return await http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})


@pytest.mark.timeout(180)
async def test_six_hundred_a_minute_over_two_coordinators(locked: tuple[Path, Served]) -> None:
    """Of 900 that come evenly, and of 1,000 that come at once, so many pass within a minute, to one percent."""
    _, served = locked
    passed = {EVEN: 0, BURST: 0}
    async with client(served) as http:
        shown = (await http.get("/admin/config", headers={"x-api-key": ROOT})).json()
        assert 2 == shown["coordinators"]
        began_s = time.monotonic()

        async def one(key: str, after_s: float) -> None:
            await asyncio.sleep(began_s + after_s - time.monotonic())
            answer = await chat(http, key)
            assert answer.status_code in (200, 429), answer.text
            assert str(LIMIT) == answer.headers["x-ratelimit-limit-requests"]
            if answer.status_code == 200:
                passed[key] += time.monotonic() - began_s < 60
            else:
                assert 1 <= int(answer.headers["retry-after"]) <= 61

        evenly = [one(EVEN, number / 15) for number in range(900)]
        at_once = [one(BURST, 2.0) for _ in range(1_000)]
        await asyncio.gather(*evenly, *at_once)
    assert LIMIT * 0.99 <= passed[EVEN] <= LIMIT * 1.01
    assert LIMIT * 0.99 <= passed[BURST] <= LIMIT * 1.01


async def test_keys_rotate_by_a_changed_file(locked: tuple[Path, Served], written: Written) -> None:
    """A new one is taken and an old one refused by both coordinators within 2 s; other requests notice nothing."""
    config, served = locked
    async with client(served) as http:
        assert [200, 401] == [(await chat(http, key)).status_code for key in (JOHN, ROTATED)]
        config.write_text(written(ALL.replace(hash_of(JOHN), hash_of(ROTATED))))
        began_s, right = time.monotonic(), 0
        while right < 6:
            statuses = [(await chat(http, key)).status_code for key in (ROOT, JOHN, ROTATED)]
            assert 200 == statuses[0]
            right = right + 1 if statuses[1:] == [401, 200] else 0
            assert time.monotonic() - began_s < 3
        config.write_text(written(ALL))
        while (await chat(http, JOHN)).status_code != 200 or (await chat(http, JOHN)).status_code != 200:
            assert time.monotonic() - began_s < 10


async def test_keys_made_and_revoked_while_it_runs(locked: tuple[Path, Served]) -> None:
    """Taken by both coordinators at once, since an unknown one is looked up; refused by both within a second."""
    _, served = locked
    async with client(served) as http:
        made = await http.post("/admin/keys", headers={"x-api-key": ROOT}, json={"name": "made", "models": ["sim/*"]})
        key = made.json()["key"]
        assert [200] * 8 == [(await chat(http, key)).status_code for _ in range(8)]
        assert 200 == (await http.delete("/admin/keys/made", headers={"x-api-key": ROOT})).status_code
        await asyncio.sleep(1)
        assert [401] * 8 == [(await chat(http, key)).status_code for _ in range(8)]


def test_commands_bring_a_key(locked: tuple[Path, Served]) -> None:
    """From the environment, by the usual name or another; without one they say which they would read."""
    _, served = locked

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestrator.cli", *arguments, "--url", served.url]
        env = {**os.environ, **variables}
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)

    assert "simulated by sim" in run("ask", "sim/chat", "hello", ORCHESTRATOR_API_KEY=JOHN).stdout
    assert "user:john:one" in run("models", "--key-env", "MINE", MINE=JOHN).stdout
    assert "sim" in run("pools", ORCHESTRATOR_API_KEY=ROOT).stdout
    for command in (("models",), ("pools",)):
        refused = run(*command)
        assert (2, True) == (refused.returncode, "ORCHESTRATOR_API_KEY" in refused.stderr)
    assert (2, True) == ((wrong := run("pools", ORCHESTRATOR_API_KEY=JOHN)).returncode, "admin" in wrong.stderr)


def test_what_other_machines_could_reach(locked: tuple[Path, Served]) -> None:
    """The pools and the proxy listen on loopback alone, whatever else Ray opens; a replica's own port asks for keys."""
    _, served = locked
    for title in ("ray::Pool", "ray::Simulator", "haproxy"):
        addresses = {
            at.laddr.ip
            for process in served.processes(title)
            for at in process.net_connections("tcp")
            if at.status == psutil.CONN_LISTEN and at.laddr.port in {served.port} | _own_ports(process)
        }
        assert addresses <= {"127.0.0.1"}, (title, addresses)


def _own_ports(process: psutil.Process) -> set[int]:
    """Those that it listens on by this project's doing: Ray's own and HAProxy's statistics listen elsewhere."""
    if "haproxy" in process.name():
        return set()
    return {
        at.laddr.port
        for at in process.net_connections("tcp")
        if at.status == psutil.CONN_LISTEN and at.laddr.ip == "127.0.0.1"
    }


@pytest.mark.timeout(180)
async def test_a_loaded_run_leaves_no_key_behind(locked: tuple[Path, Served], written: Written, ledger: str) -> None:
    """Not in logs, errors, answers of /admin, names and arguments of actors, arguments of processes, or files; nor the
    password of the ledger's database, a right one or a wrong one."""
    config, served = locked
    texts: dict[str, str] = {}
    async with client(served) as http:
        texts["a key"] = (await http.get("/admin/keys", headers={"x-api-key": ROOT})).text
        models = (
            "up/ok",
            "up/unauthorized",
            "up/unavailable",
            "up/reset",
            "tier:both",
            "user:john:one",
            "up/html",
            "nobody/x",
        )
        for model in models:
            for fields in ({}, {"stream": True}, {"orchestrator": {"models": [model, "sim/chat"]}}):
                for key in (JOHN, "sk-wrong-" + JOHN[8:]):
                    texts[f"{model} {fields}"] = (await chat(http, key, model, **fields)).text
        leaving = [asyncio.ensure_future(chat(http, JOHN, "up/slow-5")) for _ in range(4)]
        await asyncio.sleep(0.3)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        config.write_text(written(ALL, ledger.replace(PASSWORD, WRONG_PASSWORD)))
        await asyncio.sleep(2)
        texts["without a ledger"] = (await http.get("/admin/spend", headers={"x-api-key": ROOT})).text
        texts["a key that nobody can look up"] = (await chat(http, "sk-orch-unknown")).text
        for path in ("/admin/config", "/admin/pools", "/ready", "/v1/models"):
            texts[path] = (await http.get(path, headers={"x-api-key": ROOT})).text
            assert len(texts[path]) > 10
    hashes = [hash_of(key) for key in (ROOT, JOHN, EVEN, BURST)]
    assert [] == [path for path in ("/admin/config", "/admin/pools") for one in hashes if one in texts[path]]
    folder = Path("/tmp") / served.mark
    texts["what Ray shows"] = await asyncio.to_thread(_what_ray_shows, served)
    assert "pool:up" in texts["what Ray shows"]
    for process in psutil.process_iter():
        try:
            texts[f"arguments of {process.pid}"] = "\0".join(process.cmdline())
        except psutil.Error:
            continue
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any("serve" in str(file) for file in files)
    for file in files:
        texts[str(file)] = file.read_bytes().decode("latin-1")
    served.process.send_signal(signal.SIGINT)
    texts["standard output"], texts["standard error"] = served.process.communicate(timeout=30)
    secrets = {"a provider's key": PROVIDER_KEY, "another": SECOND_KEY, "root's": ROOT, "john's": JOHN, "even's": EVEN}
    secrets |= {"the ledger's password": "-" * 8 + PASSWORD, "a wrong one": "-" * 8 + WRONG_PASSWORD}
    found = [(name, place) for place, text in texts.items() for name, secret in secrets.items() if secret[8:] in text]
    assert [] == found


def _what_ray_shows(served: Served) -> str:
    command = [sys.executable, "-m", "tests.e2e.seen", _gcs(served)]
    env = {**os.environ, "RAY_AUTH_MODE": "token"}
    seen = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert 0 == seen.returncode, seen.stderr
    return seen.stdout


def _gcs(served: Served) -> str:
    """Where the cluster is."""
    for process in served.processes("raylet"):
        for argument in process.cmdline():
            if argument.startswith("--gcs-address="):
                return argument.partition("=")[2]
    raise AssertionError("no raylet says where its cluster is")
