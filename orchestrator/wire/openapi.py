"""What the endpoint serves, as an OpenAPI 3.1 document (`GET /openapi.json`).

Written by hand: requests are not parsed by models that it could be derived from. A test sends what it allows and what it
forbids, and holds the answers against it. Fields that are not named here are passed on to the provider.
"""

from __future__ import annotations

from typing import Any

from orchestrator.cache.terms import MAX_ASKED_S
from orchestrator.config.votes import MAX_VOTES
from orchestrator.ledger.asking import BY
from orchestrator.preferences import DOLLARS, MOST, MOST_DOLLARS, PARTS, SORTS
from orchestrator.types import Json
from orchestrator.wire.checks import MAX_CHOICES, MAX_STOPS, MAX_TOKENS

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
    "description": "`provider/model`, an alias, `tier:NAME`, or `user:NAME:EXPERIMENT`",
    "examples": ["tier:fast", "openai/gpt-4o-mini"],
}
_WHOLE_NUMBER: Json = {"type": ["integer", "null"], "minimum": 1}
_TOKENS: Json = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TOKENS}
_CHOICES: Json = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_CHOICES}
_TEMPERATURE: Json = {"type": ["number", "null"], "minimum": 0, "maximum": 2}
_SHARE: Json = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_NAMES: Json = {"type": ["array", "null"], "items": _TEXT, "maxItems": MOST, "description": "Providers, by name"}
_DOLLARS: Json = {
    "anyOf": [
        {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": MOST_DOLLARS},
        {"type": "string", "pattern": DOLLARS},
    ]
}
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
            "cost_by_table_usd": {"type": "number", "description": "By the price, where the provider says otherwise"},
        },
        "provider", "model", "outcome", "status", "start_s", "latency_s",
    ),
    "Report": _object(
        {
            "request_id": _TEXT, "selector": _TEXT, "strategy": _TEXT,
            "arm": {"type": "string", "description": "Of a split, of the outermost one"},
            "arms": {"type": "object", "description": "Of all splits that the request came to, by selector"},
            "attempts": {"type": "array", "items": _ref("Attempt")},
            "winner": _TEXT_OR_NULL, "cost_usd": _NUMBER_OR_NULL,
            "cache": {"enum": ["hit", "miss"], "description": "Where the cache has a part in it; a hit has cost nothing"},
            "consensus": _ref("Consensus"),
            "left_out": {"type": "array", "items": _TEXT, "description": "Of a response's request: what OpenAI alone runs"},
        },
        "request_id", "selector", "strategy", "attempts", "winner", "cost_usd",
        description="How the request was answered: every try, the winner, what it cost",
    ),
    "Consensus": _object(
        {
            "method": _TEXT,
            "answer": {"description": "As it stood in the answer; null: nothing could be compared"},
            "agreement": {"type": "number", "minimum": 0, "maximum": 1, "description": "Its share of the votes cast"},
            "votes": {"type": "array", "items": _object(
                {"model": _TEXT, "latency_s": {"type": "number"}, "weight": {"type": "number"}, "outcome": _TEXT},
                "model", "answer", "latency_s",
            )},
            "escalated": {"type": "boolean"},
            "calls_saved": {"type": "integer", "minimum": 0},
        },
        "method", "answer", "agreement", "votes", "escalated", "calls_saved",
        description="Where a vote was taken: how it went",
    ),
    "Choice": _object(
        {
            "strategy": {"enum": ["first", "fallback", "race", "hedge", "balance", "consensus", "cascade", "spill"]},
            "models": {"type": "array", "items": _SELECTOR, "minItems": 1, "maxItems": 16},
            "method": {"enum": ["majority", "weighted", "judge", "synthesize"]},
            "extract": {
                "description": "consensus, cascade: what is compared",
                "anyOf": [
                    {"enum": ["text", "fields"]},
                    {"type": "object", "minProperties": 1, "maxProperties": 1},
                ],
            },
            "cache": {
                "type": "object", "additionalProperties": False, "required": ["ttl_s"],
                "properties": {"ttl_s": {"type": "number", "minimum": 0, "maximum": MAX_ASKED_S}},
                "description": "How long the exact answer is kept for the same request, and how old it may be",
            },
            "quorum": {"type": "integer", "minimum": 1, "maximum": MAX_VOTES},
            "samples": {"type": "integer", "minimum": 1, "maximum": MAX_VOTES},
            "agree": {"type": "integer", "minimum": 2, "maximum": MAX_VOTES},
            "max_wait_s": {"type": "number", "minimum": 0, "maximum": 3600},
            "judge": _SELECTOR,
            "escalate": _SELECTOR,
            "on_disagreement": {"enum": ["escalate", "best", "error"]},
        },
        description="The request's own choice of a strategy, its members and options (all are in docs/configuration.md)",
    ),
    "Preferences": _object(
        {
            "order": _NAMES, "only": _NAMES, "ignore": _NAMES,
            "allow_fallbacks": {"type": ["boolean", "null"]},
            "sort": {"enum": [*SORTS, None]},
            "max_price": {
                "type": ["object", "null"], "additionalProperties": False,
                "properties": dict.fromkeys(PARTS, _DOLLARS),
                "description": "US dollars: of a million tokens, a request, an image",
            },
        },
        description="OpenRouter's preferences, among the providers of the configuration (orchestrator/preferences.py)",
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
            "temperature": _TEMPERATURE, "top_p": _SHARE,
            "n": _CHOICES, "max_tokens": _TOKENS, "max_completion_tokens": _TOKENS,
            "stop": {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": _TEXT, "maxItems": MAX_STOPS}]},
            "orchestrator": {"anyOf": [_ref("Choice"), {"type": "null"}]},
            "models": {"type": ["array", "null"], "items": _SELECTOR, "minItems": 1, "maxItems": 16,
                       "description": "OpenRouter's list of fallbacks"},
            "provider": {"anyOf": [_ref("Preferences"), {"type": "null"}]},
        },
        "model", "messages", additionalProperties=True,
    ),
    "Block": _object({"type": _TEXT}, "type", additionalProperties=True),
    "Turn": _object(
        {
            "role": {"enum": ["user", "assistant"]},
            "content": {"anyOf": [_TEXT, {"type": "array", "items": _ref("TextBlock")}]},
        },
        "role", "content",
    ),
    "TextBlock": _object(
        {"type": {"const": "text"}, "text": _TEXT}, "type", "text",
        description="Images, documents, calls of tools and their results are blocks as well, as Anthropic documents them",
    ),
    "MessagesRequest": _object(
        {
            "model": _SELECTOR, "messages": {"type": "array", "items": _ref("Turn"), "minItems": 1},
            "max_tokens": {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS},
            "system": {"anyOf": [_TEXT, {"type": "array", "items": _ref("TextBlock")}]},
            "stream": {"type": ["boolean", "null"]}, "temperature": _TEMPERATURE, "top_p": _SHARE,
            "stop_sequences": {"type": "array", "items": _TEXT},
            "orchestrator": {"anyOf": [_ref("Choice"), {"type": "null"}]},
        },
        "model", "messages", "max_tokens",
    ),
    "MessagesAnswer": _object(
        {
            "type": {"const": "message"}, "role": {"const": "assistant"}, "id": _TEXT, "model": _TEXT,
            "content": {"type": "array", "items": _ref("Block")}, "stop_reason": _TEXT, "orchestrator": _ref("Report"),
            "usage": _object({"input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"}}),
        },
        "type", "role", "id", "model", "content", "stop_reason", "usage",
    ),
    "MessagesError": _object(
        {"type": {"const": "error"}, "error": _object({"type": _TEXT, "message": _TEXT}, "type", "message")},
        "type", "error",
    ),
    "ChatAnswer": _object(
        {
            "model": _TEXT, "provider": _TEXT_OR_NULL, "choices": {"type": "array", "minItems": 1},
            "usage": {"type": ["object", "null"]}, "orchestrator": _ref("Report"),
        },
        "choices", "orchestrator", additionalProperties=True,
    ),
    "ResponseRequest": _object(
        {
            "model": _SELECTOR, "input": _TEXT, "instructions": _TEXT_OR_NULL, "stream": {"type": ["boolean", "null"]},
            "max_output_tokens": _TOKENS, "temperature": _TEMPERATURE, "store": {"type": ["boolean", "null"]},
            "orchestrator": {"anyOf": [_ref("Choice"), {"type": "null"}]},
        },
        "model", "input",
        description="`input` may be a list of items as well, as OpenAI documents them; nothing is kept",
    ),
    "ResponseAnswer": _object(
        {
            "object": {"const": "response"}, "id": _TEXT, "model": _TEXT, "orchestrator": _ref("Report"),
            "status": {"enum": ["completed", "incomplete"]}, "output": {"type": "array", "items": _ref("Block")},
        },
        "object", "id", "model", "status", "output", "orchestrator",
    ),
    "CompletionRequest": _object(
        {
            "model": _SELECTOR, "prompt": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 1}]},
            "echo": {"type": "boolean"}, "stream": {"type": ["boolean", "null"]}, "max_tokens": _TOKENS,
            "temperature": _TEMPERATURE,
            "logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 5},
            "orchestrator": {"anyOf": [_ref("Choice"), {"type": "null"}]},
        },
        "model", "prompt",
    ),
    "CompletionAnswer": _object(
        {
            "object": {"const": "text_completion"}, "orchestrator": _ref("Report"),
            "choices": {"type": "array", "items": _object({"text": _TEXT, "index": {"type": "integer"}}, "text", "index")},
        },
        "object", "choices", "orchestrator",
    ),
    "EmbeddingsRequest": _object(
        {
            "model": _SELECTOR, "dimensions": _WHOLE_NUMBER,
            "input": {"anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 2048},
                {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2048},
            ]},
            "encoding_format": {"enum": ["float", "base64"]},
            "orchestrator": {"anyOf": [_ref("Choice"), {"type": "null"}]},
        },
        "model", "input",
    ),
    "Key": _object(
        {"name": _TEXT, "models": {"type": "array", "items": _TEXT}, "source": {"enum": ["configuration", "ledger"]}},
        "name", "models", "source",
        description="All that is known of it but its hash",
    ),
    "NewKey": _object(
        {
            "name": {"type": "string", "minLength": 1, "maxLength": 100},
            "models": {"type": "array", "items": _TEXT, "description": "Selectors, with a `*` at one end"},
            "user": _TEXT_OR_NULL, "admin": {"type": "boolean"},
            **dict.fromkeys(("budget_usd", "requests_per_minute", "tokens_per_minute"), _NUMBER_OR_NULL),
            "expires": {"type": ["string", "null"], "format": "date", "description": "The last day, in UTC"},
        },
        "name",
    ),
    "EmbeddingsAnswer": _object(
        {"data": {"type": "array", "items": _object({"embedding": {"type": ["array", "string"]}}, "embedding")},
         "orchestrator": _ref("Report")},
        "data", "orchestrator",
    ),
    "CountRequest": _object(
        {"model": _SELECTOR, "messages": {"type": "array", "items": _ref("Turn"), "minItems": 1}}, "model", "messages"
    ),
    "Budgets": _object(
        {
            "budgets": {
                "type": "array",
                "items": _object(
                    {
                        "account": _TEXT,
                        "budget": _TEXT,
                        **{f"{name}_usd": {"type": ["number", "null"]} for name in ("limit", "spent", "leased", "left")},
                    },
                    "account",
                ),
            }
        },
        "budgets",
    ),
    "Count": _object({"input_tokens": {"type": "integer"}, "estimate": {"type": "boolean"}}, "input_tokens"),
    "Model": _object(
        {"id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT}, "id", "object"
    ),
    "Models": _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}}, "object", "data"
    ),
    "State": _object({"status": _TEXT}, "status", additionalProperties=True),
    "Rollout": _object(
        {"user": _TEXT, "use": {"type": "boolean"}, "reason": {"enum": ["deny", "allow", "percent"]},
         "percent": {"type": "number"}, "bucket": {"type": "number"}, "seed": _TEXT},
        "user", "use", "reason", "percent", "bucket", "seed",
    ),
    "Spend": _object(
        {
            "by": {"enum": [*BY]}, "since": _TEXT_OR_NULL, "until": _TEXT_OR_NULL,
            "rows": {"type": "array", "items": {"type": "object"}, "description": "Those that cost most first"},
            "more": {"type": "boolean", "description": "Whether there are more than are shown; the total is of all"},
            "total": {"type": "object"},
            "lost": {"type": "integer", "description": "Requests that are in none of the rows: the ledger took no records"},
            "buffered": {"type": "integer"}, "problem": _TEXT_OR_NULL,
        },
        "by", "rows", "total", "lost",
    ),
    "Pools": _object({"pools": {"type": "array", "items": {"type": "object"}}}, "pools"),
}  # fmt: skip
_ERROR = _ref("Error")
_ANY: Json = {}


