"""`POST /v1/responses`: OpenAI's newer shape on any provider (platform.openai.com/docs/api-reference/responses).

Stateless: what would have to have been kept (`previous_response_id`, `conversation`, `background`, templates, references to
items) is refused by name. `store: true` is not: it is OpenAI's default, which clients spell out that never refer to what was
stored; the response says false. Of tools speaks `orchestrator.wire.responses_tools`, and of what means something to OpenAI
alone `orchestrator.wire.responses_own`. A reasoning item carries what a model thought as `content`, or as `summary` where one
is asked for, and what it wants to see again of it as `encrypted_content`; given back, it reaches that model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.asks import Answer
from orchestrator.content import joined
from orchestrator.types import Json
from orchestrator.wire.chat import ChatShape, take_head
from orchestrator.wire.checks import RESPONSES, check_fields, check_schema, objects, wrong
from orchestrator.wire.responses_calls import CALLS, RESULTS, call_id_of, call_of
from orchestrator.wire.responses_own import FIELDS, is_own_item
from orchestrator.wire.responses_stream import ResponseEvents
from orchestrator.wire.responses_tools import MORE, Tools
from orchestrator.wire.responses_turns import ENCRYPTED, Turns
from orchestrator.wire.results import result_of
from orchestrator.wire.shape import Parsed

_KEPT = ("previous_response_id", "conversation", "background", "prompt")
"""What would need a memory."""
_HERE = frozenset(
    {"input", "instructions", "tools", "tool_choice", "text", "reasoning", "max_output_tokens", "store", "include"}
    | {"truncation", "max_tool_calls", "stream_options", "top_logprobs", *_KEPT, *FIELDS}
)
"""Fields with another name or meaning in a chat completion, or none; all others are passed on."""

_LOGPROBS = "message.output_text.logprobs"
"""What `include` says for log probabilities; OpenAI's client says it beside `top_logprobs`, or alone."""

_OWN = {"messages": "input", "max_completion_tokens": "max_output_tokens", "response_format": "text.format"}


class ResponsesShape(ChatShape):
    """The shape; its errors are those of chat completions."""

    def parse(self, body: bytes, _headers: Mapping[bytes, bytes]) -> Parsed:
        """See `Shape.parse`."""
        data, head = take_head(body)
        for name in _KEPT:
            if data.get(name):
                raise wrong(name, "cannot be used: nothing is kept here; send the whole conversation as 'input'")
        check_fields(data, RESPONSES)
        chat = {name: value for name, value in data.items() if name not in _HERE}
        tools = Tools(data)
        chat["messages"] = _messages(data, tools)
        if (limit := data.get("max_output_tokens")) is not None:
            chat["max_completion_tokens"] = limit
        if data.get("top_logprobs") or _LOGPROBS in (data.get("include") or ()):
            chat |= {"logprobs": True, "top_logprobs": data.get("top_logprobs") or 0}
        chat |= tools.chat
        if not tools.chat:
            chat.pop("parallel_tool_calls", None)  # refused by OpenAI where there are no tools
        chat |= _format(data)
        return head.asks(chat, ResponsesSpeaker(data, tools, told=head.stream))

    def error(self, status: int, error: Json) -> Json:
        """See `Shape.error`: what a chat completion calls otherwise has its name of here."""
        return super().error(status, {**error, "param": _OWN.get(error["param"], error["param"])})


_NO_REFERENCE = """\
is 'item_reference': nothing is kept here that it could refer to; send the items themselves. The AI SDK does so with \
providerOptions: {openai: {store: false}}, or asks for chat completions with openai.chat(...)"""


def _instructions(data: Json) -> list[Json]:
    instructions = data.get("instructions")
    if instructions is None:
        return []
    if not isinstance(instructions, str):
        raise wrong("instructions", "has to be text")
    return [{"role": "system", "content": instructions}]


