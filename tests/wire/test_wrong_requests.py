"""What is wrong with a request is said with its place, in the caller's own shape, before anybody is asked; what only a
provider can judge reaches it untouched."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.types import Json
from orchestrator.wire.shapes import SHAPES
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

CHAT, RESPONSES, MESSAGES, COMPLETIONS = "chat/completions", "responses", "messages", "completions"
HI: Json = {"role": "user", "content": "hi"}
BASE: dict[str, Json] = {
    CHAT: {"messages": [HI]},
    RESPONSES: {"input": "hi"},
    MESSAGES: {"messages": [HI], "max_tokens": 50},
    COMPLETIONS: {"prompt": "hi"},
}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
EVERYWHERE = pytest.mark.parametrize("path", BASE)
IMAGE = "https://x.org/y.png"
SIGHT: dict[str, Json] = {
    CHAT: {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]},
    RESPONSES: {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]}]},
    MESSAGES: {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": IMAGE}}]}]},
}


def tool(path: str, name: Any = "f", schema: Any = None, **more: Any) -> Json:
    """A function as each shape has it."""
    schema = {"type": "object"} if schema is None else schema
    if path == MESSAGES:
        return {"name": name, "input_schema": schema, **more}
    if path == RESPONSES:
        return {"type": "function", "name": name, "parameters": schema, **more}
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


HOLDER = {CHAT: "tools[0].function", RESPONSES: "tools[0]", MESSAGES: "tools[0]"}
PARAMETERS = {CHAT: "parameters", RESPONSES: "parameters", MESSAGES: "input_schema"}
SCHEMAS: dict[str, tuple[Any, str]] = {
    "no object": ("x", ""),
    "a list": ([], ""),
    "arguments that are no object": ({"type": "string"}, ".type"),
    "a type": ({"type": "obj"}, ".type"),
    "a type as a number": ({"type": 3}, ".type"),
    "no types": ({"type": []}, ".type"),
    "a list of properties": ({"properties": []}, ".properties"),
    "a property that is none": ({"properties": {"a b": "string"}}, ".properties.a b"),
    "a type of a property": ({"properties": {"a": {"type": "str"}}}, ".properties.a.type"),
    "a type far within": (
        {"properties": {"a": {"anyOf": [{}, {"items": {"type": ["string", "none"]}}]}}},
        ".properties.a.anyOf[1].items.type",
    ),
    "what is required, as text": ({"required": "a"}, ".required"),
    "what is required, as numbers": ({"required": ["a", 1]}, ".required"),
    "a required property that says so itself": ({"properties": {"a": {"required": True}}}, ".properties.a.required"),
    "choices as an object": ({"anyOf": {}}, ".anyOf"),
    "no choices": ({"oneOf": []}, ".oneOf"),
    "values as text": ({"properties": {"a": {"enum": "x"}}}, ".properties.a.enum"),
    "items as text": ({"properties": {"a": {"items": "x"}}}, ".properties.a.items"),
    "definitions as a list": ({"$defs": []}, ".$defs"),
}

Case = tuple[dict[str, Json], dict[str, str]]
"""The fields by the path, and where they are wrong."""


def alike(fields: Json, param: str, *paths: str) -> Case:
    """The same for several shapes."""
    return dict.fromkeys(paths or BASE, fields), dict.fromkeys(paths or BASE, param)


def tools(make: Any, where: str) -> Case:
    """Tools in each shape; `where` is a place in the first of them, or another."""
    fields: dict[str, Json] = {path: {"tools": make(path)} for path in HOLDER}
    params = {path: where.replace("{f}", holder).replace("{s}", PARAMETERS[path]) for path, holder in HOLDER.items()}
    return fields, params


def turns(path: str, *given: Json) -> Json:
    return {("input" if path == RESPONSES else "messages"): [HI, *given]}


OPENAI = (CHAT, RESPONSES, COMPLETIONS)
CASES: dict[str, Case] = {
    "no model": alike({"model": None}, "model"),
    "a model as a number": alike({"model": 3}, "model"),
    "a stream as text": alike({"stream": "yes"}, "stream"),
    "a temperature as text": alike({"temperature": "0.5"}, "temperature"),
    "a temperature as a flag": alike({"temperature": True}, "temperature"),
    "a temperature out of all bounds": alike({"temperature": 1e300}, "temperature"),
    "a temperature below zero": alike({"temperature": -0.1}, "temperature"),
    "a share over 1": alike({"top_p": 1.5}, "top_p"),
    "a share as text": alike({"top_p": "1"}, "top_p"),
    "a penalty": alike({"presence_penalty": -3}, "presence_penalty", *OPENAI),
    "another penalty": alike({"frequency_penalty": "x"}, "frequency_penalty", *OPENAI),
    "a seed as text": alike({"seed": "x"}, "seed", *OPENAI),
    "biases as a list": alike({"logit_bias": []}, "logit_bias", CHAT, COMPLETIONS),
    "no choices": alike({"n": 0}, "n", *OPENAI),
    "too many choices": alike({"n": 129}, "n", *OPENAI),
    "choices of a response": alike({"n": 2}, "n", RESPONSES),
    "five stops": alike({"stop": list("abcde")}, "stop", *OPENAI),
    "a stop as a number": alike({"stop": 3}, "stop", *OPENAI),
    "stops as numbers": ({MESSAGES: {"stop_sequences": [3]}}, {MESSAGES: "stop_sequences"}),
    "a stop of Anthropic's as text": ({MESSAGES: {"stop_sequences": "x"}}, {MESSAGES: "stop_sequences"}),
    "no tokens": alike({"max_tokens": 0}, "max_tokens", CHAT, COMPLETIONS),
    "fewer tokens than none": alike({"max_tokens": -1}, "max_tokens", CHAT, MESSAGES, COMPLETIONS),
    "tokens as text": alike({"max_tokens": "5"}, "max_tokens", CHAT, MESSAGES, COMPLETIONS),
    "tokens beyond sense": alike({"max_tokens": 10_000_001}, "max_tokens", CHAT, MESSAGES, COMPLETIONS),
    "tokens beyond sense by a newer name": alike({"max_completion_tokens": 10**12}, "max_completion_tokens", CHAT),
    "tokens of a response beyond sense": alike({"max_output_tokens": 10**12}, "max_output_tokens", RESPONSES),
    "null for Anthropic's tokens": alike({"max_tokens": None}, "max_tokens", MESSAGES),
    "a format as text": alike({"response_format": "json"}, "response_format", CHAT),
    "a schema that is none": alike(
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
        "response_format.json_schema.schema.type", CHAT),
    "a schema of a response that is none": alike(
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"required": 3}}}},
        "text.format.schema.required", RESPONSES),
    "a schema of a message that is none": alike(
        {"output_config": {"format": {"type": "json_schema", "schema": [1]}}}, "output_config.format.schema", MESSAGES),
    "a text that is none": alike({"text": "x"}, "text", RESPONSES),
    "reasoning that is none": alike({"reasoning": "high"}, "reasoning", RESPONSES),
    "thinking that is none": alike({"thinking": True}, "thinking", MESSAGES),
    "no messages": ({CHAT: {"messages": []}, RESPONSES: {"input": []}, MESSAGES: {"messages": []}},
                    {CHAT: "messages", RESPONSES: "input", MESSAGES: "messages"}),
    "an empty message": ({path: turns(path, {}) for path in HOLDER},
                         {CHAT: "messages[1]", RESPONSES: "input[1].content", MESSAGES: "messages[1]"}),
    "a kind of item that is none": ({RESPONSES: turns(RESPONSES, {"type": []})}, {RESPONSES: "input[1].type"}),
    "a role as a number": ({path: turns(path, {"role": 3, "content": "x"}) for path in HOLDER},
                           {CHAT: "messages[1]", RESPONSES: "input[1].role", MESSAGES: "messages[1]"}),
    "content as a number": ({path: turns(path, {"role": "user", "content": 3}) for path in HOLDER},
                            {CHAT: "messages[1].content", RESPONSES: "input[1].content", MESSAGES: "messages[1].content"}),
    "no content": ({path: turns(path, {"role": "user"}) for path in HOLDER},
                   {CHAT: "messages[1].content", RESPONSES: "input[1].content", MESSAGES: "messages[1].content"}),
    "a part as a number": ({path: turns(path, {"role": "user", "content": [3]}) for path in HOLDER},
                           {CHAT: "messages[1].content[0]", RESPONSES: "input[1].content", MESSAGES: "messages[1].content"}),
    "a text as a number": (
        {CHAT: turns(CHAT, {"role": "user", "content": [{"type": "text", "text": 3}]}),
         RESPONSES: turns(RESPONSES, {"role": "user", "content": [{"type": "input_text", "text": 3}]}),
         MESSAGES: turns(MESSAGES, {"role": "user", "content": [{"type": "text", "text": 3}]})},
        {CHAT: "messages[1].content[0].text", RESPONSES: "input[1].content[0]", MESSAGES: "messages[1].content[0]"}),
    "an image without an address": alike(
        turns(CHAT, {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
        "messages[1].content[0].image_url", CHAT),
    "a result of no call": (
        {CHAT: turns(CHAT, {"role": "tool", "content": "x"}),
         RESPONSES: turns(RESPONSES, {"type": "function_call_output", "output": "x"}),
         MESSAGES: turns(MESSAGES, {"role": "user", "content": [{"type": "tool_result", "content": "x"}]})},
        {CHAT: "messages[1].tool_call_id", RESPONSES: "input[1].call_id", MESSAGES: "messages[1].content[0].tool_use_id"}),
    "a call without a name": (
        {CHAT: turns(CHAT, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {}}]}),
         RESPONSES: turns(RESPONSES, {"type": "function_call", "call_id": "c", "arguments": "{}"}),
         MESSAGES: turns(MESSAGES, {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "input": {}}]})},
        {CHAT: "messages[1].tool_calls[0].function.name", RESPONSES: "input[1].name",
         MESSAGES: "messages[1].content[0].name"}),
    "calls as text": alike(turns(CHAT, {"role": "assistant", "content": "x", "tool_calls": "y"}),
                           "messages[1].tool_calls", CHAT),
    "tools as text": alike({"tools": "x"}, "tools", *HOLDER),
    "a tool as text": alike({"tools": ["x"]}, "tools[0]", *HOLDER),
    "a tool without a kind": ({CHAT: {"tools": [{}]}, RESPONSES: {"tools": [{}]}, MESSAGES: {"tools": [{}]}},
                              {CHAT: "tools[0].type", RESPONSES: "tools[0].type", MESSAGES: "tools[0].name"}),
    "a function that is none": alike({"tools": [{"type": "function"}]}, "tools[0].function", CHAT),
    "a tool without a name": tools(lambda path: [tool(path, None)], "{f}.name"),
    "a tool with an empty name": tools(lambda path: [tool(path, "")], "{f}.name"),
    "a tool with a bad name": tools(lambda path: [tool(path, "get the weather!")], "{f}.name"),
    "a tool with a long name": tools(lambda path: [tool(path, "x" * 129)], "{f}.name"),
    "two tools of one name": (
        {path: {"tools": [tool(path), tool(path)]} for path in HOLDER},
        {path: holder.replace("0", "1") + ".name" for path, holder in HOLDER.items()}),
    "a description as a number": tools(lambda path: [tool(path, description=3)], "{f}.description"),
    "strict as text": tools(lambda path: [tool(path, strict="yes")], "{f}.strict"),
    **{f"a schema: {name}": tools(lambda path, schema=schema: [tool(path, schema=schema)], "{f}.{s}" + where)
       for name, (schema, where) in SCHEMAS.items()},
    "no schema for Anthropic": alike({"tools": [{"name": "f"}]}, "tools[0].input_schema", MESSAGES),
    "a choice that is not there": (
        {CHAT: {"tools": [tool(CHAT)], "tool_choice": {"type": "function", "function": {"name": "g"}}},
         RESPONSES: {"tools": [tool(RESPONSES)], "tool_choice": {"type": "function", "name": "g"}},
         MESSAGES: {"tools": [tool(MESSAGES)], "tool_choice": {"type": "tool", "name": "g"}}},
        dict.fromkeys(HOLDER, "tool_choice")),
    "a choice without tools": (
        {CHAT: {"tool_choice": {"type": "function", "function": {"name": "g"}}},
         RESPONSES: {"tool_choice": {"type": "function", "name": "g"}},
         MESSAGES: {"tool_choice": {"type": "tool", "name": "g"}}},
        dict.fromkeys(HOLDER, "tool_choice")),
    "a choice that is required of nothing": alike({"tool_choice": "required"}, "tool_choice", CHAT, RESPONSES),
    "a choice that is none": alike({"tool_choice": "perhaps"}, "tool_choice", *HOLDER),
    "a choice without a name": alike({"tools": [tool(CHAT)], "tool_choice": {"type": "function"}}, "tool_choice", CHAT),
    "a choice of Anthropic's that is none": alike(
        {"tools": [tool(MESSAGES)], "tool_choice": {"type": "perhaps"}}, "tool_choice.type", MESSAGES),
    "a kind of choice that is none": alike(
        {"tools": [tool(MESSAGES)], "tool_choice": {"type": []}}, "tool_choice.type", MESSAGES),
    "kinds of tools that are none": ({CHAT: {"tools": [{"type": []}]}, RESPONSES: {"tools": [{"type": []}]}},
                                     dict.fromkeys((CHAT, RESPONSES), "tools[0].type")),
    "a choice of OpenAI's own": alike({"tool_choice": {"type": "web_search"}}, "tool_choice.type", RESPONSES),
    "an allowed tool that is not there": alike(
        {"tools": [tool(RESPONSES)],
         "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}},
        "tool_choice.tools[0]", RESPONSES),
    "parallel calls as text": alike({"parallel_tool_calls": "no"}, "parallel_tool_calls", CHAT, RESPONSES),
    "functions without a name": alike({"functions": [{}]}, "functions[0].name", CHAT),
    "a function that is called and not there": alike(
        {"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call", CHAT),
}  # fmt: skip


def told(path: str, answer: Any) -> tuple[int, str, str | None, str]:
    """Status, type, place and message of an error, which has to be in the shape of its path."""
    body = answer.json()
    assert ("error" == body["type"]) if path == MESSAGES else (body.keys() == {"error"}), body
    error = body["error"]
    return answer.status_code, error["type"], error.get("param"), error["message"]


@STREAMED
@pytest.mark.parametrize(("path", "name"), [(path, name) for name, case in CASES.items() for path in case[0]])
async def test_what_is_wrong_says_where(
    stack: Stack, upstream: Upstream, path: str, name: str, *, stream: bool
) -> None:
    """400, in the caller's own shape, with the field as `param` and in the message; nobody is asked."""
    fields, params = CASES[name]
    body = {"model": "up/ok", "stream": stream, **BASE[path], **fields[path]}
    status, kind, param, message = told(path, await stack.http.post(f"/v1/{path}", json=body))
    assert (400, "invalid_request_error", params[path]) == (status, kind, param)
    assert f"'{param}' " in message
    assert [] == upstream.log


