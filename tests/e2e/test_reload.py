"""Live reload: configurations change under load, and nobody who asks can tell by anything but the answers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.serving import Served

pytestmark = pytest.mark.timed

RELOADS, INVALID_EVERY, REQUESTS = 50, 5, 1_000
BROKEN = (
    "providers: {",
    "providers: {a: {simulate: {}}, a: {}}",
    "tiers: {t: [so/what]}",
    "providers: {x: {simulate: {seed: no}}}",
)


def generation(number: int) -> str:
    """Every generation answers by a model of its own; every fifth brings a provider of its own, and drops another."""
    own = f"p{number // INVALID_EVERY % 3}"
    return f"""
providers:
  sim: {{simulate: {{latency_s: {{median: 0.02, p99: 0.04}}, tokens_per_s: 2000, seed: {number // 10}}}}}
  {own}: {{simulate: {{latency_s: {{median: 0.02, p99: 0.04}}, tokens_per_s: 2000}}, pool: {{concurrency: {10 + number}}}}}
aliases: {{now: "tier:t"}}
tiers:
  t: {{strategy: first, models: [{own}/gen-{number}-{own}], params: {{user: "{number}"}}}}
"""


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    config = tmp_path_factory.mktemp("changing") / "config.yaml"
    config.write_text(generation(0))
    served = Served(config, "--replicas", "2")
    yield config, served
    served.stop()
    assert served.left() == []


@pytest.fixture
async def http(changing: tuple[Path, Served]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it, on generation 0."""
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=changing[1].root, timeout=30, limits=limits) as client:
        changing[0].write_text(generation(0))
        await until(client, lambda shown: "gen-0-" in shown["config"]["tiers"]["t"]["models"][0])
        yield client


async def ask(http: httpx.AsyncClient, *, stream: bool) -> dict[str, Any]:
    """One request by the alias; the whole answer, or the last chunk of a complete stream."""
    body = {"model": "now", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not stream:
        return dict(answer.json())
    events = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return dict(json.loads(events[-1]))


async def state(http: httpx.AsyncClient) -> Any:
    return (await http.get("/admin/config")).json()


async def until(http: httpx.AsyncClient, holds: Any, seconds: float = 10.0) -> float:
    """Waits until both coordinators say so several times in a row; returns how long that took."""
    began_s, right = time.monotonic(), 0
    while right < 4:
        right = right + 1 if holds(await state(http)) else 0
        assert time.monotonic() - began_s < seconds, await state(http)
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


def running(served: Served) -> tuple[int, int]:
    """How many pools and simulated providers there are."""
    return len(served.processes("ray::Pool")), len(served.processes("ray::Simulator"))


def pss_mb(served: Served) -> float:
    return (
        sum(p.memory_full_info().pss for title in ("ray::Serve", "ray::Control") for p in served.processes(title)) / 1e6
    )


@pytest.mark.timeout(300)
async def test_requests_across_fifty_reloads(changing: tuple[Path, Served], http: httpx.AsyncClient) -> None:
    """None dropped, none served by a mixture of two configurations; processes and memory are where they were."""
    config, served = changing
    stop, done, rng = asyncio.Event(), 0, random.Random(1)
    seen: set[str] = set()

    async def caller() -> None:
        nonlocal done
        while not stop.is_set() or done < REQUESTS:
            answer = await ask(http, stream=rng.random() < 0.5)
            _, number, own = answer["model"].split("-")
            # Provider, model and report are of one and the same generation.
            assert own == answer["provider"] == f"p{int(number) // INVALID_EVERY % 3}"
            assert answer["orchestrator"]["winner"] == f"{own}/gen-{number}-{own}"
            seen.add(number)
            done += 1
            await asyncio.sleep(0.3)

    for _ in range(30):
        await ask(http, stream=True)
    (pools, _), before_mb = running(served), pss_mb(served)
    callers = [asyncio.ensure_future(caller()) for _ in range(16)]
    for number in range(1, RELOADS + 1):
        if number % INVALID_EVERY == 2:
            config.write_text(BROKEN[number // INVALID_EVERY % len(BROKEN)])
            await until(http, lambda shown: shown["problems"])
            continue
        config.write_text(generation(number))
        own = f"gen-{number}-"
        await until(http, lambda shown, own=own: own in shown["config"]["tiers"]["t"]["models"][0])
    stop.set()
    await asyncio.gather(*callers)
    assert done >= REQUESTS
    assert len(seen) > RELOADS * 3 // 5
    deadline = time.monotonic() + 15
    while (left := running(served)) != (pools, pools) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    assert (pools, pools) == left
    assert pss_mb(served) < before_mb * 1.2


async def test_a_killed_control_actor_is_not_missed(changing: tuple[Path, Served], http: httpx.AsyncClient) -> None:
    """Requests go on; it is back with the current configuration, also where the file has become unusable meanwhile."""
    config, served = changing
    failed: list[Exception] = []
    stop = asyncio.Event()

    async def caller() -> None:
        while not stop.is_set():
            try:
                await ask(http, stream=False)
            except Exception as error:
                failed.append(error)

    callers = [asyncio.ensure_future(caller()) for _ in range(4)]
    try:
        for broken in (False, True):
            if broken:
                config.unlink()
                await until(http, lambda shown: shown["problems"])
            (control,) = served.processes("ray::Control")
            os.kill(control.pid, signal.SIGKILL)
            psutil.wait_procs([control], timeout=5)
            await until(http, lambda shown: shown.get("coordinators") == 2, 20)
            assert "gen-0" in (await ask(http, stream=False))["model"]
        config.write_text(generation(7))
        # It brings a new pool and its simulated provider: two processes to start, while the callers take all that there is.
        assert await until(http, lambda shown: "gen-7-" in shown["config"]["tiers"]["t"]["models"][0]) < 10
    finally:
        stop.set()
        await asyncio.wait(callers)
    assert failed == []
    shown = await state(http)
    assert shown["problems"] == []
    assert sum(row["count"] for row in shown["counters"]["requests"] if row["outcome"] == "ok") > 0


async def test_reload_by_request(changing: tuple[Path, Served], http: httpx.AsyncClient) -> None:
    """It answers when the new configuration is in use, or with what is wrong."""
    config, _ = changing
    config.write_text(generation(3))
    before = (await state(http))["version"]
    answer = await http.post("/admin/reload")
    assert answer.status_code == 200
    assert answer.json()["version"] >= before
    config.write_text("providers: {")
    wrong = await http.post("/admin/reload")
    assert (400, "invalid_config") == (wrong.status_code, wrong.json()["error"]["code"])
    assert f"{config}:1: document: is not YAML" in wrong.json()["error"]["message"]
    assert "gen-3-" in (await ask(http, stream=False))["model"]
