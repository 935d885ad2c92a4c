"""What answers cost, over the whole way: in the answer object, in `usage.cost`, and in the header."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from orchestrator.accounting import Ended
from orchestrator.coordinator import Coordinator
from orchestrator.lasting import Lasting
from orchestrator.money import units_of, usd_of
from orchestrator.types import Json
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

PRICE = {"input_per_mtok_usd": 1.0, "output_per_mtok_usd": 10.0}
WHOLE = 31e-6
"""Of the upstream's usage: 1 token in, 3 out."""
ASKED = 3
"""The estimate of `hi`: 2 characters, and 3 tokens around the message."""


@pytest.fixture
async def priced(upstream: Upstream, serve: Serve) -> Stack:
    """A provider whose models have a price, and one without."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    quick = {"first_token_s": 0.5, "idle_s": 0.5, "answer_s": 0.5, "total_s": 5}
    provider = {"base_url": address, "models": [], "timeouts": quick, "retry": {"attempts": 2, "backoff_s": 0.01}}
    cheap, dear = {**PRICE, "output_per_mtok_usd": 1.0}, {**PRICE, "output_per_mtok_usd": 99.0}
    return await serve(
        {
            "providers": {"up": provider, "cheap": provider, "unknown": provider,
                          "sim": {"simulate": {"latency_s": {"median": 0, "p99": 0}, "tokens_per_s": 10_000}}},
            "tiers": {
                "rescue": ["up/unavailable", "up/cut-2", "up/ok"],
                "race": {"strategy": "race", "models": ["up/slow-5", "up/ok"]},
                "doubtful": {"strategy": "race", "models": ["unknown/slow-5", "up/ok"]},
                "vote": {"strategy": "consensus", "models": ["up/ok", "up/ok2", "up/ok3"], "extract": "text", "quorum": 3},
                "judged": {"strategy": "consensus", "method": "judge", "models": ["sim/say-1", "sim/say-2"],
                           "judge": "sim/judge-2"},
                "thrift": {"strategy": "balance", "by": "cost", "models": ["unknown/ok", "up/ok", "cheap/ok", "up/dear"]},
            },
            "pricing": {
                "refresh_h": 0, "cache": "none.json",
                "overrides": {"up/*": PRICE, "cheap/*": cheap, "up/dear": dear, "sim/*": PRICE},
            },
        }
    )  # fmt: skip


class Ear:
    """An observer that keeps what it heard."""

    def __init__(self, stack: Stack) -> None:
        self.heard: list[Ended] = []
        lasting = Lasting(observers=(self,))
        stack.coordinator = Coordinator(stack.config, stack.runtime, stack.pools, lasting=lasting)

    def ended(self, ended: Ended) -> None:
        self.heard.append(ended)


def events(text: str) -> list[Json]:
    return [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def last_report(text: str) -> Json:
    (said,) = [event["orchestrator"] for event in events(text) if "orchestrator" in event]
    return dict(said)


def costs(report: Json) -> list[tuple[str, float | None, bool]]:
    return [(one["outcome"], one["cost_usd"], one["cost_is_estimate"]) for one in report["attempts"]]


async def test_a_whole_answer(priced: Stack) -> None:
    """By its usage; the header is written out, and `usage.cost` is the same."""
    answer = await priced.chat("up/ok")
    body = answer.json()
    assert [("ok", WHOLE, False)] == costs(body["orchestrator"])
    assert (WHOLE, WHOLE) == (body["usage"]["cost"], body["orchestrator"]["cost_usd"])
    assert "0.000031" == answer.headers["x-orchestrator-cost-usd"]


async def test_an_answer_without_a_price(priced: Stack) -> None:
    """Null, and no header: never 0."""
    answer = await priced.chat("unknown/ok")
    body = answer.json()
    assert [("ok", None, False)] == costs(body["orchestrator"])
    assert (None, None) == (body["usage"]["cost"], body["orchestrator"]["cost_usd"])
    assert "x-orchestrator-cost-usd" not in answer.headers


@pytest.mark.parametrize("asked", [False, True])
async def test_a_stream_is_asked_for_its_usage(priced: Stack, upstream: Upstream, asked: bool) -> None:
    """Whether the caller wants it or not; who did not ask does not see it, and its cost is known all the same."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    answer = await priced.chat("up/ok", stream=True, **options)
    assert {"include_usage": True} == upstream.attempts("ok")[-1].body["stream_options"]
    shown = [event["usage"] for event in events(answer.text) if "usage" in event]
    assert ([{"prompt_tokens": 1, "completion_tokens": 3, "cost": WHOLE}] if asked else []) == shown
    assert [("ok", WHOLE, False)] == costs(last_report(answer.text))
    assert "x-orchestrator-cost-usd" not in answer.headers


