"""What the endpoint serves, as an OpenAPI 3.1 document (`GET /openapi.json`).

Written by hand: requests are not parsed by models that it could be derived from. A test sends what it allows and what it
forbids, and holds the answers against it. Fields that are not named here are passed on to the provider.
"""

from __future__ import annotations

from typing import Any

from orchestrator.types import Json

_TEXT: Json = {"type": "string"}
_TEXT_OR_NULL: Json = {"type": ["string", "null"]}
_NUMBER_OR_NULL: Json = {"type": ["number", "null"]}
_JSON = "application/json"


def _object(properties: Json, *required: str, **more: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Json, **more: Any) -> Json:
    return {"description": description, "content": {_JSON: {"schema": schema}, **more}}


_SELECTOR: Json = {
    "type": "string",
    "minLength": 1,
    "description": "`provider/model`, an alias, or `tier:NAME`",
    "examples": ["tier:fast", "openai/gpt-4o-mini"],
}
_WHOLE_NUMBER: Json = {"type": ["integer", "null"], "minimum": 1}
_SCHEMAS: Json = {
    "Error": _object(
        {
            "error": _object(
                {"message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL},
                "message", "type", "param", "code",
            ),
            "orchestrator": _ref("Report"),
        },
        "error",
    ),
    "Attempt": _object(
        {
            "provider": _TEXT, "model": _TEXT,
            "outcome": {"type": "string", "description": "`ok`, `cancelled`, `running`, or what kind of failure it was"},
            "status": {"type": ["integer", "null"]},
            **dict.fromkeys(("start_s", "latency_s", "first_token_s", "cost_usd"), _NUMBER_OR_NULL),
            **{name: {"type": ["integer", "null"]} for name in ("input_tokens", "output_tokens")},
            "cost_is_estimate": {"type": "boolean"},
        },
        "provider", "model", "outcome", "status", "start_s", "latency_s",
    ),
    "Report": _object(
        {
            "request_id": _TEXT, "selector": _TEXT, "strategy": _TEXT,
            "attempts": {"type": "array", "items": _ref("Attempt")},
            "winner": _TEXT_OR_NULL, "cost_usd": _NUMBER_OR_NULL,
        },
        "request_id", "selector", "strategy", "attempts", "winner", "cost_usd",
        description="How the request was answered: every try, the winner, what it cost",
    ),
    "Choice": _object(
        {
            "strategy": {"enum": ["first", "fallback", "race", "hedge", "balance"]},
            "models": {"type": "array", "items": _SELECTOR, "minItems": 1, "maxItems": 16},
        },
        description="The request's own choice of a strategy and its members",
    ),
    "Message": _object(
        {"role": _TEXT, "content": {"type": ["string", "array", "null"]}}, "role", additionalProperties=True
    ),
    "ChatRequest": _object(
        {
            "model": _SELECTOR,
            "messages": {"type": "array", "items": _ref("Message"), "minItems": 1},
            "stream": {"type": ["boolean", "null"]},
            "stream_options": {"type": ["object", "null"]},
            "temperature": {"type": ["number", "null"]},
            "n": _WHOLE_NUMBER, "max_tokens": _WHOLE_NUMBER, "max_completion_tokens": _WHOLE_NUMBER,
            "stop": {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": _TEXT, "maxItems": 4}]},
            "orchestrator": {"anyOf": [_ref("Choice"), {"type": "null"}]},
            "models": {"type": ["array", "null"], "items": _SELECTOR, "minItems": 1, "maxItems": 16,
                       "description": "OpenRouter's list of fallbacks"},
        },
        "model", "messages", additionalProperties=True,
    ),
    "ChatAnswer": _object(
        {
            "model": _TEXT, "provider": _TEXT_OR_NULL, "choices": {"type": "array", "minItems": 1},
            "usage": {"type": ["object", "null"]}, "orchestrator": _ref("Report"),
        },
        "choices", "orchestrator", additionalProperties=True,
    ),
    "Model": _object(
        {"id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT}, "id", "object"
    ),
    "Models": _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}}, "object", "data"
    ),
    "State": _object({"status": _TEXT}, "status", additionalProperties=True),
    "Pools": _object({"pools": {"type": "array", "items": {"type": "object"}}}, "pools"),
}  # fmt: skip
_ERROR = _ref("Error")
_CHAT_ERRORS: Json = {
    "400": _answer("Something is wrong with the request: `error.param` says where", _ERROR),
    "404": _answer("There is no such model; the message has near names", _ERROR),
    "413": _answer("The body is too large", _ERROR),
    "429": _answer("Rate limited, or the queue is full; see `retry-after`", _ERROR),
    "502": _answer("No candidate could answer; the message says why each could not", _ERROR),
    "503": _answer("The application is being stopped, or providers are to be left alone for a while", _ERROR),
    "504": _answer("No answer in time", _ERROR),
    "default": _answer("A provider's own refusal, or an internal error", _ERROR),
}
_STREAM: Json = {
    "schema": {
        "type": "string",
        "description": "server-sent events: chunks, then `[DONE]`; or an event with `error`, and no `[DONE]`",
    }
}


def _operation(summary: str, answers: Json, **more: Any) -> Json:
    return {"summary": summary, "operationId": summary.lower().replace(" ", "_"), "responses": answers, **more}


def _get(summary: str, schema: Json, **answers: Json) -> Json:
    return {"get": _operation(summary, {"200": _answer("ok", schema), **answers})}


_NOT_READY: Json = {"503": _answer("Not ready, or being stopped", {"anyOf": [_ref("State"), _ERROR]})}
_PATHS: Json = {
    "/v1/chat/completions": {
        "post": _operation(
            "Chat completion",
            {"200": _answer("The answer", _ref("ChatAnswer"), **{"text/event-stream": _STREAM}), **_CHAT_ERRORS},
            requestBody={"required": True, "content": {_JSON: {"schema": _ref("ChatRequest")}}},
        )
    },
    "/v1/models": _get("List models", _ref("Models")),
    "/v1/models/{model}": {
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
        **_get("Show a model", _ref("Model"), **{"404": _answer("There is no such model", _ERROR)}),
    },
    "/health": _get("Whether the process is alive", _ref("State")),
    "/ready": _get("Whether requests can be answered", _ref("State"), **_NOT_READY),
    "/openapi.json": _get("This document", {"type": "object"}),
    "/admin/pools": _get("State of the pools", _ref("Pools")),
    "/admin/config": _get("The configuration in use", {"type": "object"}),
    "/admin/reload": {
        "post": _operation(
            "Read the configuration now",
            {
                "200": _answer("It is in use", _object({"version": {"type": "integer"}}, "version")),
                "400": _answer("It has mistakes, and the one before it stays", _ERROR),
            },
        )
    },
}
DOCUMENT: Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "orchestrator",
        "version": "1",
        "description": "One endpoint over many model providers. Unknown fields of a request reach the provider untouched.",
    },
    "paths": _PATHS,
    "components": {"schemas": _SCHEMAS},
}
METHODS: dict[str, str] = {
    path: method.upper() for path, item in _PATHS.items() for method in ("get", "post") if method in item
}
"""The method that each path takes."""
