"""The endpoint with the official client, against a simulated provider and one that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from bench.serving import Served
from tests.upstream import Upstream

pytestmark = pytest.mark.timed

HI: Any = [{"role": "user", "content": "hi"}]
TIERS = ("first", "fallback", "race", "hedge", "complete", "nested")


@pytest.fixture
async def client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=30) as client:
        yield client


async def streamed(client: openai.AsyncOpenAI, model: str, **more: Any) -> tuple[str, list[Any]]:
    """The text of a streamed answer, and its chunks."""
    chunks = [
        chunk async for chunk in await client.chat.completions.create(model=model, messages=HI, stream=True, **more)
    ]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


def test_the_sync_client(served: Served) -> None:
    """The plainest way in."""
    with openai.OpenAI(base_url=served.url, api_key="none") as client:
        reply = client.chat.completions.create(model="sim/chat", messages=HI)
        assert "simulated by sim" in (reply.choices[0].message.content or "")
        assert "tier:race" in [model.id for model in client.models.list()]


@pytest.mark.parametrize("tier", TIERS)
async def test_each_strategy_answers(client: openai.AsyncOpenAI, tier: str) -> None:
    """Unary, with the answer object."""
    reply = await client.chat.completions.create(model=f"tier:{tier}", messages=HI)
    assert "simulated by sim" in (reply.choices[0].message.content or "")
    extra = reply.model_extra or {}
    assert extra["provider"] == "sim"
    assert extra["orchestrator"]["selector"] == f"tier:{tier}"
    assert "ok" in [attempt["outcome"] for attempt in extra["orchestrator"]["attempts"]]


@pytest.mark.parametrize("tier", TIERS)
async def test_each_strategy_streams(client: openai.AsyncOpenAI, tier: str) -> None:
    """One id, a role first, one finish_reason, the answer object on the last chunk, usage when asked for."""
    text, chunks = await streamed(client, f"tier:{tier}", stream_options={"include_usage": True})
    assert "simulated by sim" in text
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    finishes = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert len(finishes) == 1
    assert finishes[0].model_extra["orchestrator"]["winner"].startswith("sim/")
    assert chunks[-1].usage.completion_tokens > 0


async def test_a_choice_of_the_request_itself(client: openai.AsyncOpenAI) -> None:
    """A strategy over models, without configuration."""
    choice = {"orchestrator": {"strategy": "race", "models": ["sim/latency-5", "sim/latency-0"]}}
    reply = await client.chat.completions.create(model="any", messages=HI, extra_body=choice)
    assert (reply.model_extra or {})["orchestrator"]["winner"] == "sim/latency-0"


async def test_bad_requests(client: openai.AsyncOpenAI, served: Served) -> None:
    """Each gets its status, and words that help."""
    with pytest.raises(openai.NotFoundError, match="tier:race"):
        await client.chat.completions.create(model="tier:rase", messages=HI)
    with pytest.raises(openai.BadRequestError, match="messages"):
        await client.chat.completions.create(model="sim/chat", messages=[])
    with pytest.raises(openai.APIStatusError) as too_large:
        await client.chat.completions.create(model="sim/chat", messages=[{"role": "user", "content": "x" * 25_000_000}])
    assert too_large.value.status_code == 413
    async with httpx.AsyncClient(base_url=served.root) as http:
        bad = await http.post("/v1/chat/completions", content=b'{"model": ')
        assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_json")
        assert (await http.get("/v1/nothing")).status_code == 404
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/ready")).status_code == 200


def provider_of(fault: str) -> str:
    """A refused key closes the whole account, so that fault has one of its own."""
    return f"locked/{fault}" if fault == "unauthorized" else f"up/{fault}"


FAULTS = ("unavailable", "limited", "reset", "silent", "html", "empty", "nochoices", "context", "unauthorized")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failing_upstream_is_replaced(client: openai.AsyncOpenAI, fault: str, stream: bool) -> None:
    """The second candidate's answer arrives, whatever the first one does."""
    choice = {"orchestrator": {"models": [provider_of(fault), "patient/ok"]}}
    if stream:
        assert (await streamed(client, "any", extra_body=choice))[0] == "alpha beta gamma"
    else:
        reply = await client.chat.completions.create(model="any", messages=HI, extra_body=choice)
        assert reply.choices[0].message.content == "alpha beta gamma"