BODIES: dict[str, tuple[str, str]] = {
    "not a number": ('"temperature": NaN', "not valid JSON"),
    "an infinite number": ('"temperature": 1e400', "infinity"),
    "half a character": (r'"user": "\ud800"', "surrogate"),
    "the other half": (r'"user": "x\udc00"', "surrogate"),
    "a thousand levels": ('"x": ' + "[" * 1000 + "]" * 1000, "nested deeper"),
    "more levels than can be read": ('"x": ' + "[" * 5000 + "]" * 5000, "depth limit"),
    "bytes that are no text": ('"user": "\xff"', "not valid UTF-8"),
}


@STREAMED
@EVERYWHERE
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_json(stack: Stack, path: str, name: str, *, stream: bool) -> None:
    """400, saying what it is."""
    added, words = BODIES[name]
    body = orjson.dumps({"model": "up/ok", "stream": stream, **BASE[path]}).decode()[:-1] + f", {added}}}"
    status, kind, _, message = told(path, await stack.http.post(f"/v1/{path}", content=body.encode("latin-1")))
    assert (400, "invalid_request_error", True) == (status, kind, words in message), message


LACKING: dict[str, tuple[Json, dict[str, Json], dict[str, str], str]] = {
    "an image": ({"images": False}, SIGHT, {CHAT: "messages", RESPONSES: "input", MESSAGES: "messages"}, "sees no images"),
    "length": (
        {"max_tokens": 100},
        {CHAT: {"max_tokens": 101}, RESPONSES: {"max_output_tokens": 101}, COMPLETIONS: {"max_tokens": 101}},
        {CHAT: "max_tokens", RESPONSES: "max_output_tokens", COMPLETIONS: "max_tokens"},
        "writes 100 tokens at most, and the request asks for 101"),
    "a schema": (
        {"json_schema": False},
        {CHAT: {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
         RESPONSES: {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}},
         MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": {}}}}},
        {CHAT: "response_format", RESPONSES: "text.format", MESSAGES: "output_config.format"}, "keeps to no schema"),
}  # fmt: skip


@STREAMED
@pytest.mark.parametrize(("path", "name"), [(path, name) for name, case in LACKING.items() for path in case[1]])
async def test_what_a_model_cannot(serve: Serve, upstream: Upstream, path: str, name: str, *, stream: bool) -> None:
    """It is not asked; another is; and if none can, that is a 400 that says what, and of which field."""
    options, fields, params, words = LACKING[name]
    any_ = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []}
    stack = await serve({"providers": {"plain": {**any_, "model_options": {"*": options}}, "able": any_}})
    asked = {"stream": stream, **BASE[path], **fields[path]}
    for models in ({"model": "plain/a"}, {"model": "x", "orchestrator": {"models": ["plain/a", "plain/b"]}}):
        answer = await stack.http.post(f"/v1/{path}", json={**asked, **models})
        error = answer.json()["error"]
        assert (400, "invalid_request_error", params[path]) == (answer.status_code, error["type"], error["param"])
        assert words in error["message"]
    assert [] == upstream.log
    other = {**asked, "model": "x", "orchestrator": {"models": ["plain/a", "able/ok"]}}
    assert 200 == (await stack.http.post(f"/v1/{path}", json=other)).status_code
    assert ["ok"] == [attempt.model for attempt in upstream.log]


