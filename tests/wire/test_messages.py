"""Anthropic's shape at both ends: a caller that speaks it, a provider that does, and each with the other shape."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import anthropic.types
import httpx
import orjson
import pytest

from orchestrator.endpoint import Endpoint
from orchestrator.transport import Transport
from orchestrator.wire.messages import MessagesSpeaker
from tests.unit.dialects.test_anthropic import BLOCKS, END, MESSAGE, SEARCH, START, STREAM, block, wire
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack
from tests.wire.test_stack import events

HI = {"role": "user", "content": "hi"}
ASKED: dict[str, Any] = {
    "model": "claude/claude-x",
    "max_tokens": 50,
    "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        HI,
        {"role": "assistant", "content": BLOCKS},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "x"}], "is_error": True},
            {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}}]},
    ],
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
              {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "top_k": 5, "temperature": 0.5, "stop_sequences": ["END"], "metadata": {"user_id": "john"}, "future": {"x": 1},
}  # fmt: skip


class Claude:
    """A stand-in for Anthropic's API that keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: httpx.Headers | None = None
        self.message: Any = MESSAGE
        self.events: list[dict[str, Any]] = STREAM
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert ("/v1/messages", "key", "2023-06-01") == (
            request.url.path, request.headers["x-api-key"], request.headers["anthropic-version"],
        )  # fmt: skip
        self.headers = request.headers
        self.asked.append(orjson.loads(request.content))
        if self.status != 200:
            error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            return httpx.Response(self.status, json=error)
        if self.asked[-1].get("stream"):
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=wire(self.events))
        return httpx.Response(200, json=self.message)


@pytest.fixture
def claude() -> Claude:
    return Claude()


@pytest.fixture
async def both(claude: Claude, serve: Serve) -> Stack:
    """A provider of each shape; the one that speaks OpenAI's is away."""
    retry = {"attempts": 1}
    claude_ = {"preset": "anthropic", "api_key": "key", "models": ["claude-x"], "retry": retry}
    stack = await serve(
        {"providers": {"claude": claude_, "away": {"base_url": "http://127.0.0.1:1/v1", "retry": retry}}}
    )
    provider = stack.config.providers["claude"]
    transport = Transport(provider.connections, provider.timeouts, httpx.MockTransport(claude))
    await stack.pools.endpoints["claude"].aclose()
    stack.pools.endpoints["claude"] = Endpoint(provider, ("key",), transport)
    return stack


def named(text: str) -> list[tuple[str, Any]]:
    """The events of a stream with their names, without comments."""
    found = []
    for part in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in part.split("\n") if not line.startswith(":") and line)
        if lines:
            found.append((lines["event"], orjson.loads(lines["data"])))
    return found


async def test_what_is_asked_arrives_as_it_was_written(both: Stack, claude: Claude) -> None:
    """To the last field, the caller's betas included."""
    answer = await both.http.post("/v1/messages", json=ASKED, headers={"anthropic-beta": "one, two"})
    assert (200, "one,two") == (answer.status_code, claude.headers and claude.headers["anthropic-beta"])
    (asked,) = claude.asked
    assert {**ASKED, "model": "claude-x", "stream": False} == asked


async def test_a_schema_where_it_stood_in_beta(both: Stack, claude: Claude, stack: Stack, upstream: Upstream) -> None:
    """It is asked for where it stands now, of Claude and of others."""
    closed = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
    asked = {"model": "claude/claude-x", "max_tokens": 9, "messages": [HI], "output_format": closed}
    for given, expected in ((None, {"format": closed}), ({"effort": "low"}, {"format": closed, "effort": "low"})):
        answer = await both.http.post("/v1/messages", json={**asked, "output_config": given})
        assert 200 == answer.status_code
        assert (expected, False) == (claude.asked[-1]["output_config"], "output_format" in claude.asked[-1])
    await stack.http.post("/v1/messages", json={**asked, "model": "up/ok"})
    assert closed["schema"] == upstream.log[-1].body["response_format"]["json_schema"]["schema"]


