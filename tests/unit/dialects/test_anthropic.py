"""Anthropic's messages as chat completions: each kind of block and event, by what the official SDKs take for valid."""

from __future__ import annotations

from typing import Any

import anthropic.types
import openai.types.chat
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestrator.config.settings import ModelOptions
from orchestrator.dialects.anthropic import Anthropic
from orchestrator.dialects.base import HttpCall
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Piece, Reply, Request, Usage

DIALECT = Anthropic()
HI: dict[str, Any] = {"role": "user", "content": "hi"}
USER = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
PIXEL = "iVBORw0KGgo="
EVENTS: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)


def sent(body: dict[str, Any], *, stream: bool = False, options: ModelOptions | None = None) -> dict[str, Any]:
    """What goes upstream for a chat body."""
    call = DIALECT.encode(Request({"messages": [HI], **body}, stream), "claude-x", options or ModelOptions())
    assert not isinstance(call, Failure), call
    assert ("/messages", "2023-06-01") == (call.path, call.headers["anthropic-version"])
    found: dict[str, Any] = orjson.loads(call.content)
    assert (found.pop("model"), found.pop("stream")) == ("claude-x", stream)
    return found


PLAIN = {"messages": [USER], "max_tokens": 32_000}
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
TOOL = {"type": "function", "function": FUNCTION}
SENT_TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
OPEN = {"type": ["object", "null"], "properties": {}}
ENCODED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing else": ({}, PLAIN),
    "numbers": ({"max_completion_tokens": 5, "temperature": 1.5, "top_p": 0.5},
                {"max_tokens": 5, "temperature": 1, "top_p": 0.5}),
    "the older limit": ({"max_tokens": 6}, {"max_tokens": 6}),
    "nothing to write": ({"max_tokens": 0}, {"max_tokens": 0}),
    "arguments that are an object": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": {"a": 1}}}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]}]}),
    "an open schema that it was given itself": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": OPEN}},
         "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": OPEN}}}},
        {"output_config": {"format": {"type": "json_schema", "schema": OPEN}}}),
    "one stop": ({"stop": "x"}, {"stop_sequences": ["x"]}),
    "stops": ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
    "the user": ({"user": "john"}, {"metadata": {"user_id": "john"}}),
    "what is without meaning": (
        {"seed": 1, "presence_penalty": 1, "logit_bias": {}, "store": True, "service_tier": "flex"}, {}),
    "a tier of service": ({"service_tier": "standard_only"}, {"service_tier": "standard_only"}),
    "what is unknown": ({"future": {"x": 1}, "top_k": 4}, {"future": {"x": 1}, "top_k": 4}),
    "the extension": ({"anthropic": {"thinking": {"type": "adaptive"}, "model": "x", "stream": 1}, "max_tokens": 9},
                      {"thinking": {"type": "adaptive"}, "max_tokens": 9}),
    "effort": ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
    "no effort": ({"reasoning_effort": "none"}, {}),
    "a schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
                 {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    "any JSON": ({"response_format": {"type": "json_object"}},
                 {"system": [{"type": "text", "text": "Answer with one JSON object and nothing else."}]}),
    "tools": ({"tools": [TOOL]}, {"tools": [SENT_TOOL]}),
    "a tool of the server's": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
                               {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    "tools, one at a time": ({"tools": [TOOL], "parallel_tool_calls": False},
                             {"tools": [SENT_TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
    "tools, any": ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [SENT_TOOL], "tool_choice": {"type": "any"}}),
    "tools, none": ({"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
                    {"tools": [SENT_TOOL], "tool_choice": {"type": "none"}}),
    "tools, one of them": ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
                           {"tools": [SENT_TOOL], "tool_choice": {"type": "tool", "name": "f"}}),
    "a system turn, wherever it stands": (
        {"messages": [{"role": "system", "content": "a"}, HI,
                      {"role": "developer", "content": [{"type": "text", "text": "b"}]}]},
        {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
    "images": (
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"},
             "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
             "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]}]}),
    "a file": (
        {"messages": [{"role": "user", "content": [
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "document", "title": "a.pdf",
             "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}}]}]}),
    "a round of tools": (
        {"messages": [
            HI,
            {"role": "assistant", "content": None, "reasoning_details": [
                {"type": "reasoning.text", "text": "hm", "signature": "s"}, {"type": "reasoning.encrypted", "data": "e"}],
             "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                            {"id": "t2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "one"},
            {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "go on"}]},
        {"messages": [
            USER,
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "e"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "two"}]},
                {"type": "text", "text": "go on"}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_a_request(name: str) -> None:
    """Field by field."""
    body, expected = ENCODED[name]
    assert {**PLAIN, **expected} == sent(body)


def test_a_stream_says_so_and_the_model_has_its_own_limit() -> None:
    """`max_tokens` is insisted upon: what the model's options say, where the request does not."""
    assert {**PLAIN, "max_tokens": 7} == sent({}, stream=True, options=ModelOptions(max_tokens=7))


def test_betas_are_a_header() -> None:
    """As the official SDK sends them."""
    call = DIALECT.encode(Request({"messages": [HI], "anthropic": {"betas": ["a", "b"]}}), "m", ModelOptions())
    assert not isinstance(call, Failure)
    assert ("a,b", b"betas" in call.content) == (call.headers["anthropic-beta"], False)


WORDS = ["content", "tool_calls", "reasoning_details", "function", "type", "text", "image_url", "url", "file", "arguments",
         "cache_control", "json_schema", "schema"]  # fmt: skip
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several choices": ({"n": 2}, "n"),
    "logprobs": ({"logprobs": True}, "logprobs"),
    "audio": ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    "a file by name": ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
                       "messages[0].content[0]"),
    "broken data": ({"messages": [HI, {"role": "user", "content": [
                        {"type": "image_url", "image_url": "data:image/png;base64,%"}]}]},
                    "messages[1].content[0]"),
    "arguments that are no JSON": (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments"),
    "arguments that are no object": (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]},
        "messages[0].tool_calls[0].function.arguments"),
    "a tool that takes a text": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
    "no schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format"),
    **{f"an open schema {where}": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}, "response_format")
       for where, schema in {
           "at the root": OPEN, "of a property": {**SCHEMA, "properties": {"additionalProperties": OPEN}},
           "of a list": {**SCHEMA, "$defs": {"a": {"type": "array", "items": OPEN}}},
           "of a choice": {**SCHEMA, "properties": {"a": {"anyOf": [True, OPEN]}}}}.items()},
    "another role": ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart(name: str) -> None:
    """Says where it stands; somebody else may be asked."""
    body, param = REFUSED[name]
    failure = DIALECT.encode(Request({"messages": [HI], **body}), "m", ModelOptions())
    assert isinstance(failure, Failure)
    assert (FailureKind.UNSUPPORTED, param) == (failure.kind, failure.param)
    assert failure.kind.traits.try_other
    embedding = DIALECT.encode(Request({}, operation="embeddings"), "m", ModelOptions())
    assert isinstance(embedding, Failure)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system"])}, optional=dict.fromkeys(WORDS, ANYTHING)
    ),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["tools", "tool_choice", "response_format", "anthropic", "user"], ANYTHING)
    ),
)
def test_whatever_is_asked(message: dict[str, Any], fields: dict[str, Any]) -> None:
    """A request, or a failure that says where; never an exception."""
    call = DIALECT.encode(Request({"messages": [message], **fields}), "m", ModelOptions())
    assert isinstance(call, HttpCall) or call.kind is FailureKind.UNSUPPORTED


USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
COUNTED = {"prompt_tokens": 15, "completion_tokens": 5, "total_tokens": 20,
           "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2}}  # fmt: skip
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "let me see", "signature": "sig"},
    {"type": "redacted_thinking", "data": "secret"},
    {"type": "text", "text": "Hello", "citations": None},
    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1, 2]}},
    {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
]
MESSAGE: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1", "content": BLOCKS,
           "stop_reason": "tool_use", "stop_sequence": None, "usage": USAGE}  # fmt: skip
