"""The exact-answer cache, the whole way of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from orchestrator import create_models
from orchestrator.accounting import Allowance, Asked, Ended
from orchestrator.config.load import load_mapping
from orchestrator.coordinator import Coordinator
from orchestrator.errors import Denied
from orchestrator.lasting import Lasting
from orchestrator.python.client import AppTransport, app_over
from orchestrator.types import Finish, Json, Reply
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack
from tests.wire.test_stack import events

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
SHAPES: dict[str, Json] = {
    "chat/completions": CHAT,
    "completions": {"prompt": "hi"},
    "responses": {"input": "hi"},
    "messages": {**CHAT, "max_tokens": 9},
}
SIM = {"simulate": {"latency_s": {"median": 0, "p99": 0}, "tokens_per_s": 10_000}}
HIT, MISS = "hit", "miss"


def config(upstream: Upstream, **more: Any) -> Mapping[str, Any]:
    up = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": [], "retry": {"attempts": 1}}
    return {"providers": {"up": up, "sim": SIM}, "cache": {"ttl_s": 60}, **more}


@pytest.fixture
async def stack(upstream: Upstream, serve: Serve) -> Stack:
    return await serve(config(upstream))


def cached(answer: httpx.Response) -> str | None:
    return answer.headers.get("x-orchestrator-cache")


async def cold(stack: Stack, model: str = "up/ok", **fields: Any) -> httpx.Response:
    return await stack.chat(model, temperature=0, **fields)


@pytest.mark.parametrize("second", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("first", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", SHAPES)
async def test_the_same_again(stack: Stack, upstream: Upstream, path: str, first: bool, second: bool) -> None:
    """In every shape, whole and streamed, whichever it was before: the same answer, at no cost, with nobody called."""

    async def ask(stream: bool) -> tuple[httpx.Response, Json]:
        body = {"model": "up/ok", "temperature": 0, "stream": stream, **SHAPES[path]}
        answer = await stack.http.post(f"/v1/{path}", json=body)
        assert 200 == answer.status_code
        if not stream:
            return answer, answer.json()["orchestrator"]
        parts = [event for event in events(answer.text) if isinstance(event, dict)]
        holders = [part for event in parts for part in (event, event.get("response"), event.get("message"))]
        return answer, [part["orchestrator"] for part in holders if part and "orchestrator" in part][-1]

    made, before = await ask(first)
    answer, report = await ask(second)
    assert [MISS, HIT] == [cached(made), cached(answer)]
    assert [(MISS, 1), (HIT, 0)] == [(one["cache"], len(one["attempts"])) for one in (before, report)]
    assert (0.0, "up/ok", "0", "0") == (
        report["cost_usd"], report["winner"], answer.headers["x-orchestrator-attempts"],
        answer.headers["x-orchestrator-cost-usd"],
    )  # fmt: skip
    assert before["request_id"] != report["request_id"] == answer.headers["x-request-id"]
    assert ("up", "ok") == (answer.headers["x-orchestrator-provider"], answer.headers["x-orchestrator-model"])
    assert 1 == len(upstream.attempts("ok"))
    if first == second is False:
        assert without(made.json()) == without(answer.json())


def without(body: Json) -> Json:
    """What has to be alike: all but who was asked, at what cost, and what responses make up of their own."""
    usage = {name: value for name, value in body["usage"].items() if name != "cost"}
    own = ("orchestrator", "created_at", "completed_at", "id", "output")
    return {name: value for name, value in {**body, "usage": usage}.items() if name not in own}


async def test_usage_stays_and_its_cost_is_nothing(stack: Stack) -> None:
    """As the provider counted it; streamed too."""
    await cold(stack)
    usage = (await cold(stack)).json()["usage"]
    assert {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4, "cost": 0.0} == usage
    *_, last, _ = events((await cold(stack, stream=True, stream_options={"include_usage": True})).text)
    assert usage == last["usage"]


async def test_embeddings(stack: Stack) -> None:
    """Have no temperature, and are kept."""
    asked = {"model": "sim/x", "input": ["one", "two"]}
    one, two = [await stack.http.post("/v1/embeddings", json=asked) for _ in range(2)]
    assert [MISS, HIT] == [cached(one), cached(two)]
    assert one.json()["data"] == two.json()["data"]


async def test_who_has_nothing_to_do_with_it(stack: Stack, upstream: Upstream) -> None:
    """A temperature above 0, or none: every request is answered anew, and nothing is said of a cache."""
    answers = [await stack.chat("up/ok", **fields) for fields in ({}, {}, {"temperature": 1}, {"temperature": 1})]
    assert ([None] * 4, 4) == ([cached(answer) for answer in answers], len(upstream.attempts("ok")))
    assert "cache" not in answers[0].json()["orchestrator"]


async def test_a_request_may_ask_for_it(upstream: Upstream, serve: Serve) -> None:
    """Where it is off, at any temperature; by what its answer says it is the same route."""
    stack = await serve(config(upstream, cache={}, tiers={"t": {"strategy": "race", "models": ["up/ok"]}}))
    wish = {"cache": {"ttl_s": 60}}
    one, two = [await stack.chat("tier:t", temperature=1, orchestrator=wish) for _ in range(2)]
    assert [MISS, HIT] == [cached(one), cached(two)]
    assert "race" == two.json()["orchestrator"]["strategy"]
    own = {"strategy": "race", "models": ["up/ok"], **wish}
    assert [MISS, HIT] == [cached(await stack.chat("up/x", orchestrator=own)) for _ in range(2)]
    wrong = await stack.chat("tier:t", orchestrator={"cache": {"ttl_s": 90_000}})
    error = wrong.json()["error"]
    assert (400, "orchestrator.cache.ttl_s") == (wrong.status_code, error["param"])
    assert None is cached(await cold(stack))


async def test_no_store_and_no_cache(stack: Stack, upstream: Upstream) -> None:
    """Neither read nor written; or not read, and written over what was there."""

    async def ask(control: str) -> str | None:
        body = {"model": "up/ok", "temperature": 0, **CHAT}
        return cached(await stack.http.post("/v1/chat/completions", json=body, headers={"cache-control": control}))

    assert [None, None] == [await ask("no-store"), await ask("No-Cache, no-store")]
    assert [MISS, HIT, None] == [await ask("max-age=5"), await ask(""), await ask("no-store")]
    assert [MISS, HIT] == [await ask("no-cache"), await ask("")]
    assert 5 == len(upstream.attempts("ok"))


@pytest.mark.parametrize("stream", [False, True])
async def test_many_at_once(stack: Stack, upstream: Upstream, stream: bool) -> None:
    """50 equal requests make one call; all have the answer, and one of them has paid."""
    answers = await asyncio.gather(*(cold(stack, "up/slow-0.2", stream=stream) for _ in range(50)))
    assert 1 == len(upstream.attempts("slow-0.2"))
    assert [HIT] * 49 + [MISS] == sorted(str(cached(answer)) for answer in answers)
    for answer in answers:
        if stream:
            *chunks, _, done = events(answer.text)
            said = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
            assert ("alpha beta gamma", "[DONE]") == (said, done)
        else:
            assert "alpha beta gamma" == answer.json()["choices"][0]["message"]["content"]


async def test_a_stream_is_followed_while_it_comes(stack: Stack, upstream: Upstream) -> None:
    """Whoever comes later has the beginning at once, and the end when it comes."""
    first = asyncio.ensure_future(cold(stack, "up/drip-0.2", stream=True))
    await asyncio.sleep(0.3)
    second = await cold(stack, "up/drip-0.2", stream=True)
    *chunks, _, _ = events(second.text)
    assert (HIT, ["alpha", " beta", " gamma"]) == (
        cached(second), [chunk["choices"][0]["delta"]["content"] for chunk in chunks],
    )  # fmt: skip
    assert (MISS, 1) == (cached(await first), len(upstream.attempts("drip-0.2")))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_caller_leaves(stack: Stack, upstream: Upstream, stream: bool) -> None:
    """Others still wait: the call goes on for them. When all have left, it is stopped."""
    callers = [asyncio.ensure_future(cold(stack, "up/slow-0.4", stream=stream)) for _ in range(3)]
    await asyncio.sleep(0.15)
    callers[0].cancel()
    answers = await asyncio.gather(*callers[1:])
    assert [200, 200] == [answer.status_code for answer in answers]
    assert [False] == [attempt.gone for attempt in upstream.attempts("slow-0.4")]
    leaving = [asyncio.ensure_future(cold(stack, "up/slow-5", stream=stream)) for _ in range(3)]
    await asyncio.sleep(0.15)
    for caller in leaving:
        caller.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert [True] == [attempt.gone for attempt in upstream.attempts("slow-5")]
    assert 0 == stack.coordinator.in_flight


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_not_kept(stack: Stack, upstream: Upstream, stream: bool) -> None:
    """Those who wait for it share it; the next one tries anew."""
    answers = await asyncio.gather(*(cold(stack, "up/slow-0.2-x", stream=stream) for _ in range(3)))
    assert {200} == {answer.status_code for answer in answers}
    failed = await asyncio.gather(*(cold(stack, "up/unavailable", stream=stream) for _ in range(3)))
    assert {502} == {answer.status_code for answer in failed}
    assert ([MISS] * 3, 1) == ([cached(answer) for answer in failed], len(upstream.attempts("unavailable")))
    assert 502 == (await cold(stack, "up/unavailable", stream=stream)).status_code
    assert 2 == len(upstream.attempts("unavailable"))


async def test_a_stream_that_is_cut_is_not_kept(stack: Stack, upstream: Upstream) -> None:
    """It ends with an error for all who follow it, and never with a clean end."""
    answers = await asyncio.gather(*(cold(stack, "up/cut-2", stream=True) for _ in range(3)))
    for answer in answers:
        assert ("error" in events(answer.text)[-1], "[DONE]" in answer.text) == (True, False)
    again = await cold(stack, "up/cut-2", stream=True)
    assert (MISS, 2) == (cached(again), len(upstream.attempts("cut-2")))


def go_on(stack: Stack, changed: Mapping[str, Any], lasting: Lasting) -> None:
    """What a reload does: another coordinator, beside which all that lasts stays."""
    stack.coordinator = Coordinator(load_mapping(changed, {}), stack.runtime, stack.pools, lasting=lasting)


async def test_a_reload(upstream: Upstream, serve: Serve) -> None:
    """What it leaves as it is, is still answered; what it changes is asked anew; without room, nothing is kept."""
    given = config(upstream, tiers={"t": ["up/ok"]})
    stack = await serve(given)
    lasting = stack.coordinator.lasting
    assert [MISS, MISS] == [cached(await cold(stack, model)) for model in ("tier:t", "up/ok")]
    go_on(stack, {**given, "tiers": {"t": ["up/other", "up/ok"]}}, lasting)
    assert [MISS, HIT] == [cached(await cold(stack, model)) for model in ("tier:t", "up/ok")]
    go_on(stack, given, lasting)
    assert HIT == cached(await cold(stack, "tier:t"))
    go_on(stack, {**given, "cache": {"ttl_s": 60, "max_mb": 0}}, lasting)
    assert None is cached(await cold(stack, "tier:t"))
    go_on(stack, given, lasting)
    assert MISS == cached(await cold(stack, "tier:t"))


class Book:
    """Notes what it is told; may refuse."""

    def __init__(self) -> None:
        self.refusal: Denied | None = None
        self.asked = 0
        self.settled: list[Ended | None] = []
        self.heard: list[Ended] = []

    async def allow(self, asked: Asked) -> Allowance:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return self

    def settle(self, ended: Ended | None) -> None:
        self.settled.append(ended)

    def ended(self, ended: Ended) -> None:
        self.heard.append(ended)


@pytest.fixture
def limits() -> Book:
    return Book()


@pytest.fixture
def budgets() -> Book:
    return Book()


@pytest.fixture
async def kept(stack: Stack, limits: Book, budgets: Book) -> Stack:
    """A stack with a limit, a budget, and an observer (the limit's book)."""
    lasting = Lasting(limiting=(limits,), allowing=(budgets,), observers=(limits,))
    stack.coordinator = Coordinator(stack.config, stack.runtime, stack.pools, lasting=lasting)
    return stack


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_counts_as_a_request_and_needs_no_budget(
    kept: Stack, limits: Book, budgets: Book, stream: bool
) -> None:
    """Limits are asked, budgets are not; observers are told of it, at no cost; a limit's refusal is one."""
    await cold(kept, stream=stream)
    budgets.refusal = Denied(403, "over_budget", "nothing left")
    assert HIT == cached(await cold(kept, stream=stream))
    assert 403 == (await cold(kept, "up/other", stream=stream)).status_code
    assert (3, 2) == (limits.asked, budgets.asked)
    made, hit = limits.heard
    assert ([made, hit, None], [made]) == (limits.settled, budgets.settled)
    assert isinstance(made.outcome, Finish if stream else Reply)
    assert isinstance(hit.outcome, Reply)
    assert ([], 0.0, HIT) == (hit.report["attempts"], hit.report["cost_usd"], hit.report["cache"])
    limits.refusal = Denied(429, "rate_limit_exceeded", "too many", 1)
    assert 429 == (await cold(kept, stream=stream)).status_code


async def test_a_budget_refuses_all_who_wait(kept: Stack, limits: Book, budgets: Book) -> None:
    """They have the same one; what they had been allowed is given back."""
    budgets.refusal = Denied(403, "over_budget", "nothing left")
    answers = await asyncio.gather(*(cold(kept) for _ in range(3)))
    assert ([403] * 3, [None] * 3, []) == ([a.status_code for a in answers], limits.settled, limits.heard)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_is_told_once(kept: Stack, limits: Book, budgets: Book, stream: bool) -> None:
    """Whose call goes on for others is told of when it ends, with what it cost; any other as one who left."""
    callers = [asyncio.ensure_future(cold(kept, "up/slow-0.4", stream=stream)) for _ in range(3)]
    await asyncio.sleep(0.2)
    for caller in callers[:2]:
        caller.cancel()
    await callers[2]
    assert {"cancelled": 1, "made": 1, "hit": 1} == {
        "cancelled": sum(not isinstance(one.outcome, Reply | Finish) for one in limits.heard),
        "made": sum(len(one.report["attempts"]) for one in limits.heard),
        "hit": sum(one.report["cache"] == HIT for one in limits.heard),
    }
    assert ([*limits.heard], 1) == (limits.settled, len(budgets.settled))
    if stream:
        assert all(one.first_token_s is not None for one in limits.heard if isinstance(one.outcome, Finish))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vote(upstream: Upstream, serve: Serve, stream: bool) -> None:
    """Is kept as it was decided, with how."""
    vote = {"strategy": "consensus", "models": ["up/ok", "up/other", "up/third"]}
    stack = await serve(config(upstream, tiers={"vote": vote}))
    one, two = [await cold(stack, "tier:vote") for _ in range(2)]
    assert (HIT, one.json()["orchestrator"]["consensus"]) == (cached(two), two.json()["orchestrator"]["consensus"])
    assert HIT == cached(await cold(stack, "tier:vote", stream=stream))


async def test_an_arm_is_counted_for_hits_too(upstream: Upstream, serve: Serve) -> None:
    """The answer is its arm's, and says so."""
    arms = {"a": {"model": "up/ok"}, "b": {"model": "up/other"}}
    stack = await serve(config(upstream, tiers={"trial": {"strategy": "split", "arms": arms}}))
    users = [await cold(stack, "tier:trial", user="ada") for _ in range(3)]
    (arm,) = {answer.json()["orchestrator"]["arm"] for answer in users}
    assert [MISS, HIT, HIT] == [cached(answer) for answer in users]
    assert {("tier:trial", arm, "ok"): 3} == stack.coordinator.lasting.counters.arms


async def test_openais_client(upstream: Upstream) -> None:
    """Sees nothing but an answer: whole, streamed, and from Python."""
    async with create_models(dict(config(upstream)), runtime="asyncio") as models:
        client = models.openai()
        turns: Any = CHAT["messages"]
        said = [await client.chat.completions.create(model="up/ok", messages=turns, temperature=0) for _ in range(2)]
        assert ["alpha beta gamma"] * 2 == [one.choices[0].message.content for one in said]
        assert {"cache": HIT, "cost_usd": 0.0}.items() <= (said[1].model_extra or {})["orchestrator"].items()
        stream = await client.chat.completions.create(model="up/ok", messages=turns, temperature=0, stream=True)
        assert "alpha beta gamma" == "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        response = await client.responses.create(model="up/ok", input="hi", temperature=0)
        assert "alpha beta gamma" == response.output_text
        reply = await models.model("up/ok").generate("hi", temperature=0)
        assert ("alpha beta gamma", 0.0, []) == (reply.text, reply.cost_usd, reply.attempts)
        embedded = [await client.embeddings.create(model="sim/x", input="one") for _ in range(2)]
        assert embedded[0].data == embedded[1].data
        assert isinstance(client, openai.AsyncOpenAI)
    assert 1 == len(upstream.attempts("ok"))


async def test_anthropics_client(stack: Stack, upstream: Upstream) -> None:
    """The same for messages; it knows of no temperature, but may ask for the cache."""
    http = httpx2.AsyncClient(transport=AppTransport(app_over(lambda: stack.coordinator)), base_url="http://test")
    client = anthropic.AsyncAnthropic(base_url="http://test", api_key="none", http_client=http)
    asked: Any = {"model": "up/ok", "max_tokens": 9, "messages": CHAT["messages"]}
    asked["extra_body"] = {"orchestrator": {"cache": {"ttl_s": 60}}}
    for _ in range(2):
        message = await client.messages.create(**asked)
        (block,) = message.content
        assert ("text", "alpha beta gamma") == (block.type, getattr(block, "text", None))
        async with client.messages.stream(**asked) as stream:
            assert "alpha beta gamma" == "".join([text async for text in stream.text_stream])
            assert HIT == stream.response.headers["x-orchestrator-cache"]
    await client.close()
    assert 1 == len(upstream.attempts("ok"))
