"""Bodies of the shapes that coding agents send: Claude Code's messages and Codex's responses, to providers of either kind."""

from __future__ import annotations

import json
from typing import Any

import anthropic.types
import openai.types.responses as types
import orjson
import pytest
from pydantic import TypeAdapter

from orchestrator.asks import Answer
from orchestrator.config.settings import ModelOptions
from orchestrator.dialects import DIALECTS
from orchestrator.dialects.base import PLAIN, HttpCall
from orchestrator.dialects.openai import as_chunks
from orchestrator.types import Json, Reply
from orchestrator.wire.http import Refused
from orchestrator.wire.messages import MessagesShape
from orchestrator.wire.responses import ResponsesShape
from orchestrator.wire.shape import Parsed
from tests.upstream import completion
from tests.wire.conftest import Stack

MARK = {"cache_control": {"type": "ephemeral"}}
ACCOUNT = json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "9f7c1c1e-1c5e-4b0e-8a55-3d1d6b8b9f10"})
READ = {
    "name": "Read", "description": "Reads a file.", "eager_input_streaming": True,
    "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["file_path"],
                     "properties": {"file_path": {"type": "string"}, "limit": {"type": "number", "exclusiveMinimum": 0}},
                     "additionalProperties": False},
}  # fmt: skip
CLAUDE_CODE: Json = {
    "model": "up/ok",
    "max_tokens": 32_000,
    "stream": True,
    "system": [{"type": "text", "text": "You are a coding agent.", **MARK}, {"type": "text", "text": "Be brief.", **MARK}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>none</system-reminder>"},
                                     {"type": "text", "text": "What is in a.txt?", **MARK}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "I shall read it.", "signature": "sig"},
                                          {"type": "text", "text": "Reading."},
                                          {"type": "tool_use", "id": "toolu_1", "name": "Read",
                                           "input": {"file_path": "a.txt"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "hello", **MARK}]},
    ],
    "tools": [READ],
    "metadata": {"user_id": ACCOUNT},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}  # fmt: skip
BETAS = {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14", "anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    "thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 31_999}, {"type": "disabled"}]
)
async def test_claude_code_on_a_model_of_another_kind(stack: Stack, thinking: Json) -> None:
    """Its query string, headers, system of blocks, metadata and thinking do no harm; the stream is one of Anthropic's."""
    body = {**CLAUDE_CODE, "thinking": thinking}
    answer = await stack.http.post("/v1/messages?beta=true", json=body, headers=BETAS)
    assert (200, "text/event-stream; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    event: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    events = [event.validate_json(part.split("data: ")[1]) for part in answer.text.split("\n\n") if "data: " in part]
    assert ["message_start", "message_stop"] == [events[0].type, events[-1].type]
    assert "alpha beta gamma" == "".join(one.delta.text for one in events if one.type == "content_block_delta")


def test_what_a_model_of_another_kind_gets_of_it() -> None:
    """The conversation and its tools; what means something to Anthropic's models alone stays behind."""
    parsed = MessagesShape().parse(orjson.dumps(CLAUDE_CODE), {b"anthropic-beta": b"a,b"})
    call = DIALECTS["openai"].encode(parsed.request, "m", ModelOptions(), PLAIN)
    assert isinstance(call, HttpCall)
    sent = orjson.loads(call.content)
    assert {"model", "messages", "max_tokens", "tools", "user", "stream", "stream_options"} == set(sent)
    assert ["system", "user", "assistant", "tool"] == [message["role"] for message in sent["messages"]]
    assert "You are a coding agent.\n\nBe brief." == sent["messages"][0]["content"]
    assert {"type": "function", "function": {"name": "Read", "description": "Reads a file.",
                                             "parameters": READ["input_schema"]}} == sent["tools"][0]  # fmt: skip
    assert 64 == len(sent["user"])


def test_what_a_model_of_anthropics_gets_of_it() -> None:
    """All of it."""
    parsed = MessagesShape().parse(orjson.dumps(CLAUDE_CODE), {b"anthropic-beta": b"a,b"})
    call = DIALECTS["anthropic"].encode(parsed.request, "m", ModelOptions(), PLAIN)
    assert isinstance(call, HttpCall)
    assert {**CLAUDE_CODE, "model": "m"} == orjson.loads(call.content)


PATCH = {"type": "custom", "name": "apply_patch", "description": "Edits files. This is FREEFORM.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin hunk+ end"}}  # fmt: skip
SHELL_CALL = {
    "type": "local_shell_call", "id": "lsh_1", "call_id": "c2", "status": "completed",
    "action": {"type": "exec", "command": ["ls", "-l"], "env": {}, "working_directory": "/tmp", "user": None},
}  # fmt: skip
WAIT = {"type": "function", "name": "wait_agent", "description": "Waits.", "strict": False,
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}  # fmt: skip
CODEX: Json = {
    "model": "up/ok",
    "instructions": "You are a coding agent.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions/>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tidy up."}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look first."}], "content": None,
         "encrypted_content": "gAAAA"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin", "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
        SHELL_CALL,
        {"type": "local_shell_call_output", "id": "c2", "output": "total 0"},
    ],
    "tools": [
        {"type": "function", "name": "shell_command", "description": "Runs it.", "strict": False,
         "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"],
                        "additionalProperties": False}},
        PATCH,
        {"type": "local_shell"},
        {"type": "namespace", "name": "multi_agent_v1", "description": "Agents.",
         "tools": [{**WAIT, "name": "spawn_agent", "description": "Begins."}, WAIT]},
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "client_metadata": {"x-codex-installation-id": "5e1f"},
    "text": {"verbosity": "low"},
}  # fmt: skip


