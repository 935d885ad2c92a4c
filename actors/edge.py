"""What must happen before Ray Serve sees a request.

Serve obeys headers that any caller may send: `x-request-timeout-seconds` would let a caller end a request with Serve's own
answer, `x-request-disconnect-disabled` would let an abandoned one run on. They are taken out here, by a middleware that
Serve loads through RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, in the default proxy and under HAProxy alike.

A replica listens on a port of its own besides the proxy's. Where no key protects the endpoint, only this machine may reach
it: `loopback_only` is set then, and any other peer is refused. So is a request for another host's name: a page could have
its own name mean this machine (DNS rebinding), and would then be of the same origin.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from starlette.middleware import Middleware

from orchestrator.wire.errors import error_object
from orchestrator.wire.http import Receive, Scope, Send, send_json
from orchestrator.wire.origins import host_of, is_local

IMPORT_PATH = "actors.edge:middlewares"
_TAKEN_OUT = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve_multiplexed_model_id")
_TAKEN_OUT_NAMES = frozenset((*_TAKEN_OUT, b"serve-multiplexed-model-id"))

loopback_only = False
"""Set by `orchestrator serve` through the environment, in the processes that serve HTTP."""


class Guard:
    """The middleware."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            if loopback_only and (reason := _foreign(scope)) is not None:
                await send_json(send, 403, {"error": error_object(403, reason, "loopback_only")})
                return
            scope["headers"] = [header for header in scope["headers"] if header[0] not in _TAKEN_OUT_NAMES]
        await self._app(scope, receive, send)


def _foreign(scope: Scope) -> str | None:
    """Why a request does not come from this machine, or not to it; None: it does."""
    if not _is_loopback(scope.get("client")):
        return "without keys, only this machine may use the endpoint"
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    # A request of HTTP/1.0 may name none.
    if host is not None and not is_local(host_of(f"//{host.decode('latin-1')}")):
        return "without keys, the endpoint is to be asked for by a name of this machine, such as localhost"
    return None


def _is_loopback(client: Any) -> bool:
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except (TypeError, IndexError, ValueError):
        return False


def middlewares() -> list[Middleware]:
    """What Serve asks for."""
    import os

    global loopback_only  # noqa: PLW0603 - a process serves one application
    loopback_only = os.environ.get("ORCHESTRATOR_LOOPBACK_ONLY") == "1"
    return [Middleware(Guard)]