@pytest.mark.parametrize("fault", ["headers", "errorevent"])
async def test_a_stream_that_fails_before_its_first_token_is_replaced(client: openai.AsyncOpenAI, fault: str) -> None:
    """Nothing has reached the caller yet."""
    choice = {"orchestrator": {"models": [f"up/{fault}", "patient/ok"]}}
    assert (await streamed(client, "any", extra_body=choice))[0] == "alpha beta gamma"


async def test_a_retry_rescues_a_single_500(client: openai.AsyncOpenAI) -> None:
    """The same provider is asked again."""
    reply = await client.chat.completions.create(model="up/once-a", messages=HI)
    outcomes = [attempt["outcome"] for attempt in (reply.model_extra or {})["orchestrator"]["attempts"]]
    assert outcomes == ["server_error", "ok"]


@pytest.mark.parametrize("fault", ["cut", "unfinished", "stall", "badevent"])
async def test_a_broken_stream_never_ends_cleanly(served: Served, fault: str) -> None:
    """An error event, and no [DONE]: never a clean end on a truncated answer."""
    body = {"model": f"up/{fault}", "messages": HI, "stream": True}
    async with httpx.AsyncClient(timeout=30) as http:
        text = (await http.post(f"{served.url}/chat/completions", json=body)).text
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert "error" in json.loads(events[-1])
    assert "[DONE]" not in events


@pytest.mark.parametrize("fault", ["cut-1", "stall-2", "badevent-2"])
async def test_a_broken_stream_is_completed_by_another(client: openai.AsyncOpenAI, fault: str) -> None:
    """Each word once, under one identity, though two pools have answered."""
    choice = {"orchestrator": {"models": [f"up/{fault}", "patient/split"]}}
    stream = await client.chat.completions.create(model="any", messages=HI, stream=True, extra_body=choice)
    chunks = [chunk async for chunk in stream]
    assert "alpha beta gamma" == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert 1 == len({(chunk.id, chunk.model) for chunk in chunks})
    report = (chunks[-1].model_extra or {})["orchestrator"]
    assert ["up", "patient"] == [attempt["provider"] for attempt in report["attempts"]]


async def test_a_stream_without_done_is_whole(client: openai.AsyncOpenAI) -> None:
    """finish_reason has come: the answer is complete."""
    assert (await streamed(client, "up/nodone"))[0] == "alpha beta gamma"