def codex(**more: Any) -> Parsed:
    return ResponsesShape().parse(orjson.dumps({**CODEX, **more}), {})


async def test_codex(stack: Stack) -> None:
    """Its request is answered, by events that the official client knows; what it got without is said at the end."""
    answer = await stack.http.post("/v1/responses", json=CODEX)
    assert 200 == answer.status_code
    event: TypeAdapter[Any] = TypeAdapter(types.ResponseStreamEvent)
    events = [event.validate_json(part.split("data: ")[1]) for part in answer.text.split("\n\n") if "data: " in part]
    assert ("response.created", "response.completed") == (events[0].type, events[-1].type)
    assert ("alpha beta gamma", ["tools[4]: web_search means something to OpenAI alone"]) == (
        events[-1].response.output_text, events[-1].response.orchestrator["left_out"],
    )  # fmt: skip


def test_what_a_provider_gets_of_codex() -> None:
    """Calls of custom tools and of the shell, and their results, are those of functions; developers are the system."""
    body = codex().request.body
    turn, shell = body["messages"][3], body["messages"][5]
    assert ["system", "system", "user", "assistant", "tool", "assistant", "tool"] == [
        m["role"] for m in body["messages"]
    ]
    assert ("apply_patch", {"input": "*** Begin"}) == (
        turn["tool_calls"][0]["function"]["name"], orjson.loads(turn["tool_calls"][0]["function"]["arguments"]),
    )  # fmt: skip
    thought = {"type": "reasoning.text", "text": "Look first.", "signature": "gAAAA", "format": "openai-responses-v1"}
    assert [thought] == turn["reasoning_details"]
    assert ("local_shell", {"command": ["ls", "-l"], "env": {}, "working_directory": "/tmp"}) == (
        shell["tool_calls"][0]["function"]["name"], orjson.loads(shell["tool_calls"][0]["function"]["arguments"]),
    )  # fmt: skip
    assert {"role": "tool", "tool_call_id": "c2", "content": "total 0"} == body["messages"][6]
    function, patch, local, spawn, wait = (tool["function"] for tool in body["tools"])
    assert {**function, "type": "function"} == CODEX["tools"][0]
    assert ("apply_patch", ["input"]) == (patch["name"], patch["parameters"]["required"])
    assert (
        "Edits files. This is FREEFORM.\n\nThe input has to keep to this grammar (lark):\nstart: begin hunk+ end"
        == (patch["description"])
    )
    assert ("local_shell", ["command"]) == (local["name"], local["parameters"]["required"])
    assert ("multi_agent_v1__spawn_agent", "Agents.\n\nBegins.") == (spawn["name"], spawn["description"])
    assert {**wait, "type": "function", "name": "wait_agent"} == WAIT
    rest = {name: value for name, value in body.items() if name not in ("messages", "tools")}
    assert {
        "tool_choice": "auto", "parallel_tool_calls": True, "reasoning_effort": "medium", "verbosity": "low",
        "prompt_cache_key": CODEX["prompt_cache_key"],
    } == rest  # fmt: skip


