"""What clients do that no document asks for: base URLs mixed up, bodies in an encoding, shapes of the wrong house."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from orchestrator.wire.app import meant
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack
from tests.wire.python import Scripted

CHAT: dict[str, Any] = {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//messages", "/v1/messages"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/models", "/v1/models"),
        ("/models/up/ok", "/v1/models/up/ok"),
        ("/v1/models/a/b", "/v1/models/a/b"),
        ("/health", "/health"),
        ("/admin/pools", "/admin/pools"),
        ("/", "/"),
        ("", "/"),
        ("/v2/chat", "/v2/chat"),
    ],
)
def test_the_path_that_is_meant(path: str, expected: str) -> None:
    """With or without /v1, or with two of them, with slashes to spare."""
    assert expected == meant(path)


async def test_base_urls_that_are_mixed_up(stack: Stack) -> None:
    """All of them are answered, errors in the shape of the path that is meant."""
    for path in ("/chat/completions", "/v1/v1/chat/completions", "/v1//chat/completions"):
        assert 200 == (await stack.http.post(path, json=CHAT)).status_code
    wrong = await stack.http.post("/v1/v1/messages", json={})
    assert (400, "error") == (wrong.status_code, wrong.json()["type"])
    missing = await stack.http.post("/v1/chat/completion", json=CHAT)
    assert "did you mean /v1/chat/completions?" in missing.json()["error"]["message"]
    assert "/v1" == (await stack.http.get("/")).json()["base_url"]
    assert 200 == (await stack.http.head("/")).status_code


async def test_models_as_anthropics_clients_read_them(stack: Stack) -> None:
    """By the header that they send."""
    headers = {"anthropic-version": "2023-06-01"}
    listed = (await stack.http.get("/v1/models", headers=headers)).json()
    assert ("tier:rescue", "up/ok", False) == (listed["first_id"], listed["last_id"], listed["has_more"])
    assert {"model"} == {row["type"] for row in listed["data"]}
    one = (await stack.http.get("/v1/models/up/ok", headers=headers)).json()
    assert ("model", "up/ok") == (one["type"], one["display_name"])


async def test_what_anthropics_clients_are_told_of_a_request(stack: Stack) -> None:
    """Its identity in their own header, whole, streamed and refused; and errors in their shape, also about models."""
    message = {"model": "up/ok", "max_tokens": 9, "messages": CHAT["messages"]}
    known = {"anthropic-version": "2023-06-01", "x-request-id": "mine-1"}
    for body in (message, {**message, "stream": True}, {**message, "max_tokens": None}):
        answer = await stack.http.post("/v1/messages", json=body, headers=known)
        assert ("mine-1", "mine-1") == (answer.headers["request-id"], answer.headers["x-request-id"])
    missing = await stack.http.get("/v1/models/nothing", headers=known)
    assert (404, "error", "not_found_error", "mine-1") == (
        missing.status_code, missing.json()["type"], missing.json()["error"]["type"], missing.headers["request-id"],
    )  # fmt: skip
    others = await stack.http.get("/v1/models/nothing")
    assert (False, "model_not_found") == ("request-id" in others.headers, others.json()["error"]["code"])


async def test_a_body_in_an_encoding(stack: Stack, upstream: Upstream) -> None:
    """415, which names it; one that begins with a mark of its byte order is read."""
    body = orjson.dumps(CHAT)
    packed = await stack.http.post(
        "/v1/chat/completions", content=gzip.compress(body), headers={"content-encoding": "gzip"}
    )
    assert (415, []) == (packed.status_code, upstream.log)
    assert "gzip" in packed.json()["error"]["message"]
    for content, headers in (
        (b"\xef\xbb\xbf" + body, {}),
        (body, {"content-encoding": "identity"}),
        (body, {"content-encoding": "Identity"}),
        (body, {"content-encoding": ""}),
    ):
        answer = await stack.http.post("/v1/chat/completions", content=content, headers=headers)
        assert 200 == answer.status_code


async def test_a_cost_that_is_not_known(stack: Stack) -> None:
    """Null; left out for the one client that cannot read that."""
    headers = {"user-agent": "ai-sdk/openrouter/2.10.0 ai-sdk/provider-utils/4"}
    for path, fields in (
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"model": "up/ok", "prompt": "hi", "suffix": ""}),
    ):
        usual = (await stack.http.post(path, json=fields)).json()
        special = (await stack.http.post(path, json=fields, headers=headers)).json()
        assert (None, False) == (usual["usage"]["cost"], "cost" in special["usage"])
        assert special["orchestrator"]["cost_usd"] is None


async def test_a_cap_of_a_client_that_was_written_for_claude(serve: Serve) -> None:
    """Anthropic's shape insists on `max_tokens`: a model that writes less is asked for what it writes, another for all."""
    scripted = Scripted("short", "long")
    async with scripted.serve() as config:
        config["providers"]["up"]["model_options"] = {"short": {"max_tokens": 100}}
        stack = await serve(config)
        for model in ("up/short", "up/long"):
            asked = {"model": model, "max_tokens": 32_000, "messages": CHAT["messages"]}
            assert 200 == (await stack.http.post("/v1/messages", json=asked)).status_code
    assert [100, 32_000] == [body["max_tokens"] for body in scripted.asked]


async def test_preferences_of_nothing(stack: Stack) -> None:
    """An empty object prefers nothing."""
    assert 200 == (await stack.chat("up/ok", provider={})).status_code
