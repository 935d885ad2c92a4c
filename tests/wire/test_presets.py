"""Each known provider, answered by a stand-in that insists on what its documentation says: address, path, key, shapes.

Sources are named with each row; answers have the fields that the provider adds to OpenAI's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from orchestrator.attempt import EndpointStream
from orchestrator.config.load import load_mapping
from orchestrator.endpoint import Endpoint
from orchestrator.errors import ConfigError
from orchestrator.providers import PRESETS
from orchestrator.transport import Transport
from orchestrator.types import Failure, FailureKind, Finish, Reply, Request

KEY = "key-of-the-account-0123456789"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(frozen=True)
class Documented:
    """What a provider documents."""

    source: str
    url: str
    """Of chat completions."""
    model: str
    listed: Any
    """The answer to a GET of its models."""
    names: tuple[str, ...]
    """As they have to be listed here."""
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    header: str = "authorization"
    message: Mapping[str, Any] = field(default_factory=dict)
    """What its messages have beside role and content."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What its answers have beside OpenAI's fields."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: Any = None
    """Its answer to a wrong key, where it has another shape than OpenAI's."""


def rows(*names: str) -> Any:
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}


DOCUMENTED = {
    "openai": Documented(
        "https://platform.openai.com/docs/api-reference/chat/create",
        "https://api.openai.com/v1/chat/completions", "gpt-4o-mini", rows("gpt-4o-mini"), ("gpt-4o-mini",),
        message={"refusal": None, "annotations": []}, more={"service_tier": "default"},
        usage={"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 2}},
    ),
    "openrouter": Documented(
        "https://openrouter.ai/docs/api-reference/overview",
        "https://openrouter.ai/api/v1/chat/completions", "meta-llama/llama-3.3-70b-instruct",
        {"data": [{"id": "meta-llama/llama-3.3-70b-instruct", "name": "Llama"}]}, ("meta-llama/llama-3.3-70b-instruct",),
        message={"reasoning": "hm"}, more={"provider": "Together"}, usage={"cost": 0.00014},
        error={"error": {"message": "No auth credentials found", "code": 401}},
    ),
    "groq": Documented(
        "https://console.groq.com/docs/api-reference#chat-create",
        "https://api.groq.com/openai/v1/chat/completions", "llama-3.3-70b-versatile", rows("llama-3.3-70b-versatile"),
        ("llama-3.3-70b-versatile",), more={"x_groq": {"id": "req_1"}}, usage={"queue_time": 0.01, "total_time": 0.2},
    ),
    "ollama": Documented(
        "https://docs.ollama.com/api/openai-compatibility",
        "http://127.0.0.1:11434/v1/chat/completions", "llama3.2", rows("llama3.2:latest"), ("llama3.2:latest",),
        header="", message={"reasoning": "hm"}, more={"system_fingerprint": "fp_ollama"},
    ),
    "vllm": Documented(
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        "http://10.0.0.5:8000/v1/chat/completions", "qwen", rows("qwen"), ("qwen",),
        env={"VLLM_API_KEY": KEY}, settings={"base_url": "http://10.0.0.5:8000/v1"},
        message={"reasoning_content": None, "tool_calls": []},
        more={"prompt_logprobs": None, "kv_transfer_params": None}, error={"error": "Unauthorized"},
    ),
    "together": Documented(
        "https://docs.together.ai/reference/chat-completions-1",
        "https://api.together.ai/v1/chat/completions", "openai/gpt-oss-20b", [{"id": "openai/gpt-oss-20b", "type": "chat"}],
        ("openai/gpt-oss-20b",), more={"prompt": []},
    ),
    "mistral": Documented(
        "https://docs.mistral.ai/api/#tag/chat",
        "https://api.mistral.ai/v1/chat/completions", "mistral-small-latest", rows("mistral-small-latest"),
        ("mistral-small-latest",), message={"tool_calls": None, "prefix": False}, error={"detail": "Unauthorized"},
    ),
    "deepseek": Documented(
        "https://api-docs.deepseek.com/api/create-chat-completion",
        "https://api.deepseek.com/v1/chat/completions", "deepseek-chat", rows("deepseek-chat"), ("deepseek-chat",),
        message={"reasoning_content": "hm"}, usage={"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 7},
    ),
    "gemini": Documented(
        "https://ai.google.dev/gemini-api/docs/openai",
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gemini-2.5-flash",
        rows("models/gemini-2.5-flash"), ("gemini-2.5-flash",),
        error=[{"error": {"code": 401, "message": "API key not valid", "status": "UNAUTHENTICATED"}}],
    ),
    "azure": Documented(
        "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        "https://mine.openai.azure.com/openai/v1/chat/completions", "my-deployment", rows("gpt-4o"), ("gpt-4o",),
        env={"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/"}, header="api-key",
        more={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]},
    ),
    "bedrock": Documented(
        "https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions-mantle.html",
        "https://bedrock-mantle.eu-west-1.api.aws/v1/chat/completions", "openai.gpt-oss-120b", rows("openai.gpt-oss-120b"),
        ("openai.gpt-oss-120b",), env={"AWS_REGION": "eu-west-1"},
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", DOCUMENTED)


def stand_in(name: str, *, wrong_key: bool = False) -> Endpoint:
    """The provider as its preset configures it, over a wire on which only what is documented is answered."""
    expected, row = DOCUMENTED[name], PRESETS[name]
    env = {**expected.env, **({row.key_variable: KEY} if row.key_needed else {})}
    config = load_mapping({"providers": {name: dict(expected.settings)}}, env)

    def answer(request: httpx.Request) -> httpx.Response:
        sent = {header: request.headers.get(header) for header in ("authorization", "api-key", "x-api-key")}
        right = f"Bearer {KEY}" if expected.header == "authorization" else KEY
        if sent != {**dict.fromkeys(sent), **({expected.header: right} if expected.header else {})} or wrong_key:
            plain = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "x", "code": "invalid_api_key"}}
            return httpx.Response(401, json=expected.error or plain)
        if request.method == "GET":
            known = str(request.url) == expected.url.replace("/chat/completions", "/models")
            return httpx.Response(200, json=expected.listed) if known else httpx.Response(404)
        if str(request.url) != expected.url:
            return httpx.Response(404, json={"error": {"message": f"no {request.url}"}})
        body = orjson.loads(request.content)
        assert body["model"] == expected.model
        return _stream(expected) if body.get("stream") else httpx.Response(200, json=_whole(expected))

    provider = config.providers[name]
    wire = Transport(provider.connections, provider.timeouts, httpx.MockTransport(answer))
    return Endpoint(provider, config.keys[name], wire)


def _whole(expected: Documented) -> Any:
    message = {"role": "assistant", "content": "Oslo", **expected.message}
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": expected.model, **expected.more,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {**USAGE, **expected.usage},
    }  # fmt: skip


