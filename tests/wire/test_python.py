"""The Python API without a cluster: replies, streams, typed functions, errors, what is left of it at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
import pytest
from pydantic import BaseModel, Field

import orchestrator
from orchestrator import (
    BadChoice,
    CallFailed,
    ConfigError,
    Models,
    NotAllowed,
    OrchestratorError,
    ToolError,
    UnknownSelector,
    create_models,
)
from orchestrator.python.asking import AnswerStream, ask_for
from orchestrator.types import FailureKind, Json, Usage
from tests.upstream import Upstream
from tests.wire.python import Scripted, calling, results

USAGE = Usage(1, 3)


def config(upstream: Upstream) -> Json:
    return {
        "providers": {
            "up": {
                "base_url": f"http://127.0.0.1:{upstream.port}/v1",
                "models": ["ok"],
                "timeouts": {"connect_s": 1, "first_token_s": 1, "idle_s": 0.3, "answer_s": 1, "total_s": 5},
                "retry": {"attempts": 1},
            },
            "sim": {"simulate": {"latency_s": {"median": 0.005, "p99": 0.01}, "tokens_per_s": 10000}},
        },
        "tiers": {
            "rescue": ["up/unavailable", "up/ok"],
            "whole": {"strategy": "race", "models": ["up/ok", "up/other"], "commit": "complete"},
        },
    }


@pytest.fixture
async def models(upstream: Upstream) -> AsyncIterator[Models]:
    async with create_models(config(upstream), runtime="asyncio") as models:
        yield models
        for row in await models.pools():
            assert 0 == row["in_flight"]
    assert 0 == upstream.in_flight


async def gone(upstream: Upstream, model: str) -> float:
    """How long it takes until a model's last call has been given up; at most a second."""
    (attempt,), began_s = upstream.attempts(model)[-1:], time.monotonic()
    while attempt.ended_s is None and time.monotonic() - began_s < 1:
        await asyncio.sleep(0.005)
    assert attempt.gone
    return time.monotonic() - began_s


async def test_a_reply(models: Models) -> None:
    """Text, counts, who answered, all attempts, and a conversation to go on with."""
    reply = await models.model("tier:rescue").generate("hi", system="be brief", temperature=0)
    assert ("alpha beta gamma", "stop", "up", "ok") == (reply.text, reply.finish_reason, reply.provider, reply.model)
    assert (USAGE, None, ()) == (reply.usage, reply.cost_usd, reply.tool_calls)
    assert ["server_error", "ok"] == [attempt["outcome"] for attempt in reply.attempts]
    assert ("tier:rescue", "up/ok") == (reply.report["selector"], reply.report["winner"])
    assert reply.report == reply.raw["orchestrator"]
    turns = [("system", "be brief"), ("user", "hi"), ("assistant", "alpha beta gamma")]
    assert turns == [(turn["role"], turn["content"]) for turn in reply.messages]
    again = await models.model("sim/echo").generate(messages=[*reply.messages, {"role": "user", "content": "more"}])
    assert ("more", 5) == (again.text, len(again.messages))


async def test_messages_of_openais_client(models: Models) -> None:
    """They may stand in a conversation as they are."""
    client = models.openai()
    said = (
        await client.chat.completions.create(model="sim/echo", messages=[{"role": "user", "content": "one"}])
    ).choices
    turns = [{"role": "user", "content": "one"}, said[0].message, {"role": "user", "content": "two"}]
    assert "two" == (await models.model("sim/echo").generate(messages=turns)).text


async def test_a_stream(models: Models) -> None:
    """Deltas as they come; then the same reply as for a whole answer, which is not there before."""
    stream = models.model("tier:rescue").stream("hi")
    with pytest.raises(OrchestratorError, match="not come to its end"):
        _ = stream.reply
    deltas = [delta async for delta in stream]
    assert ["alpha", " beta", " gamma"] == [delta.text for delta in deltas]
    assert "chat.completion.chunk" == deltas[0].raw["object"]
    reply = stream.reply
    assert ("alpha beta gamma", "stop", "up", "ok", USAGE) == (
        reply.text, reply.finish_reason, reply.provider, reply.model, reply.usage,
    )  # fmt: skip
    assert ["server_error", "ok"] == [attempt["outcome"] for attempt in reply.attempts]
    assert ("chat.completion", "alpha beta gamma") == (reply.raw["object"], reply.messages[-1]["content"])
    assert [] == [delta async for delta in stream]


