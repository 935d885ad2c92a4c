"""What callers get through the whole stack, without Ray: answers, failures, lists and states."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from orchestrator.asks import Ask
from orchestrator.config.settings import Latency, Simulate
from orchestrator.simulate.server import start
from orchestrator.types import Request
from orchestrator.world import RequestWorld
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack


def events(text: str) -> list[Any]:
    """The events of a stream, the last one `[DONE]` if there is one."""
    found = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [one if one == "[DONE]" else orjson.loads(one) for one in found]


async def test_a_whole_answer(stack: Stack, upstream: Upstream) -> None:
    """The provider's own body, and what is added to it."""
    answer = await stack.chat("up/ok", temperature=0.5)
    assert answer.status_code == 200
    body = answer.json()
    assert ("alpha beta gamma", "up", None) == (
        body["choices"][0]["message"]["content"],
        body["provider"],
        body["usage"]["cost"],
    )
    assert ("ok", 200, 1, 3) == tuple(
        body["orchestrator"]["attempts"][0][name] for name in ("outcome", "status", "input_tokens", "output_tokens")
    )
    assert ("up", "ok", "first", "1") == tuple(
        answer.headers[f"x-orchestrator-{name}"] for name in ("provider", "model", "strategy", "attempts")
    )
    assert 1 == len(upstream.attempts("ok"))


async def test_a_streamed_answer(stack: Stack) -> None:
    """Role first, one finish with the report, usage when asked for, [DONE]."""
    answer = await stack.chat("up/ok", stream=True, stream_options={"include_usage": True})
    chunks = events(answer.text)
    assert "[DONE]" == chunks.pop()
    usage = chunks.pop()
    assert ([], 3, None) == (usage["choices"], usage["usage"]["completion_tokens"], usage["usage"]["cost"])
    assert ("stop", "up", "up/ok") == (
        chunks[-1]["choices"][0]["finish_reason"],
        chunks[-1]["provider"],
        chunks[-1]["orchestrator"]["winner"],
    )
    assert "assistant" == chunks[0]["choices"][0]["delta"]["role"]
    assert "alpha beta gamma" == "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fallback_names_what_failed(stack: Stack, stream: bool) -> None:
    """Both tries of the first, then the second; each with its outcome."""
    answer = await stack.chat("tier:rescue", stream=stream)
    body = events(answer.text)[-2] if stream else answer.json()
    attempts = body["orchestrator"]["attempts"]
    assert [("unavailable", "server_error", 503), ("unavailable", "server_error", 503), ("ok", "ok", 200)] == [
        (one["model"], one["outcome"], one["status"]) for one in attempts
    ]
    assert attempts[0]["start_s"] < attempts[1]["start_s"] < attempts[2]["start_s"]


