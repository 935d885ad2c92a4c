"""`POST /v1/responses`: OpenAI's newer shape on any provider (platform.openai.com/docs/api-reference/responses).

Stateless: what would have to be kept (`store: true`, `previous_response_id`, `conversation`, `background`, templates) and
tools that OpenAI itself would run are refused by name. A reasoning item carries what a model thought as `content`, and what
it wants to see again of it as `encrypted_content`; given back, it reaches that model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.asks import Answer
from orchestrator.types import Json
from orchestrator.wire.chat import ChatShape, check_scalars, take_head, wrong
from orchestrator.wire.responses_stream import ResponseEvents
from orchestrator.wire.shape import Parsed

_KEPT = ("previous_response_id", "conversation", "background", "prompt")
"""What would need a memory."""
_HERE = frozenset(
    {"input", "instructions", "tools", "tool_choice", "text", "reasoning", "max_output_tokens", "store", "include"}
    | {"truncation", "max_tool_calls", "stream_options", "top_logprobs", *_KEPT}
)
"""Fields with another name or meaning in a chat completion; all others are passed on."""


class ResponsesShape(ChatShape):
    """The shape; its errors are those of chat completions."""

    def parse(self, body: bytes, _headers: Mapping[bytes, bytes]) -> Parsed:
        """See `Shape.parse`."""
        data, head = take_head(body)
        for name in _KEPT:
            if data.get(name):
                raise wrong(name, "cannot be used: nothing is kept here; send the whole conversation as 'input'")
        if data.get("store"):
            raise wrong("store", "cannot be true: nothing is kept here; leave it out, or say false")
        chat = {name: value for name, value in data.items() if name not in _HERE}
        chat["messages"] = _messages(data)
        if (limit := data.get("max_output_tokens")) is not None:
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise wrong("max_output_tokens", "has to be a whole number of at least 1")
            chat["max_completion_tokens"] = limit
        if data.get("top_logprobs"):
            chat |= {"logprobs": True, "top_logprobs": data["top_logprobs"]}
        chat |= _tools(data)
        chat |= _format(data)
        check_scalars(chat)
        return head.asks(chat, ResponsesSpeaker(data, told=head.stream))


def _messages(data: Json) -> list[Json]:
    messages: list[Json] = []
    instructions = data.get("instructions")
    if instructions is not None:
        if not isinstance(instructions, str):
            raise wrong("instructions", "has to be text")
        messages.append({"role": "system", "content": instructions})
    given = data.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise wrong("input", "has to be text, or a list of at least one item")
    thoughts: list[Json] = []
    for position, item in enumerate(given):
        where = f"input[{position}]"
        if not isinstance(item, dict):
            raise wrong(where, "has to be an object")
        kind = item.get("type", "message")
        if kind == "reasoning":
            thoughts += _thoughts(item)
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            _turn(messages, thoughts).setdefault("tool_calls", []).append(
                {"id": item.get("call_id"), "type": "function", "function": function}
            )
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _content(output, f"{where}.output")
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        elif kind == "message":
            _message(item, where, messages, thoughts)
        else:
            raise wrong(
                f"{where}.type", f"is {kind!r}: nothing is kept here that it could refer to, and no such tool is run"
            )
    return messages


def _message(item: Json, where: str, messages: list[Json], thoughts: list[Json]) -> None:
    role, content = item.get("role"), _content(item.get("content"), f"{where}.content")
    if role == "assistant":
        text = content if isinstance(content, str) else "".join(str(p.get("text") or p.get("refusal")) for p in content)
        turn = _turn(messages, thoughts)
        turn["content"] = (turn["content"] or "") + text
    elif role in ("user", "system", "developer"):
        messages.append({"role": role, "content": content})
    else:
        raise wrong(f"{where}.role", "has to be user, assistant, system or developer")


def _turn(messages: list[Json], thoughts: list[Json]) -> Json:
    """The assistant's turn that an item belongs to: what it thought, said and called in a row is one."""
    if thoughts or not messages or messages[-1]["role"] != "assistant":
        turn: Json = {"role": "assistant", "content": None}
        if thoughts:
            turn["reasoning_details"] = list(thoughts)
            thoughts.clear()
        messages.append(turn)
    return messages[-1]


def _thoughts(item: Json) -> list[Json]:
    parts = item.get("content") or item.get("summary") or []
    text = (
        "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
        if isinstance(parts, list)
        else ""
    )
    kept = item.get("encrypted_content")
    if not kept:
        return []
    return [
        {"type": "reasoning.text", "text": text, "signature": kept}
        if text
        else {"type": "reasoning.encrypted", "data": kept}
    ]


def _content(content: Any, where: str) -> str | list[Json]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise wrong(where, "has to be text, or a list of content parts")
    parts = [_part(part, f"{where}[{i}]") for i, part in enumerate(content)]
    texts = [part["text"] for part in parts if part.get("type") == "text"]
    return texts[0] if len(texts) == len(parts) == 1 else parts


def _part(part: Json, where: str) -> Json:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            if not isinstance(part.get("text"), str):
                raise wrong(where, "has to have a 'text'")
            return {"type": "text", "text": part["text"]}
        case "input_image" if part.get("image_url"):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
        case "input_file" if part.get("file_data"):
            return {"type": "file", "file": {name: part[name] for name in ("filename", "file_data") if part.get(name)}}
        case "input_audio" | "refusal":
            return part
    raise wrong(where, "has to carry its content (text, image_url, file_data): files are not kept here")


def _tools(data: Json) -> Json:
    tools = data.get("tools")
    if tools is not None and (not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools)):
        raise wrong("tools", "has to be a list of tools")
    found: Json = {}
    for position, tool in enumerate(tools or []):
        if tool.get("type") != "function":
            raise wrong(f"tools[{position}].type", "has to be function: tools of OpenAI's own are not run here")
        function = {
            name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None
        }
        found.setdefault("tools", []).append({"type": "function", "function": function})
    choice = data.get("tool_choice")
    if tools and choice is not None:
        named = isinstance(choice, dict) and choice.get("type") == "function"
        found["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}} if named else choice
    return found


def _format(data: Json) -> Json:
    found: Json = {}
    text, reasoning = data.get("text"), data.get("reasoning")
    wanted = text.get("format") if isinstance(text, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {
            name: wanted[name] for name in ("name", "schema", "strict", "description") if wanted.get(name) is not None
        }
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif isinstance(wanted, dict) and wanted.get("type") == "json_object":
        found["response_format"] = {"type": "json_object"}
    if isinstance(text, dict) and text.get("verbosity"):
        found["verbosity"] = text["verbosity"]
    if isinstance(reasoning, dict) and reasoning.get("effort"):
        found["reasoning_effort"] = reasoning["effort"]
    return found


class ResponsesSpeaker(ResponseEvents):
    """Says an answer as a response, whole or as events (`Speaker`)."""

    def whole(self, body: Json, answer: Answer) -> Json:
        """See `Speaker.whole`."""
        choice = body["choices"][0]
        self.begin(body)
        for delta in _deltas(choice["message"]):
            self.take(delta)
        return self.finished(choice.get("finish_reason"), body.get("usage"), answer)


def _deltas(message: Json) -> list[Json]:
    """A whole message as the deltas of a stream: what comes whole goes the same way."""
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    thought = message.get("reasoning_content") or message.get("reasoning")
    return [
        {"reasoning_content": thought if isinstance(thought, str) else None},
        {"reasoning_details": message.get("reasoning_details")},
        {"content": content, "refusal": message.get("refusal")},
        *({"tool_calls": [{**call, "index": i}]} for i, call in enumerate(calls)),
    ]