async def test_thoughts_of_another_model_are_not_given_to_anthropics(both: Stack, claude: Claude) -> None:
    """They bear no signature, and the request would be refused for them; signed ones go back as they were, and so do all to
    a model that signs nothing."""
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    signed, text = {**thought, "signature": "sig"}, {"type": "text", "text": "so"}
    turns = [
        HI,
        {"role": "assistant", "content": [thought, text]},
        HI,
        {"role": "assistant", "content": [thought]},
        HI,
        {"role": "assistant", "content": [signed, text]},
        HI,
    ]
    asked = {"model": "claude/claude-x", "max_tokens": 9, "messages": turns}
    assert 200 == (await both.http.post("/v1/messages", json=asked)).status_code
    expected = [HI, {"role": "assistant", "content": [text]}, HI, HI, turns[5], HI]
    assert expected == claude.asked[0]["messages"]
    assert 200 == (await both.http.post("/v1/messages", json={**asked, "model": "claude/kimi"})).status_code
    assert turns == claude.asked[1]["messages"]


@pytest.mark.parametrize("shape", ["chat/completions", "messages"])
async def test_calls_of_another_model_have_identities_that_anthropic_takes(
    both: Stack, claude: Claude, shape: str
) -> None:
    """Of a call and of its result alike; those that it takes stay."""
    given = ("functions.f:0", "functions.f:1", "call_1")
    if shape == "messages":
        calls = [{"type": "tool_use", "id": one, "name": "f", "input": {}} for one in given]
        results = [{"type": "tool_result", "tool_use_id": one, "content": "x"} for one in given]
        turns: list[Any] = [HI, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    else:
        function = {"name": "f", "arguments": "{}"}
        called = [{"id": one, "type": "function", "function": function} for one in given]
        results = [{"role": "tool", "tool_call_id": one, "content": "x"} for one in given]
        turns = [HI, {"role": "assistant", "content": None, "tool_calls": called}, *results]
    asked = {"model": "claude/claude-x", "max_tokens": 9, "messages": turns}
    assert 200 == (await both.http.post(f"/v1/{shape}", json=asked)).status_code
    _, said, answered = claude.asked[0]["messages"]
    found = [block["id"] for block in said["content"]]
    assert found == [block["tool_use_id"] for block in answered["content"]]
    assert (3, "call_1") == (len(set(found)), found[2])
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in found)


async def test_what_is_answered_comes_as_it_was_said(both: Stack, claude: Claude) -> None:
    """Block by block, whole; also those that no other shape has a place for."""
    searched = [{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}, *BLOCKS]
    for content in (BLOCKS, searched):
        claude.message = {**MESSAGE, "content": content}
        body = (await both.http.post("/v1/messages", json=ASKED)).json()
        kept = [{k: v for k, v in one.items() if v is not None} for one in content]
        assert kept == [{k: v for k, v in one.items() if v is not None} for one in body["content"]]
        assert {name: MESSAGE[name] for name in ("id", "model", "stop_reason", "stop_sequence", "usage")} == {
            name: body[name] for name in ("id", "model", "stop_reason", "stop_sequence", "usage")
        }
        assert "claude" == body["provider"]


async def test_a_stream_comes_as_it_was_said(both: Stack, claude: Claude) -> None:
    """The same blocks, in the same order, by the official client's accumulation."""
    cited = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x", "document_index": 0,
             "document_title": None, "start_char_index": 0, "end_char_index": 1, "file_id": None}}  # fmt: skip
    text = block(6, {"type": "text", "text": ""}, {"type": "text_delta", "text": "cited"}, cited)
    claude.events = [*STREAM[:-2], *SEARCH, *text, *END]
    said = named((await both.http.post("/v1/messages", json={**ASKED, "stream": True})).text)
    assert ["message_start", "message_delta", "message_stop"] == [said[0][0], said[-2][0], said[-1][0]]
    assert all(name == event["type"] for name, event in said)
    blocks = accumulated([event for _, event in said])
    assert blocks == accumulated([START, *claude.events[2:]])
    assert MESSAGE["usage"] == said[-2][1]["usage"]
    assert ("tool_use", "claude") == (said[-2][1]["delta"]["stop_reason"], said[-2][1]["provider"])


