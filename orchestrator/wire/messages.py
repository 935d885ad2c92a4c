"""`POST /v1/messages`: Anthropic's shape on any provider (docs.anthropic.com/en/api/messages).

A request becomes a chat completion. What it is in its own words goes along as `anthropic`, so that a model of Anthropic's
gets exactly what was written; thinking, `top_k`, cache marks and server tools mean nothing to any other. An answer's blocks
are made of the chat completion's, or are those that Anthropic gave, where the chat shape has no place for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from orchestrator.asks import Answer
from orchestrator.dialects.signatures import Signature, is_sealed, put, unsealed
from orchestrator.types import Json
from orchestrator.wire.chat import chat_request, parse_object, take_head, take_model
from orchestrator.wire.checks import MESSAGES, Names, check_fields, check_function, check_schema, named, wrong
from orchestrator.wire.messages_blocks import content_of
from orchestrator.wire.messages_stream import MessageEvents, stop_of, usage_of_chat
from orchestrator.wire.results import result_of
from orchestrator.wire.shape import Parsed

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ALSO_CHAT = frozenset({"model", "stream", "max_tokens", "temperature", "top_p"})
"""Fields that mean the same in both shapes: a tier's own values count where the request has none."""

_OWN = {"stop": "stop_sequences", "max_completion_tokens": "max_tokens", "response_format": "output_config.format"}
"""What a chat completion calls otherwise."""


class MessagesShape:
    """The shape."""

    def parse(self, body: bytes, headers: Mapping[bytes, bytes]) -> Parsed:
        """See `Shape.parse`."""
        data, head = take_head(body)
        if data.get("max_tokens") is None:
            raise wrong("max_tokens", "is missing: Anthropic's shape insists on it")
        chat = to_chat(data)
        extension = {name: value for name, value in data.items() if name not in _ALSO_CHAT}
        if betas := headers.get(b"anthropic-beta"):
            extension["betas"] = [name.strip() for name in betas.decode("latin-1").split(",")]
        chat["anthropic"] = extension
        speaker = MessagesSpeaker()
        parsed = head.asks(chat, speaker)
        speaker.estimate_tokens = parsed.request.input_tokens
        return parsed

    def error(self, status: int, error: Json) -> Json:
        """See `Shape.error`. `code` and `param` are beyond Anthropic's."""
        param = _OWN.get(error["param"], error["param"])
        own = {name: value for name, value in (("param", param), ("code", error["code"])) if value is not None}
        return {
            "type": "error",
            "error": {"type": _ERRORS.get(status, "api_error"), "message": error["message"], **own},
        }


