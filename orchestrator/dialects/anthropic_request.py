"""A chat request as one of Anthropic's Messages API; see `orchestrator.dialects.anthropic` for what becomes of what."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from orchestrator.config.settings import ModelOptions
from orchestrator.dialects.anthropic_turns import acceptable, call_identity, without_sealed
from orchestrator.dialects.signatures import is_anthropics
from orchestrator.types import Json, Request

MAX_TOKENS = 4096
"""Asked for where neither the request nor the model's options say: Anthropic insists on a number, and all models take it."""
NEWER_TOKENS = 32_000
"""The same for a Claude that is not in the table of models: those that write less are all there."""
_TAKEN = frozenset(
    {"messages", "max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice", "parallel_tool_calls", "n"}
    | {"response_format", "user", "temperature", "reasoning_effort", "anthropic", "functions", "function_call"}
    | {"stream_options", "logprobs", "top_logprobs", "modalities", "audio", "prediction", "verbosity"}
    | {"seed", "frequency_penalty", "presence_penalty", "logit_bias", "store", "metadata", "prompt_cache_key"}
    | {"safety_identifier", "web_search_options", "prompt_cache_retention", "service_tier"}
)
"""Fields of OpenAI's: translated here, or without meaning there. All others are passed on."""
_REFUSED = ("logprobs", "top_logprobs", "functions", "function_call", "audio", "web_search_options")
_CHOICES: dict[str, Json] = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


class Unsupported(Exception):
    """Something in the request has no counterpart; `param` says where it stands."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def default_tokens(model: str) -> int:
    """What a model is asked to write at the most where neither the request nor the model's options say."""
    return NEWER_TOKENS if model.startswith("claude-") else MAX_TOKENS


def encode(request: Request, model: str, options: ModelOptions) -> Json:
    """The body. Raises Unsupported."""
    given = request.body
    for name in _REFUSED:
        if given.get(name):
            raise Unsupported(name, f"Anthropic's API has no '{name}'")
    if (given.get("n") or 1) != 1:
        raise Unsupported("n", "Anthropic's API makes one choice")
    system, messages = _messages(given["messages"])
    body: Json = {name: value for name, value in given.items() if name not in _TAKEN and value is not None}
    limits = (given.get("max_completion_tokens"), given.get("max_tokens"), options.max_tokens, default_tokens(model))
    limit = next(limit for limit in limits if limit is not None)
    body |= {"messages": messages, "max_tokens": limit}
    if system:
        body["system"] = system
    if (temperature := given.get("temperature")) is not None:
        body["temperature"] = min(temperature, 1)
    if stop := given.get("stop"):
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if isinstance(user := given.get("user"), str):
        body["metadata"] = {"user_id": user}
    if given.get("service_tier") in ("auto", "standard_only"):
        body["service_tier"] = given["service_tier"]
    body |= _tools(given)
    if config := _output_config(given, body):
        body["output_config"] = config
    if isinstance(extension := given.get("anthropic"), dict):
        body |= extension
        if isinstance(turns := extension.get("messages"), list):
            # Others that speak this shape sign nothing, and some insist on having their thoughts back.
            body["messages"] = acceptable(turns) if "claude" in model else without_sealed(turns)
    # Whom is asked, and how, is not for the request's extension to say.
    return {**body, "model": model, "stream": request.stream}


