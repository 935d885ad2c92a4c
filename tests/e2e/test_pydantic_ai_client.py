"""pydantic-ai against the endpoint, by each of the ways that it has there: agents, their tools, their typed answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from bench.serving import Served

HI = "hello there"
Way = Callable[[str], Model[Any]]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def cell(feature: str) -> pytest.MarkDecorator:
    """A test by each of the ways, for a feature of the table in the README."""
    ways = {"chat": "openai chat", "responses": "openai responses", "messages": "anthropic"}
    return pytest.mark.parametrize(
        "way",
        [
            pytest.param(way, id=way, marks=pytest.mark.client(f"pydantic-ai ({client})", feature))
            for way, client in ways.items()
        ],
        indirect=True,
    )


@pytest.fixture
async def way(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Way]:
    """Makes a model of a selector."""
    async with (
        openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=30) as spoken,
        anthropic.AsyncAnthropic(base_url=served.root, api_key="none", max_retries=0, timeout=30) as other,
    ):
        ways: dict[str, Way] = {
            "chat": lambda name: OpenAIChatModel(name, provider=OpenAIProvider(openai_client=spoken)),
            "responses": lambda name: OpenAIResponsesModel(name, provider=OpenAIProvider(openai_client=spoken)),
            # Of a model that it does not know by name it has to be told what it can do.
            "messages": lambda name: AnthropicModel(
                name,
                provider=AnthropicProvider(anthropic_client=other),
                profile={"supports_json_schema_output": True},
            ),
        }
        yield ways[request.param]


@cell("text")
async def test_text(way: Way) -> None:
    """An agent's answer, with its counts."""
    result = await Agent(way("tier:plain"), instructions="be brief").run(HI)
    assert f"You said: {HI}" in result.output
    assert result.usage.output_tokens > 0


@cell("streamed")
async def test_streamed_text(way: Way) -> None:
    """In pieces that come to the same."""
    async with Agent(way("sim/echo")).run_stream(HI) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    assert (HI, True) == ("".join(pieces), len(pieces) > 1)


def forecaster(model: Model[Any]) -> tuple[Agent[None, str], list[str]]:
    """An agent with a tool, and the cities that it is called with."""
    cities: list[str] = []
    agent = Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather in a city."""
        cities.append(city)
        return f"sunny in {city}"

    return agent, cities


@cell("tools")
async def test_tools(way: Way) -> None:
    """Called with what the model chose; the result goes back, and the answer comes."""
    agent, cities = forecaster(way("sim/chat"))
    result = await agent.run(HI)
    assert (["simulated"], 2) == (cities, result.usage.requests)
    assert result.output


@cell("streamed tools")
async def test_streamed_tools(way: Way) -> None:
    """The same, streamed."""
    agent, cities = forecaster(way("sim/chat"))
    async with agent.run_stream(HI) as result:
        text = await result.get_output()
    assert ["simulated"] == cities
    assert text


@cell("structured")
@pytest.mark.parametrize("by", [NativeOutput, ToolOutput], ids=["schema", "tool"])
async def test_structured(way: Way, by: Any) -> None:
    """A typed answer, by a schema and by a tool."""
    result = await Agent(way("sim/chat"), output_type=by(Person)).run(HI)
    assert Person(name="simulated", age=1) == result.output


@cell("streamed structured")
async def test_streamed_structured(way: Way) -> None:
    """One that grows."""
    agent: Agent[None, Person] = Agent(way("sim/chat"), output_type=ToolOutput(Person))
    async with agent.run_stream(HI) as result:
        people = [person async for person in result.stream_output(debounce_by=None)]
    assert Person(name="simulated", age=1) == people[-1]


@cell("errors")
async def test_errors(way: Way) -> None:
    """With the status, and what is near."""
    with pytest.raises(ModelHTTPError, match="tier:plain") as caught:
        await Agent(way("tier:plaim")).run(HI)
    assert 404 == caught.value.status_code


@cell("abort")
async def test_abort(way: Way) -> None:
    """A stream that is left ends at once."""
    began = time.monotonic()
    async with Agent(way("sim/rate-5+tokens-100")).run_stream(HI) as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            break
        await result.cancel()
    assert time.monotonic() - began < 3