async def test_who_fails_costs_nothing_and_a_cut_stream_what_was_seen(priced: Stack) -> None:
    """Two tries that were refused, a stream of which two tokens came, and an answer: all in the sum, only its own in
    `usage.cost`."""
    answer = await priced.chat("tier:rescue", stream=True, stream_options={"include_usage": True})
    report = last_report(answer.text)
    cut = (ASKED + 2 * 10) / 1e6
    again = 31e-6
    expected = [("server_error", 0.0, False)] * 2 + [("stream_cut", cut, True), ("ok", again, False)]
    assert expected == costs(report)
    assert pytest.approx(cut + again) == report["cost_usd"]
    assert [again] == [event["usage"]["cost"] for event in events(answer.text) if "usage" in event]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_loser_costs_an_estimate(priced: Stack, stream: bool) -> None:
    """Its input, of which nothing was seen to come; where it has no price, the sum is not known."""
    answer = await priced.chat("tier:race", stream=stream)
    report = last_report(answer.text) if stream else answer.json()["orchestrator"]
    assert [("cancelled", 3e-6, True), ("ok", WHOLE, False)] == costs(report)
    assert 34e-6 == report["cost_usd"]
    answer = await priced.chat("tier:doubtful", stream=stream)
    report = last_report(answer.text) if stream else answer.json()["orchestrator"]
    assert [("cancelled", None, True), ("ok", WHOLE, False)] == costs(report)
    assert None is report["cost_usd"]


async def test_silence_costs_its_input(priced: Stack) -> None:
    """What it may have made meanwhile is not seen."""
    ear = Ear(priced)
    answer = await priced.chat("up/silent")
    assert 504 == answer.status_code
    assert [("timeout", 3e-6, True)] == costs(ear.heard[0].report)


async def test_a_refused_request_costs_nothing(priced: Stack) -> None:
    """Exactly: it is known."""
    ear = Ear(priced)
    await priced.chat("up/malformed")
    await priced.chat("up/limited")
    assert [0.0, 0.0] == [ended.report["cost_usd"] for ended in ear.heard]


async def test_a_caller_who_leaves_a_stream(priced: Stack) -> None:
    """Pays for what was sent until then."""
    ear = Ear(priced)
    body = {"model": "up/drip-0.1", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    read: list[bytes] = []
    sent = asyncio.Event()
    left = asyncio.Event()

    async def receive() -> Any:
        if not read:
            read.append(orjson.dumps(body))
            return {"type": "http.request", "body": read[0], "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"beta" in message.get("body", b""):
            sent.set()

    app: Any = priced.http._transport.app  # type: ignore[attr-defined]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b"",
             "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}, "http_version": "1.1", "raw_path": b"",
             "scheme": "http", "server": ("test", 80), "root_path": ""}  # fmt: skip
    asking = asyncio.ensure_future(app(scope, receive, send))
    await asyncio.wait_for(sent.wait(), 5)
    left.set()
    await asyncio.wait_for(asking, 5)
    (ended,) = ear.heard
    assert [("cancelled", (ASKED + 2 * 10) / 1e6, True)] == costs(ended.report)


async def test_votes_add_up(priced: Stack) -> None:
    """Every call of a consensus, the judge's two among them; `usage.cost` is that of the answer that was chosen."""
    body = (await priced.chat("tier:vote")).json()
    assert pytest.approx(3 * WHOLE) == body["orchestrator"]["cost_usd"]
    assert WHOLE == body["usage"]["cost"]
    body = (await priced.chat("tier:judged")).json()
    report = body["orchestrator"]
    attempts = report["attempts"]
    assert ["say-1", "say-2", "judge-2", "judge-2"] == [one["model"] for one in attempts]
    assert "sim/say-2" == report["winner"]
    assert attempts[1]["cost_usd"] == body["usage"]["cost"] > 0
    assert usd_of(sum(units_of(one["cost_usd"]) for one in attempts)) == report["cost_usd"]


async def test_the_cheapest_is_asked_first(priced: Stack, upstream: Upstream) -> None:
    """By price for this request; unknown prices come last."""
    for _ in range(5):
        assert "cheap/ok" == (await priced.chat("tier:thrift")).json()["orchestrator"]["winner"]


async def test_embeddings(priced: Stack) -> None:
    """Their input alone is billed."""
    body = (await priced.http.post("/v1/embeddings", json={"model": "sim/embed", "input": "hello there"})).json()
    expected = body["usage"]["prompt_tokens"] / 1e6
    assert (expected, expected) == (body["usage"]["cost"], body["orchestrator"]["cost_usd"])
    assert expected > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi"}),
    ],
)
async def test_other_shapes_have_it_too(priced: Stack, path: str, body: Json) -> None:
    """Beside the answer, and in the header."""
    answer = await priced.http.post(path, json={"model": "up/ok", **body})
    assert WHOLE == answer.json()["orchestrator"]["cost_usd"]
    assert "0.000031" == answer.headers["x-orchestrator-cost-usd"]
    streamed = await priced.http.post(path, json={"model": "up/ok", "stream": True, **body})
    assert '"cost_usd":0.000031' in streamed.text