async def test_a_stream_of_what_was_decided_whole(models: Models) -> None:
    """A strategy that waits for whole answers: one delta."""
    stream = models.model("tier:whole").stream("hi")
    assert ["alpha beta gamma"] == [delta.text async for delta in stream]
    assert USAGE == stream.reply.usage


@pytest.mark.parametrize("way", ["break", "held", "aclose", "with", "dropped", "cancelled"])
async def test_whoever_leaves_a_stream_stops_it(models: Models, upstream: Upstream, way: str) -> None:
    """Upstream too, within 200 ms, in whichever way it is left."""
    model = "slow-5" if way == "cancelled" else "drip-5"
    stream = models.model(f"up/{model}").stream("hi")
    if way == "break":
        async for _ in models.model(f"up/{model}").stream("hi"):
            break
    elif way == "held":
        async for _ in stream:
            break
        assert [] == [delta async for delta in stream]
    elif way == "aclose":
        assert "alpha" == (await anext(stream)).text
        await stream.aclose()
    elif way == "with":
        async with stream:
            await anext(stream)
    elif way == "dropped":
        await anext(stream)
        del stream
    else:
        task = asyncio.ensure_future(anext(stream))
        while not upstream.attempts(model):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    assert await gone(upstream, model) < 0.2


async def test_whoever_leaves_a_call_stops_it(models: Models, upstream: Upstream) -> None:
    """Cancelled, or out of time."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(models.model("up/slow-0.9").generate("hi"), 0.1)
    assert await gone(upstream, "slow-0.9") < 0.2


@pytest.mark.parametrize(
    ("selector", "kind", "retryable", "said"),
    [
        ("up/unavailable", FailureKind.SERVER_ERROR, True, "up/unavailable"),
        ("up/context", FailureKind.CONTEXT_LENGTH, False, "too long"),
        ("up/silent", FailureKind.SILENT, True, "within 1 s"),
    ],
)
async def test_a_failure(models: Models, selector: str, kind: FailureKind, retryable: bool, said: str) -> None:
    """Says why, where, and whether trying again helps; whole and streamed."""
    with pytest.raises(CallFailed, match=said) as whole:
        await models.model(selector).generate("hi")
    with pytest.raises(CallFailed, match=said) as streamed:
        await anext(models.model(selector).stream("hi"))
    for raised in (whole.value, streamed.value):
        assert (kind, retryable) == (raised.failure.kind, raised.retryable)


async def test_a_stream_that_is_cut(models: Models) -> None:
    """What has come has come; then it fails, and stays failed."""
    stream = models.model("up/cut-2").stream("hi")
    assert ["alpha", " beta"] == [(await anext(stream)).text, (await anext(stream)).text]
    with pytest.raises(CallFailed, match="cut"):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ({"messages": []}, "messages"),
        ({"prompt": "a", "max_steps": 0}, "max_steps"),
        ({"prompt": "a", "temperature": "hot"}, "temperature"),
        ({"prompt": "a", "model": "x"}, "model"),
        ({"prompt": "a", "stream": True}, "stream"),
        ({"prompt": "a", "metadata": object()}, "request"),
        ({"prompt": "a", "tools": [7]}, "tools"),
        ({"prompt": "a", "orchestrator": {"strategy": "nothing"}}, "orchestrator.strategy"),
    ],
)
async def test_arguments_that_make_no_sense(models: Models, arguments: dict[str, Any], param: str) -> None:
    """Are refused by name, and nobody is asked."""
    with pytest.raises(BadChoice) as raised:
        await models.model("sim/chat").generate(**arguments)
    assert param == raised.value.param


async def test_what_a_sink_is_told_is_known_to_a_reader(models: Models) -> None:
    """Who answers, from the first chunk on."""
    stream = AnswerStream(
        models.current(), ask_for("tier:rescue", [{"role": "user", "content": "hi"}], {}, stream=True)
    )
    before = stream.opened
    await stream.read()
    after = stream.opened
    assert before is None
    assert after is not None
    assert ("up", "ok", "fallback") == after[:3]
    await stream.aclose()
    assert [] == list(await stream.read())


async def test_an_unknown_selector(models: Models) -> None:
    """With names that are spelled alike; whole and streamed."""
    with pytest.raises(UnknownSelector) as whole:
        await models.model("tier:rescu").generate("hi")
    with pytest.raises(UnknownSelector) as streamed:
        await anext(models.model("tier:rescu").stream("hi"))
    assert ("tier:rescue", "tier:whole") == whole.value.near == streamed.value.near


async def test_a_choice_of_ones_own(models: Models) -> None:
    """A strategy without configuration."""
    choice = {"strategy": "fallback", "models": ["up/unavailable", "sim/echo"]}
    assert "sim" == (await models.model("sim/chat").generate("hi", orchestrator=choice)).provider


async def test_what_there_is(models: Models) -> None:
    """Names, and the state of the pools."""
    assert ["tier:rescue", "tier:whole", "up/ok", "sim/chat"] == await models.list()
    assert ["up", "sim"] == [row["provider"] for row in await models.pools()]
    assert "Model('sim/chat')" == repr(models.model("sim/chat"))


PEOPLE = (("Ada", 35), ("Eve", 36), ("Ada", 36))
EXPERIMENT = {"strategy": "cascade", "models": ["sim/say-4", "sim/say-5"], "params": {"n": 1}}
VOTING: Json = {
    "providers": {"sim": {"simulate": {"latency_s": {"median": 0.005, "p99": 0.01}, "tokens_per_s": 10000}}},
    "tiers": {
        "fields": {
            "strategy": "consensus",
            "models": [f'sim/say-{{"name": "{name}", "age": {age}}}' for name, age in PEOPLE],
        },
    },
    "users": {"john": {"experiments": {"e": EXPERIMENT}}},
    "rollout": {"percent": 0, "allow": ["john"]},
}


async def test_experiments_and_votes() -> None:
    """Asked for by who may; an object that several models agree on, field by field."""
    async with create_models(VOTING, runtime="asyncio") as models:
        reply = await models.model("user:john:e", user_id="john").generate("2 + 2?")
        assert ("4", "cascade", 2) == (reply.text, reply.report["consensus"]["method"], len(reply.attempts))
        with pytest.raises(NotAllowed, match="'mary'"):
            await models.model("user:john:e", user_id="mary").generate("2 + 2?")
        person, reply = await models.model("tier:fields").generate_object("Who?", schema=Person, with_reply=True)
        assert (Person(name="Ada", age=36), {"name": "Ada", "age": 36}) == (person, reply.report["consensus"]["answer"])


async def test_the_rollout() -> None:
    """Who is sent through, decided without asking anybody; everybody, where the configuration says nothing."""
    async with create_models(VOTING, runtime="asyncio") as models:
        assert [True, False] == [models.should_use(user) for user in ("john", "mary")]
    async with create_models({"providers": {"sim": {"simulate": {}}}}, runtime="asyncio") as models:
        assert models.should_use("mary")


class Person(BaseModel):
    name: str
    age: int


async def test_opening_and_closing() -> None:
    """By `start` and `aclose`, too, and as often as one likes; nothing works before or after."""
    models = create_models({"providers": {"sim": {"simulate": {}}}}, runtime="asyncio")
    with pytest.raises(OrchestratorError, match="not open"):
        await models.model("sim/echo").generate("hi")
    assert models is await models.start() is await models.start()
    assert "hi" == (await models.model("sim/echo+latency-0").generate("hi")).text
    await models.aclose()
    await models.aclose()
    with pytest.raises(OrchestratorError, match="not open"):
        await models.list()


async def test_the_default_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configuration there is always `sim`."""
    async with orchestrator.create_models(runtime="asyncio") as models:
        assert "hi" == (await models.model("sim/echo+latency-0").generate("hi")).text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runtime": "threads"}, "runtime: has to be 'ray' or 'asyncio'"),
        ({"config": "a.yaml", "connect": "auto"}, "connect: the running application has its configuration"),
        ({"connect": "auto", "runtime": "asyncio"}, "connect: a running application is reached by runtime='ray'"),
    ],
)
def test_what_cannot_be_opened(arguments: dict[str, Any], said: str) -> None:
    """Is said at once."""
    with pytest.raises(BadChoice, match=said):
        create_models(**arguments)