def test_thoughts_end_with_a_signature() -> None:
    """An empty one where the model has none, just before their end, as Anthropic's streams have it."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    speaker = MessagesSpeaker()
    deltas = [{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "so"}]
    said = named(
        speaker.chunks([orjson.dumps({**head, "choices": [{"index": 0, "delta": one}]}) for one in deltas]).decode()
    )
    assert ["thinking_delta", "thinking_delta", "signature_delta", "text_delta"] == [
        event["delta"]["type"] for _, event in said if "delta" in event
    ]
    at = next(i for i, (_, event) in enumerate(said) if event.get("delta", {}).get("type") == "signature_delta")
    assert ("", "content_block_stop") == (said[at][1]["delta"]["signature"], said[at + 1][0])


async def test_a_stream_begins_with_what_was_read(both: Stack, stack: Stack) -> None:
    """As Anthropic counted it; an estimate for models that count at the end. Clients fill their context by it."""
    for served, model, read in (
        (both, "claude/claude-x", {**MESSAGE["usage"], "output_tokens": 0}),
        (stack, "up/ok", {"input_tokens": 100 + 3, "output_tokens": 0}),
    ):
        asked = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 400}], "stream": True}
        said = named((await served.http.post("/v1/messages", json=asked)).text)
        assert read == said[0][1]["message"]["usage"]
        assert said[-2][1]["usage"]["output_tokens"] > 0


def accumulated(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What events come to. The blocks of a stream are numbered from 0 and never grow once they have ended."""
    blocks: list[dict[str, Any]] = []
    for event in given:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(blocks)
                blocks.append({**event["content_block"], "json": "", "citations": []})
            case "content_block_delta":
                into = blocks[event["index"]]
                for name, value in event["delta"].items():
                    if name in ("text", "thinking"):
                        into[name] += value
                    elif name == "partial_json":
                        into["json"] += value
                    elif name == "signature":
                        into["signature"] = value
                    elif name == "citation":
                        into["citations"].append(value)
    for one in blocks:
        if one["type"] == "tool_use":
            one["input"] = orjson.loads(one.pop("json") or "{}")
    return blocks


async def test_a_caller_of_chat_completions(both: Stack, claude: Claude) -> None:
    """Text, thinking and calls in OpenAI's shape, whole and streamed."""
    whole = (await both.chat("claude/claude-x")).json()
    assert ("Hello", "let me see", "tool_calls") == (
        whole["choices"][0]["message"]["content"],
        whole["choices"][0]["message"]["reasoning_content"],
        whole["choices"][0]["finish_reason"],
    )
    assert {"model": "claude-x", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "max_tokens": 32_000, "stream": False} == claude.asked[0]  # fmt: skip
    *chunks, usage, done = events(
        (await both.chat("claude/claude-x", stream=True, stream_options={"include_usage": True})).text
    )
    assert ("[DONE]", 20, "tool_calls") == (
        done, usage["usage"]["total_tokens"], chunks[-1]["choices"][0]["finish_reason"],
    )  # fmt: skip
    assert "Hello" == "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def test_a_failure_is_in_the_callers_shape(both: Stack, claude: Claude) -> None:
    """Whoever failed."""
    claude.status = 529
    answer = await both.http.post("/v1/messages", json=ASKED)
    assert 502 == answer.status_code
    anthropic.types.shared.ErrorResponse.model_validate(answer.json(), strict=False)
    assert "Overloaded" in answer.json()["error"]["message"]
    assert "claude/claude-x" == "/".join(answer.json()["orchestrator"]["attempts"][0][n] for n in ("provider", "model"))
    lost = (await both.http.post("/v1/messages", json={**ASKED, "model": "no/where"})).json()
    assert ("error", "not_found_error") == (lost["type"], lost["error"]["type"])


