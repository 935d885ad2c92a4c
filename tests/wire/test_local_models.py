"""Local models through the whole stack, without Ray: stand-in engines as processes, which say who answered what."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import calls, processes, provider, servers, until
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack
from tests.wire.test_stack import events


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where engines write their calls; its name, which is in their command lines, is this test's alone."""
    return tmp_path / "calls.jsonl"


async def pool(stack: Stack, name: str = "gpu") -> dict[str, Any]:
    (row,) = [one for one in (await stack.http.get("/admin/pools")).json()["pools"] if one["provider"] == name]
    found: dict[str, Any] = row
    return found


async def replicas(stack: Stack, count: int, restarts: int = 0) -> list[dict[str, Any]]:
    """The replicas of `gpu`, as soon as so many are up, after so many restarts of all together."""
    rows: list[dict[str, Any]] = []

    async def look() -> None:
        while True:
            rows[:] = (await pool(stack))["replicas"]
            restarted = sum(one["restarts"] for one in rows) == restarts
            if restarted and [one["state"] for one in rows].count("up") == count:
                return
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), 60)
    return rows


async def ask(stack: Stack, text: str, model: str = "gpu/chat", **fields: Any) -> httpx.Response:
    return await stack.chat(model, messages=[{"role": "user", "content": text}], **fields)


async def test_it_is_started_and_answers(serve: Serve, log: Path) -> None:
    """The first call waits for it; nothing of it is left when the whole ends."""
    stack = await serve({"providers": {"gpu": provider("--log", log)}})
    answer = await ask(stack, "hello", stream=True)
    assert "[DONE]" == events(answer.text)[-1]
    # It writes down a stream when that has ended, which its caller may know first.
    await until(lambda: bool(calls(log)), "a call that was written down")
    assert ["hello"] == [call["text"] for call in calls(log)]
    ready = await stack.http.get("/ready")
    assert (200, {}) == (ready.status_code, ready.json()["models"])
    await stack.pools.aclose()
    assert [] == processes(str(log))


async def test_conversations_stay_with_their_replica(serve: Serve, log: Path) -> None:
    """Twelve conversations of four turns over three replicas: each with one, none without."""
    stack = await serve({"providers": {"gpu": provider("--log", log, replicas=3)}})
    await replicas(stack, 3)
    for turn in range(4):
        for number in range(12):
            turns = [{"role": "user", "content": f"conversation {number}"}]
            for _ in range(turn):
                turns += [{"role": "assistant", "content": "so"}, {"role": "user", "content": f"conversation {number}"}]
            assert 200 == (await stack.chat("gpu/chat", messages=turns)).status_code
    seen = {(call["text"], call["pid"]) for call in calls(log)}
    assert 12 == len(seen)
    assert 3 == len({pid for _, pid in seen})


async def test_a_busy_home_is_left_to_others(serve: Serve, log: Path) -> None:
    """By the replica's own word: what it says is running, waiting, or in its cache counts as calls do."""
    stack = await serve({"providers": {"gpu": provider("--log", log, replicas=2)}})
    await replicas(stack, 2)
    await ask(stack, "one question")
    (first,) = calls(log)
    async with httpx.AsyncClient() as client:
        await client.post(f"http://127.0.0.1:{first['port']}/gauges", json={"waiting": 40})
    await until_load(stack, "waiting", 40)
    await ask(stack, "one question")
    second = calls(log)[-1]
    assert first["pid"] != second["pid"]
    async with httpx.AsyncClient() as client:
        await client.post(f"http://127.0.0.1:{first['port']}/gauges", json={"waiting": 0})
    await until_load(stack, "waiting", 0)
    await ask(stack, "one question")
    assert first["pid"] == calls(log)[-1]["pid"]


async def until_load(stack: Stack, name: str, value: float) -> None:
    async def look() -> None:
        while max(one[name] for one in (await pool(stack))["replicas"]) != value:
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), 60)


async def test_calls_at_once_are_spread(serve: Serve, log: Path) -> None:
    """Twenty different ones that take a while: neither replica has many more."""
    stack = await serve({"providers": {"gpu": provider("--log", log, "--first", 1, replicas=2)}})
    await replicas(stack, 2)
    answers = await asyncio.gather(*(ask(stack, f"question {n}") for n in range(20)))
    assert {200} == {answer.status_code for answer in answers}
    assert min(Counter(call["pid"] for call in calls(log)).values()) >= 6


async def test_scaled_to_zero_and_up_again(serve: Serve, log: Path) -> None:
    """None while nobody asks; a call starts one and waits for it; many start more; none are left when all is quiet."""
    scale = {"min": 0, "max": 2, "target": 4, "idle_s": 1.5}
    stack = await serve({"providers": {"gpu": provider("--log", log, "--first", 4, replicas=scale)}})
    assert [] == (await pool(stack))["replicas"]
    assert [] == servers(str(log))
    first = asyncio.ensure_future(ask(stack, "first"))
    await replicas(stack, 1)
    assert 200 == (await first).status_code
    many = asyncio.gather(*(ask(stack, f"question {n}") for n in range(8)))
    await replicas(stack, 2)
    assert {200} == {answer.status_code for answer in await many}
    assert 9 == len(calls(log))
    await until(lambda: not servers(str(log)), "an end of all replicas")
    assert [] == (await pool(stack))["replicas"]


