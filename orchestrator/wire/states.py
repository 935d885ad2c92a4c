"""All that is answered but requests of models: what is listed, how things stand, and administration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from orchestrator.callers import Caller
from orchestrator.types import Json
from orchestrator.wire import callers
from orchestrator.wire.access import Access
from orchestrator.wire.http import Header, Receive, Refused, Scope, Send, read_body, send_body, send_json
from orchestrator.wire.messages import count_tokens
from orchestrator.wire.openapi import DOCUMENT
from orchestrator.wire.shapes import is_anthropics
from orchestrator.wire.spend import answer_spend, budgets_of
from orchestrator.wire.within import Admin, Coordinating


class States:
    """Answers them."""

    def __init__(self, current: Callable[[], Coordinating], admin: Admin, access: Access | None) -> None:
        self._current = current
        self._admin = admin
        self._access = access

    async def answer(
        self, path: str, scope: Scope, receive: Receive, send: Send, headers: Sequence[Header], caller: Caller | None
    ) -> None:
        """To a method that the path takes. Raises Refused."""
        if path == "/v1/messages/count_tokens":
            limit = int(self._current().server.max_body_mb * 1_000_000)
            await send_json(send, 200, count_tokens(await read_body(scope, receive, limit)), headers)
            return
        if path == "/metrics":
            await self._metrics(scope, send, headers)
            return
        if path.startswith(callers.PATH):
            keyring = None if self._access is None else self._access.keyring
            body = await callers.answer_keys(keyring, self._current().callers, path, scope, receive)
            await send_json(send, 200, body, [*headers, (b"cache-control", b"no-store")])
            return
        if path == "/admin/spend":
            await answer_spend(self._admin.spend, scope, send, headers)
            return
        listing = path.startswith("/v1/models")
        status, body = (200, await self._models(path, scope, caller)) if listing else await self._state(path, scope)
        await send_json(send, status, body, headers)

    async def _metrics(self, scope: Scope, send: Send, headers: Sequence[Header]) -> None:
        from orchestrator.metrics import exposition

        counters, pools = await asyncio.gather(self._admin.counters(), self._current().pools())
        accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
        # In a thread: there may be thousands of lines.
        body, kind = await asyncio.to_thread(exposition, counters, pools, accept)
        await send_body(send, 200, kind.encode(), body, headers)

    async def _models(self, path: str, scope: Scope, caller: Caller | None) -> Any:
        """The models, or one of them: in Anthropic's shape for its clients. Raises Refused."""
        coordinator = self._current()
        anthropic = is_anthropics(scope)
        if name := unquote(path.removeprefix("/v1/models").removeprefix("/")):
            row = await coordinator.model(name, caller)
            if row is None:
                raise Refused(404, "model_not_found", f"there is no model {name!r}", param="model")
            return _anthropic_row(row) if anthropic else row
        rows = await coordinator.models(caller)
        if not anthropic:
            return {"object": "list", "data": rows}
        first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
        return {"data": [*map(_anthropic_row, rows)], "has_more": False, "first_id": first, "last_id": last}

    async def _state(self, path: str, scope: Scope) -> tuple[int, Any]:
        """What is answered to a GET, and to a reload. Raises Refused."""
        coordinator = self._current()
        if path == "/":
            return 200, {"status": "ok", "base_url": "/v1", "openapi": "/openapi.json"}
        if path == "/health":
            return 200, {"status": "ok"}
        if path == "/openapi.json":
            return 200, DOCUMENT
        if path == "/ready":
            ready, body = await coordinator.ready()
            return 200 if ready else 503, body
        if path == "/admin/pools":
            return 200, {"pools": await coordinator.pools()}
        if path == "/admin/config":
            return 200, await self._admin.config()
        if path == "/admin/budgets":
            return 200, await budgets_of(self._admin.budgets)
        if path == "/admin/rollout":
            return 200, coordinator.rollout(_user(scope))
        reloaded = await self._admin.reload()
        if reloaded.problems:
            what = "the configuration was not taken over: " + "\n".join(reloaded.problems)
            raise Refused(400, "invalid_config", what)
        return 200, {"version": reloaded.version, "problems": reloaded.user_problems}


def _anthropic_row(row: Json) -> Json:
    """A row of the models as Anthropic's clients read it (docs.anthropic.com/en/api/models-list)."""
    return {"type": "model", "id": row["id"], "display_name": row["id"], "created_at": "1970-01-01T00:00:00Z"}


def _user(scope: Scope) -> str:
    """The query's `user`. Raises Refused."""
    query: str = scope["query_string"].decode("latin-1")
    users = parse_qs(query).get("user", [])
    if len(users) != 1:
        raise Refused(400, "invalid_request", "'user' has to be said, once: /admin/rollout?user=NAME", param="user")
    return users[0]
