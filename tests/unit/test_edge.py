"""What is taken out before Serve sees a request."""

from __future__ import annotations

from typing import Any

from actors import edge


async def test_headers_that_serve_would_obey_are_taken_out() -> None:
    """All others stay."""
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        sent.append(scope["headers"])

    guard: Any = edge.Guard(app)
    headers = [
        (b"x-request-timeout-seconds", b"1"),
        (b"host", b"localhost"),
        (b"x-request-disconnect-disabled", b"1"),
        (b"serve-multiplexed-model-id", b"m"),
    ]
    await guard({"type": "http", "headers": headers}, None, None)
    assert [[(b"host", b"localhost")]] == sent