def _errors(schema: Json) -> Json:
    return {
        "400": _answer("Something is wrong with the request: `param` says where", schema),
        "403": _answer("The model is not for the user who asks", schema),
        "404": _answer("There is no such model; the message has near names", schema),
        "413": _answer("The body is too large", schema),
        "429": _answer("Rate limited, or the queue is full; see `retry-after`", schema),
        "502": _answer("No candidate could answer; the message says why each could not", schema),
        "503": _answer("The application is being stopped, or providers are to be left alone for a while", schema),
        "504": _answer("No answer in time", schema),
        "default": _answer("A provider's own refusal, or an internal error", schema),
    }


_WHEN = "2026-11-01, 2026-11-01T12:30 (UTC), or so long ago: 7d, 24h, 30m"
_STREAM: Json = {}
"""A stream's events are described in words: a version of OpenAPI that has a place for them is not widely read yet."""


def _operation(summary: str, answers: Json, **more: Any) -> Json:
    return {"summary": summary, "operationId": summary.lower().replace(" ", "_"), "responses": answers, **more}


def _ask(summary: str, request: str, answer: str, *, stream: bool = True, error: str = "Error") -> Json:
    streamed = {"text/event-stream": _STREAM} if stream else {}
    said = "The answer"
    if stream:
        said += (
            ": whole, or as server-sent events, where one that cannot be completed ends with an error and no clean end"
        )
    return {
        "post": _operation(
            summary,
            {"200": _answer(said, _ref(answer), **streamed), **_errors(_ref(error))},
            requestBody={"required": True, "content": {_JSON: {"schema": _ref(request)}}},
        )
    }


