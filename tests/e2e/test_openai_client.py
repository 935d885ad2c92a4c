"""OpenAI's official client against the endpoint: its four shapes, tools, parsing, helpers for streams, raw answers, abort."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseFailedEvent, ResponseTextDeltaEvent
from pydantic import BaseModel

from bench.serving import Served

HI = "hello there"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}

CHAT, RESPONSES = "openai (chat)", "openai (responses)"
EMBEDDINGS, COMPLETIONS = "openai (embeddings)", "openai (completions)"
cell = pytest.mark.client
MESSAGES: Any = [{"role": "user", "content": HI}]


def whole_and_streamed(client: str, feature: str) -> pytest.MarkDecorator:
    """A test both ways, for two cells."""
    return pytest.mark.parametrize(
        "streamed",
        [
            pytest.param(False, id="whole", marks=cell(client, feature)),
            pytest.param(True, id="streamed", marks=cell(client, f"streamed {feature}")),
        ],
    )


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=30) as client:
        yield client


@cell(CHAT, "text")
async def test_a_chat_completion(client: openai.AsyncOpenAI) -> None:
    """Text, counts, a reason to stop, what the endpoint adds; several choices; an image that is looked at by nobody."""
    whole = await client.chat.completions.create(model="sim/echo", messages=MESSAGES, n=2, temperature=0, seed=1)
    assert [(HI, "stop")] * 2 == [(choice.message.content, choice.finish_reason) for choice in whole.choices]
    assert whole.usage is not None
    assert (4, "sim") == (whole.usage.completion_tokens, (whole.model_extra or {})["provider"])
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    seen: Any = [{"role": "user", "content": [{"type": "text", "text": HI}, image]}]
    assert HI == (await client.chat.completions.create(model="sim/echo", messages=seen)).choices[0].message.content


@cell(CHAT, "text")
async def test_a_raw_chat_completion(client: openai.AsyncOpenAI) -> None:
    """Status and headers beside what is parsed, whole and streamed."""
    raw = await client.chat.completions.with_raw_response.create(model="tier:plain", messages=MESSAGES)
    assert (200, "sim", "chat", "first", "1") == (
        raw.status_code, *(raw.headers[f"x-orchestrator-{name}"] for name in ("provider", "model", "strategy", "attempts")),
    )  # fmt: skip
    parsed = raw.parse()
    assert HI in (parsed.choices[0].message.content or "")
    assert raw.headers["x-request-id"]
    options: Any = {"model": "sim/echo", "messages": MESSAGES, "stream": True}
    async with client.chat.completions.with_streaming_response.create(**options) as streaming:
        lines = [line async for line in streaming.iter_lines() if line]
    assert ("data: [DONE]", "sim") == (lines[-1], streaming.headers["x-orchestrator-provider"])


@cell(CHAT, "streamed")
async def test_a_streamed_chat_completion(client: openai.AsyncOpenAI) -> None:
    """Chunk by chunk with the usage at the end; and by the client's own accumulation."""
    options: Any = {"include_usage": True}
    asked: Any = {"model": "sim/echo", "messages": MESSAGES, "stream_options": options}
    chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **asked)]
    assert HI == "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (2, "assistant") == (
        chunks[-1].usage and chunks[-1].usage.completion_tokens,
        chunks[0].choices[0].delta.role,
    )
    async with client.chat.completions.stream(**asked) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert (HI, HI, "stop") == ("".join(deltas), final.choices[0].message.content, final.choices[0].finish_reason)


@cell(RESPONSES, "text")
async def test_a_response(client: openai.AsyncOpenAI) -> None:
    """Text, counts, and what the endpoint adds; nothing is kept, also where that is asked for."""
    response = await client.responses.create(model="sim/echo", input=HI, instructions="be brief", store=True)
    assert (HI, "completed") == (response.output_text, response.status)
    assert False is (response.model_extra or {})["store"]
    assert response.usage is not None
    assert (2, "sim") == (response.usage.output_tokens, (response.model_extra or {})["provider"])


@cell(RESPONSES, "text")
async def test_a_response_that_is_cut_short(client: openai.AsyncOpenAI) -> None:
    """By its limit, and says so."""
    response = await client.responses.create(model="sim/chat", input=HI, max_output_tokens=3)
    assert response.incomplete_details is not None
    assert ("incomplete", "max_output_tokens") == (response.status, response.incomplete_details.reason)