async def test_configurations_that_cannot_be_used(tmp_path: Any) -> None:
    """Say file, line and key; also where a recording turns out to be none."""
    with pytest.raises(ConfigError, match="<inline>"):
        await create_models({"providers": {}}, runtime="asyncio").start()
    (tmp_path / "replies.jsonl").write_text("nothing\n")
    (tmp_path / "questions.jsonl").write_text("")
    (tmp_path / "c.yaml").write_text(
        "providers: {r: {replay: {files: {m: replies.jsonl}, questions: questions.jsonl}}}"
    )
    with pytest.raises(ConfigError, match=r"providers\.r: cannot be simulated: .*replies\.jsonl:1"):
        await create_models(tmp_path / "c.yaml", runtime="asyncio").start()


def get_weather(city: Annotated[str, Field(description="a town")], days: int = 1) -> dict[str, Any]:
    """The weather of a town."""
    return {"city": city, "sunny": days > 0}


async def get_time(zone: str) -> str:
    """The time of a zone."""
    if zone == "nowhere":
        raise ToolError("there is no such zone")
    if zone == "broken":
        raise ZeroDivisionError("by zero")
    return f"noon in {zone}"


async def test_functions_are_called(models: Models) -> None:
    """Side by side, sync and async; usage is the sum of both steps."""
    reply = await models.model("sim/parallel").generate("hi", tools=[get_weather, get_time])
    assert [("get_weather", {"city": "simulated", "days": 1}), ("get_time", {"zone": "simulated"})] == [
        (call.name, call.arguments) for call in reply.steps[0].tool_calls
    ]
    told = [json.loads(reply.messages[2]["content"]), reply.messages[3]["content"]]
    assert [{"city": "simulated", "sunny": True}, "noon in simulated"] == told
    assert (2, (), 2) == (len(reply.steps), reply.tool_calls, len(reply.attempts))
    one, two = (step.usage for step in reply.steps)
    assert one is not None
    assert two is not None
    assert Usage(one.input_tokens + two.input_tokens, one.output_tokens + two.output_tokens) == reply.usage
    assert "simulated" in reply.text