DETAILS = [
    {"type": "reasoning.text", "text": "let me see", "signature": "sig", "index": 0},
    {"type": "reasoning.encrypted", "data": "secret", "index": 1},
]


def decoded(message: dict[str, Any]) -> Reply:
    anthropic.types.Message.model_validate(message, strict=True)
    reply = DIALECT.decode(Request({}), "m", 200, {}, orjson.dumps(message))
    assert isinstance(reply, Reply), reply
    openai.types.chat.ChatCompletion.model_validate(reply.body, strict=True)
    return reply


def test_a_whole_answer() -> None:
    """Text, thinking, calls, counts; and what Anthropic said itself."""
    reply = decoded({**MESSAGE, "container": None})
    message = reply.body["choices"][0]["message"]
    assert ("Hello", "let me see", DETAILS) == tuple(
        message[n] for n in ("content", "reasoning_content", "reasoning_details")
    )
    assert [("t1", "f", '{"a":[1,2]}'), ("t2", "g", "{}")] == [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]
    ]
    assert ("msg_1", "claude-x-1", "tool_calls", COUNTED) == (
        reply.body["id"], reply.model, reply.body["choices"][0]["finish_reason"], reply.body["usage"],
    )  # fmt: skip
    assert {"stop_reason": "tool_use", "stop_sequence": None, "usage": USAGE} == reply.body["anthropic"]
    assert reply.usage is not None
    assert (15, 5, 3) == reply.usage[:3]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("stop_sequence", "stop"), ("refusal", "content_filter"),
     ("model_context_window_exceeded", "length"), ("pause_turn", "stop")],
)  # fmt: skip
def test_reasons_to_stop(reason: str, expected: str) -> None:
    """Each as OpenAI calls it, and as it came."""
    reply = decoded({**MESSAGE, "stop_reason": reason, "content": []})
    assert (expected, reason) == (reply.body["choices"][0]["finish_reason"], reply.body["anthropic"]["stop_reason"])
    assert "" == reply.body["choices"][0]["message"]["content"]