def _stream(expected: Documented) -> httpx.Response:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": expected.model}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", **expected.message}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {"content": "Oslo"}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **expected.more},
        {**head, "choices": [], "usage": {**USAGE, **expected.usage}},
    ]
    text = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text)


def request(*, stream: bool = False) -> Request:
    return Request({"messages": [{"role": "user", "content": "The capital of Norway?"}]}, stream)


def test_every_preset_is_here() -> None:
    """A new row needs its stand-in. (Anthropic's own shape has its own: `test_anthropic.py`.)"""
    assert set(PRESETS) == {*DOCUMENTED, "anthropic"}
    assert all(row.docs.startswith("https://") for row in PRESETS.values())


@ALL
async def test_a_whole_answer(name: str) -> None:
    """The path and the key are right, and nothing that the provider adds is lost."""
    expected = DOCUMENTED[name]
    reply = await stand_in(name).call(request(), expected.model)
    assert isinstance(reply, Reply), reply
    assert _whole(expected) == reply.body
    assert reply.usage is not None
    assert (7, 3) == (reply.usage.input_tokens, reply.usage.output_tokens)


@ALL
async def test_a_streamed_answer(name: str) -> None:
    """Usage and all."""
    stream = await stand_in(name).open(request(stream=True), DOCUMENTED[name].model)
    assert isinstance(stream, EndpointStream), stream
    pieces = await stream.read()
    while not isinstance(pieces[-1], Finish | Failure):
        pieces += await stream.read()
    last = pieces[-1]
    assert isinstance(last, Finish), last
    assert {**USAGE, **DOCUMENTED[name].usage} == last.usage_body


@ALL
async def test_its_models(name: str) -> None:
    """As they are to be asked for."""
    assert DOCUMENTED[name].names == await stand_in(name).models()


@ALL
async def test_a_wrong_key(name: str) -> None:
    """Said to be that, in whatever shape the provider says it, and never shown."""
    failure = await stand_in(name, wrong_key=True).call(request(), DOCUMENTED[name].model)
    assert isinstance(failure, Failure)
    assert (FailureKind.UNAUTHORIZED, 401) == (failure.kind, failure.status)
    assert KEY not in f"{failure.message} {failure.body}"


