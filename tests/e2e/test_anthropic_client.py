"""Anthropic's official client against the endpoint, on a provider that speaks OpenAI's shape."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from bench.serving import Served

HI: Any = [{"role": "user", "content": "hello there"}]
TOOLS: Any = [
    {"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "time", "input_schema": {"type": "object", "properties": {}}},
]  # fmt: skip


class Person(BaseModel):
    name: str
    age: int


def cell(feature: str) -> pytest.MarkDecorator:
    """Of the table in the README."""
    return pytest.mark.client("anthropic", feature)


def whole_and_streamed(feature: str) -> pytest.MarkDecorator:
    """A test both ways, for two cells."""
    return pytest.mark.parametrize(
        "streamed",
        [
            pytest.param(False, id="whole", marks=cell(feature)),
            pytest.param(True, id="streamed", marks=cell(f"streamed {feature}")),
        ],
    )


@pytest.fixture
async def client(served: Served) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=served.root, api_key="none", max_retries=0, timeout=30) as client:
        yield client


@cell("text")
async def test_a_message(client: anthropic.AsyncAnthropic) -> None:
    """Text, counts, a reason to stop; and what the endpoint adds."""
    message = await client.messages.create(model="tier:fallback", max_tokens=100, messages=HI, system="be brief")
    (block,) = message.content
    assert block.type == "text"
    assert "You said: hello there" in block.text
    assert ("message", "assistant", "end_turn") == (message.type, message.role, message.stop_reason)
    assert message.usage.output_tokens > 0
    extra = message.model_extra or {}
    assert ("sim", "tier:fallback") == (extra["provider"], extra["orchestrator"]["selector"])


@cell("text")
async def test_a_limit(client: anthropic.AsyncAnthropic) -> None:
    """What was cut off says so."""
    message = await client.messages.create(model="sim/chat", max_tokens=3, messages=HI)
    assert ("max_tokens", 3) == (message.stop_reason, message.usage.output_tokens)


@cell("streamed")
async def test_a_stream(client: anthropic.AsyncAnthropic) -> None:
    """The same text, by the client's own accumulation."""
    async with client.messages.stream(model="sim/echo", max_tokens=100, messages=HI) as stream:
        text = "".join([part async for part in stream.text_stream])
        final = await stream.get_final_message()
    assert ("hello there", "end_turn") == (text, final.stop_reason)
    assert final.content[0].type == "text"
    assert (text, 2) == (final.content[0].text, final.usage.output_tokens)


@whole_and_streamed("tools")
async def test_a_round_of_tools(client: anthropic.AsyncAnthropic, streamed: bool) -> None:
    """Two calls side by side, their results, and the answer."""
    asked: Any = {"model": "sim/parallel", "max_tokens": 100, "tools": TOOLS}
    if streamed:
        async with client.messages.stream(messages=HI, **asked) as stream:
            message: Any = await stream.get_final_message()
    else:
        message = await client.messages.create(messages=HI, **asked)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert ("tool_use", [("weather", {"city": "simulated"}), ("time", {})]) == (
        message.stop_reason,
        [(call.name, call.input) for call in calls],
    )
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    turns = [*HI, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    final = await client.messages.create(messages=turns, **asked)
    assert final.content[0].type == "text"


@cell("errors")
async def test_errors(client: anthropic.AsyncAnthropic) -> None:
    """By the client's own exceptions, each with the reason."""
    with pytest.raises(anthropic.NotFoundError, match="tier:fallback"):
        await client.messages.create(model="tier:falback", max_tokens=5, messages=HI)
    wrong: Any = [{"role": "x", "content": "y"}]
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]"):
        await client.messages.create(model="sim/chat", max_tokens=5, messages=wrong)
    with pytest.raises(anthropic.RateLimitError):
        await client.messages.create(model="up/limited", max_tokens=5, messages=HI)
    with pytest.raises(anthropic.APIStatusError, match="cut"):
        async with client.messages.stream(model="up/cut-2", max_tokens=5, messages=HI) as stream:
            await stream.until_done()


@cell("text")
async def test_tokens_are_estimated(client: anthropic.AsyncAnthropic) -> None:
    """Four characters a token; and the answer says that it is an estimate."""
    counted = await client.messages.count_tokens(model="sim/chat", messages=[{"role": "user", "content": "x" * 400}])
    assert (103, True) == (counted.input_tokens, (counted.model_extra or {})["estimate"])


@cell("errors")
async def test_what_is_missing(served: Served) -> None:
    """In Anthropic's shape, with the field."""
    async with httpx.AsyncClient(base_url=served.root) as http:
        refused = (await http.post("/v1/messages", json={"model": "sim/chat", "messages": HI})).json()
    assert ("error", "invalid_request_error", "max_tokens") == (
        refused["type"], refused["error"]["type"], refused["error"]["param"],
    )  # fmt: skip


@whole_and_streamed("structured")
async def test_a_structured_message(client: anthropic.AsyncAnthropic, streamed: bool) -> None:
    """By a pydantic model."""
    asked: Any = {"model": "sim/chat", "max_tokens": 100, "messages": HI, "output_format": Person}
    if streamed:
        async with client.messages.stream(**asked) as stream:
            message: Any = await stream.get_final_message()
    else:
        message = await client.messages.parse(**asked)
    assert Person(name="simulated", age=1) == message.parsed_output


@cell("errors")
async def test_a_tool_that_is_wrong(client: anthropic.AsyncAnthropic) -> None:
    """Its place stands in the error, streamed or not."""
    tools: Any = [{"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "text"}}}}]
    asked: Any = {"model": "sim/chat", "max_tokens": 5, "messages": HI, "tools": tools}
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]\.input_schema\.properties\.a\.type"):
        await client.messages.create(**asked)
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]\.input_schema\.properties\.a\.type"):
        async with client.messages.stream(**asked) as stream:
            await stream.until_done()


@cell("text")
async def test_what_claude_code_sends(client: anthropic.AsyncAnthropic) -> None:
    """By the beta interface: its query string and headers, a system of marked blocks, thinking."""
    message = await client.beta.messages.create(
        model="sim/echo", max_tokens=2048, messages=HI, betas=["interleaved-thinking-2025-05-14"],
        system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        thinking={"type": "enabled", "budget_tokens": 1024}, metadata={"user_id": "x" * 150},
    )  # fmt: skip
    assert message.content[0].type == "text"
    assert "hello there" == message.content[0].text


@cell("abort")
async def test_a_message_is_left(client: anthropic.AsyncAnthropic) -> None:
    """A stream that nobody wants to read on is closed at once."""
    began = time.monotonic()
    async with client.messages.stream(model="sim/rate-5+tokens-100", max_tokens=100, messages=HI) as stream:
        await anext(stream.text_stream)
    assert time.monotonic() - began < 3
