"""Tools of a response: namespaces there and back, and what OpenAI alone runs."""

from __future__ import annotations

import re
from typing import Any

import openai.types.responses as types
import orjson
import pytest
from pydantic import TypeAdapter

from orchestrator.asks import Answer
from orchestrator.dialects.openai import as_chunks
from orchestrator.types import Json, Reply
from orchestrator.wire.http import Refused
from orchestrator.wire.responses import ResponsesShape
from orchestrator.wire.shape import Parsed
from tests.upstream import completion

EVENTS: TypeAdapter[Any] = TypeAdapter(types.ResponseStreamEvent)


def function(name: str, **more: Any) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False, **more}


def namespace(name: str, *tools: Json, description: str | None = None) -> Json:
    return {"type": "namespace", "name": name, "description": description or "", "tools": list(tools)}


FILES = namespace("mcp__files", function("read"), {"type": "custom", "name": "patch"}, description="Files.")
AGENTS = namespace("agents", function("spawn", description="Begins one."), function("wait"))
SEARCH: Json = {"type": "web_search", "external_web_access": False}


def parse(*tools: Json, **more: Any) -> Parsed:
    return ResponsesShape().parse(orjson.dumps({"model": "a/b", "input": "x", "tools": tools, **more}), {})


def names_of(parsed: Parsed) -> list[str]:
    return [tool["function"]["name"] for tool in parsed.request.body.get("tools", [])]