def _tools(given: Json) -> Json:
    """`tools` and `tool_choice`, if there are tools."""
    if not (tools := given.get("tools")):
        return {}
    found: Json = {"tools": [_tool(_object(tool)) for tool in _list(tools, "tools")]}
    choice = _tool_choice(given.get("tool_choice"))
    if given.get("parallel_tool_calls") is False and (choice is None or choice.get("type") != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        found["tool_choice"] = choice
    return found


def _output_config(given: Json, body: Json) -> Json:
    """Effort and format. Where there is no such format, the model is told: `body`'s system grows."""
    config: Json = {}
    if (effort := given.get("reasoning_effort")) not in (None, "none"):
        config["effort"] = "low" if effort == "minimal" else effort
    wanted = _object(given.get("response_format"))
    kind = wanted.get("type")
    if kind == "json_schema":
        schema = _object(wanted.get("json_schema")).get("schema")
        schema = schema if isinstance(schema, dict) else {"type": "object"}
        if _is_open(schema) and "output_config" not in _object(given.get("anthropic")):
            raise Unsupported("response_format", "Anthropic's API wants 'additionalProperties: false' of every object")
        config["format"] = {"type": "json_schema", "schema": schema}
    if kind == "json_object":
        told = {"type": "text", "text": "Answer with one JSON object and nothing else."}
        body["system"] = [*body.get("system", []), told]
    return config


def _is_open(schema: Any) -> bool:
    """Whether a schema, or one of several, has an object whose properties are not all named: Anthropic refuses those
    (platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations")."""
    if isinstance(schema, list):
        return any(map(_is_open, schema))
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if "object" in (kind if isinstance(kind, list) else [kind]) and schema.get("additionalProperties") is not False:
        return True
    within: list[Any] = [schema.get(name) for name in ("items", "prefixItems", "anyOf", "oneOf", "allOf")]
    named = [list(_object(schema.get(name)).values()) for name in ("properties", "$defs", "definitions")]
    return any(map(_is_open, within + named))


def _messages(given: list[Any]) -> tuple[list[Json], list[Json]]:
    """System blocks, and turns: neighbours of one role are one turn, results of tools before all else in theirs."""
    system: list[Json] = []
    turns: list[Json] = []
    for position, message in enumerate(given):
        role, where = message["role"], f"messages[{position}]"
        if role in ("system", "developer"):
            system += _parts(message.get("content"), where)
            continue
        if role == "assistant":
            blocks = _assistant(message, where)
        elif role == "tool":
            blocks = [_tool_result(message, where)]
        elif role == "user":
            blocks = _parts(message.get("content"), where)
        else:
            raise Unsupported(f"{where}.role", f"Anthropic's API has no role '{role}'")
        if mark := message.get("cache_control"):
            blocks = [*blocks[:-1], {**blocks[-1], "cache_control": mark}] if blocks else blocks
        turn = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == turn:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": turn, "content": blocks})
    return system, turns


def _parts(content: Any, where: str) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        return []
    return [_part(part, f"{where}.content[{i}]") for i, part in enumerate(content) if not _is_empty(part)]


def _is_empty(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and not part.get("text")


def _part(part: Any, where: str) -> Json:
    """One content part as a block; what is not OpenAI's is passed on."""
    if not isinstance(part, dict):
        raise Unsupported(where, "a content part has to be an object")
    kind = part.get("type")
    rest = {name: value for name, value in part.items() if name == "cache_control"}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return {"type": "image", "source": _source(url, where), **rest}
    if kind == "file":
        file = _object(part.get("file"))
        data = file.get("file_data")
        if data is None:
            raise Unsupported(where, "a file can be sent by its data (file_data), not by its identity")
        named = {"title": file["filename"]} if file.get("filename") else {}
        return {"type": "document", "source": _source(data, where), **named, **rest}
    if kind == "input_audio":
        raise Unsupported(where, "Anthropic's models do not hear")
    if kind == "refusal":
        return {"type": "text", "text": str(part.get("refusal"))}
    return part


def _source(url: Any, where: str) -> Json:
    """Where an image or a document comes from: an address, or data."""
    if not isinstance(url, str):
        raise Unsupported(where, "an address or a data URL is needed")
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url[5:].partition(",")
    media, _, encoding = head.partition(";")
    try:
        if encoding != "base64":
            raise ValueError
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise Unsupported(where, "the data URL is not valid base64") from None
    return {"type": "base64", "media_type": media, "data": data}


def _assistant(message: Json, where: str) -> list[Json]:
    blocks: list[Json] = []
    for detail in map(_object, _list(message.get("reasoning_details"), f"{where}.reasoning_details")):
        if not is_anthropics(detail):
            continue
        if detail.get("type") == "reasoning.text" and detail.get("signature"):
            thought = {"type": "thinking", "thinking": detail.get("text") or "", "signature": detail["signature"]}
            blocks.append(thought)
        elif detail.get("type") == "reasoning.encrypted":
            blocks.append({"type": "redacted_thinking", "data": detail.get("data")})
    blocks += _parts(message.get("content"), where)
    for i, call in enumerate(_list(message.get("tool_calls"), f"{where}.tool_calls")):
        at = f"{where}.tool_calls[{i}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Unsupported(at, "Anthropic's API has calls of functions alone")
        arguments = function.get("arguments") or "{}"
        try:
            arguments = arguments if isinstance(arguments, dict) else orjson.loads(arguments)
        except (orjson.JSONDecodeError, TypeError):
            raise Unsupported(f"{at}.function.arguments", "the arguments are not JSON") from None
        if not isinstance(arguments, dict):
            raise Unsupported(f"{at}.function.arguments", "the arguments are no object")
        blocks.append(
            {"type": "tool_use", "id": call_identity(call.get("id")), "name": function.get("name"), "input": arguments}
            | ({"cache_control": call["cache_control"]} if call.get("cache_control") else {})
        )
    return blocks


def _tool_result(message: Json, where: str) -> Json:
    content = message.get("content")
    result: Json = {"type": "tool_result", "tool_use_id": call_identity(message.get("tool_call_id"))}
    result["content"] = content if isinstance(content, str) else _parts(content, where)
    if message.get("is_error"):
        result["is_error"] = True
    return result


def _tool(tool: Json) -> Json:
    if tool.get("type") == "custom" and isinstance(tool.get("custom"), dict):
        raise Unsupported("tools", "Anthropic's API has no tools that take a text")
    if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        return tool
    function = tool["function"]
    found: Json = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    for name in ("description", "strict"):
        if function.get(name) is not None:
            found[name] = function[name]
    if mark := tool.get("cache_control") or function.get("cache_control"):
        found["cache_control"] = mark
    return found


def _tool_choice(choice: Any) -> Json | None:
    if isinstance(choice, str):
        return _CHOICES.get(choice)
    if isinstance(choice, dict):
        function = choice.get("function")
        return {"type": "tool", "name": function.get("name")} if isinstance(function, dict) else choice
    return None


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise Unsupported(where, "has to be a list")
    return value or []