@cell(RESPONSES, "streamed")
async def test_a_streamed_response(client: openai.AsyncOpenAI) -> None:
    """Numbered events, the same text as deltas and at the end."""
    events = [event async for event in await client.responses.create(model="tier:fallback", input=HI, stream=True)]
    assert list(range(len(events))) == [getattr(event, "sequence_number", None) for event in events]
    text = "".join(event.delta for event in events if isinstance(event, ResponseTextDeltaEvent))
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert HI in text
    assert text == last.response.output_text
    async with client.responses.stream(model="sim/echo", input=HI) as stream:
        assert HI == (await stream.get_final_response()).output_text


@whole_and_streamed(RESPONSES, "tools")
async def test_a_round_of_tools_by_responses(client: openai.AsyncOpenAI, streamed: bool) -> None:
    """Calls side by side, their results, the answer."""
    tools: Any = [
        {"type": "function", "name": name, "parameters": PARAMETERS, "strict": True} for name in ("weather", "time")
    ]
    asked: Any = {"model": "sim/parallel", "tools": tools}
    if streamed:
        async with client.responses.stream(input=HI, **asked) as stream:
            response: Any = await stream.get_final_response()
    else:
        response = await client.responses.create(input=HI, **asked)
    calls = [item for item in response.output if item.type == "function_call"]
    assert [("weather", {"city": "simulated"}), ("time", {"city": "simulated"})] == [
        (call.name, json.loads(call.arguments)) for call in calls
    ]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    again: Any = [{"role": "user", "content": HI}, *(call.model_dump(exclude_none=True) for call in calls), *results]
    final = await client.responses.create(input=again, **asked)
    assert final.output_text


@whole_and_streamed(CHAT, "structured")
async def test_structured_chat_completions(client: openai.AsyncOpenAI, streamed: bool) -> None:
    """By a pydantic model."""
    asked: Any = {"model": "sim/chat", "messages": MESSAGES, "response_format": Person}
    if streamed:
        async with client.chat.completions.stream(**asked) as stream:
            parsed: Any = await stream.get_final_completion()
    else:
        parsed = await client.chat.completions.parse(**asked)
    assert Person(name="simulated", age=1) == parsed.choices[0].message.parsed


@whole_and_streamed(RESPONSES, "structured")
async def test_structured_responses(client: openai.AsyncOpenAI, streamed: bool) -> None:
    """The same."""
    asked: Any = {"model": "sim/chat", "input": HI, "text_format": Person}
    if streamed:
        async with client.responses.stream(**asked) as stream:
            parsed: Any = await stream.get_final_response()
    else:
        parsed = await client.responses.parse(**asked)
    assert Person(name="simulated", age=1) == parsed.output_parsed


@whole_and_streamed(RESPONSES, "tools")
async def test_a_custom_tool(client: openai.AsyncOpenAI, streamed: bool) -> None:
    """Free text in, free text out."""
    asked: Any = {"model": "sim/chat", "tools": [{"type": "custom", "name": "patch", "description": "Edits files."}]}
    if streamed:
        async with client.responses.stream(input=HI, **asked) as stream:
            response: Any = await stream.get_final_response()
    else:
        response = await client.responses.create(input=HI, **asked)
    (call,) = response.output
    assert ("custom_tool_call", "patch", "simulated") == (call.type, call.name, call.input)
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"}
    again: Any = [{"role": "user", "content": HI}, call.model_dump(exclude_none=True), result]
    assert (await client.responses.create(input=again, **asked)).output_text