NAMES: dict[str, tuple[list[Json], list[str]]] = {
    "plain": ([function("f"), FILES, AGENTS],
              ["f", "mcp__files__read", "mcp__files__patch", "agents__spawn", "agents__wait"]),
    "no names": ([namespace("a.b/c", function("d e"))], [r"a_b_c__d_e_[0-9a-f]{12}"]),
    "too long": ([namespace("n" * 60, function("f" * 9), function("f" * 10))], [r"n{51}_[0-9a-f]{12}"] * 2),
    "as long as can be": ([namespace("n" * 60, function("ff"))], ["n{60}__ff"]),
    "a tool's own, which comes later": ([namespace("a", function("b")), function("a__b")], [r"a__b_[0-9a-f]{12}", "a__b"]),
    "another namespace's": ([namespace("a", function("b__c")), namespace("a__b", function("c"))],
                            ["a__b__c", r"a__b__c_[0-9a-f]{12}"]),
    "a namespace in two parts": ([namespace("a", function("b")), namespace("a", function("c"))], ["a__b", "a__c"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_functions_in_namespaces(name: str) -> None:
    """No two are the same, each is one that every provider takes, and each comes back as what it was."""
    tools, expected = NAMES[name]
    found = names_of(parse(*tools))
    assert len(expected) == len(found) == len(set(found))
    for pattern, one in zip(expected, found, strict=True):
        assert re.fullmatch(pattern, one), (pattern, one)
    given = [(tool["name"], inner["name"]) for tool in tools for inner in tool.get("tools", [{"name": None}])]
    items = [item for one in found for item in answered(parse(*tools), one)]
    assert [(inner or outer, outer if inner else None) for outer, inner in given] == [
        (item["name"], item.get("namespace")) for item in items
    ]


def answered(parsed: Parsed, *called: str) -> list[Json]:
    """The items of an answer that calls these functions."""
    body = completion("m")
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": '{"input":"y"}'}}
        for i, name in enumerate(called)
    ]
    body["choices"][0] |= {"message": {"role": "assistant", "content": None, "tool_calls": calls}}
    whole = parsed.speaker.whole(body, Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m"))
    types.Response.model_validate(whole, strict=True)
    output: list[Json] = whole["output"]
    return output


def more(*tools: Json) -> Json:
    return {"type": "additional_tools", "role": "developer", "id": "at_1", "tools": list(tools)}


CODE = namespace("functions", {"type": "custom", "name": "exec", "description": "Runs code."}, function("wait"))


def test_tools_that_an_item_adds() -> None:
    """They are offered like the others, and come back as what they were: Codex sends all of its tools so."""
    asked = {"role": "user", "content": "x"}
    parsed = parse(input=[more(CODE, SEARCH, AGENTS), asked, more(function("late"))], tool_choice="required")
    expected = ["functions__exec", "functions__wait", "agents__spawn", "agents__wait", "late"]
    assert (expected, "required", [asked]) == (
        names_of(parsed), parsed.request.body["tool_choice"], parsed.request.body["messages"],
    )  # fmt: skip
    (item,) = answered(parsed, "functions__exec")
    assert ("custom_tool_call", "functions", "exec", "y") == tuple(
        item[name] for name in ("type", "namespace", "name", "input")
    )
    body = completion("m")
    whole = parsed.speaker.whole(body, Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m"))
    assert [CODE, AGENTS, function("late")] == whole["tools"]
    assert ["input[0].tools[1]: web_search means something to OpenAI alone"] == whole["orchestrator"]["left_out"]


def test_tools_that_are_added_again() -> None:
    """What is said last of each counts; beside those of the request, whose names they do not take."""
    again = namespace("functions", function("wait", description="Longer."), function("f"))
    conversation = [
        more(CODE),
        more(CODE, again, function("f", description="Later.")),
        {"role": "user", "content": "x"},
    ]
    parsed = parse(function("f"), input=conversation)
    tools = {tool["function"]["name"]: tool["function"].get("description") for tool in parsed.request.body["tools"]}
    assert {"f": "Later.", "functions__exec": "Runs code.", "functions__wait": "Longer.", "functions__f": None} == tools


def test_a_namespace_is_described_once() -> None:
    """Before its first tool, so that a long description is not said for each."""
    tools = parse(FILES, AGENTS).request.body["tools"]
    assert ["Files.", "", "Begins one.", None] == [tool["function"].get("description") for tool in tools]


def test_calls_that_were_made_have_the_names_that_are_offered() -> None:
    """Also of tools that are offered no more; a custom tool's call as well."""
    given = [
        {"type": "function_call", "call_id": "c1", "namespace": "agents", "name": "spawn", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "namespace": "mcp__files", "name": "patch", "input": "y"},
        {"type": "function_call", "call_id": "c3", "namespace": "gone", "name": "spawn", "arguments": "{}"},
        {"type": "function_call", "call_id": "c4", "name": "spawn", "arguments": "{}"},
        {"type": "function_call", "call_id": "c5", "namespace": "n" * 60, "name": "spawn", "arguments": "{}"},
        *({"type": "function_call_output", "call_id": f"c{i}", "output": "ok"} for i in range(1, 6)),
    ]
    parsed = parse(FILES, AGENTS, namespace("n" * 60, function("spawn")), input=given)
    calls = [call["function"] for call in parsed.request.body["messages"][0]["tool_calls"]]
    names = names_of(parsed)
    assert ["agents__spawn", "mcp__files__patch", "gone__spawn", "spawn", names[-1]] == [one["name"] for one in calls]
    assert '{"input":"y"}' == calls[1]["arguments"]


CHOICES: dict[str, tuple[Json, Any, int]] = {
    "by both names": ({"type": "function", "namespace": "agents", "name": "spawn"}, "agents__spawn", 6),
    "by a name that is one": ({"type": "function", "name": "wait"}, "agents__wait", 6),
    "by the function's": ({"type": "function", "name": "agents__wait"}, "agents__wait", 6),
    "a tool before those in namespaces": ({"type": "function", "name": "read"}, "read", 6),
    "a function's before one in a namespace": ({"type": "function", "name": "mcp__files__read"}, "mcp__files__read", 6),
    "a custom one": ({"type": "custom", "name": "patch"}, "mcp__files__patch", 6),
    "those allowed": ({"type": "allowed_tools", "mode": "required", "tools": [
        {"type": "function", "namespace": "agents", "name": "spawn"}, {"type": "function", "name": "wait"},
        {"type": "web_search"}]}, "required", 2),
    "allowed, and nothing of it here": ({"type": "allowed_tools", "mode": "auto", "tools": [SEARCH]}, None, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    """By the names that a model is told."""
    choice, expected, offered = CHOICES[name]
    other = namespace("other", function("mcp__files__read"))
    parsed = parse(function("read"), FILES, AGENTS, other, SEARCH, tool_choice=choice)
    found = parsed.request.body.get("tool_choice")
    assert (expected, offered) == (
        found["function"]["name"] if isinstance(found, dict) else found,
        len(names_of(parsed)),
    )


def test_calls_that_grow_side_by_side() -> None:
    """Each has its own item and its own names from the first event on, and its arguments in the end."""
    parsed = parse(FILES, AGENTS, stream=True)
    body = completion("m")
    names = ("mcp__files__read", "agents__spawn", "mcp__files__patch")
    heads = [{"index": i, "id": f"c{i}", "type": "function", "function": {"name": n}} for i, n in enumerate(names)]
    parts = [(0, '{"a"'), (1, '{"b"'), (2, '{"input"'), (0, ":1}"), (2, ':"y"}'), (1, ":2}")]
    pieces = [{"index": i, "function": {"arguments": text}} for i, text in parts]
    chunks = [
        orjson.dumps({**body, "choices": [{"index": 0, "delta": {"tool_calls": [one]}}]}) for one in heads + pieces
    ]
    _, last = as_chunks(body)
    answer = Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m")
    said = b"".join(parsed.speaker.chunks([one]) for one in chunks) + parsed.speaker.end(last, body["usage"], answer)
    events = [EVENTS.validate_json(part.split(b"data: ")[1]) for part in said.split(b"\n\n") if part]
    expected = [("mcp__files", "read"), ("agents", "spawn"), ("mcp__files", "patch")]
    for kind in ("response.output_item.added", "response.output_item.done"):
        assert expected == [(one.item.namespace, one.item.name) for one in events if one.type == kind]
    done = [one for one in events if one.type == "response.function_call_arguments.done"]
    assert [("read", '{"a":1}'), ("spawn", '{"b":2}')] == [(one.name, one.arguments) for one in done]
    output = events[-1].response.output
    assert [*expected, "y"] == [*((one.namespace, one.name) for one in output), output[2].input]


KINDS = ["web_search", "web_search_2025_08_26", "web_search_preview", "file_search", "image_generation", "code_interpreter",
         "computer", "computer_use_preview", "mcp", "tool_search", "programmatic_tool_calling",
         "shell", "apply_patch"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_openai_would_run_is_left_out(kind: str) -> None:
    """And the answer says so, whole and streamed; what is offered is the rest."""
    parsed = parse(function("f"), {"type": kind}, tool_choice="auto")
    assert (["f"], "auto") == (names_of(parsed), parsed.request.body["tool_choice"])
    body = completion("m")
    answer = Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m")
    whole = parsed.speaker.whole(body, answer)
    report = {"attempts": [], "left_out": [f"tools[1]: {kind} means something to OpenAI alone"]}
    assert ([function("f")], report, {"attempts": []}) == (whole["tools"], whole["orchestrator"], answer.report)
    chunks, last = as_chunks(body)
    speaker = parse(function("f"), {"type": kind}, stream=True).speaker
    said = speaker.chunks(chunks) + speaker.end(last, None, answer)
    assert report == orjson.loads(said.split(b"data: ")[-1])["response"]["orchestrator"]
    cut = parse({"type": kind}, stream=True).speaker.failed({"message": "gone"}, {"attempts": []})
    assert report["left_out"][0].replace("1", "0", 1) in cut.decode()


def test_only_what_openai_would_run() -> None:
    """A request without tools, as long as none is required."""
    body = parse(SEARCH, {"type": "file_search"}, tool_choice="auto", parallel_tool_calls=True).request.body
    assert {"messages"} == set(body)


ITEMS: list[Json] = [
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"]},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aa"},
    {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "container_id": "c"},
    {"type": "computer_call", "id": "cu_1", "call_id": "c", "action": {"type": "screenshot"}},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
    {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "f", "arguments": "{}"},
    {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {}},
    {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": []},
    {"type": "compaction", "encrypted_content": "gAAAA"},
    {"type": "compaction_trigger"},
    {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
    {"type": "shell_call_output", "call_id": "c", "output": []},
    {
        "type": "apply_patch_call",
        "call_id": "c",
        "status": "completed",
        "operation": {"type": "delete_file", "path": "a"},
    },
    {"type": "apply_patch_call_output", "call_id": "c", "status": "completed"},
    {"type": "configuration_update"},
    {"type": "agent_reasoning"},
]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: str(item["type"]))
def test_items_of_what_openai_ran_are_passed_over(item: Json) -> None:
    """The conversation around them is whole, and what a model thought before them stays with what it said then."""
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "e"}
    reply = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
    parsed = parse(input=[{"role": "user", "content": "x"}, thought, item, reply, {"role": "user", "content": "y"}])
    assert [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "so", "reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}]},
        {"role": "user", "content": "y"},
    ] == parsed.request.body["messages"]
    body = completion("m")
    whole = parsed.speaker.whole(body, Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m"))
    assert [f"input[2]: {item['type']} means something to OpenAI alone"] == whole["orchestrator"]["left_out"]


ALLOWED: Json = {"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}
WRONG: dict[str, tuple[list[Json], Json, str]] = {
    "required, and OpenAI's alone": ([SEARCH], {"tool_choice": "required"}, "tools[0].type"),
    "required, and none": ([], {"tool_choice": "required"}, "tool_choice"),
    "OpenAI's, chosen": ([function("f"), SEARCH], {"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    "OpenAI's, allowed alone": ([function("f"), SEARCH], {"tool_choice": ALLOWED}, "tool_choice.tools"),
    "another namespace's": ([FILES], {"tool_choice": {"type": "function", "namespace": "a", "name": "read"}}, "tool_choice"),
    "in several": ([FILES, namespace("a", function("read"))], {"tool_choice": {"type": "function", "name": "read"}},
                   "tool_choice"),
    "a choice's namespace that is none": ([FILES], {"tool_choice": {"type": "function", "namespace": 3, "name": "read"}},
                                          "tool_choice.namespace"),
    "a call's namespace that is none": ([], {"input": [{"type": "function_call", "name": "f", "namespace": 3}]},
                                        "input[0].namespace"),
    "no name": ([{"type": "namespace", "tools": []}], {}, "tools[0].name"),
    "a description that is none": ([{**FILES, "description": 3}], {}, "tools[0].description"),
    "no tools": ([{"type": "namespace", "name": "n"}], {}, "tools[0].tools"),
    "a namespace in one": ([namespace("n", FILES)], {}, "tools[0].tools[0].type"),
    "a tool without a name": ([namespace("n", {"type": "function"})], {}, "tools[0].tools[0].name"),
    "a schema that is none": ([namespace("n", function("f", parameters={"type": 3}))], {},
                              "tools[0].tools[0].parameters.type"),
    "the same twice": ([namespace("n", function("f"), function("f"))], {}, "tools[0].tools[1].name"),
    "an item that adds none": ([], {"input": [{"type": "additional_tools"}]}, "input[0].tools"),
    "an item that adds what is none": ([], {"input": [more(function("a b"))]}, "input[0].tools[0].name"),
    "a tool's kind that is none": ([{"type": ["function"], "name": ["f"]}], {}, "tools[0].type"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_says_where(name: str) -> None:
    """By the name of the field."""
    tools, fields, param = WRONG[name]
    with pytest.raises(Refused) as refused:
        parse(*tools, **fields)
    assert (400, param) == (refused.value.status, refused.value.param)