async def test_a_malformed_request_is_asked_once(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The provider's reason reaches the caller; nobody else is asked."""
    before = len(upstream.log)
    choice = {"orchestrator": {"models": ["up/malformed", "patient/ok"]}}
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.chat.completions.create(model="any", messages=HI, extra_body=choice)
    assert (wrong.value.code, wrong.value.param) == ("unknown_parameter", "foo")
    assert len(upstream.log) == before + 1


async def test_all_failed_names_each_and_shows_no_key(client: openai.AsyncOpenAI) -> None:
    """502; what looks like a key is masked."""
    choice = {"orchestrator": {"models": ["locked/unauthorized", "up/html"]}}
    with pytest.raises(openai.APIStatusError) as failed:
        await client.chat.completions.create(model="any", messages=HI, extra_body=choice)
    assert failed.value.status_code == 502
    assert "up/html" in failed.value.message
    assert "sk-abc" not in failed.value.response.text


async def test_a_race_takes_as_long_as_its_fastest_and_closes_the_losers(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    """Three at 100 ms, 1 s and 10 s; the losers' connections close within 200 ms of the answer."""
    choice = {
        "orchestrator": {"strategy": "race", "models": ["patient/slow-10", "patient/slow-1.0", "patient/slow-0.1"]}
    }
    began = time.monotonic()
    await client.chat.completions.create(model="any", messages=HI, extra_body=choice)
    answered = time.monotonic()
    assert answered - began < 0.6
    await asyncio.sleep(0.4)
    for model in ("slow-10", "slow-1.0"):
        (attempt,) = upstream.attempts(model)
        assert attempt.gone
        assert attempt.ended_s is not None
        assert attempt.ended_s - answered < 0.2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_stops_its_upstream(served: Served, upstream: Upstream, stream: bool) -> None:
    """Within 200 ms (and some slack for this machine's clock and load)."""
    model = "drip-5" if stream else "slow-7"
    body = json.dumps({"model": f"patient/{model}", "messages": HI, "stream": stream}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.sleep(0.7)
    writer.close()
    left = time.monotonic()
    await asyncio.sleep(0.5)
    (attempt,) = upstream.attempts(model)
    assert attempt.gone
    assert attempt.ended_s is not None
    assert attempt.ended_s - left < 0.25


async def test_the_semaphore_holds_over_two_coordinators(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Concurrency 4, 200 callers: the upstream never sees more than 4 at once."""
    await asyncio.sleep(0.2)
    upstream.peak = upstream.in_flight
    replies = await asyncio.gather(
        *(client.chat.completions.create(model="narrow/slow-0.02", messages=HI) for _ in range(200))
    )
    assert len(replies) == 200
    assert upstream.peak == 4


async def test_a_full_queue_is_a_429_with_retry_after(client: openai.AsyncOpenAI) -> None:
    """One place, one waiting: a third is refused at once."""
    calls = [
        asyncio.ensure_future(client.chat.completions.create(model="tight/slow-1.5", messages=HI)) for _ in range(3)
    ]
    await asyncio.wait(calls)
    refused = [call.exception() for call in calls if call.exception() is not None]
    assert len(refused) == 1
    assert isinstance(refused[0], openai.RateLimitError)
    assert refused[0].code == "queue_full"
    assert int(refused[0].response.headers["retry-after"]) >= 1


async def test_serves_own_timeout_headers_are_ignored(served: Served) -> None:
    """A caller cannot make Serve end a request in its own way."""
    headers = {"x-request-timeout-seconds": "0.05"}
    body = {"model": "sim/latency-0.5", "messages": HI}
    async with httpx.AsyncClient() as http:
        assert (await http.post(f"{served.url}/chat/completions", json=body, headers=headers)).status_code == 200


async def test_100_streams_are_all_complete(client: openai.AsyncOpenAI) -> None:
    """Every stream of a hundred at once arrives whole."""

    async def one() -> tuple[int, str | None]:
        _, chunks = await streamed(client, "sim/latency-0.1+tokens-100+rate-50")
        pieces = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
        return len(pieces), chunks[-1].choices[0].finish_reason

    assert set(await asyncio.gather(*(one() for _ in range(100)))) == {(100, "stop")}


async def test_a_killed_pool_is_back_and_its_calls_are_made_again(served: Served, client: openai.AsyncOpenAI) -> None:
    """kill -9 of the pool's actor with a call in flight: the call is answered all the same."""
    async with httpx.AsyncClient() as http:
        pools = (await http.get(f"{served.root}/admin/pools")).json()["pools"]
    pid = next(pool["pid"] for pool in pools if pool["provider"] == "patient")
    call = asyncio.ensure_future(client.chat.completions.create(model="patient/slow-0.9", messages=HI))
    await asyncio.sleep(0.4)
    os.kill(pid, signal.SIGKILL)
    assert (await call).choices[0].message.content == "alpha beta gamma"


async def test_a_killed_coordinator_closes_what_it_caused(
    served: Served, client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    """kill -9 of both replicas: upstream calls end within 7 s, and the endpoint comes back."""
    call = asyncio.ensure_future(client.chat.completions.create(model="patient/slow-60", messages=HI))
    await asyncio.sleep(0.5)
    (attempt,) = upstream.attempts("slow-60")
    killed = time.monotonic()
    for replica in served.processes("ServeReplica:orchestrator:coordinator"):
        replica.kill()
    with pytest.raises(openai.OpenAIError):
        await call
    while not attempt.gone and time.monotonic() - killed < 8:
        await asyncio.sleep(0.05)
    assert attempt.ended_s is not None
    assert attempt.ended_s - killed < 7
    deadline = time.monotonic() + 60
    while True:
        try:
            await client.chat.completions.create(model="patient/ok", messages=HI)
            break
        except openai.OpenAIError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