@whole_and_streamed(CHAT, "tools")
async def test_a_round_of_tools_by_chat(client: openai.AsyncOpenAI, streamed: bool) -> None:
    """The same by chat completions, with the client's helper for streams."""
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}]
    asked: Any = {"model": "tier:fallback", "messages": [{"role": "user", "content": HI}], "tools": tools}
    if streamed:
        async with client.chat.completions.stream(**asked) as stream:
            message: Any = (await stream.get_final_completion()).choices[0].message
    else:
        message = (await client.chat.completions.create(**asked)).choices[0].message
    (call,) = message.tool_calls
    assert ("weather", {"city": "simulated"}) == (call.function.name, json.loads(call.function.arguments))
    asked["messages"] += [message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert (await client.chat.completions.create(**asked)).choices[0].message.content


@cell(EMBEDDINGS, "text")
async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    """The client asks for them packed, and unpacks them."""
    one = await client.embeddings.create(model="sim/e", input=["a b", "a b", "c"])
    plain = await client.embeddings.create(model="sim/e", input="a b", encoding_format="float")
    vectors = [row.embedding for row in one.data]
    assert vectors[0] == vectors[1] != vectors[2]
    assert vectors[0] == pytest.approx(plain.data[0].embedding, abs=1e-6)
    packed: Any = (
        (await client.embeddings.create(model="sim/e", input="a b", encoding_format="base64")).data[0].embedding
    )
    assert 4 * len(plain.data[0].embedding) == len(base64.b64decode(packed))


@cell(EMBEDDINGS, "errors")
async def test_errors_of_embeddings(client: openai.AsyncOpenAI) -> None:
    """By the client's own exceptions, with the field."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="sim/e", input=["x", ""])
    assert "input[1]" == caught.value.param


@cell(COMPLETIONS, "text")
@cell(COMPLETIONS, "streamed")
async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    """Whole and streamed."""
    whole = await client.completions.create(model="sim/echo", prompt=HI)
    parts = [
        part.choices[0].text async for part in await client.completions.create(model="sim/echo", prompt=HI, stream=True)
    ]
    assert (HI, HI) == (whole.choices[0].text, "".join(parts))


@cell(COMPLETIONS, "errors")
async def test_errors_of_text_completions(client: openai.AsyncOpenAI) -> None:
    """By the client's own exceptions, with the field; one that is cut raises."""
    with pytest.raises(openai.BadRequestError, match="one by one") as caught:
        await client.completions.create(model="sim/echo", prompt=["a", "b"])
    assert "prompt" == caught.value.param
    with pytest.raises(openai.APIError, match="cut"):
        await collect(await client.completions.create(model="up/cut-2", prompt=HI, stream=True), [])


async def collect(events: AsyncIterator[Any], into: list[Any]) -> None:
    async for event in events:
        into.append(event)  # noqa: PERF401 - what came before it raises counts


@cell(CHAT, "errors")
async def test_errors_of_chat_completions(client: openai.AsyncOpenAI) -> None:
    """By the client's own exceptions; the field is named; a stream that is cut raises."""
    with pytest.raises(openai.NotFoundError, match="tier:fallback"):
        await client.chat.completions.create(model="tier:falback", messages=MESSAGES)
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": "x"}}}]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="sim/chat", messages=MESSAGES, tools=tools, stream=True)
    assert "tools[0].function.parameters.required" == caught.value.param
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="up/limited", messages=MESSAGES)
    with pytest.raises(openai.APIError, match="cut"):
        await collect(await client.chat.completions.create(model="up/cut-2", messages=MESSAGES, stream=True), [])


@cell(RESPONSES, "errors")
async def test_errors_of_responses(client: openai.AsyncOpenAI) -> None:
    """By the client's own exceptions; a stream that is cut raises, after `response.failed`."""
    with pytest.raises(openai.NotFoundError, match="tier:fallback"):
        await client.responses.create(model="tier:falback", input=HI)
    with pytest.raises(openai.BadRequestError, match="nothing is kept here"):
        await client.responses.create(model="sim/chat", input=HI, previous_response_id="resp_1")
    events = await client.responses.create(model="up/cut-2", input=HI, stream=True)
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="cut"):
        await collect(events, seen)
    assert isinstance(seen[-1], ResponseFailedEvent)


@cell(CHAT, "abort")
async def test_a_chat_completion_is_left(client: openai.AsyncOpenAI) -> None:
    """A stream that nobody wants to read on is closed at once."""
    began = time.monotonic()
    stream = await client.chat.completions.create(model="sim/rate-5+tokens-100", messages=MESSAGES, stream=True)
    await anext(aiter(stream))
    await stream.close()
    assert time.monotonic() - began < 3


@cell(RESPONSES, "abort")
async def test_a_response_is_left(client: openai.AsyncOpenAI) -> None:
    """The same."""
    began = time.monotonic()
    async with client.responses.stream(model="sim/rate-5+tokens-100", input=HI) as stream:
        await anext(aiter(stream))
    assert time.monotonic() - began < 3
