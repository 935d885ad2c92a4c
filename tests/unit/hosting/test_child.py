"""A supervised server: up, ended in every way, started again, and nothing left of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvloop

from orchestrator.config.settings import Hosted
from orchestrator.hosting.child import MARK, Child
from tests.engines import among, hosted, processes, servers, until

Make = Callable[..., Child]
LAUNCHERS = 2


@pytest.fixture
def mark() -> str:
    """What the processes of a test bear."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def make(mark: str) -> AsyncIterator[Make]:
    """Starts children; nothing of them is left afterwards."""
    made: list[Child] = []

    def start(*arguments: object, **settings: Any) -> Child:
        child = Child("gpu/0", hosted(*arguments, **settings), "127.0.0.1", mark)
        child.start()
        made.append(child)
        return child

    yield start
    for child in made:
        await child.stop()
    assert [] == processes(mark)


def up(child: Child) -> Awaitable[None]:
    return until(lambda: child.status.state == "up", "a server")


async def ask(child: Child, **body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {child.status.key}"}
    messages = [{"role": "user", "content": "hello"}]
    async with httpx.AsyncClient() as client:
        url = f"{child.status.base_url}/chat/completions"
        return await client.post(url, json={"model": "m", "messages": messages, **body}, headers=headers)


async def test_it_answers_with_its_key_alone(make: Make) -> None:
    """A free port, and a key that is made up; its load comes from its metrics."""
    child = make()
    assert ("starting", "") == (child.status.state, child.status.base_url)
    await up(child)
    assert 200 == (await ask(child)).status_code
    async with httpx.AsyncClient() as client:
        assert 401 == (await client.get(f"{child.status.base_url}/models")).status_code
        await client.post(child.status.base_url.removesuffix("/v1") + "/gauges", json={"running": 3, "cache": 0.5})
    await until(lambda: child.status.load == (3.0, 0.0, 0.5), "its load")


async def test_no_list_of_processes_shows_the_key_and_no_log(
    make: Make, mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes by the environment; what the server says is logged with its name, without it."""
    caplog.set_level(logging.INFO, "orchestrator.local")
    child = make()
    await up(child)
    assert all(child.status.key not in " ".join(one.cmdline()) for one in processes(mark))
    assert any("[gpu/0] listening on" in line for line in caplog.messages)
    assert child.status.key not in caplog.text


async def test_killed_it_is_back_by_itself(make: Make, mark: str) -> None:
    """kill -9: known at once, started again at once, at another address with another key."""
    child = make("--children", 2)
    await up(child)
    before = child.status
    (server,) = servers(mark)
    server.kill()
    await until(lambda: child.status.changes > before.changes)
    assert ("restarting", "killed", "", 1) == (
        child.status.state, child.status.ending, child.status.base_url, child.status.restarts,
    )  # fmt: skip
    await up(child)
    assert (child.status.key, child.status.base_url) != (before.key, before.base_url)
    assert 200 == (await ask(child)).status_code


@pytest.mark.parametrize(
    ("does", "ending", "reason"),
    [
        ("crash", "crashed", "ended by itself: ValueError: it was told to"),
        (
            "memory",
            "out_of_memory",
            "ran out of memory: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        ("hang", "hung", "did not answer any more"),
    ],
)
async def test_ends_are_told_apart(make: Make, does: str, ending: str, reason: str) -> None:
    """By itself, for want of memory, by us because its health is silent: each is started again."""
    child = make(hang_s=1.0)
    await up(child)
    asking = asyncio.ensure_future(ask(child, engine=does))
    await until(lambda: child.status.ending is not None, "its end")
    assert ending == child.status.ending
    assert reason == child.status.reason
    await asyncio.wait([asking])
    assert isinstance(asking.exception(), httpx.TransportError)
    await up(child)


async def test_one_that_never_comes_up_says_why(make: Make) -> None:
    """In its own words; it is tried again after a while that grows."""
    child = make("--fail", "No available memory for the cache blocks")
    await until(lambda: child.status.restarts >= 2, "a second try")
    said = child.status
    assert ("failed", "out_of_memory") == (said.state, said.ending)
    assert "ran out of memory: RuntimeError: No available memory for the cache blocks" == said.reason
    assert 2.0 == said.again_s


async def test_one_that_takes_too_long_is_ended(make: Make) -> None:
    """Longer than `cold_start_s`."""
    child = make("--slow", 60, cold_start_s=0.5)
    await until(lambda: child.status.ending is not None, "its end")
    assert ("failed", "slow") == (child.status.state, child.status.ending)


async def test_a_program_that_is_not_there(mark: str) -> None:
    """Said by its name."""
    child = Child("gpu/0", Hosted(command=("/nowhere/vllm", "{port}")), "127.0.0.1", mark)
    child.start()
    await until(lambda: child.status.ending is not None, "its end")
    assert "cannot be run: /nowhere/vllm cannot be run: No such file or directory" == child.status.reason
    assert "not_found" == child.status.ending
    await child.stop()


async def test_a_command_that_no_system_can_run(mark: str) -> None:
    """It is said, and nothing else comes to harm."""
    child = Child("gpu/0", Hosted(command=("server\0", "{port}")), "127.0.0.1", mark)
    child.start()
    await until(lambda: child.status.ending is not None, "its end")
    assert ("failed", "ended by itself: ValueError: embedded null byte") == (child.status.state, child.status.reason)
    await child.stop()


async def test_stopped_it_takes_along_what_its_server_started(make: Make, mark: str) -> None:
    """Also processes with sessions of their own."""
    child = make("--children", 3)
    await up(child)
    assert 3 + 1 + LAUNCHERS == len(processes(mark))
    await child.stop()
    assert [] == processes(mark)
    assert ("stopped", "") == (child.status.state, child.status.base_url)


SUPERVISOR = """
import asyncio, sys
from orchestrator.hosting.child import Child
from tests.engines import hosted

async def main():
    child = Child("gpu/0", hosted("--children", 2), "127.0.0.1", sys.argv[1])
    child.start()
    while child.status.state != "up":
        await asyncio.sleep(0.05)
    print("up", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
async def supervisor(mark: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that supervises a server, which is up."""
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, mark, stdout=asyncio.subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    assert b"up\n" == await process.stdout.readline()
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()
    await until(lambda: not processes(mark), "an end without anything left")


def bearing(mark: str) -> list[psutil.Process]:
    """What bears the mark of servers: all but the supervisor."""
    return among(processes(mark), lambda one: one.environ().get(MARK) == mark)


async def test_a_supervisor_that_is_killed_leaves_nothing(supervisor: asyncio.subprocess.Process, mark: str) -> None:
    """kill -9 of the process above: the launcher sees the end of its pipe."""
    assert 2 + 1 + LAUNCHERS == len(bearing(mark))
    supervisor.send_signal(signal.SIGKILL)
    await until(lambda: not bearing(mark), "an end without anything left")


@pytest.mark.skipif(sys.platform != "linux", reason="the system has nothing to tell a program that its parent died")
@pytest.mark.parametrize("which", ["outer", "inner", "both"])
async def test_a_launcher_that_is_killed_leaves_nothing(make: Make, mark: str, which: str) -> None:
    """kill -9 of the processes between: the program goes with them, and so does what that had started."""
    child = make("--children", 2)
    await up(child)
    before = {one.pid for one in processes(mark)}
    launchers = among(processes(mark), lambda one: "launcher.py" in " ".join(one.cmdline()))
    assert (2 + 1 + LAUNCHERS, LAUNCHERS) == (len(before), len(launchers))
    outer, inner = sorted(launchers, key=lambda one: one.ppid() != os.getpid())
    for launcher in {"outer": [outer], "inner": [inner], "both": [outer, inner]}[which]:
        launcher.kill()
    await until(lambda: not before & {one.pid for one in processes(mark)}, "an end of all")
    await up(child)
    assert not before & {one.pid for one in processes(mark)}


async def test_what_an_earlier_one_of_its_name_left_is_ended_first(make: Make, mark: str) -> None:
    """Whoever supervised it and its launcher were killed at once."""
    env = {**os.environ, MARK: mark}
    stray = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)", env=env)
    child = make()
    await up(child)
    assert -signal.SIGKILL == await stray.wait()
    assert 1 + LAUNCHERS == len(processes(mark))


async def test_long_lines_and_bars_of_progress(make: Make, mark: str, caplog: pytest.LogCaptureFixture) -> None:
    """A line that never ends is cut, and each state of a bar is a line."""
    caplog.set_level(logging.INFO, "orchestrator.local")
    code = "import sys; print('x' * 100_000); sys.stdout.write('10%\\r50%\\r100%')"
    child = Child("gpu/0", Hosted(command=(sys.executable, "-c", code, "{port}")), "127.0.0.1", mark)
    child.start()
    await until(lambda: child.status.ending is not None, "its end")
    await child.stop()
    said = [line.removeprefix("[gpu/0] ") for line in caplog.messages if line.startswith("[gpu/0]")]
    assert ["10%", "50%", "100%"] == said[-3:]
    assert all(len(line) <= 2_000 for line in said)
    assert "100%" in child.status.reason


@pytest.mark.parametrize("turns", range(6))
async def test_who_listens_can_be_stopped_just_when_there_is_news(mark: str, turns: int) -> None:
    """However many turns of the loop after it: else whoever waits for the end of the listening waits for ever."""
    child = Child("gpu/0", hosted(), "127.0.0.1", mark)

    async def listen() -> None:
        while True:
            await child.changed(child.status.changes, 60)

    listening = asyncio.ensure_future(listen())
    await asyncio.sleep(0.01)
    child._say(state="restarting")
    for _ in range(turns):
        await asyncio.sleep(0)
    listening.cancel()
    ended, _ = await asyncio.wait([listening], timeout=5)
    listening.cancel()
    assert {listening} == ended
    await child.stop()


def test_on_a_loop_as_rays_actors_have_it(mark: str) -> None:
    """uvloop's, in a thread that is not the main one."""

    async def killed_and_stopped() -> None:
        child = Child("gpu/0", hosted(), "127.0.0.1", mark)
        child.start()
        await up(child)
        (server,) = servers(mark)
        server.kill()
        await until(lambda: child.status.restarts == 1 and child.status.state == "up", "another one")
        await child.stop()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(uvloop.run, killed_and_stopped()).result(60)
    assert [] == processes(mark)


def test_the_launcher_is_a_program_of_the_standard_library_alone() -> None:
    """It runs in isolated mode, by whichever interpreter, without this project."""
    from orchestrator.hosting import launcher

    text = Path(launcher.__file__).read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported <= sys.stdlib_module_names