CALLED: dict[str, tuple[str, str, Json]] = {
    "a function": ("shell_command", '{"command":"ls"}', {"type": "function_call", "arguments": '{"command":"ls"}'}),
    "a custom tool": ("apply_patch", '{"input":"*** Begin"}', {"type": "custom_tool_call", "input": "*** Begin"}),
    "a custom tool, its input as it is": ("apply_patch", "*** Begin", {"type": "custom_tool_call", "input": "*** Begin"}),
    "a function in a namespace": (
        "multi_agent_v1__wait_agent", '{"id":"a"}',
        {"type": "function_call", "namespace": "multi_agent_v1", "arguments": '{"id":"a"}'}),
    "the shell": (
        "local_shell", '{"command":["ls",1],"timeout_ms":9}',
        {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls", "1"], "env": {}, "timeout_ms": 9}}),
    "the shell, wrongly": (
        "local_shell", '["ls"]', {"type": "local_shell_call", "action": {"type": "exec", "command": [], "env": {}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLED)
def test_a_call_comes_back_as_it_was_asked_for(name: str) -> None:
    """By the official client's types, whole and streamed alike."""
    tool, arguments, expected = CALLED[name]
    body = completion("m")
    call = {"id": "c9", "type": "function", "function": {"name": tool, "arguments": arguments}}
    body["choices"][0] |= {"message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    answer = Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m")
    whole = codex(stream=False).speaker.whole(body, answer)
    types.Response.model_validate(whole, strict=True)
    (item,) = whole["output"]
    assert {**expected, "call_id": "c9", "status": "completed"} == {
        name: value for name, value in item.items() if name not in ("id", "name")
    }
    chunks, last = as_chunks(body)
    speaker = codex().speaker
    said = speaker.chunks(chunks) + speaker.end(last, body["usage"], answer)
    events = [orjson.loads(part.split(b"data: ")[1]) for part in said.split(b"\n\n") if part]
    for event in events:
        TypeAdapter(types.ResponseStreamEvent).validate_python(event)
    assert whole["output"] == events[-1]["response"]["output"]
    deltas = "".join(event["delta"] for event in events if event["type"].endswith(".delta"))
    assert {"function_call": arguments, "custom_tool_call": item.get("input"), "local_shell_call": ""}[
        item["type"]
    ] == deltas


def test_allowed_tools() -> None:
    """Only those are offered."""
    allowed = [{"type": "custom", "name": "apply_patch"}, {"type": "local_shell"}]
    body = codex(tool_choice={"type": "allowed_tools", "mode": "required", "tools": allowed}).request.body
    assert ["apply_patch", "local_shell"] == [tool["function"]["name"] for tool in body["tools"]]
    assert "required" == body["tool_choice"]


WRONG: dict[str, tuple[Json, str]] = {
    "a call of nothing": ({"type": "custom_tool_call", "name": "f", "input": "x"}, "input[0].call_id"),
    "a shell's call without action": ({"type": "local_shell_call", "call_id": "c"}, "input[0].action"),
    "a shell's result of nothing": ({"type": "local_shell_call_output", "output": "x"}, "input[0].call_id"),
    "a result without output": ({"type": "custom_tool_call_output", "call_id": "c"}, "input[0].output"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_items_that_are_wrong(name: str) -> None:
    """By their places."""
    item, param = WRONG[name]
    with pytest.raises(Refused) as refused:
        codex(input=[item])
    assert (400, param) == (refused.value.status, refused.value.param)


def test_a_format_of_a_custom_tool() -> None:
    """Free text needs no words; what is no format is refused."""
    body = codex(tools=[{**PATCH, "format": {"type": "text"}}, {"type": "custom", "name": "free"}]).request.body
    assert ["Edits files. This is FREEFORM.", ""] == [tool["function"]["description"] for tool in body["tools"]]
    with pytest.raises(Refused, match="format"):
        codex(tools=[{**PATCH, "format": "lark"}])