async def test_whoever_has_another_to_ask_does_not_wait_for_a_start(
    serve: Serve, log: Path, upstream: Upstream
) -> None:
    """A fallback goes on at once, and the model is started all the same: the next ones are its own."""
    away = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": ["ok"]}
    home = provider("--log", log, "--slow", 2, replicas={"min": 0, "max": 1})
    stack = await serve({"providers": {"gpu": home, "up": away}, "tiers": {"home": ["gpu/chat", "up/ok"]}})
    answer = await ask(stack, "hello", "tier:home")
    assert [("gpu", "model_starting"), ("up", "ok")] == [
        (one["provider"], one["outcome"]) for one in answer.json()["orchestrator"]["attempts"]
    ]
    assert [] == calls(log)
    await replicas(stack, 1)
    answer = await ask(stack, "hello", "tier:home")
    assert "gpu/chat" == answer.json()["orchestrator"]["winner"]


async def test_one_that_never_comes_up(serve: Serve, log: Path, upstream: Upstream) -> None:
    """503 with its own reason, at once; shown in /ready, which is ready, and in /admin/pools; others answer."""
    away = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": ["ok"]}
    broken = provider("--log", log, "--fail", "no such model")
    stack = await serve({"providers": {"gpu": broken, "up": away}})
    answer = await ask(stack, "hello")
    why = "the model does not come up: the server ended by itself: RuntimeError: no such model"
    assert (503, "model_down") == (answer.status_code, answer.json()["error"]["code"])
    assert f"gpu/chat: {why}" == answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 5
    ready = await stack.http.get("/ready")
    assert (200, {"gpu": why}) == (ready.status_code, ready.json()["models"])
    (row,) = (await pool(stack))["replicas"]
    assert ("failed", "crashed") == (row["state"], row["ending"])
    assert 200 == (await ask(stack, "hello", "up/ok")).status_code


async def test_a_start_that_takes_too_long_for_a_call(serve: Serve, log: Path) -> None:
    """It waits for `cold_start_s`, and is told."""
    slow = provider("--log", log, "--slow", 60, cold_start_s=1, replicas={"min": 0, "max": 1})
    stack = await serve({"providers": {"gpu": {**slow, "pool": {"queue_timeout_s": 0.1}}}})
    answer = await ask(stack, "hello")
    assert 503 == answer.status_code
    assert answer.json()["error"]["code"] in ("model_starting", "model_down")


async def test_killed_under_load_callers_with_another_to_ask_never_notice(serve: Serve, log: Path) -> None:
    """kill -9 of the server, again and again: every call is answered, a stream that was begun is gone on with elsewhere, and
    the server is back by itself."""
    home = provider("--log", log, "--first", 0.1, "--rate", 40)
    away = {"simulate": {"latency_s": {"median": 0.02, "p99": 0.03}}}
    stack = await serve({"providers": {"gpu": home, "sim": away}, "tiers": {"home": ["gpu/echo", "sim/echo"]}})
    await replicas(stack, 1)
    answers: list[httpx.Response] = []
    ending = False

    async def caller(number: int) -> None:
        while not ending:
            answers.append(
                await ask(stack, f"caller {number} says what is to be said again", "tier:home", stream=number % 2 == 0)
            )

    callers = [asyncio.ensure_future(caller(number)) for number in range(8)]
    try:
        for killed in (1, 2):
            before = len(answers)
            while len(answers) < before + 10:
                await asyncio.sleep(0.02)
            (server,) = servers(str(log))
            server.kill()
            await replicas(stack, 1, restarts=killed)
    finally:
        ending = True
        await asyncio.gather(*callers)
    assert {200} == {answer.status_code for answer in answers}
    streamed = [events(one.text) for one in answers if "event-stream" in one.headers["content-type"]]
    assert len(streamed) > 5
    assert {"[DONE]"} == {str(one[-1]) for one in streamed}


async def test_killed_in_the_middle_others_get_a_clean_error(serve: Serve, log: Path) -> None:
    """A stream that was begun ends with an error and no [DONE]; whole answers are asked for again by the pool."""
    stack = await serve({"providers": {"gpu": provider("--log", log, "--rate", 5)}})
    await replicas(stack, 1)
    streamed = asyncio.ensure_future(ask(stack, "a stream", "gpu/tokens-100", stream=True))
    whole = asyncio.ensure_future(ask(stack, "whole", "gpu/tokens-10"))
    await until(lambda: stack.pools.endpoints["gpu"].demand().calls == 2)
    await asyncio.sleep(0.5)
    (server,) = servers(str(log))
    server.kill()
    last = events((await streamed).text)[-1]
    assert "error" in last
    assert 200 == (await whole).status_code


async def test_what_a_caller_left_is_stopped(serve: Serve, log: Path) -> None:
    """Closing goes through to the engine."""
    stack = await serve({"providers": {"gpu": provider("--log", log, "--rate", 2)}})
    await replicas(stack, 1)
    asking = asyncio.ensure_future(ask(stack, "left", "gpu/tokens-100", stream=True))
    await until(lambda: stack.pools.endpoints["gpu"].demand().calls == 1)
    await asyncio.sleep(0.3)
    asking.cancel()
    await until(lambda: calls(log), "its end")
    assert [("left", True)] == [(call["text"], call["gone"]) for call in calls(log)]
