"""OpenAI's official client against the endpoint: its other shapes, tools, parsing, helpers for streams."""

from __future__ import annotations

import json
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


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=30) as client:
        yield client


async def test_a_response(client: openai.AsyncOpenAI) -> None:
    """Text, counts, and what the endpoint adds."""
    response = await client.responses.create(model="sim/echo", input=HI, instructions="be brief", store=False)
    assert (HI, "completed") == (response.output_text, response.status)
    assert response.usage is not None
    assert (2, "sim") == (response.usage.output_tokens, (response.model_extra or {})["provider"])


async def test_a_response_that_is_cut_short(client: openai.AsyncOpenAI) -> None:
    """By its limit, and says so."""
    response = await client.responses.create(model="sim/chat", input=HI, max_output_tokens=3)
    assert response.incomplete_details is not None
    assert ("incomplete", "max_output_tokens") == (response.status, response.incomplete_details.reason)


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


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
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


async def test_structured_answers(client: openai.AsyncOpenAI) -> None:
    """By a pydantic model, through both shapes."""
    chat = await client.chat.completions.parse(
        model="sim/chat", messages=[{"role": "user", "content": HI}], response_format=Person
    )
    assert Person(name="simulated", age=1) == chat.choices[0].message.parsed
    response = await client.responses.parse(model="sim/chat", input=HI, text_format=Person)
    assert Person(name="simulated", age=1) == response.output_parsed


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
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


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    """The client asks for them packed, and unpacks them."""
    one = await client.embeddings.create(model="sim/e", input=["a b", "a b", "c"])
    plain = await client.embeddings.create(model="sim/e", input="a b", encoding_format="float")
    vectors = [row.embedding for row in one.data]
    assert vectors[0] == vectors[1] != vectors[2]
    assert vectors[0] == pytest.approx(plain.data[0].embedding, abs=1e-6)


async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    """Whole and streamed."""
    whole = await client.completions.create(model="sim/echo", prompt=HI)
    parts = [
        part.choices[0].text async for part in await client.completions.create(model="sim/echo", prompt=HI, stream=True)
    ]
    assert (HI, HI) == (whole.choices[0].text, "".join(parts))


async def collect(events: AsyncIterator[Any], into: list[Any]) -> None:
    async for event in events:
        into.append(event)  # noqa: PERF401 - what came before it raises counts


async def test_errors_of_responses(client: openai.AsyncOpenAI) -> None:
    """By the client's own exceptions; a stream that is cut raises, after `response.failed`."""
    with pytest.raises(openai.NotFoundError, match="tier:fallback"):
        await client.responses.create(model="tier:falback", input=HI)
    with pytest.raises(openai.BadRequestError, match="store"):
        await client.responses.create(model="sim/chat", input=HI, store=True)
    events = await client.responses.create(model="up/cut-2", input=HI, stream=True)
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="cut"):
        await collect(events, seen)
    assert isinstance(seen[-1], ResponseFailedEvent)