FAULTS = {
    "unavailable": (502, "server_error", 2),
    "limited": (429, "rate_limit_exceeded", 2),
    "html": (502, "bad_answer", 1),
    "empty": (502, "bad_answer", 1),
    "nochoices": (502, "bad_answer", 1),
    "context": (400, "context_length_exceeded", 1),
    "malformed": (400, "unknown_parameter", 1),
    "unauthorized": (502, "provider_unauthorized", 1),
    "reset": (502, "connection_reset", 2),
    "silent": (504, "timeout", 1),
    "headers": (504, "timeout", 1),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_before_the_first_token(stack: Stack, upstream: Upstream, fault: str, stream: bool) -> None:
    """Its status and code, and as many tries as help; no key in the message."""
    status, code, tries = FAULTS[fault]
    answer = await stack.chat(f"up/{fault}", stream=stream)
    assert (status, code, tries) == (
        answer.status_code,
        answer.json()["error"]["code"],
        len(upstream.attempts(fault)),
    )
    assert "sk-abc" not in answer.text


@pytest.mark.parametrize(("fault", "stream"), [("echo", False), ("echo", True), ("echo-late", True)])
async def test_a_key_that_its_provider_repeats_reaches_nobody(
    upstream: Upstream, serve: Serve, fault: str, stream: bool
) -> None:
    """Neither in what an error says, nor in its code or field; nor what is kept of it for administrators."""
    key = "Quite.An/Unlikely+Key"
    up = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": [], "api_key": key, "retry": {"attempts": 1}}
    stack = await serve({"providers": {"up": up}})
    answer = await stack.chat(f"up/{fault}", stream=stream)
    assert "no such key: ***" in answer.text
    assert [key] == [attempt.key for attempt in upstream.attempts(fault)]
    assert key not in answer.text
    assert key not in (await stack.http.get("/admin/pools")).text


LATE = {"cut": "stream_cut", "stall": "stream_stalled", "badevent": "bad_event", "unfinished": "stream_cut"}


@pytest.mark.parametrize("fault", LATE)
async def test_a_fault_within_a_stream(stack: Stack, fault: str) -> None:
    """An error event, no [DONE], no finish_reason: never a clean end on a truncated answer."""
    answer = await stack.chat(f"up/{fault}", stream=True)
    *chunks, last = events(answer.text)
    assert LATE[fault] == last["error"]["code"]
    assert [LATE[fault]] == [one["outcome"] for one in last["orchestrator"]["attempts"]]
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])


async def test_an_error_event_before_the_first_token_is_an_error(stack: Stack) -> None:
    """The headers have not gone out yet, so the status is true."""
    answer = await stack.chat("up/errorevent", stream=True)
    assert (502, "server_error") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_forgotten_done_is_forgiven(stack: Stack) -> None:
    """The answer had its finish_reason."""
    answer = await stack.chat("up/nodone", stream=True)
    assert "[DONE]" == events(answer.text)[-1]


async def test_a_long_header_is_taken(stack: Stack) -> None:
    """Proxies add policies and cookies of any length."""
    assert 200 == (await stack.chat("up/headed")).status_code


async def test_comments_behind_the_finish_hold_nothing_up(stack: Stack) -> None:
    """The answer is whole: its usage is waited for no longer, whatever else comes."""
    began_s = time.monotonic()
    answer = await stack.chat("up/chatty", stream=True)
    assert "[DONE]" == events(answer.text)[-1]
    assert time.monotonic() - began_s < 2


async def test_a_server_that_recovers(stack: Stack, upstream: Upstream) -> None:
    """The second try answers."""
    answer = await stack.chat("up/once")
    assert (200, ["server_error", "ok"]) == (
        answer.status_code,
        [one["outcome"] for one in answer.json()["orchestrator"]["attempts"]],
    )


