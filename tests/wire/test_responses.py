"""OpenAI's responses: what becomes of each item, by the types of the official SDK."""

from __future__ import annotations

from typing import Any, get_type_hints

import openai.types.responses as types
import orjson
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from pydantic import TypeAdapter

from orchestrator.asks import Answer
from orchestrator.dialects.openai import as_chunks
from orchestrator.types import Reply
from orchestrator.wire.http import Refused
from orchestrator.wire.responses import ResponsesShape
from orchestrator.wire.shape import Parsed
from tests.upstream import completion

EVENTS: TypeAdapter[Any] = TypeAdapter(types.ResponseStreamEvent)
REPORT = {"request_id": "r", "attempts": []}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
DETAIL = {"type": "reasoning.text", "text": "hm", "signature": "sig", "index": 0}


def parse(**body: Any) -> Parsed:
    return ResponsesShape().parse(orjson.dumps({"model": "a/b", "input": "x", **body}), {})


ITEMS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "text": ("x", [{"role": "user", "content": "x"}]),
    "a message": ([{"role": "system", "content": "x"}], [{"role": "system", "content": "x"}]),
    "a developer": ([{"role": "developer", "content": "x"}], [{"role": "system", "content": "x"}]),
    "one part": ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}],
                 [{"role": "user", "content": "x"}]),
    "parts": (
        [{"role": "user", "content": [
            {"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aa"}]}],
        [{"role": "user", "content": [
            {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aa"}}]}]),
    "a round of tools": (
        [{"role": "user", "content": "x"},
         {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}],
          "encrypted_content": "sig"},
         {"type": "reasoning", "id": "rs2", "summary": [], "encrypted_content": "e"},
         {"type": "message", "id": "m", "role": "assistant",
          "content": [{"type": "output_text", "text": "so", "annotations": []}]},
         {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
         {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""},
         {"type": "function_call_output", "call_id": "c1", "output": "1"},
         {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]}],
        [{"role": "user", "content": "x"},
         {"role": "assistant", "content": "so",
          "reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "sig"},
                                {"type": "reasoning.encrypted", "data": "e"}],
          "tool_calls": [CALL, {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
         {"role": "tool", "tool_call_id": "c1", "content": "1"},
         {"role": "tool", "tool_call_id": "c2", "content": "2"}]),
    "an assistant's parts without text": (
        [{"role": "user", "content": "x"},
         {"role": "assistant", "content": [{"type": "output_text", "text": ""}, {"type": "refusal", "refusal": "no"},
                                           {"type": "refusal", "refusal": None}]}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "no"}]),
    "results with images, and without anything": (
        [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
         {"type": "function_call", "call_id": "c2", "name": "f", "arguments": '{"a":1}'},
         {"type": "function_call", "call_id": "c3", "name": "f", "arguments": '{"a":1}'},
         {"type": "function_call_output", "call_id": "c1", "output": [
             {"type": "input_text", "text": "1"}, {"type": "input_image", "image_url": "u"},
             {"type": "input_text", "text": "2"}]},
         {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_image", "image_url": "v"}]},
         {"type": "function_call_output", "call_id": "c3", "output": []},
         {"role": "assistant", "content": "so"}],
        [{"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": f"c{i}"} for i in (1, 2, 3)]},
         {"role": "tool", "tool_call_id": "c1", "content": "1\n\n2"},
         {"role": "tool", "tool_call_id": "c2", "content": ""}, {"role": "tool", "tool_call_id": "c3", "content": ""},
         {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}},
                                      {"type": "image_url", "image_url": {"url": "v"}}]},
         {"role": "assistant", "content": "so"}]),
    "a last result with an image": (
        [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
         {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_image", "image_url": "u"}]}],
        [{"role": "assistant", "content": None, "tool_calls": [CALL]},
         {"role": "tool", "tool_call_id": "c1", "content": ""},
         {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]),
    "thoughts that came to nothing": (
        [{"role": "user", "content": "x"},
         {"type": "reasoning", "summary": [], "encrypted_content": "e"}, {"role": "user", "content": "y"},
         {"role": "assistant", "content": "so"}],
        [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}, {"role": "assistant", "content": "so"}]),
}  # fmt: skip


def of_agent(*content: Any) -> dict[str, Any]:
    return {"type": "agent_message", "author": "/root", "recipient": "/root/child", "content": list(content)}


HEAD = {"type": "input_text", "text": "Sender: /root\nPayload:\n"}
AGENTS: dict[str, tuple[list[Any], Any, int]] = {
    "text": ([HEAD], HEAD["text"], 0),
    "what a model wrote where others encrypt": (
        [HEAD, {"type": "encrypted_content", "encrypted_content": "Say ALPHA."}], f"{HEAD['text']}Say ALPHA.", 0),
    "an image": ([HEAD, {"type": "input_image", "image_url": "u"}],
                 [{"type": "text", "text": HEAD["text"]}, {"type": "image_url", "image_url": {"url": "u"}}], 0),
    "a ciphertext": ([HEAD, {"type": "encrypted_content", "encrypted_content": "gAAAAABo"}], HEAD["text"], 1),
    "a ciphertext alone": ([{"type": "encrypted_content", "encrypted_content": "gAAAAABo"}], None, 1),
    "nothing": ([], None, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", AGENTS)
def test_what_another_agent_says(name: str) -> None:
    """It is told to the model as a user's; what OpenAI alone can read is left out, and the answer says so."""
    content, expected, left_out = AGENTS[name]
    parsed = parse(input=[{"role": "user", "content": "x"}, of_agent(*content)])
    said = [] if expected is None else [{"role": "user", "content": expected}]
    assert [{"role": "user", "content": "x"}, *said] == parsed.request.body["messages"]
    body = completion("m")
    whole = parsed.speaker.whole(body, Answer(Reply(body, "m"), REPORT, "first", "p", "m"))
    assert left_out == len(whole["orchestrator"].get("left_out", []))


@pytest.mark.parametrize("name", ITEMS)
def test_items_become_messages(name: str) -> None:
    """What a model thought, said and called in a row is one turn."""
    given, expected = ITEMS[name]
    assert expected == parse(input=given).request.body["messages"]


def test_other_fields() -> None:
    """By their names in a chat completion; the unknown ones as they are."""
    schema = {"type": "object"}
    parsed = parse(
        client_metadata={"a": "b"}, metadata={"c": "d"}, context_management=[{"type": "compaction"}],
        instructions="be brief", max_output_tokens=5, temperature=0.5, reasoning={"effort": "low"}, future=1, user="john",
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        tools=[{"type": "function", "name": "f", "parameters": schema, "strict": True}], store=False, top_logprobs=2,
        tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False, include=[], stream=True,
        orchestrator={"strategy": "race"},
    )  # fmt: skip
    assert {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "x"}],
        "max_completion_tokens": 5, "temperature": 0.5, "reasoning_effort": "low", "future": 1, "user": "john",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
        "verbosity": "low", "logprobs": True, "top_logprobs": 2, "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    } == parsed.request.body  # fmt: skip
    assert (True, {"strategy": "race"}, "john") == (parsed.request.stream, parsed.override, parsed.user)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a memory": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "a conversation": ({"conversation": "c"}, "conversation"),
    "later": ({"background": True}, "background"),
    "a template": ({"prompt": {"id": "p"}}, "prompt"),
    "no input": ({"input": None}, "input"),
    "an item that is none": ({"input": ["x"]}, "input[0]"),
    "a reference": ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    "an agent that says nothing": ({"input": [{"type": "agent_message"}]}, "input[0].content"),
    "a role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    "content": ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
    "a file by name": ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
                       "input[0].content[0]"),
    "a text without": ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0]"),
    "instructions": ({"instructions": 3}, "instructions"),
    "tools": ({"tools": "x"}, "tools"),
    "a tool that nobody knows": ({"tools": [{"type": "teleport"}]}, "tools[0].type"),
    "an item that nobody knows": ({"input": [{"role": "user", "content": "x"}, {"type": "teleport"}]}, "input[1].type"),
    "an item whose kind is none": ({"input": [{"type": 3}]}, "input[0].type"),
    "nothing that a model reads": ({"instructions": "be brief", "input": [{"type": "compaction"}]}, "input"),
    "a limit": ({"max_output_tokens": 0}, "max_output_tokens"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_says_where(name: str) -> None:
    """By the name of the field."""
    fields, param = WRONG[name]
    with pytest.raises(Refused) as refused:
        parse(**fields)
    assert (400, param) == (refused.value.status, refused.value.param)


MESSAGES: dict[str, tuple[dict[str, Any], str, list[str], str]] = {
    "text": ({"content": "alpha"}, "stop", ["message"], "completed"),
    "a refusal": ({"content": None, "refusal": "no"}, "content_filter", ["message"], "incomplete"),
    "thoughts that are not shown": ({"content": "alpha", "reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}]},
                                    "stop", ["reasoning", "message"], "completed"),
    "all of it": ({"content": "alpha", "reasoning_content": "hm", "reasoning_details": [DETAIL],
                   "tool_calls": [CALL, {**CALL, "id": "c2"}]}, "tool_calls",
                  ["reasoning", "message", "function_call", "function_call"], "completed"),
    "nothing": ({"content": ""}, "length", [], "incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_an_answer(name: str) -> None:
    """Whole and streamed come to the same, and each event is one that the official client knows."""
    message, reason, kinds, status = MESSAGES[name]
    body = completion("m")
    body["choices"][0] |= {"message": {"role": "assistant", **message}, "finish_reason": reason}
    answer = Answer(Reply(body, "m"), REPORT, "first", "p", "m")
    whole = parse().speaker.whole(body, answer)
    types.Response.model_validate(whole, strict=True)
    assert (kinds, status, "p") == ([item["type"] for item in whole["output"]], whole["status"], whole["provider"])
    chunks, last = as_chunks(body)
    speaker = parse(stream=True).speaker
    said = speaker.chunks(chunks) + speaker.end(last, body["usage"], answer)
    events = [orjson.loads(part.split(b"data: ")[1]) for part in said.split(b"\n\n") if part]
    for event in events:
        EVENTS.validate_python(event)
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert (f"response.{status}", whole["output"]) == (events[-1]["type"], events[-1]["response"]["output"])
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert (len(kinds), whole["output"]) == (
        len(added),
        [one["item"] for one in sorted(done, key=lambda e: int(e["output_index"]))],
    )
    if name == "all of it":
        assert ("sig", '{"a":1}', "c2") == (
            whole["output"][0]["encrypted_content"], whole["output"][2]["arguments"], whole["output"][3]["call_id"],
        )  # fmt: skip


@pytest.mark.parametrize("wanted", ["summary", "generate_summary"])
def test_a_summary_of_what_was_thought(wanted: str) -> None:
    """Where one is asked for it is the thoughts themselves: clients show nothing else, and give nothing else back."""
    body = completion("m")
    message = {"content": "alpha", "reasoning_content": "hm", "reasoning_details": [DETAIL]}
    body["choices"][0] |= {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    answer = Answer(Reply(body, "m"), REPORT, "first", "p", "m")
    whole = parse(reasoning={wanted: "auto"}).speaker.whole(body, answer)
    chunks, last = as_chunks(body)
    speaker = parse(reasoning={wanted: "auto"}, stream=True).speaker
    said = speaker.chunks(chunks) + speaker.end(last, body["usage"], answer)
    events = [orjson.loads(part.split(b"data: ")[1]) for part in said.split(b"\n\n") if part]
    for event in events:
        EVENTS.validate_python(event)
    about = [event for event in events if "summary_index" in event]
    assert [("part.added", 0), ("text.delta", 0), ("text.done", 0), ("part.done", 0)] == [
        (event["type"].removeprefix("response.reasoning_summary_"), event["summary_index"]) for event in about
    ]
    assert ("hm", "hm") == (about[1]["delta"], about[2]["text"])
    thought = events[-1]["response"]["output"][0]
    assert whole["output"][0] == thought
    assert ([{"type": "summary_text", "text": "hm"}], [], "sig") == (
        thought["summary"], thought["content"], thought["encrypted_content"],
    )  # fmt: skip
    returned = {name: thought[name] for name in ("type", "id", "summary", "encrypted_content")}
    turn = parse(input=[returned, {"role": "assistant", "content": "alpha"}]).request.body["messages"][0]
    assert [{"type": "reasoning.text", "text": "hm", "signature": "sig"}] == turn["reasoning_details"]


@pytest.mark.parametrize(
    ("message", "statuses"),
    [
        ({"content": "al"}, ["incomplete"]),
        ({"reasoning_content": "hm"}, ["incomplete"]),
        ({"content": "a", "tool_calls": [CALL, {**CALL, "id": "c2"}]}, ["completed", "completed", "incomplete"]),
    ],
)
def test_an_answer_that_was_cut_off(message: dict[str, Any], statuses: list[str]) -> None:
    """What was being said when the limit came is not complete."""
    body = completion("m")
    body["choices"][0] |= {"message": {"role": "assistant", "content": None, **message}, "finish_reason": "length"}
    whole = parse().speaker.whole(body, Answer(Reply(body, "m"), REPORT, "first", "p", "m"))
    assert statuses == [item["status"] for item in whole["output"]]
    assert ("incomplete", {"reason": "max_output_tokens"}) == (whole["status"], whole["incomplete_details"])


def test_log_probabilities() -> None:
    """Each token's, whole and streamed; also of one that has no text yet."""
    for asked in ({"include": ["message.output_text.logprobs"]}, {"top_logprobs": 1}):
        assert (True, asked.get("top_logprobs", 0)) == tuple(
            parse(**asked).request.body[name] for name in ("logprobs", "top_logprobs")
        )
    rows = [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": None,
            "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}],
        },
        {"token": "lpha", "logprob": -0.25, "bytes": [108, 112, 104, 97], "top_logprobs": None},
        {"token": "\\xf0", "logprob": -2.0, "bytes": [240], "top_logprobs": []},
    ]
    body = completion("m", "alpha")
    body["choices"][0]["logprobs"] = {"content": rows}
    answer = Answer(Reply(body, "m"), REPORT, "first", "p", "m")
    whole = parse().speaker.whole(body, answer)
    types.Response.model_validate(whole, strict=True)
    said = whole["output"][0]["content"][0]["logprobs"]
    assert [("a", [97], -0.5), ("lpha", [108, 112, 104, 97], -0.25), ("\\xf0", [240], -2.0)] == [
        (row["token"], row["bytes"], row["logprob"]) for row in said
    ]
    assert [{"token": "b", "bytes": [98], "logprob": -1.5}] == said[0]["top_logprobs"]
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    parts = [("a", rows[:1]), ("lpha", rows[1:2]), ("", rows[2:])]
    chunks = [
        orjson.dumps({**head, "choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": given}}]})
        for text, given in parts
    ]
    speaker = parse(stream=True).speaker
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    sent = speaker.chunks(chunks) + speaker.end(last, None, answer)
    events = [orjson.loads(part.split(b"data: ")[1]) for part in sent.split(b"\n\n") if part]
    for event in events:
        EVENTS.validate_python(event)
    assert said == [row for e in events if e["type"] == "response.output_text.delta" for row in e["logprobs"]]
    assert said == next(event["logprobs"] for event in events if event["type"] == "response.output_text.done")
    assert whole["output"][0]["content"] == events[-1]["response"]["output"][0]["content"]


def test_probabilities_of_what_is_thought_are_no_texts() -> None:
    """They begin no message between two thoughts: an item has no place for them."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    rows = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}
    deltas = [{"content": "", "reasoning_content": "a"}, {"content": "", "reasoning_content": "b"}, {"content": "c"}]
    chunks = [orjson.dumps({**head, "choices": [{"index": 0, "delta": one, "logprobs": rows}]}) for one in deltas]
    speaker = parse(stream=True).speaker
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    sent = speaker.chunks(chunks) + speaker.end(last, None, Answer(Reply({}, "m"), REPORT, "first", "p", "m"))
    thoughts, message = orjson.loads(sent.split(b"data: ")[-1])["response"]["output"]
    assert ["ab", "c"] == [thoughts["content"][0]["text"], message["content"][0]["text"]]
    assert [["a"], "reasoning"] == [[row["token"] for row in message["content"][0]["logprobs"]], thoughts["type"]]


def test_fields_of_a_response_alone_reach_nobody() -> None:
    """Those that the official client has for a response and not for a chat completion."""
    ours = set(get_type_hints(types.response_create_params.ResponseCreateParamsBase))
    chats = set(get_type_hints(CompletionCreateParamsBase))
    asked = dict.fromkeys(ours - {"model", "input"})
    assert set() == set(parse(**asked).request.body) - chats


@pytest.mark.parametrize("store", [True, False, None])
def test_nothing_is_kept(store: bool | None) -> None:
    """Whatever is asked for, and the response says so; no provider is asked to keep it."""
    parsed = parse(store=store, metadata={"a": "b"})
    assert {"messages": [{"role": "user", "content": "x"}]} == parsed.request.body
    body = completion("m")
    whole = parsed.speaker.whole(body, Answer(Reply(body, "m"), REPORT, "first", "p", "m"))
    assert (False, {"a": "b"}, REPORT) == (whole["store"], whole["metadata"], whole["orchestrator"])


def test_a_reference_says_the_way_out() -> None:
    """Also for the AI SDK, which refers to items because it believes them kept."""
    with pytest.raises(Refused, match=r"send the items themselves.*store: false.*openai\.chat"):
        parse(input=[{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1"}])


def test_without_tools_there_is_nothing_to_choose() -> None:
    """What speaks of tools alone is not sent without them: OpenAI's chat completions refuse it."""
    body = parse(tools=[], tool_choice="auto", parallel_tool_calls=True).request.body
    assert {"messages"} == set(body)


@pytest.mark.parametrize("report", [REPORT, None])
def test_a_stream_that_fails(report: dict[str, Any] | None) -> None:
    """Known events to the end, also when nothing had been said; with the report, if there is one."""
    said = parse(stream=True).speaker.failed({"message": "gone", "code": "stream_cut", "param": None}, report)
    events = [orjson.loads(part.split(b"data: ")[1]) for part in said.split(b"\n\n") if part]
    assert ["response.created", "response.in_progress", "response.failed", "error"] == [
        event["type"] for event in events
    ]
    for event in events:
        EVENTS.validate_python(event)
    assert report == events[2]["response"].get("orchestrator")
    assert ("server_error", "stream_cut", "gone") == (
        events[2]["response"]["error"]["code"], events[3]["code"], events[3]["message"],
    )  # fmt: skip