async def test_functions_are_called_within_a_stream(models: Models) -> None:
    """The deltas of all steps, one after the other; the same reply in the end."""
    stream = models.model("sim/parallel").stream("hi", tools=[get_weather, get_time])
    deltas = [delta async for delta in stream]
    named = [call["function"]["name"] for delta in deltas for call in delta.tool_calls if call.get("id")]
    assert ["get_weather", "get_time"] == named
    assert stream.reply.text == "".join(delta.text for delta in deltas)
    assert ({"zone": "simulated"}, "noon in simulated") == (
        stream.reply.steps[0].tool_calls[1].arguments,
        stream.reply.messages[3]["content"],
    )


async def test_what_a_model_gets_wrong_is_told_to_it() -> None:
    """Arguments that do not fit, are no JSON, or are too many; a tool that there is not; a ToolError. It makes up for it."""
    upstream = Scripted(
        calling(("get_time", "{}"), ("get_time", "{oops"), ("get_time", '{"zone": "a", "x": 1}'), ("ring", "{}")),
        calling(("get_time", '{"zone": "nowhere"}')),
        calling(("get_time", '{"zone": "Oslo"}')),
        "it is noon",
    )
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        reply = await models.model("up/m").generate("when?", tools=[get_time])
    missing, broken, extra, unknown, nowhere, noon = results(upstream.asked)
    assert "error: the arguments do not fit: zone: Field required" == missing
    assert broken.startswith("error: the arguments do not fit: Invalid JSON")
    assert extra.startswith("error: the arguments do not fit: x: Extra inputs are not permitted")
    assert "error: there is no tool 'ring'; there is get_time" == unknown
    assert ("error: there is no such zone", "noon in Oslo") == (nowhere, noon)
    assert ("it is noon", 4, Usage(4, 12)) == (reply.text, len(reply.steps), reply.usage)


async def test_what_a_function_raises_is_the_callers() -> None:
    """As it is; and what ran beside it is cancelled."""
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    upstream = Scripted(calling(("wait", "{}"), ("get_time", '{"zone": "broken"}')))
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        with pytest.raises(ZeroDivisionError, match="by zero"):
            await models.model("up/m").generate("when?", tools=[get_time, wait])
    assert cancelled.is_set()


async def test_what_goes_on_from_an_answer() -> None:
    """What was said and thought, with its signatures; not what a provider says about it, which some refuse to be told."""
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s"}]
    beside: Json = {"annotations": [{"type": "url_citation"}], "executed_tools": [1], "refusal": None}
    call = calling(("get_time", '{"zone": "a"}'), reasoning="hm", reasoning_details=details, **beside)
    upstream = Scripted(call, "done")
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        await models.model("up/m").generate("when?", tools=[get_time])
    turn = upstream.asked[1]["messages"][1]
    assert {"role", "content", "tool_calls", "reasoning", "reasoning_details"} == set(turn)
    assert details == turn["reasoning_details"]


