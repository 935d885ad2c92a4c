"""A researcher edits experiments while requests run: nothing is dropped, a good version is soon in force, a bad one never."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.serving import Served

pytestmark = pytest.mark.timed

CONFIG = """
providers:
  sim: {simulate: {latency_s: {median: 0.02, p99: 0.04}, tokens_per_s: 2000}}
tiers:
  t: [sim/tier]
users: users/
"""
EDITS = (
    "experiments: {one: [sim/v1]}",
    "user: john\nexperiments:\n  one: {strategy: race, models: [sim/v2, sim/v2]}\n",
    "experiments: {one: [so/what]}",
    "experiments: {one: [sim/v3]}",
    "experiments: {one: {strategy: hedge, models: [sim/v4, 'tier:t'], after: 5}}",
    "experiments: {",
    "experiments: {one: {strategy: split, arms: {a: {model: sim/v5}}}}",
    "experiments: {one: {models: [sim/v6, sim/spare], params: {temperature: 0}}}",
    "experiments: {one: {models: ['sim/${HOME}']}}",
    "experiments: {one: [sim/v7]}",
)
BROKEN = (2, 5, 8)


@pytest.fixture(scope="module")
def researching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    folder = tmp_path_factory.mktemp("researching")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "users").mkdir()
    (folder / "users" / "john.yaml").write_text("experiments: {one: [sim/v0]}")
    (folder / "users" / "ada.yaml").write_text("experiments: {one: [sim/ada]}")
    served = Served(folder / "config.yaml", "--replicas", "2")
    yield folder / "users", served
    served.stop()
    assert served.left() == []


@pytest.fixture
async def http(researching: tuple[Path, Served]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=researching[1].root, timeout=30) as client:
        yield client


async def ask(http: httpx.AsyncClient, user: str, *, stream: bool = False) -> str:
    """The model that answered a whole answer, whichever way it came."""
    body = {
        "model": f"user:{user}:one",
        "messages": [{"role": "user", "content": "hi"}],
        "user": user,
        "stream": stream,
    }
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n"), answer.text
        return answer.headers["x-orchestrator-model"]
    return str(answer.json()["model"])


async def state(http: httpx.AsyncClient) -> Any:
    return (await http.get("/admin/config")).json()


async def until(holds: Any) -> float:
    """Waits until it holds ten times in a row, so for both coordinators; returns when that began, in seconds from now."""
    began_s, right, since_s = time.monotonic(), 0, 0.0
    while right < 10:
        now_s = time.monotonic() - began_s
        right, since_s = (right + 1, since_s if right else now_s) if await holds() else (0, 0.0)
        assert now_s < 15
    return since_s


@pytest.mark.timeout(200)
async def test_ten_edits_under_load(researching: tuple[Path, Served], http: httpx.AsyncClient) -> None:
    """Seven good ones are in force within 2 s, three bad ones change nothing, and another researcher never notices."""
    users, _ = researching
    stop, answers, others = asyncio.Event(), list[str](), list[str]()

    async def caller(number: int) -> None:
        while not stop.is_set():
            answers.append(await ask(http, "john", stream=number % 2 == 0))
            others.append(await ask(http, "ada", stream=number % 2 == 1))

    callers = [asyncio.ensure_future(caller(number)) for number in range(8)]
    good, slowest_s = 0, 0.0
    for number, text in enumerate(EDITS):
        (users / "john.yaml").write_text(text)
        if number in BROKEN:

            async def said() -> bool:
                shown = await state(http)
                return any(line.startswith(f"{users}/john.yaml:1: ") for line in shown["problems"])

            await until(said)
            assert f"v{good}" == await ask(http, "john")
            continue
        good += 1

        async def answered(model: str = f"v{good}") -> bool:
            return await ask(http, "john") == model

        slowest_s = max(slowest_s, await until(answered))
    stop.set()
    await asyncio.gather(*callers)
    assert slowest_s < 2
    assert {f"v{number}" for number in range(8)} >= set(answers)
    assert {"ada"} == set(others)
    assert len(answers) > 200
    assert [] == (await state(http))["problems"]


async def test_files_come_and_go(researching: tuple[Path, Served], http: httpx.AsyncClient) -> None:
    """A new one is in use within 2 s, and one that is deleted takes its experiments along."""
    users, _ = researching

    async def listed() -> list[str]:
        return [row["id"] for row in (await http.get("/v1/models")).json()["data"] if row["id"].startswith("user:")]

    (users / "eve.yaml").write_text("experiments: {one: [sim/eve]}")

    async def there() -> bool:
        return "user:eve:one" in await listed()

    async def gone() -> bool:
        return not await there()

    assert await until(there) < 2
    assert "eve" == await ask(http, "eve")
    (users / "eve.yaml").unlink()
    assert await until(gone) < 2


async def test_a_control_actor_that_starts_beside_a_broken_file(
    researching: tuple[Path, Served], http: httpx.AsyncClient
) -> None:
    """It takes what the file last said from the coordinators."""
    users, served = researching
    before = await ask(http, "john")
    (users / "john.yaml").write_text("experiments: {")

    async def broken() -> bool:
        return bool((await state(http))["problems"])

    await until(broken)
    (control,) = served.processes("ray::Control")
    control.kill()
    control.wait(5)

    async def back() -> bool:
        shown = await state(http)
        return shown.get("coordinators") == 2 and bool(shown["problems"])

    await until(back)
    await asyncio.sleep(1)
    assert [before] * 6 == [await ask(http, "john") for _ in range(6)]