def test_an_ollama_that_does_not_listen_is_left_out(tmp_path: Any) -> None:
    """Found on its usual port, if somebody is there."""
    from orchestrator.config.load import load

    file = tmp_path / "c.yaml"
    file.write_text("providers: {ollama: {optional: true}, sim: {simulate: {}}}")
    asked: list[str] = []

    def answers(url: str) -> bool:
        asked.append(url)
        return len(asked) > 1

    assert {"ollama": "nothing answers at http://127.0.0.1:11434/v1"} == load(file, {}, answers).left_out
    assert ["ollama", "sim"] == list(load(file, {}, answers).providers)
    assert ["http://127.0.0.1:11434/v1"] * 2 == asked


def test_what_models_can_do() -> None:
    """The preset's table, the configuration's over it, the longest pattern first."""
    options = {"gpt-4o": {"prefill": True}, "gpt-4o-*": {"tools": False, "context_tokens": 8}, "mine": {"images": True}}
    provider = load_mapping({"providers": {"openai": {"api_key": "k", "model_options": options}}}, {}).providers[
        "openai"
    ]
    assert (True, 128_000) == (provider.options_of("gpt-4o").prefill, provider.options_of("gpt-4o").context_tokens)
    mini = provider.options_of("gpt-4o-mini")
    assert (False, False, 8, 16_384) == (mini.prefill, mini.tools, mini.context_tokens, mini.max_tokens)
    assert (True, None) == (provider.options_of("mine").images, provider.options_of("mine").tools)
    assert (None, False) == (
        provider.options_of("gpt-4o-2024-05-13").json_schema,
        provider.options_of("gpt-4o-2024-05-13").tools,
    )
    assert 400_000 == provider.options_of("gpt-5-mini").context_tokens
    assert provider.options_of("unheard-of").tools is None


AZURE = {"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/", "AZURE_OPENAI_API_KEY": KEY}
DATED = "https://mine.openai.azure.com/openai/deployments/{}/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("settings", "model", "expected"),
    [
        ({}, "my model/1", DATED.format("my%20model%2F1")),
        ({"base_url": "https://mine.openai.azure.com/openai"}, "m", DATED.format("m")),
        ({"base_url": "https://mine.openai.azure.com/openai/deployments/D"}, "m", DATED.format("D")),
    ],
)
async def test_azures_dated_interface(settings: dict[str, str], model: str, expected: str) -> None:
    """A path for each deployment, the version in the query, and fields by the names that the caller chose."""
    config = load_mapping({"providers": {"azure": {"api_version": "2024-10-21", **settings}}}, AZURE)
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, json=_whole(DOCUMENTED["azure"]) if asked.method == "POST" else rows("gpt-4o"))

    provider = config.providers["azure"]
    wire = Transport(provider.connections, provider.timeouts, httpx.MockTransport(answer))
    one = Endpoint(provider, config.keys["azure"], wire)
    body = {**request().body, "max_tokens": 5}
    assert isinstance(await one.call(Request(body), model), Reply)
    assert ("gpt-4o",) == await one.models()
    listed = "https://mine.openai.azure.com/openai/models?api-version=2024-10-21"
    assert [expected, listed] == [str(asked.url) for asked in seen]
    assert {KEY} == {asked.headers.get("api-key") for asked in seen}
    assert {**body, "model": model} == orjson.loads(seen[0].content)


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("azure", "v1", "has to be a date such as 2024-10-21, or 2025-04-01-preview"),
        ("openai", "2024-10-21", "is for the preset azure alone"),
    ],
)
def test_a_version_that_there_is_not(name: str, version: str, expected: str) -> None:
    """Said where it stands."""
    env = {**AZURE, "OPENAI_API_KEY": KEY}
    with pytest.raises(ConfigError) as refused:
        load_mapping({"providers": {name: {"api_version": version}}}, env)
    assert f"providers.{name}.api_version: {expected}" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "health", "expected"),
    [
        ("openrouter", {"every_s": 60}, "/key"),
        ("openrouter", {"path": "/credits"}, "/credits"),
        ("groq", {"every_s": 60}, "/models"),
    ],
)
def test_what_a_probe_asks_for(name: str, health: dict[str, Any], expected: str) -> None:
    """What needs a key, where the provider has such a thing; the settings go before it."""
    env = {PRESETS[name].key_variable: KEY}
    config = load_mapping({"providers": {name: {"health": health}}}, env)
    assert expected == config.providers[name].health.path
    assert health.get("every_s", 0) == config.providers[name].health.every_s