def test_blocks_without_a_place_travel_as_they_came() -> None:
    """All of them then, since their order counts."""
    result = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}
    content = [{"type": "text", "text": "a"}, result, {"type": "text", "text": "b"}]
    reply = decoded({**MESSAGE, "content": content})
    assert ("ab", content) == (reply.body["choices"][0]["message"]["content"], reply.body["anthropic"]["content"])


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", FailureKind.BAD_ANSWER), (b"<html>", FailureKind.BAD_ANSWER), (b"[]", FailureKind.BAD_ANSWER),
     (b'{"content": "x"}', FailureKind.BAD_ANSWER), (b'{"content": [1]}', FailureKind.BAD_ANSWER),
     (b'{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}', FailureKind.SERVER_ERROR)],
)  # fmt: skip
def test_a_200_that_is_no_message(content: bytes, kind: FailureKind) -> None:
    """A failure like any other."""
    failure = DIALECT.decode(Request({}), "m", 200, {}, content)
    assert isinstance(failure, Failure)
    assert kind is failure.kind


def test_its_list_of_models() -> None:
    """As docs.anthropic.com/en/api/models-list has it."""
    row = {"type": "model", "id": "claude-x", "display_name": "X", "created_at": "2025-01-01T00:00:00Z"}
    assert ("claude-x",) == DIALECT.decode_models(orjson.dumps({"data": [row], "has_more": False}))
    assert () == DIALECT.decode_models(b"<html>")


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


SEARCH = block(5, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
               {"type": "input_json_delta", "partial_json": '{"query": "q"}'})  # fmt: skip
START: dict[str, Any] = {
    "type": "message_start",
    "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}},
}
END: list[dict[str, Any]] = [
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 5},
    },
    {"type": "message_stop"},
]
STREAM: list[dict[str, Any]] = [
    START,
    {"type": "ping"},
    *block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "let me "},
           {"type": "thinking_delta", "thinking": "see"}, {"type": "signature_delta", "signature": "sig"}),
    *block(1, {"type": "redacted_thinking", "data": "secret"}),
    *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hel"}, {"type": "text_delta", "text": "lo"}),
    *block(3, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}, {"type": "input_json_delta", "partial_json": ""},
           {"type": "input_json_delta", "partial_json": '{"a":'}, {"type": "input_json_delta", "partial_json": "[1,2]}"}),
    *block(4, {"type": "tool_use", "id": "t2", "name": "g", "input": {}}),
    *END,
]  # fmt: skip


def wire(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: " + one["type"].encode() + b"\ndata: " + orjson.dumps(one) + b"\n\n" for one in events)


def said(pieces: list[Piece]) -> dict[str, Any]:
    """What the chunks come to, by OpenAI's own types."""
    found: dict[str, Any] = {"content": "", "reasoning_content": "", "reasoning_details": [], "calls": {}, "events": []}
    for piece in pieces:
        if isinstance(piece, Chunk):
            chunk = orjson.loads(piece.data)
            openai.types.chat.ChatCompletionChunk.model_validate(chunk, strict=True)
            delta = chunk["choices"][0]["delta"]
            for name in ("content", "reasoning_content", "reasoning_details"):
                found[name] += delta.get(name, type(found[name])())
            for call in delta.get("tool_calls", []):
                begun = found["calls"].setdefault(call["index"], ["", "", ""])
                parts = (call.get("id", ""), call["function"].get("name", ""), call["function"].get("arguments", ""))
                found["calls"][call["index"]] = [a + b for a, b in zip(begun, parts, strict=True)]
            found["events"] += [own["event"]] if "event" in (own := chunk.get("anthropic", {})) else []
    return found


@given(st.lists(st.integers(1, 60), max_size=40))
def test_a_stream_however_it_is_split(sizes: list[int]) -> None:
    """The same as the whole answer."""
    for event in STREAM[2:]:
        EVENTS.validate_python(event)
    data, decoder, pieces = wire(STREAM), DIALECT.decoder(Request({}), "m"), list[Piece]()
    for size in [*sizes, len(data)]:
        part, data = data[:size], data[size:]
        pieces += decoder.feed(part)
    found, last = said(pieces), pieces[-1]
    assert isinstance(last, Finish)
    assert ("Hello", "let me see", DETAILS) == tuple(
        found[n] for n in ("content", "reasoning_content", "reasoning_details")
    )
    assert {0: ["t1", "f", '{"a":[1,2]}'], 1: ["t2", "g", "{}"]} == found["calls"]
    assert (COUNTED, "claude-x-1", "tool_calls") == (
        last.usage_body,
        last.model,
        last.last["choices"][0]["finish_reason"],
    )
    assert {"stop_reason": "tool_use", "stop_sequence": None, "usage": USAGE} == last.last["anthropic"]
    assert ([], []) == (decoder.feed(wire(END)), decoder.close())


def test_events_without_a_place_travel_as_they_came() -> None:
    """Those of other blocks, and citations."""
    cited = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x", "document_index": 0,
             "document_title": None, "start_char_index": 0, "end_char_index": 1, "file_id": None}}  # fmt: skip
    text = block(0, {"type": "text", "text": "a"}, cited)
    found = said(DIALECT.decoder(Request({}), "m").feed(wire([START, *text, *SEARCH, *END])))
    assert ("a", [text[1], *SEARCH]) == (found["content"], found["events"])


