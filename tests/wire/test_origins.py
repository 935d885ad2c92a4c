"""Browsers: pages of this machine and those that are allowed may use the endpoint, and read its answers; no others."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

HERE, FRIEND, STRANGER = "http://localhost:3000", "https://chat.example.com", "https://evil.example"


@pytest.fixture
async def browsed(upstream: Upstream, serve: Serve) -> Stack:
    return await serve(
        {
            "providers": {"up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": ["ok"]}},
            "server": {"origins": [FRIEND]},
        }
    )


async def chat(stack: Stack, origin: str | None, **fields: Any) -> httpx.Response:
    body = {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}], **fields}
    headers = {} if origin is None else {"origin": origin, "content-type": "text/plain"}
    return await stack.http.post("/v1/chat/completions", json=body, headers=headers)


@pytest.mark.parametrize("origin", [HERE, FRIEND, "http://127.0.0.1:8000", "http://[::1]"])
@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"model": "up/none"}, {"messages": []}], ids=str)
async def test_pages_that_may(browsed: Stack, origin: str, fields: Any) -> None:
    """Every answer can be read, errors and streams too."""
    answer = await chat(browsed, origin, **fields)
    assert origin == answer.headers["access-control-allow-origin"]
    assert "x-orchestrator-provider" in answer.headers["access-control-expose-headers"]
    assert "origin" == answer.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER,
        "null",
        "http://127.evil.example",
        "http://127.0.0.1.nip.io:8000",
        "https://localhost.evil.example",
        "http://[",
        FRIEND + ".evil.example",
    ],
)
async def test_pages_that_may_not(browsed: Stack, upstream: Upstream, origin: str) -> None:
    """Refused, and nobody is asked: a page needs no preflight for a body of plain text."""
    answer = await chat(browsed, origin)
    assert (403, "origin_not_allowed") == (answer.status_code, answer.json()["error"]["code"])
    assert "access-control-allow-origin" not in answer.headers
    assert (403, []) == (
        (await browsed.http.post("/admin/reload", headers={"origin": origin})).status_code,
        upstream.log,
    )


async def test_what_is_no_browser(browsed: Stack) -> None:
    """Names no origin, and is told nothing of them."""
    answer = await chat(browsed, None)
    assert 200 == answer.status_code
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_preflight(browsed: Stack) -> None:
    """Answered with what was asked for; an OPTIONS that is none is a method that there is not."""
    asked = {
        "origin": HERE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
        "access-control-request-private-network": "true",
    }
    answer = await browsed.http.options("/v1/chat/completions", headers=asked)
    assert (204, HERE, "authorization,x-stainless-os", "GET, POST, DELETE", "true") == (
        answer.status_code,
        *(
            answer.headers[f"access-control-allow-{name}"]
            for name in ("origin", "headers", "methods", "private-network")
        ),
    )
    assert (
        403 == (await browsed.http.options("/v1/chat/completions", headers={**asked, "origin": STRANGER})).status_code
    )
    assert 405 == (await browsed.http.options("/v1/chat/completions", headers={"origin": HERE})).status_code


async def test_all_pages(upstream: Upstream, serve: Serve) -> None:
    """Where the configuration says so."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    stack = await serve({"providers": {"up": {"base_url": address, "models": []}}, "server": {"origins": ["*"]}})
    assert STRANGER == (await chat(stack, STRANGER)).headers["access-control-allow-origin"]