VALID: dict[str, tuple[str, Json]] = {
    "unknown fields": (CHAT, {"top_k": -1, "min_p": 0.1, "guided_json": {"type": "object"}, "future": [1]}),
    "tools of a provider's own": (CHAT, {"tools": [{"type": "web_search"}, {"type": "browser_search", "x": 1}, tool(CHAT)],
                                         "tool_choice": {"type": "web_search"}}),
    "a custom tool": (CHAT, {"tools": [{"type": "custom", "custom": {"name": "c"}}],
                             "tool_choice": {"type": "custom", "custom": {"name": "c"}}}),
    "a tool of Anthropic's": (CHAT, {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
    "a function without parameters": (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    "names of Gemini's": (CHAT, {"tools": [tool(CHAT, "a.b:c-d_e")]}),
    "no tools": (CHAT, {"tools": [], "tool_choice": "auto"}),
    "a choice of Mistral's": (CHAT, {"tools": [tool(CHAT)], "tool_choice": "any"}),
    "a schema with everything": (CHAT, {"tools": [tool(CHAT, schema={
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["a"], "nullable": True,
        "properties": {"a": {"type": ["string", "null"], "enum": ["x", None]}, "b": {"$ref": "#/$defs/d"},
                       "type": {"type": "string"}, "required": {"type": "boolean"}, "any": {}, "all": True,
                       "pair": {"type": "array", "items": [{"type": "string"}, {"type": "number"}]},
                       "list": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
        "$defs": {"d": {"anyOf": [{"const": 1}, {"not": {"type": "string"}}]}}, "additionalProperties": False,
        "x-vendor": {"type": 3}, "examples": [{"type": 3}]})]}),
    "calls without content": (CHAT, turns(
        CHAT, {"role": "assistant", "content": None,
               "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                              {"id": "d", "type": "custom", "custom": {"name": "c", "input": "x"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"}, {"role": "tool", "tool_call_id": "d", "content": [
            {"type": "text", "text": "x"}]})),
    "an assistant's turn without content": (CHAT, turns(CHAT, {"role": "assistant", "refusal": "no"}, HI)),
    "parts of other kinds": (CHAT, turns(CHAT, {"role": "user", "content": [
        "text", {"type": "video_url", "video_url": {"url": "u"}}, {"type": "input_audio", "input_audio": {"data": "x"}}]})),
    "roles of other kinds": (CHAT, turns(CHAT, {"role": "developer", "content": "x"}, {"role": "critic", "content": "x"},
                                         {"role": "function", "name": "f", "content": None})),
    "nulls": (CHAT, dict.fromkeys(("temperature", "n", "stop", "tools", "tool_choice", "response_format", "seed"))),
    "formats of other kinds": (CHAT, {"response_format": {"type": "ebnf", "grammar": "x"}}),
    "one stop": (CHAT, {"stop": "x"}),
    "four stops": (CHAT, {"stop": list("abcd"), "temperature": 2, "top_p": 0, "presence_penalty": -2, "n": 1}),
    "a call by a name that no tool may have": (CHAT, turns(CHAT, {"role": "assistant", "content": "", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "get the weather", "arguments": "{}"}}]})),
    "functions": (CHAT, {"functions": [{"name": "f", "parameters": {"type": "object"}}], "function_call": {"name": "f"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", VALID)
def test_what_is_valid_somewhere_passes_untouched(name: str) -> None:
    """To the last field, unknown ones included."""
    path, fields = VALID[name]
    body = {**BASE[path], **fields}
    parsed = SHAPES[f"/v1/{path}"].parse(orjson.dumps({"model": "a/b", **body}), {})
    assert body == parsed.request.body


def test_what_anthropic_takes_passes() -> None:
    """More stops than OpenAI's four, its own tools, and its choice of one of them."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    body = {
        **BASE[MESSAGES], "stop_sequences": list("abcdef"), "top_k": 0, "tools": [search, {"type": "future_2030"}],
        "tool_choice": {"type": "tool", "name": "web_search"},
    }  # fmt: skip
    parsed = SHAPES["/v1/messages"].parse(orjson.dumps({"model": "a/b", **body}), {})
    assert [search, {"type": "future_2030"}] == parsed.request.body["tools"]
    assert list("abcdef") == parsed.request.body["anthropic"]["stop_sequences"]
    no_tools = {"model": "a/b", **BASE[MESSAGES], "tool_choice": {"type": "none"}}
    assert "tool_choice" not in SHAPES["/v1/messages"].parse(orjson.dumps(no_tools), {}).request.body


@pytest.mark.parametrize(("betas", "status"), [({}, 400), ({"anthropic": {"betas": ["output-128k-2025-02-19"]}}, 429)])
async def test_a_beta_may_lengthen_what_is_known(serve: Serve, upstream: Upstream, betas: Json, status: int) -> None:
    """A limit of Anthropic's own models does not count against a request that asks for a beta."""
    options = {"*": {"max_tokens": 100, "context_tokens": 100}}
    address = f"http://127.0.0.1:{upstream.port}/v1"
    claude = {"preset": "anthropic", "base_url": address, "api_key": "k", "model_options": options, "models": ["x"]}
    stack = await serve({"providers": {"claude": {**claude, "retry": {"attempts": 1}}}})
    answer = await stack.chat("claude/limited", max_tokens=101, **betas)
    assert (status, status == 429) == (answer.status_code, bool(upstream.log))
