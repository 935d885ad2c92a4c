"""What models sign, through all shapes: the second turn of a conversation with tools, by clients that give back what their
shape has a place for, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic.types
import httpx
import openai.types.responses as types
import orjson
import pytest
from pydantic import TypeAdapter

from orchestrator.asks import Answer
from orchestrator.attempt import EndpointStream
from orchestrator.config.settings import ModelOptions
from orchestrator.dialects import DIALECTS
from orchestrator.dialects.base import PLAIN, HttpCall
from orchestrator.dialects.openai import as_chunks
from orchestrator.fitting import fitted
from orchestrator.providers import PRESETS
from orchestrator.python.stream import _Whole
from orchestrator.types import Chunk, Finish, Json, Reply, Request
from orchestrator.wire.chat import ChatShape
from orchestrator.wire.messages import MessagesShape
from orchestrator.wire.responses import ResponsesShape
from orchestrator.wire.shape import Parsed, Shape
from tests.wire.test_golden_presets import endpoint

GOLDEN = orjson.loads((Path(__file__).resolve().parents[1] / "golden" / "conversations" / "gemini.json").read_bytes())
MODEL: str = GOLDEN["model"]
SHAPES: dict[str, Shape] = {"chat": ChatShape(), "messages": MessagesShape(), "responses": ResponsesShape()}
STAND_IN = "skip_thought_signature_validator"
FIRST = GOLDEN["answer"]["choices"][0]["message"]["tool_calls"][0]
SIGNATURE: str = FIRST["extra_content"]["google"]["thought_signature"]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: dict[str, Any] = {
    "chat": [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}],
    "messages": [{"name": "weather", "input_schema": PARAMETERS}],
    "responses": [{"type": "function", "name": "weather", "parameters": PARAMETERS}],
}
HI = {"role": "user", "content": "The weather in Oslo and Bergen?"}
RESULTS: dict[str, list[Json]] = {
    "chat": [{"role": "tool", "tool_call_id": i, "content": "rain"} for i in ("jm4owj31", "k2v8ppq0")],
    "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": i, "content": "rain"} for i in ("jm4owj31", "k2v8ppq0")]}],
    "responses": [{"type": "function_call_output", "call_id": i, "output": "rain"} for i in ("jm4owj31", "k2v8ppq0")],
}  # fmt: skip


def parsed(shape: str, turns: list[Json], *, stream: bool) -> Parsed:
    body: Json = {"model": "gemini/m", "stream": stream, "tools": TOOLS[shape]}
    body |= {"input": turns} if shape == "responses" else {"messages": turns}
    body |= {"max_tokens": 100} if shape == "messages" else {}
    return SHAPES[shape].parse(orjson.dumps(body), {})


class Google:
    """Its interface for OpenAI's clients, as strict as the one of Gemini 3."""

    def __init__(self, stream: Json | None) -> None:
        self.stream = stream
        self.seen: list[list[Json]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        turns = [turn for turn in body["messages"] if turn.get("tool_calls")]
        self.seen.append(turns)
        first = [turn["tool_calls"][0].get("extra_content", {}).get("google", {}) for turn in turns]
        if any(one.get("thought_signature") not in (SIGNATURE, STAND_IN) for one in first):
            return httpx.Response(400, json=GOLDEN["refusal"])
        if self.stream is None:
            return httpx.Response(200, json=GOLDEN["answer"])
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        choices = [{"index": 0, "delta": delta} for delta in self.stream["deltas"]]
        choices[-1]["finish_reason"] = "stop"
        events = [b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n" for choice in choices]
        content = b"".join(events) + b"data: [DONE]\n\n"
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)


async def answered(google: Google, asked: Parsed) -> Json | list[Json]:
    """What the caller gets: the body, or the events."""
    one = endpoint("gemini", google)
    if google.stream is None:
        reply = await one.call(asked.request, MODEL)
        assert isinstance(reply, Reply), reply
        return asked.speaker.whole(reply.body, Answer(reply, {"attempts": []}, "first", "p", "m"))
    stream = await one.open(asked.request, MODEL)
    assert isinstance(stream, EndpointStream), stream
    pieces = await stream.read()
    while isinstance(pieces[-1], Chunk):
        pieces += await stream.read()
    *before, last = pieces
    assert isinstance(last, Finish)
    answer = Answer(Reply({}, "m"), {"attempts": []}, "first", "p", "m")
    said = b"".join(asked.speaker.chunks([piece.data]) for piece in before if isinstance(piece, Chunk))
    said += asked.speaker.end(last.last, last.usage_body, answer)
    return [orjson.loads(line[6:]) for line in said.split(b"\n") if line.startswith(b"data: {")]


def given_back(shape: str, said: Any) -> list[Json]:
    """The turn as a client of the shape gives it back."""
    match shape:
        case "chat" if isinstance(said, dict):
            return [said["choices"][0]["message"]]
        case "chat":
            whole = _Whole()
            for event in said[:-1]:
                whole.add(orjson.dumps(event))
            return [whole.body(said[-1])["choices"][0]["message"]]
        case "messages":
            content = said["content"] if isinstance(said, dict) else gathered(said)
            return [{"role": "assistant", "content": content}]
    output = said["output"] if isinstance(said, dict) else said[-1]["response"]["output"]
    fields = ("type", "role", "content", "summary", "encrypted_content", "call_id", "name", "arguments")
    return [{name: item[name] for name in fields if name in item} for item in output]


def gathered(events: list[Json]) -> list[Json]:
    """The blocks that Anthropic's events add up to; one that has ended does not grow."""
    known: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    blocks: dict[int, Json] = {}
    for event in events:
        known.validate_python(event)
        match event["type"]:
            case "content_block_start":
                blocks[event["index"]] = {**event["content_block"], "json": ""}
            case "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                for name, field in (("text", "text"), ("partial_json", "json"), ("thinking", "thinking")):
                    block[field] = block.get(field, "") + delta.get(name, "") if name in delta else block.get(field, "")
                block["signature"] = delta.get("signature", block.get("signature"))
    fields = {"text": ("text",), "redacted_thinking": ("data",), "thinking": ("thinking", "signature")}
    return [
        {"type": block["type"], **{name: block[name] for name in fields[block["type"]]}}
        if block["type"] != "tool_use"
        else {"type": "tool_use", "id": block["id"], "name": block["name"], "input": orjson.loads(block["json"])}
        for _, block in sorted(blocks.items())
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stream", [None, *GOLDEN["streams"]], ids=lambda row: row["what"] if row else "whole")
async def test_a_second_turn(shape: str, stream: Json | None) -> None:
    """The signature comes back where it came from: to its call, or to the turn."""
    google = Google(stream)
    said = await answered(google, parsed(shape, [HI], stream=stream is not None))
    turns = [HI, *given_back(shape, said), *RESULTS[shape]]
    await answered(google, parsed(shape, turns, stream=stream is not None))
    (turn,) = google.seen[-1]
    first, second = turn["tool_calls"]
    by_itself = stream is not None and stream["what"] == "in a part without text"
    assert {"google": {"thought_signature": STAND_IN if by_itself else SIGNATURE}} == first["extra_content"]
    assert ("jm4owj31", "k2v8ppq0", False) == (first["id"], second["id"], "extra_content" in second)
    assert ({"google": {"thought_signature": SIGNATURE}} if by_itself else None) == turn.get("extra_content")
    assert ["Oslo", "Bergen"] == [orjson.loads(call["function"]["arguments"])["city"] for call in turn["tool_calls"]]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_another_model_made(shape: str) -> None:
    """A tier's next member, or another model of the conversation's: no turn is refused for what it cannot have."""
    call = {"id": "jm4owj31", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    detail = {"type": "reasoning.text", "text": "hm", "signature": "EqQBCgIYAhIM"}
    made: dict[str, list[Json]] = {
        "chat": [{"role": "assistant", "content": None, "tool_calls": [call], "reasoning_details": [detail]}],
        "messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"},
            {"type": "tool_use", "id": "jm4owj31", "name": "weather", "input": {}}]}],
        "responses": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAAAB"},
                      {"type": "function_call", "call_id": "jm4owj31", "name": "weather", "arguments": "{}"}],
    }  # fmt: skip
    google = Google(None)
    await answered(google, parsed(shape, [HI, *made[shape], RESULTS[shape][0]], stream=False))
    stood_in = {**call, "extra_content": {"google": {"thought_signature": STAND_IN}}}
    assert [[{"role": "assistant", "content": None, "tool_calls": [stood_in]}]] == google.seen


