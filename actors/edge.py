"""What must happen before Ray Serve sees a request.

Serve obeys headers that any caller may send: `x-request-timeout-seconds` would let a caller end a request with Serve's own
answer, `x-request-disconnect-disabled` would let an abandoned one run on. They are taken out here, by a middleware that
Serve loads through RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, in the default proxy and under HAProxy alike.
"""

from __future__ import annotations

from typing import Any

from starlette.middleware import Middleware

from orchestrator.wire.http import Receive, Scope, Send

IMPORT_PATH = "actors.edge:middlewares"
_TAKEN_OUT = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve_multiplexed_model_id")
_TAKEN_OUT_NAMES = frozenset((*_TAKEN_OUT, b"serve-multiplexed-model-id"))


class Guard:
    """The middleware."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            scope["headers"] = [header for header in scope["headers"] if header[0] not in _TAKEN_OUT_NAMES]
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Serve asks for."""
    return [Middleware(Guard)]