async def test_nobody_is_there(stack: Stack) -> None:
    """All candidates are named, each with its reason; trying again would not help by itself."""
    answer = await stack.chat("tier:hopeless")
    error = answer.json()["error"]
    assert (502, "server_error") == (answer.status_code, error["code"])
    assert "up/unavailable: HTTP 503: overloaded" in error["message"]
    assert "nowhere/x: 127.0.0.1:1 cannot be reached: Connection refused" in error["message"]
    assert "false" == answer.headers["x-should-retry"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_deadline_of_the_whole_call(stack: Stack, stream: bool) -> None:
    """`total_s` ends it, whatever the other time-outs say."""
    answer = await stack.chat("short/drip-0.15" if stream else "short/slow-3", stream=stream)
    error = events(answer.text)[-1]["error"] if stream else answer.json()["error"]
    assert "deadline_exceeded" == error["code"]
    assert "no answer within total_s (0.2 s)" in error["message"]


async def test_a_hedge_over_a_nested_tier(stack: Stack, upstream: Upstream) -> None:
    """The slow one is overtaken by a tier, whose parameters reach its provider; the slow one's connection is closed."""
    answer = await stack.chat("tier:hedge")
    report = answer.json()["orchestrator"]
    assert ("up/ok", ["cancelled", "ok"]) == (report["winner"], [one["outcome"] for one in report["attempts"]])
    await stack.runtime.aclose()
    await asyncio.sleep(0.05)
    (slow,) = upstream.attempts("slow-0.2")
    assert slow.gone


async def test_a_hedge_without_budget_waits(stack: Stack) -> None:
    """A spent budget starts no hedge, and the first one answers in its time."""
    winners = [(await stack.chat("tier:hedge")).json()["orchestrator"]["winner"] for _ in range(3)]
    assert ["up/ok", "up/slow-0.2", "up/slow-0.2"] == winners


async def test_a_race_for_the_whole_answer_can_be_streamed(stack: Stack) -> None:
    """Asked whole, sent as a stream."""
    answer = await stack.chat("tier:whole", stream=True, stream_options={"include_usage": True})
    first, last, usage, done = events(answer.text)
    assert "alpha beta gamma" == first["choices"][0]["delta"]["content"]
    assert ("stop", 3, "[DONE]") == (
        last["choices"][0]["finish_reason"],
        usage["usage"]["completion_tokens"],
        done,
    )


CHOICES: dict[str, tuple[dict[str, Any], int, str]] = {
    "a race": ({"orchestrator": {"strategy": "race", "models": ["up/slow-0.1", "up/ok"]}}, 200, "up/ok"),
    "a hedge": (
        {"orchestrator": {"strategy": "hedge", "models": ["up/slow-0.2", "up/ok"], "after": 0.01}},
        200,
        "up/ok",
    ),
    "a strategy alone": ({"orchestrator": {"strategy": "first"}}, 200, "up/ok"),
    "OpenRouter's list": ({"models": ["up/ok"], "model": "up/unavailable"}, 200, "up/ok"),
    "an unknown key": ({"orchestrator": {"x": 1}}, 400, "orchestrator.x"),
    "an unknown strategy": ({"orchestrator": {"strategy": ["race"]}}, 400, "orchestrator.strategy"),
    "no list": ({"orchestrator": {"models": "up/ok"}}, 400, "orchestrator.models"),
    "an empty list": ({"orchestrator": {"models": []}}, 400, "orchestrator.models"),
    "no list of OpenRouter's": ({"models": "up/ok"}, 400, "models"),
    "17 models": ({"orchestrator": {"models": ["up/ok"] * 17}}, 400, "orchestrator.models"),
    "80 models by way of tiers": ({"orchestrator": {"models": ["tier:hedge"] * 16 }}, 200, "up/ok"),
    "OpenRouter's preferences": ({"provider": {"order": ["up"]}}, 200, "up/ok"),
    "preferences for others": ({"provider": {"only": ["openai"]}}, 400, "provider.only"),
    "preferences that cannot be followed": ({"provider": {"zdr": True}}, 400, "provider.zdr"),
    "preferences that are none": ({"provider": ["up"]}, 400, "provider"),
    "an unknown model among them": ({"orchestrator": {"models": ["up/ok", "tier:x"]}}, 404, "model"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
async def test_a_choice_of_the_requests_own(stack: Stack, name: str) -> None:
    """Followed, or refused by the name of the field."""
    fields, status, expected = CHOICES[name]
    answer = await stack.chat(**{"model": "up/ok", **fields})
    body = answer.json()
    found = body["orchestrator"]["winner"] if status == 200 else body["error"]["param"]
    assert (status, expected) == (answer.status_code, found)


async def test_a_choice_that_comes_to_too_much(serve: Serve) -> None:
    """Sixteen tiers of five are eighty calls."""
    stack = await serve({"providers": {"sim": {"simulate": {}}}, "tiers": {"five": ["sim/a"] * 5}})
    answer = await stack.chat("x", orchestrator={"models": ["tier:five"] * 16})
    assert (400, "comes to 80 models with its tiers; at most 64") == (
        answer.status_code,
        answer.json()["error"]["message"].partition(": ")[2],
    )


@pytest.mark.parametrize(
    ("selector", "near"),
    [("tier:rescu", "tier:rescue"), ("ok", "up/ok"), ("ub/ok", "up/ok"), ("tier:" + "x" * 100_000, "…")],
)
async def test_an_unknown_selector(stack: Stack, selector: str, near: str) -> None:
    """404 with what is spelled alike, however long the name is."""
    answer = await stack.chat(selector)
    error = answer.json()["error"]
    assert (404, "model_not_found", "model") == (answer.status_code, error["code"], error["param"])
    assert near in error["message"]
    assert len(error["message"]) < 400


async def test_what_was_left_out_says_why(serve: Serve) -> None:
    """An unknown model whose provider lacks its key."""
    stack = await serve({"providers": {"sim": {"simulate": {}}, "openai": {"optional": True}}})
    answer = await stack.chat("openai/gpt-4o")
    assert "left out: OPENAI_API_KEY is not set" in answer.json()["error"]["message"]
    pools = (await stack.http.get("/admin/pools")).json()["pools"]
    assert {"provider": "openai", "left_out": "OPENAI_API_KEY is not set"} in pools


async def test_providers_are_asked_for_their_models_side_by_side(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list takes as long as the slowest of them, and keeps the configuration's order."""
    away = {"base_url": "http://127.0.0.1:1/v1"}
    stack = await serve({"providers": {"slow": away, "quick": away, "known": {**away, "models": ["m"]}}})
    quick_was_asked = asyncio.Event()

    async def models(provider: str) -> tuple[str, ...]:
        if provider == "quick":
            quick_was_asked.set()
        await asyncio.wait_for(quick_was_asked.wait(), 5)
        return ("a", "b")

    monkeypatch.setattr(stack.pools, "models", models)
    rows = (await stack.http.get("/v1/models")).json()["data"]
    assert ["slow/a", "slow/b", "quick/a", "quick/b", "known/m"] == [row["id"] for row in rows]


async def test_lists_and_states(stack: Stack, upstream: Upstream) -> None:
    """Models by name and by id, HEAD like GET, pools, health and readiness."""
    http = stack.http
    rows = (await http.get("/v1/models")).json()["data"]
    assert ["tier:rescue", "tier:hopeless", "tier:hedge", "tier:spare", "tier:whole", "up/ok"] == [
        r["id"] for r in rows
    ]
    assert ("orchestrator", "up") == (rows[0]["owned_by"], rows[-1]["owned_by"])
    assert "up/ok" == (await http.get("/v1/models/up/ok")).json()["id"]
    assert "tier:rescue" == (await http.get("/v1/models/tier%3Arescue/")).json()["id"]
    assert "up/unlisted" == (await http.get("/v1/models/up/unlisted")).json()["id"]
    missing = await http.get("/v1/models/none/none")
    assert (404, "model") == (missing.status_code, missing.json()["error"]["param"])
    assert 200 == (await http.head("/v1/models")).status_code
    assert {"status": "ok"} == (await http.get("/health")).json()
    assert {"status": "ready", "pools": {}} == (await http.get("/ready")).json()
    stack.pools.problems = {"up": "it is away"}
    unready = await http.get("/ready")
    assert (503, {"up": "it is away"}) == (unready.status_code, unready.json()["pools"])
    await stack.chat("up/ok")
    pools = {row["provider"]: row for row in (await http.get("/admin/pools")).json()["pools"]}
    assert 1 == pools["up"]["accounts"][0]["models"]["ok"]["calls"]


async def test_what_comes_while_it_is_being_stopped(stack: Stack, upstream: Upstream) -> None:
    """Requests and readiness are refused, with when to try again; what is asked of the process itself is answered."""
    stack.above.draining = True
    refused, ready = await stack.chat("up/ok"), await stack.http.get("/ready")
    assert (503, "draining", "1") == (
        refused.status_code,
        refused.json()["error"]["code"],
        refused.headers["retry-after"],
    )
    assert (503, 200) == (ready.status_code, (await stack.http.get("/health")).status_code)
    assert [] == upstream.log


async def test_paths_and_methods_that_there_are_not(stack: Stack) -> None:
    """404 names what there is, 405 what is taken."""
    unknown = await stack.http.get("/v1/assistants")
    assert (404, "not_found") == (unknown.status_code, unknown.json()["error"]["code"])
    assert "/v1/chat/completions" in unknown.json()["error"]["message"]
    wrong = await stack.http.get("/v1/chat/completions")
    assert (405, "POST") == (wrong.status_code, wrong.headers["allow"])


async def test_a_body_over_the_limit(serve: Serve) -> None:
    """413, by its length or, where none is declared, by what has come."""
    stack = await serve({"providers": {"sim": {"simulate": {}}}, "server": {"max_body_mb": 0.001}})

    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 100

    for content in (b" " * 2000, pieces()):
        answer = await stack.http.post("/v1/chat/completions", content=content)
        assert (413, "request_too_large", "close") == (
            answer.status_code,
            answer.json()["error"]["code"],
            answer.headers["connection"],
        )


async def test_limits_and_queues(upstream: Upstream, serve: Serve) -> None:
    """The semaphore holds, the queue holds as many as it may, and the rest is told when to come back."""
    up = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []}
    stack = await serve({"providers": {"up": {**up, "pool": {"concurrency": 2, "queue": 3, "queue_timeout_s": 0.1}}}})
    answers = await asyncio.gather(*(stack.chat("up/slow-0.15") for _ in range(7)))
    found = sorted((answer.status_code, (answer.json().get("error") or {}).get("code", "")) for answer in answers)
    assert [(200, "")] * 2 + [(429, "queue_full")] * 2 + [(429, "queue_timeout")] * 3 == found
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)
    assert 2 == upstream.peak


async def test_aliases(serve: Serve) -> None:
    """Bare names for selectors: exact ones before patterns, the longest pattern first; listed, and answered."""
    stack = await serve(
        {
            "providers": {"sim": {"simulate": {"latency_s": {"median": 0}}, "models": ["gpt-4o", "claude-3"]}},
            "tiers": {"fast": ["sim/x"]},
            "aliases": {
                "gpt-4o": "sim/four",
                "gpt-*": "sim/gpt-*",
                "gpt-4*": "tier:fast",
                "*-3": "sim/*-3",
                "gone/*": "sim/*",
            },
        }
    )
    expected = {
        "gpt-4o": "sim/four", "gpt-4.1": "sim/x", "gpt-5": "sim/gpt-5", "claude-3": "sim/claude-3", "gone/a/b": "sim/a/b",
    }  # fmt: skip
    simulated = await start(Simulate(Latency(0, 0), 100_000), name="sim")
    stack.pools.endpoints["sim"].provider = replace(stack.config.providers["sim"], base_url=simulated.base_url)
    for name, winner in expected.items():
        assert winner == (await stack.chat(name)).json()["orchestrator"]["winner"]
    assert 404 == (await stack.chat("gpt-")).status_code
    await simulated.stop()
    listed = [row["id"] for row in (await stack.http.get("/v1/models")).json()["data"]]
    # A pattern lists what it makes of the models that are listed.
    assert ["tier:fast", "gpt-4o", "gone/gpt-4o", "gone/claude-3", "claude-3", "sim/gpt-4o", "sim/claude-3"] == listed


async def test_what_stands_above(stack: Stack) -> None:
    """The configuration in use; a reload, what is wrong with it, and what is wrong with users' files."""
    assert {"version": 7} == (await stack.http.get("/admin/config")).json()
    stack.above.user_problems = ("john.yaml:1: a: no",)
    reloaded = await stack.http.post("/admin/reload")
    assert {"version": 7, "problems": ["john.yaml:1: a: no"]} == reloaded.json()
    stack.above.problems = ("c.yaml:1: a: no", "c.yaml:2: b: no")
    refused = await stack.http.post("/admin/reload")
    assert (400, "invalid_config") == (refused.status_code, refused.json()["error"]["code"])
    assert "c.yaml:1: a: no\nc.yaml:2: b: no" in refused.json()["error"]["message"]


async def test_requests_are_counted(stack: Stack) -> None:
    """By selector and outcome, and each attempt; what is in flight holds its coordinator."""
    slow = asyncio.ensure_future(stack.chat("up/slow-0.1"))
    await asyncio.sleep(0.05)
    assert stack.coordinator.in_flight
    await stack.coordinator.idle()
    assert 200 == (await slow).status_code
    await stack.chat("tier:rescue")
    await stack.chat("up/malformed")
    counters = stack.coordinator.lasting.counters
    assert {
        ("up/slow-0.1", "first", "ok"): 1,
        ("tier:rescue", "fallback", "ok"): 1,
        ("up/malformed", "first", "invalid_request"): 1,
    } == dict(counters.requests)
    assert 2 == counters.attempts["up", "unavailable", "server_error"]


async def test_a_hedge_by_percentile_learns(upstream: Upstream, serve: Serve) -> None:
    """By the configured typical latency at first, by what the model took once there are fifty calls."""
    up = {
        "base_url": f"http://127.0.0.1:{upstream.port}/v1",
        "models": [],
        "model_options": {"slow*": {"typical_s": 0.05}},
    }
    hedge = {"strategy": "hedge", "after": "p90", "extra_calls": 1}
    stack = await serve(
        {
            "providers": {"up": up},
            "tiers": {
                "t": {**hedge, "models": ["up/slow-0.3", "up/ok"]},
                "u": {**hedge, "models": ["up/quick", "up/ok"]},
            },
        }
    )
    report = (await stack.chat("tier:t")).json()["orchestrator"]
    assert "up/ok" == report["winner"]
    assert 0.05 <= report["attempts"][1]["start_s"] < 0.2
    route = stack.coordinator._selectors.resolve("tier:u")
    world = RequestWorld(stack.coordinator, time.monotonic, Ask("tier:u", Request({}), None, "r"))
    assert 2.0 == world.after_s(route, stream=False)
    for _ in range(60):
        await stack.chat("up/quick")
    assert 0 < world.after_s(route, stream=False) < 0.5
    assert 2.0 == world.after_s(route, stream=True)


async def test_balance_learns_who_is_slow_and_who_fails(upstream: Upstream, serve: Serve) -> None:
    """Three deployments: the good one is asked most; every request is answered, by another where one fails."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    up = {"base_url": address, "models": [], "retry": {"attempts": 1}, "breaker": {"failures": 999}}
    models = ["up/slow-0.2", "up/unavailable", "up/slow-0.02"]
    stack = await serve(
        {
            "providers": {"up": up},
            "tiers": {
                "t": {"strategy": "balance", "models": models, "explore": 0},
                "w": {"strategy": "balance", "by": "weight", "models": ["up/ok", "tier:t"], "weights": {"tier:t": 0}},
            },
        }
    )
    answers = [await stack.chat("tier:t") for _ in range(40)]
    assert {200} == {answer.status_code for answer in answers}
    winners = [answer.json()["orchestrator"]["winner"] for answer in answers]
    assert winners.count("up/slow-0.02") >= 35
    assert 1 <= len(upstream.attempts("unavailable")) <= 3
    assert all(known.in_flight == 0 for known in stack.coordinator.scores._known.values())
    weighted = [(await stack.chat("tier:w")).json()["orchestrator"]["winner"] for _ in range(5)]
    assert ["up/ok"] * 5 == weighted