ENDS: dict[str, tuple[list[dict[str, Any]], FailureKind | None]] = {
    "no message_stop": ([START, *block(0, {"type": "text", "text": "a"}), END[0]], None),
    "no stop_reason": ([START, *block(0, {"type": "text", "text": "a"})], FailureKind.CUT),
    "nothing": ([START], FailureKind.BAD_ANSWER),
    "nothing but an end": ([END[1]], FailureKind.BAD_ANSWER),
    "an error": (
        [START, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}],
        FailureKind.SERVER_ERROR,
    ),
    "a message_start that was forgotten": ([*block(0, {"type": "text", "text": "a"}), *END], None),
    "something new": ([START, {"type": "new"}, {"type": "content_block_delta", "index": 9, "delta": {}}, *END], None),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_stream_ends(name: str) -> None:
    """Whole where the reason to stop has come; never otherwise."""
    events, kind = ENDS[name]
    decoder = DIALECT.decoder(Request({}), "m")
    pieces = decoder.feed(wire(events))
    assert decoder.holding == (name == "no message_stop")
    last = [*pieces, *decoder.close()][-1]
    assert (last.kind if isinstance(last, Failure) else None) is kind
    assert isinstance(last, Finish if kind is None else Failure)


def test_a_whole_message_in_place_of_a_stream_becomes_one() -> None:
    """Told by how it begins."""
    body = {"id": "msg_1", "model": "c", "content": [{"type": "text", "text": "hi"}], "stop_reason": "max_tokens"}
    decoder = DIALECT.decoder(Request({}), "m")
    assert [] == decoder.feed(orjson.dumps(body))
    chunk, last = decoder.close()
    assert isinstance(chunk, Chunk)
    assert "hi" == orjson.loads(chunk.data)["choices"][0]["delta"]["content"]
    assert isinstance(last, Finish)
    assert "length" == last.last["choices"][0]["finish_reason"]


def test_an_event_that_is_no_json() -> None:
    """A failure before the reason to stop has come; after it, nothing that counts."""
    garbage = b"data: {not json\n\n"
    early = DIALECT.decoder(Request({}), "m").feed(wire([START]) + garbage)[-1]
    assert isinstance(early, Failure)
    assert FailureKind.BAD_EVENT is early.kind
    late = DIALECT.decoder(Request({}), "m").feed(wire([START, END[0]]) + garbage + wire([END[1]]))[-1]
    assert isinstance(late, Finish)


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("claude-next", ModelOptions(), 32_000),
        ("other", ModelOptions(), 4096),
        ("claude-3-haiku", ModelOptions(max_tokens=4096), 4096),
    ],
)
def test_how_much_is_asked_for_where_nobody_says(model: str, options: ModelOptions, expected: int) -> None:
    """What the model writes at the most, as far as that is known; the API insists on a number."""
    call = DIALECT.encode(Request({"messages": [HI]}), model, options)
    assert isinstance(call, HttpCall)
    assert expected == orjson.loads(call.content)["max_tokens"]


def test_what_a_stream_has_used_before_its_end() -> None:
    """The input that its first event says, with what was read from a cache and written to one, and for how long."""
    usage = {**USAGE, "cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 4}}
    start = {**START, "message": {**START["message"], "usage": usage}}
    decoders = [DIALECT.decoder(Request({}), "m") for _ in range(2)]
    decoders[1].feed(wire([start]))
    assert [None, Usage(22, 5, 3, 0, None, 9, 4)] == [decoder.used for decoder in decoders]
