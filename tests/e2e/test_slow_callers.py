"""Callers that read slowly hold back their own upstreams, not memory and not other callers."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import httpx
import pytest

from bench.serving import Served
from tests.upstream import Upstream

pytestmark = pytest.mark.timed

CALLERS = 10
MB = 1_000_000


def ask(port: int, *models: str) -> socket.socket:
    """A caller that sends its request and reads nothing."""
    asked = {"model": "any", "orchestrator": {"models": models}, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps({**asked, "stream": True}).encode()
    caller = socket.socket()
    # Little is kept by the caller's own kernel.
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.connect(("127.0.0.1", port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    return caller


def private_bytes(served: Served) -> int:
    """What the processes between caller and upstream hold for themselves."""
    names = ("ray::Pool", "ray::ServeReplica", "haproxy")
    return sum(one.memory_full_info().uss for name in names for one in served.processes(name))


async def steady(upstream: Upstream) -> int:
    """What has been taken from the floods, once it is no longer growing."""
    taken, before = -1, -2
    async with asyncio.timeout(30):
        while taken != before:
            await asyncio.sleep(1)
            before, taken = taken, sum(one.sent_bytes for one in upstream.attempts("flood"))
    return taken


@pytest.mark.parametrize("models", [["up/flood"], ["up/flood", "up/ok"]], ids=["alone", "with a fallback"])
async def test_callers_that_read_nothing(served: Served, upstream: Upstream, models: list[str]) -> None:
    """Less than 1 MB each in our processes; the upstreams wait; others are answered as ever; the end closes all."""
    async with httpx.AsyncClient(base_url=served.root, timeout=10) as http:
        body = {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(20):
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        upstream.log.clear()
        before = private_bytes(served)
        callers = [ask(served.port, *models) for _ in range(CALLERS)]
        taken = await steady(upstream)
        assert len(upstream.attempts("flood")) == CALLERS
        assert taken > 0
        held = private_bytes(served) - before
        began_s = time.monotonic()
        for _ in range(20):
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        took_s = (time.monotonic() - began_s) / 20
        assert await steady(upstream) == taken
        for caller in callers:
            caller.close()
        async with asyncio.timeout(5):
            while not all(one.gone for one in upstream.attempts("flood")):
                await asyncio.sleep(0.05)
    assert held / CALLERS < MB, held
    assert took_s < 0.5