def _get(summary: str, schema: Json, **answers: Json) -> Json:
    return {"get": _operation(summary, {"200": _answer("ok", schema), **answers})}


_NOT_READY: Json = {"503": _answer("Not ready, or being stopped", {"anyOf": [_ref("State"), _ERROR]})}
_PATHS: Json = {
    "/v1/chat/completions": _ask("Chat completion", "ChatRequest", "ChatAnswer"),
    "/v1/responses": _ask("Response", "ResponseRequest", "ResponseAnswer"),
    "/v1/completions": _ask("Completion", "CompletionRequest", "CompletionAnswer"),
    "/v1/embeddings": _ask("Embeddings", "EmbeddingsRequest", "EmbeddingsAnswer", stream=False),
    "/v1/messages": _ask("Message in Anthropic's shape", "MessagesRequest", "MessagesAnswer", error="MessagesError"),
    "/v1/messages/count_tokens": _ask(
        "Count tokens in Anthropic's shape", "CountRequest", "Count", stream=False, error="MessagesError"
    ),
    "/v1/models": _get("List models", _ref("Models")),
    "/v1/models/{model}": {
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
        **_get("Show a model", _ref("Model"), **{"404": _answer("There is no such model", _ERROR)}),
    },
    "/health": _get("Whether the process is alive", _ref("State")),
    "/ready": _get("Whether requests can be answered", _ref("State"), **_NOT_READY),
    "/metrics": {
        "get": _operation(
            "Metrics",
            {
                "200": {
                    "description": "All processes' counts, as Prometheus reads them",
                    "content": {kind: {"schema": _TEXT} for kind in ("text/plain", "application/openmetrics-text")},
                },
                "503": _answer("They cannot be gathered now", _ERROR),
            },
        )
    },
    "/openapi.json": _get("This document", {"type": "object"}),
    "/admin/pools": _get("State of the pools", _ref("Pools")),
    "/admin/config": _get("The configuration in use", {"type": "object"}),
    "/admin/keys": {
        **_get("List callers' keys", _object({"keys": {"type": "array", "items": _ref("Key")}}, "keys")),
        "post": _operation(
            "Make a key for a caller",
            {
                "200": _answer("Made; the key is shown once", _object({"key": _TEXT, "name": _TEXT}, "key", "name")),
                "400": _answer("A field is wrong, or there is nothing to keep keys in", _ERROR),
                "503": _answer("The ledger cannot be reached", _ERROR),
            },
            requestBody={"required": True, "content": {_JSON: {"schema": _ref("NewKey")}}},
        ),
    },
    "/admin/keys/{name}": {
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
        "delete": _operation(
            "Revoke a key",
            {
                "200": _answer("It is refused from now on", _object({"name": _TEXT, "revoked": {"type": "boolean"}})),
                "400": _answer("It stands in the configuration, or nothing is kept here", _ERROR),
                "404": _answer("There is none", _ERROR),
                "503": _answer("The ledger cannot be reached", _ERROR),
            },
        ),
    },
    "/admin/rollout": {
        "parameters": [{"name": "user", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}],
        **_get("Whether a user is sent through", _ref("Rollout"), **{"400": _answer("No user is said", _ERROR)}),
    },
    "/admin/spend": {
        "parameters": [
            {"name": "by", "in": "query", "schema": {"enum": [*BY]}},
            {
                "name": "since",
                "in": "query",
                "schema": _TEXT,
                "description": "2026-11-01, 2026-11-01T12:30 (UTC), 7d, 24h, 30m",
            },
            {"name": "until", "in": "query", "schema": _TEXT, "description": _WHEN},
            {"name": "format", "in": "query", "schema": {"enum": ["json", "csv"]}},
        ],
        "get": _operation(
            "What was spent",
            {
                "200": _answer(
                    "As JSON, or as CSV (`format=csv`, or `accept: text/csv`)", _ref("Spend"), **{"text/csv": _STREAM}
                ),
                "400": _answer("Something is wrong with the question: `param` says where", _ERROR),
                "404": _answer("Nothing is recorded: no ledger is configured", _ERROR),
                "503": _answer("The ledger cannot be read", _ERROR),
            },
        ),
    },
    "/admin/budgets": _get(
        "What of each budget is spent, leased to coordinators, and left",
        _ref("Budgets"),
        **{
            "404": _answer("Nothing is recorded: no ledger is configured", _ERROR),
            "503": _answer("The ledger cannot be read", _ERROR),
        },
    ),
    "/admin/reload": {
        "post": _operation(
            "Read the configuration now",
            {
                "200": _answer(
                    "It is in use; users' files with mistakes are what they were",
                    _object(
                        {"version": {"type": "integer"}, "problems": {"type": "array", "items": _TEXT}},
                        "version",
                        "problems",
                    ),
                ),
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
    path: method.upper() for path, item in _PATHS.items() for method in ("delete", "post", "get") if method in item
}
"""The method that each path takes; of several, the one that changes nothing."""


def methods_of(path: str) -> tuple[str, ...]:
    """The methods that a path takes, one that names a thing (`/v1/models/NAME`) too; none: there is no such path."""
    if path == "/" or path.startswith("/v1/models/"):
        return ("GET",)
    if path.startswith("/admin/keys/"):
        return ("DELETE",)
    return tuple(method.upper() for method in ("get", "post") if method in _PATHS.get(path, ()))