def _messages(data: Json, tools: Tools) -> list[Json]:
    head, given = _instructions(data), data.get("input")
    if isinstance(given, str):
        return [*head, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise wrong("input", "has to be text, or a list of at least one item")
    turns = Turns()
    for position, item in enumerate(given):
        where = f"input[{position}]"
        if not isinstance(item, dict):
            raise wrong(where, "has to be an object")
        kind = item.get("type", "message")
        if not isinstance(kind, str):
            raise wrong(f"{where}.type", "has to be text")
        if kind == "reasoning":
            turns.think(item)
        elif kind in CALLS:
            turns.assistant().setdefault("tool_calls", []).append(call_of(item, where, tools))
        elif kind in RESULTS:
            turns.result(*result_of(call_id_of(item, where), _parts(item.get("output"), f"{where}.output")))
        elif kind == "message":
            _message(item, where, turns)
        elif kind == "agent_message":
            _agent_message(item, where, turns, tools.left_out)
        elif kind == MORE:
            pass  # its tools are among the others
        elif is_own_item(kind):
            tools.left_out.append(f"{where}: {kind} means something to OpenAI alone")
        elif kind == "item_reference":
            raise wrong(f"{where}.type", _NO_REFERENCE)
        else:
            raise wrong(f"{where}.type", f"is {kind!r}, which is no kind of item that is known here")
    messages = turns.whole()
    if not messages:
        raise wrong("input", "has no item that says something to a model")
    return [*head, *messages]


def _message(item: Json, where: str, turns: Turns) -> None:
    role, parts = item.get("role"), _parts(item.get("content"), f"{where}.content")
    if role == "assistant":
        text = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
        turn = turns.assistant()
        turn["content"] = (turn["content"] or "") + text
    elif role in ("user", "system", "developer"):
        # OpenAI takes either for the other; most providers know one alone.
        content = parts[0]["text"] if [part["type"] for part in parts] == ["text"] else parts
        turns.add({"role": "system" if role == "developer" else role, "content": content})
    else:
        raise wrong(f"{where}.role", "has to be user, assistant, system or developer")


def _agent_message(item: Json, where: str, turns: Turns, left_out: list[str]) -> None:
    """What another agent says to this one, as Codex's do; a user's message, which names its sender.

    OpenAI's models encrypt what they tell other agents. What any other model wrote stands in the same place as it is.
    """
    objects(item.get("content"), f"{where}.content")
    given: list[Json] = []
    for part in item["content"]:
        hidden = part.get("encrypted_content")
        if part.get("type") != "encrypted_content":
            given.append(part)
        elif isinstance(hidden, str) and not hidden.startswith(ENCRYPTED):
            given.append({"type": "input_text", "text": hidden})
        else:
            left_out.append(f"{where}: what an agent says is encrypted for OpenAI alone")
    parts = _parts(given, f"{where}.content")
    if parts:
        texts = [part["text"] for part in parts if part["type"] == "text"]
        turns.add({"role": "user", "content": "".join(texts) if len(texts) == len(parts) else parts})


def _parts(content: Any, where: str) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise wrong(where, "has to be text, or a list of content parts")
    return [_part(part, f"{where}[{i}]") for i, part in enumerate(content)]


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


def _format(data: Json) -> Json:
    found: Json = {}
    text, reasoning = data.get("text"), data.get("reasoning")
    wanted = text.get("format") if isinstance(text, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        check_schema(wanted.get("schema"), "text.format.schema")
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
            self.take(delta, choice)
        return self.finished(choice.get("finish_reason"), body.get("usage"), answer)


def _deltas(message: Json) -> list[Json]:
    """A whole message as the deltas of a stream: what comes whole goes the same way."""
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    content = message.get("content")
    if isinstance(content, list):
        content = joined(content)
    thought = message.get("reasoning_content") or message.get("reasoning")
    return [
        {"reasoning_content": thought if isinstance(thought, str) else None},
        {"reasoning_details": message.get("reasoning_details"), "extra_content": message.get("extra_content")},
        {"content": content, "refusal": message.get("refusal"), "annotations": message.get("annotations")},
        *({"tool_calls": [{**call, "index": i}]} for i, call in enumerate(calls)),
    ]