def to_chat(data: Json) -> Json:
    """A request of Anthropic's as a chat completion's body. Raises Refused."""
    check_fields(data, MESSAGES)
    if (older := data.pop("output_format", None)) is not None:
        # Where it stood in beta (structured-outputs-2025-11-13), and stands for clients of that time.
        data["output_config"] = {"format": older, **(data.get("output_config") or {})}
    messages: list[Json] = []
    if (system := data.get("system")) is not None:
        messages.append({"role": "system", "content": _content(_blocks(system, "system"), "system")})
    given = data.get("messages")
    if not isinstance(given, list) or not given:
        raise wrong("messages", "has to be a list of at least one message")
    for position, message in enumerate(given):
        where = f"messages[{position}]"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            raise wrong(where, "has to be an object with a 'role': user or assistant")
        blocks = _blocks(message.get("content"), f"{where}.content")
        messages += (
            _assistant(blocks, f"{where}.content")
            if message["role"] == "assistant"
            else _user(blocks, message["role"], where)
        )
    chat: Json = {name: data[name] for name in ("max_tokens", "temperature", "top_p") if data.get(name) is not None}
    chat["messages"] = messages
    if stop := data.get("stop_sequences"):
        chat["stop"] = stop
    metadata = data.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("user_id"), str):
        chat["user"] = _user_of(metadata["user_id"])
    _tools(data, chat)
    config = data.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        check_schema(wanted.get("schema"), "output_config.format.schema")
        schema = {"name": "answer", "schema": wanted.get("schema"), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    return chat


def _user_of(identity: str) -> str:
    """As OpenAI takes it, in 64 characters; what is longer (Claude Code's has some 150) stands there by its digest."""
    return identity if len(identity) <= 64 else hashlib.sha256(identity.encode()).hexdigest()


def _blocks(content: Any, where: str) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise wrong(where, "has to be text, or a list of content blocks")
    return content


def _content(blocks: Sequence[Json], where: str) -> str | list[Json]:
    """Blocks as the content of a chat message: text where they are text alone."""
    return _text_of([_part(block, f"{where}[{i}]") for i, block in enumerate(blocks)])


def _text_of(parts: list[Json]) -> str | list[Json]:
    if all(part.get("type") == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _part(block: Json, where: str) -> Json:
    kind = block.get("type")
    if kind == "text":
        if not isinstance(block.get("text"), str):
            raise wrong(where, "has to have a 'text'")
        return {"type": "text", "text": block["text"]}
    source = block.get("source")
    if kind in ("image", "document") and isinstance(source, dict):
        if source.get("type") == "text":
            return {"type": "text", "text": str(source.get("data"))}
        data = f"data:{source.get('media_type')};base64,{source.get('data')}"
        url = source.get("url") if source.get("type") == "url" else data
        if kind == "image":
            return {"type": "image_url", "image_url": {"url": url}}
        if source.get("type") == "base64":
            return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": data}}
    return block  # what the chat shape does not know, a provider may


def _user(blocks: list[Json], role: str, where: str) -> list[Json]:
    """Results of tools are messages of their own; images that came with them go along in what follows."""
    messages: list[Json] = []
    rest: list[Json] = []
    for i, block in enumerate(blocks):
        if block.get("type") != "tool_result":
            rest.append(_part(block, f"{where}.content[{i}]"))
            continue
        if not isinstance(block.get("tool_use_id"), str):
            raise wrong(f"{where}.content[{i}].tool_use_id", "is missing: whose result is it?")
        at, content = f"{where}.content[{i}].content", block.get("content")
        inner = [] if content is None else _blocks(content, at)
        message, beside = result_of(block["tool_use_id"], [_part(one, f"{at}[{k}]") for k, one in enumerate(inner)])
        messages.append(message)
        rest += beside
    if rest or not messages:
        messages.append({"role": role, "content": _text_of(rest)})
    return messages


def _assistant(blocks: list[Json], where: str) -> list[Json]:
    message: Json = {"role": "assistant"}
    details, calls, rest, signed = list[Json](), list[Json](), list[Json](), list[Signature]()
    for i, block in enumerate(blocks):
        match block.get("type"):
            case "thinking" if not is_sealed(block.get("signature")):
                said = {"text": block.get("thinking"), "signature": block.get("signature")}
                details.append({"type": "reasoning.text", **said})
            case "redacted_thinking" if not is_sealed(block.get("data")):
                details.append({"type": "reasoning.encrypted", "data": block.get("data")})
            case "thinking":
                found = unsealed(block["signature"])
                own = found if isinstance(found, dict) else {"type": "reasoning.text"}
                details.append({**own, "text": block.get("thinking")})
            case "redacted_thinking":
                found = unsealed(block["data"])
                if isinstance(found, Signature):
                    signed.append(found)
                elif found is not None:
                    details.append(found)
            case "tool_use":
                named(block.get("name"), f"{where}[{i}].name")
                arguments = orjson.dumps(block.get("input") or {}).decode()
                function = {"name": block.get("name"), "arguments": arguments}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case _:
                rest.append(block)
    message["content"] = _content(rest, where) if rest or not calls else None
    if calls:
        message["tool_calls"] = calls
    for signature in signed:
        put(signature, message)
    return [message | ({"reasoning_details": details} if details else {})]


def _tools(data: Json, chat: Json) -> None:
    names = Names()
    if tools := data.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{position}]", names) for position, tool in enumerate(tools)]
    choice = data.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type")
    if kind == "tool":
        names.choose(choice.get("name"), "tool_choice")
    elif type(kind) is not str or kind not in _CHOICES:
        raise wrong("tool_choice.type", "has to be auto, any, tool or none")
    if not tools:
        return
    one = {"type": "function", "function": {"name": choice.get("name")}}
    chat["tool_choice"] = one if kind == "tool" else _CHOICES[kind]
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool(tool: Json, where: str, names: Names) -> Json:
    """A function; what a provider would run itself is left as it is."""
    if (tool.get("type") or "custom") != "custom":
        if "name" in tool:
            names.add(tool["name"], f"{where}.name")
        return tool
    names.add(tool.get("name"), f"{where}.name")
    if tool.get("input_schema") is None:
        raise wrong(f"{where}.input_schema", "is missing")
    check_function(tool, where, "input_schema")
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": function}


class MessagesSpeaker(MessageEvents):
    """Says an answer as a message, whole or as events (`Speaker`)."""

    def whole(self, body: Json, answer: Answer) -> Json:
        """See `Speaker.whole`."""
        choice = body["choices"][0]
        own = body.get("anthropic") if isinstance(body.get("anthropic"), dict) else {}
        assert own is not None
        content = own.get("content") or content_of(choice["message"])
        called = any(isinstance(block, dict) and block.get("type") == "tool_use" for block in content)
        return {
            "id": message_id(body.get("id")),
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": content,
            "stop_reason": own.get("stop_reason") or stop_of(choice.get("finish_reason"), called=called),
            "stop_sequence": own.get("stop_sequence"),
            "usage": own.get("usage") or usage_of_chat(body.get("usage")),
            "provider": answer.provider,
            "orchestrator": answer.report,
        }


def message_id(identity: Any) -> str:
    """A message's identity, recognisable as one."""
    text = identity if isinstance(identity, str) else "0"
    return text if text.startswith("msg_") else f"msg_{text}"


def count_tokens(body: bytes) -> Json:
    """`POST /v1/messages/count_tokens`: an estimate, by four characters a token. Raises Refused."""
    data = parse_object(body)
    take_model(data)
    return {"input_tokens": chat_request(to_chat(data), stream=False).input_tokens, "estimate": True}