def in_pieces(*deltas: Json) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices: list[Json] = [{"index": 0, "delta": delta} for delta in (*deltas, {})]
    choices[-1]["finish_reason"] = "tool_calls"
    events = [orjson.dumps({**head, "choices": [choice]}) for choice in choices]
    return b"".join(b"data: " + event + b"\n\n" for event in (*events, b"[DONE]"))


async def test_a_signature_that_comes_behind_its_call_goes_back_with_it() -> None:
    """And one that comes by itself, with the turn."""
    signed = {"google": {"thought_signature": "s"}}
    begun = {"index": 0, "id": "c1", "type": "function", "function": {"name": "get_time", "arguments": '{"zone": "a"}'}}
    pieces = in_pieces(
        {"role": "assistant", "tool_calls": [begun]},
        {"tool_calls": [{"index": 0, "extra_content": signed}]},
        {"content": "", "extra_content": signed},
    )
    upstream = Scripted(pieces, "done")
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        stream = models.model("up/gemini-3").stream("when?", tools=[get_time])
        assert "done" == "".join([delta.text async for delta in stream])
    turn = upstream.asked[1]["messages"][1]
    assert [signed, signed] == [turn["extra_content"], turn["tool_calls"][0]["extra_content"]]


async def test_no_step_is_left() -> None:
    """The last answer stands, with the calls that nobody made."""
    call = calling(("get_time", '{"zone": "a"}'))
    upstream = Scripted(call, call)
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        reply = await models.model("up/m").generate("when?", tools=[get_time], max_steps=2)
    assert (2, ["get_time"], "") == (len(reply.steps), [call.name for call in reply.tool_calls], reply.text)
    assert "tool_calls" in reply.messages[-1]


@pytest.mark.parametrize(("choice", "then"), [("required", None), ("auto", "auto")])
async def test_a_tool_that_has_to_be_called_is_called_once(choice: str, then: str | None) -> None:
    """`tool_choice: required` holds for the first answer; it would never come to an end."""
    upstream = Scripted(calling(("get_time", '{"zone": "a"}')), "done")
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        await models.model("up/m").generate("when?", tools=[get_time], tool_choice=choice)
    assert [choice, then] == [asked.get("tool_choice") for asked in upstream.asked]


async def test_plain_tools_are_never_run(models: Models) -> None:
    """Their calls are returned, alone or beside functions; the model is given all of them."""
    plain = {"type": "function", "function": {"name": "ring", "parameters": {"type": "object", "properties": {}}}}
    alone = await models.model("sim/chat").generate("hi", tools=[plain])
    assert ["ring"] == [call.name for call in alone.tool_calls]
    mixed = await models.model("sim/parallel").generate("hi", tools=[get_weather, plain])
    assert (1, ["get_weather", "ring"]) == (len(mixed.steps), [call.name for call in mixed.tool_calls])


CUSTOM = {"type": "custom", "custom": {"name": "draw", "format": {"type": "text"}}}


@pytest.mark.parametrize("streamed", [False, True])
async def test_calls_of_custom_tools_are_returned(streamed: bool) -> None:
    """Their input is a text; what a provider says beside a call goes on with it."""
    made: list[Json] = [
        {"id": "c0", "type": "custom", "custom": {"name": "draw", "input": "a circle"}},
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"s": "x"}},
    ]
    upstream = Scripted(calling(tool_calls=made))
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        model = models.model("up/m")
        if streamed:
            stream = model.stream("hi", tools=[get_time, CUSTOM])
            _ = [delta async for delta in stream]
            reply = stream.reply
        else:
            reply = await model.generate("hi", tools=[get_time, CUSTOM])
    assert [("draw", "a circle", {}), ("f", "{}", {})] == [(c.name, c.text, c.arguments) for c in reply.tool_calls]
    assert made == reply.messages[-1]["tool_calls"]


class Answer(BaseModel):
    value: int


async def test_results_of_any_type() -> None:
    """A text as it is, anything else as JSON."""

    def text() -> str:
        return "plain"

    def model() -> Answer:
        return Answer(value=1)

    def nothing() -> None: ...

    def later() -> Any:
        return get_time("Oslo")

    names = ("text", "model", "nothing", "later")
    upstream = Scripted(calling(*((name, "{}") for name in names)), "done")
    async with upstream.serve() as configured, create_models(configured, runtime="asyncio") as models:
        await models.model("up/m").generate("hi", tools=[text, model, nothing, later])
    assert ["plain", '{"value":1}', "null", "noon in Oslo"] == results(upstream.asked)