async def test_thoughts_come_before_the_calls_that_they_led_to() -> None:
    """As Anthropic's clients take them; the answer that they look for in the last block is there."""
    said = await answered(Google(None), parsed("messages", [HI], stream=False))
    assert isinstance(said, dict)
    anthropic.types.Message.model_validate(said)
    assert ["redacted_thinking", "tool_use", "tool_use"] == [block["type"] for block in said["content"]]
    answer = {"what": "", "deltas": [{"content": "Rain."}, {"content": "", "extra_content": signed()}]}
    events = await answered(Google(answer), parsed("messages", [HI], stream=True))
    assert ["text"] == [block["type"] for block in gathered([*events])]
    events = await answered(Google(answer), parsed("responses", [HI], stream=True))
    assert isinstance(events, list)
    output = events[-1]["response"]["output"]
    assert ["message", "reasoning"] == [item["type"] for item in output]
    turns = parsed("responses", [HI, *output, HI], stream=False).request.body["messages"]
    assert {"role": "assistant", "content": "Rain.", "extra_content": signed()} == turns[1]


def signed(signature: str = "s") -> Json:
    return {"google": {"thought_signature": signature}}


def sent(dialect: str, asked: Request, model: str) -> Json:
    call = DIALECTS[dialect].encode(asked, model, ModelOptions(), PLAIN)
    assert isinstance(call, HttpCall)
    body: Json = orjson.loads(call.content)
    return body


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_google_signed_goes_to_nobody_else(shape: str) -> None:
    """Anthropic refuses another's thoughts, and others a field that they do not know."""
    said = await answered(Google(None), parsed(shape, [HI], stream=False))
    request = parsed(shape, [HI, *given_back(shape, said), *RESULTS[shape]], stream=False).request
    for name in ("mistral", "openai", "openrouter"):
        turn = fitted(request, PRESETS[name].quirks, "m").body["messages"][1]
        assert [{"id", "type", "function"}] * 2 == [set(call) for call in turn["tool_calls"]]
        assert not turn.get("reasoning_details")
    for model in ("claude-opus-4-5", "kimi-k3"):
        asked = fitted(request, PRESETS["anthropic"].quirks, model)
        turn = sent("anthropic", asked, model)["messages"][1]
        assert ["tool_use", "tool_use"] == [block["type"] for block in turn["content"]]
    kept = fitted(request, PRESETS["openrouter"].quirks, "google/gemini-3.8-flash").body["messages"][1]
    assert signed(SIGNATURE) == kept["tool_calls"][0]["extra_content"]


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
OPENROUTER: dict[str, tuple[Json, ...]] = {
    "gemini": ({"type": "reasoning.encrypted", "data": "d", "id": "c1", "format": "google-gemini-v1", "index": 0},),
    "openai": ({"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai-responses-v1", "index": 0},),
    "thoughts": ({"type": "reasoning.text", "text": "hm", "signature": "s", "format": "unknown", "index": 0},),
    "omitted": ({"type": "reasoning.text", "text": "", "signature": "s"},),
    "claude": ({"type": "reasoning.text", "text": "hm", "signature": "s"}, {"type": "reasoning.encrypted", "data": "d"}),
}  # fmt: skip