async def test_what_one_cannot_do_another_is_asked_for(both: Stack, claude: Claude) -> None:
    """Anthropic's models make one choice: the next candidate is asked, and the reason stands in the attempts."""
    answer = await both.chat("x", n=2, orchestrator={"models": ["claude/claude-x", "away/x"]})
    assert ["unsupported", "unreachable"] == [one["outcome"] for one in answer.json()["orchestrator"]["attempts"]]
    assert [] == claude.asked
    alone = await both.chat("claude/claude-x", n=2)
    assert (400, "n") == (alone.status_code, alone.json()["error"]["param"])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": []}, "messages"),
    "a message without a role": ({"messages": [{"content": "x"}]}, "messages[0]"),
    "content that is none": ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    "a block that is none": ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
    "a text without text": ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
    "system as a number": ({"system": 3}, "system"),
    "tools as text": ({"tools": "x"}, "tools"),
    "a limit as text": ({"max_tokens": "x"}, "max_tokens"),
    "a temperature as text": ({"temperature": "hot"}, "temperature"),
    "no model": ({"model": None}, "model"),
    "stream as text": ({"stream": "yes"}, "stream"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_says_where(both: Stack, claude: Claude, name: str) -> None:
    """In Anthropic's shape."""
    fields, param = WRONG[name]
    answer = await both.http.post("/v1/messages", json={**ASKED, **fields})
    error = answer.json()["error"]
    assert (400, "invalid_request_error", param) == (answer.status_code, error["type"], error["param"])
    assert [] == claude.asked


async def test_a_race_over_both_in_every_shape(both: Stack, claude: Claude, upstream: Upstream) -> None:
    """Whoever wins, the answer is in the caller's shape: whole and streamed."""
    provider = both.config.providers["away"]
    await both.pools.endpoints["away"].aclose()
    both.pools.endpoints["away"] = Endpoint(replace(provider, base_url=f"http://127.0.0.1:{upstream.port}/v1"), ())
    asked: dict[str, dict[str, Any]] = {
        "chat/completions": {"messages": [HI]}, "completions": {"prompt": "hi"}, "responses": {"input": "hi"},
        "messages": {"messages": [HI], "max_tokens": 9},
    }  # fmt: skip
    for winner, text, models in (("claude", "Hel", ["away/silent", "claude/claude-x"]),
                                 ("away", "alpha", ["away/ok", "away/silent"])):  # fmt: skip
        for path, fields in asked.items():
            body = {"model": "x", "orchestrator": {"strategy": "race", "models": models}, **fields}
            whole = (await both.http.post(f"/v1/{path}", json=body)).json()
            assert (winner, True) == (whole["provider"], text in orjson.dumps(whole).decode()), path
            streamed = (await both.http.post(f"/v1/{path}", json={**body, "stream": True})).text
            assert (True, True) == (f'"provider":"{winner}"' in streamed, text in streamed), path
    assert len(claude.asked) == 8


CAN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "tools": ({"tools": False}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "calls no tools"),
    "images": ({"images": False}, {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}, "sees no images"),
    "a schema": ({"json_schema": False}, {"response_format": {"type": "json_schema", "json_schema": {}}},
                 "keeps to no schema"),
    "length": ({"context_tokens": 100}, {"messages": [{"role": "user", "content": "x" * 800}]}, "takes 100 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("name", CAN)
async def test_a_model_that_cannot_is_passed_over(serve: Serve, upstream: Upstream, name: str) -> None:
    """Without being asked, and the attempts say why; alone, it is refused with what is lacking; others are asked."""
    options, fields, why = CAN[name]
    any_ = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []}
    stack = await serve({"providers": {"plain": {**any_, "model_options": {"*": options}}, "able": any_}})
    passed = (await stack.chat("x", orchestrator={"models": ["plain/ok-1", "able/ok-2"]}, **fields)).json()
    assert ("able/ok-2", ["unsupported", "ok"]) == (
        passed["orchestrator"]["winner"], [one["outcome"] for one in passed["orchestrator"]["attempts"]],
    )  # fmt: skip
    alone = await stack.chat("plain/ok-1", **fields)
    assert (400, "unsupported", True) == (
        alone.status_code, alone.json()["error"]["code"], why in alone.json()["error"]["message"],
    )  # fmt: skip
    assert [] == upstream.attempts("ok-1")
    assert 200 == (await stack.chat("plain/ok-1")).status_code