@pytest.mark.parametrize("shape", ["messages", "responses"])
@pytest.mark.parametrize(
    ("maker", "how"),
    [*((maker, how) for maker in OPENROUTER for how in ("whole", "streamed")), ("gemini", "late"), ("openai", "late")],
)
def test_what_openrouter_gives_comes_back_as_it_was(shape: str, maker: str, how: str) -> None:
    """With its `format`, by which OpenRouter knows whose it is, and by which Anthropic is spared it."""
    details = list(OPENROUTER[maker])
    message = {"role": "assistant", "content": None, "reasoning_details": details, "tool_calls": [CALL]}
    if maker in ("thoughts", "claude"):
        message["reasoning"] = "hm"
    body = {"id": "c", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}  # fmt: skip
    answer = Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m")
    asked = parsed(shape, [HI], stream=how != "whole")
    said: Any = asked.speaker.whole(body, answer) if how == "whole" else None
    if said is None:
        chunks, last = as_chunks(body)
        if how == "late":
            (chunk,) = map(orjson.loads, chunks)
            delta = chunk["choices"][0]["delta"]
            late = {"reasoning_details": delta.pop("reasoning_details")}
            chunks = [orjson.dumps({**chunk, "choices": [{"index": 0, "delta": one}]}) for one in (delta, late)]
        raw = asked.speaker.chunks(chunks) + asked.speaker.end(last, None, answer)
        said = [orjson.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    back = given_back(shape, said)
    results: dict[str, Json] = {
        "messages": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x"}]},
        "responses": {"type": "function_call_output", "call_id": "c1", "output": "x"},
    }
    request = parsed(shape, [HI, *back, results[shape]], stream=False).request
    turns = request.body["messages"]
    assert [details, [CALL]] == [turns[1]["reasoning_details"], turns[1]["tool_calls"]]
    blocks = sent("anthropic", request, "claude-opus-4-5")["messages"][1]["content"]
    own = {"claude": ["thinking", "redacted_thinking"], "omitted": ["thinking"]}.get(maker, [])
    assert [*own, "tool_use"] == [block["type"] for block in blocks]


def test_a_thought_between_two_calls_does_not_part_them() -> None:
    """OpenRouter gives Gemini's signature behind the call that bears it; the results of both calls follow the second."""
    (detail,) = OPENROUTER["gemini"]
    deltas: list[Json] = [{"tool_calls": [{**CALL, "index": 0}]}, {"reasoning_details": [detail]},
                          {"tool_calls": [{**CALL, "id": "c2", "index": 1}]}]  # fmt: skip
    head = {"id": "c", "created": 1, "model": "m"}
    chunks = [orjson.dumps({**head, "choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    answer = Answer(Reply({}, "m"), {"attempts": []}, "first", "p", "m")
    speaker = parsed("responses", [HI], stream=True).speaker
    raw = speaker.chunks(chunks) + speaker.end(last, None, answer)
    back = given_back("responses", [orjson.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")])
    results = [{"type": "function_call_output", "call_id": call, "output": "x"} for call in ("c1", "c2")]
    turns = parsed("responses", [HI, *back, *results], stream=False).request.body["messages"]
    assert ["user", "assistant", "tool", "tool"] == [turn["role"] for turn in turns]
    assert [["c1", "c2"], [detail]] == [[call["id"] for call in turns[1]["tool_calls"]], turns[1]["reasoning_details"]]


def test_a_conversation_that_began_at_openai_goes_on_at_anthropics() -> None:
    """What OpenAI's own models encrypted is told by how it begins."""
    items: list[Json] = [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAAAB"},
             {"role": "assistant", "content": [{"type": "output_text", "text": "so"}]}]  # fmt: skip
    request = parsed("responses", [HI, *items, HI], stream=False).request
    turn = sent("anthropic", request, "claude-opus-4-5")["messages"][1]
    assert {"role": "assistant", "content": [{"type": "text", "text": "so"}]} == turn


def test_what_was_changed_on_its_way_is_no_signature() -> None:
    """The thoughts stay, as far as they can be read."""
    torn = "orchestrator:google:e30"
    blocks: list[Json] = [{"type": "redacted_thinking", "data": torn}, {"type": "text", "text": "so"}]
    blocks.append({"type": "thinking", "thinking": "hm", "signature": torn})
    (_, turn) = parsed("messages", [HI, {"role": "assistant", "content": blocks}], stream=False).request.body[
        "messages"
    ]
    assert {
        "role": "assistant",
        "content": "so",
        "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
    } == turn
    shown = [{"type": "summary_text", "text": "hm"}]
    items: list[Json] = [
        {"type": "reasoning", "summary": [], "encrypted_content": torn},
        {"type": "reasoning", "summary": shown},
        {"role": "assistant", "content": "so"},
    ]
    (_, turn) = parsed("responses", [HI, *items], stream=False).request.body["messages"]
    assert {"role": "assistant", "content": "so"} == turn


def test_every_event_is_known_to_the_official_client() -> None:
    """Items that carry nothing but a signature, too."""
    asked = parsed("responses", [HI], stream=True)
    chunks, last = as_chunks(GOLDEN["answer"])
    answer = Answer(Reply(GOLDEN["answer"], "m"), {"attempts": []}, "first", "p", "m")
    raw = asked.speaker.chunks(chunks) + asked.speaker.end(last, None, answer)
    events = [orjson.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: {")]
    for event in events:
        TypeAdapter(types.ResponseStreamEvent).validate_python(event)
    kinds = [item["type"] for item in events[-1]["response"]["output"]]
    assert ["reasoning", "function_call", "function_call"] == kinds
