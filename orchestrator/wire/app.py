"""The HTTP application that callers see (contract §3): a raw ASGI app over a coordinator."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from difflib import get_close_matches
from math import ceil
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote
from uuid import uuid4

from orchestrator.asks import Answer, Ask, Gone, Reloaded, Sink
from orchestrator.config.settings import Server
from orchestrator.errors import BadChoice, Denied, NotAllowed, UnknownSelector
from orchestrator.ledger.asking import Asking
from orchestrator.money import plain
from orchestrator.types import Failure, Json, Reply
from orchestrator.wire.errors import error_object, show
from orchestrator.wire.http import (
    Header,
    Receive,
    Refused,
    Scope,
    Send,
    header_value,
    noticing,
    read_body,
    send_json,
)
from orchestrator.wire.messages import count_tokens
from orchestrator.wire.openapi import DOCUMENT, METHODS
from orchestrator.wire.origins import check_origin, preflight
from orchestrator.wire.shape import Shape, Speaker
from orchestrator.wire.shapes import SHAPES, speaking
from orchestrator.wire.spend import answer_spend, budgets_of
from orchestrator.wire.sse import SseSink

_log = logging.getLogger("orchestrator.wire")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Coordinating(Protocol):
    """What the application needs of a coordinator."""

    @property
    def server(self) -> Server: ...
    def hold(self) -> AbstractContextManager[None]: ...
    async def answer(self, ask: Ask) -> Answer: ...
    async def stream(self, ask: Ask, sink: Sink) -> Answer: ...
    def rollout(self, user: str) -> Json: ...
    async def models(self) -> list[Json]: ...
    async def model(self, name: str) -> Json | None: ...
    async def pools(self) -> list[Json]: ...
    async def ready(self) -> tuple[bool, Json]: ...


class Admin(Protocol):
    """What stands above coordinators."""

    @property
    def draining(self) -> bool:
        """Whether the application is being stopped: what is in flight goes on, nothing else is begun."""
        ...

    async def config(self) -> Json:
        """The configuration in use, without keys, and what is wrong with its file as it is now."""
        ...

    async def reload(self) -> Reloaded:
        """Has the file read now."""
        ...

    async def spend(self, asked: Asking) -> Json | None:
        """What was spent; None: there is no ledger. Raises LedgerFailed."""
        ...

    async def budgets(self) -> list[Json] | None:
        """How each budget stands; None: there is no ledger. Raises LedgerFailed."""
        ...


class App:
    """The ASGI application.

    `current` gives the coordinator of the configuration in use: a request keeps the one that it began with.
    `own_request_id`: whether `x-request-id` is sent from here (Ray Serve sends its own). `watch`: whether the caller's
    going away has to be noticed here (Ray Serve cancels the request itself).
    """

    def __init__(
        self, current: Callable[[], Coordinating], admin: Admin, *, own_request_id: bool = True, watch: bool = True
    ) -> None:
        self._current = current
        self._admin = admin
        self._own_request_id = own_request_id
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request_id = _request_id(scope)
        send = noticing(send)
        path = meant(scope["path"])
        shape = speaking(path)
        try:
            if allowed := check_origin(scope, self._current().server.origins):
                send = _with_headers(send, allowed)
                if (wanted := preflight(scope)) is not None:
                    await send({"type": "http.response.start", "status": 204, "headers": [*wanted]})
                    await send({"type": "http.response.body", "body": b""})
                    return
            await self._route(path, scope, receive, send, request_id)
        except Refused as refused:
            error = error_object(refused.status, str(refused), refused.code, refused.param)
            headers = [*self._id(request_id), *refused.headers]
            await send_json(send, refused.status, shape.error(refused.status, error), headers)
        except Gone:
            return
        except Exception:
            _log.exception("request %s failed unexpectedly", request_id)
            message = f"internal error; the log has more under the request id {request_id}"
            error = error_object(500, message, "internal_error")
            await send_json(send, 500, shape.error(500, error), self._id(request_id))

    def _id(self, request_id: str) -> list[Header]:
        return [(b"x-request-id", request_id.encode())] if self._own_request_id else []

    async def _route(self, path: str, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        needed = "GET" if path == "/" or path.startswith("/v1/models/") else METHODS.get(path)
        if needed is None:
            near = get_close_matches(path, METHODS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(404, "not_found", f"there is no {path}{hint} (there is {', '.join(METHODS)})")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method != needed:
            raise Refused(405, "method_not_allowed", f"{path} takes {needed}", headers=((b"allow", needed.encode()),))
        shape = SHAPES.get(path)
        if self._admin.draining and (shape is not None or path == "/ready"):
            again = ((b"retry-after", b"1"),)
            raise Refused(
                503, "draining", "the application is being stopped; it answers what it has begun", headers=again
            )
        if shape is not None:
            coordinator = self._current()
            with coordinator.hold():
                await self._answer(shape, coordinator, scope, receive, send, request_id)
            return
        if path == "/v1/messages/count_tokens":
            limit = int(self._current().server.max_body_mb * 1_000_000)
            await send_json(send, 200, count_tokens(await read_body(scope, receive, limit)), self._id(request_id))
            return
        if path == "/admin/spend":
            await answer_spend(self._admin.spend, scope, send, self._id(request_id))
            return
        listing = path.startswith("/v1/models")
        status, body = (200, await self._models(path, scope)) if listing else await self._state(path, scope)
        await send_json(send, status, body, self._id(request_id))

    async def _models(self, path: str, scope: Scope) -> Any:
        """The models, or one of them: in Anthropic's shape for its clients. Raises Refused."""
        coordinator = self._current()
        anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
        if name := unquote(path.removeprefix("/v1/models").removeprefix("/")):
            row = await coordinator.model(name)
            if row is None:
                raise Refused(404, "model_not_found", f"there is no model {name!r}", param="model")
            return _anthropic_row(row) if anthropic else row
        rows = await coordinator.models()
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

    async def _answer(
        self, shape: Shape, coordinator: Coordinating, scope: Scope, receive: Receive, send: Send, request_id: str
    ) -> None:
        body = await read_body(scope, receive, int(coordinator.server.max_body_mb * 1_000_000))
        parsed = shape.parse(body, dict(scope["headers"]))
        ask = Ask(parsed.selector, parsed.request, parsed.override, request_id, parsed.user)
        sink = None
        if parsed.request.stream:
            sink = SseSink(
                send,
                parsed.speaker,
                coordinator.server.keepalive_s,
                lambda *known: [*self._id(request_id), *_headers(*known)],
            )
        try:
            answer = await self._ask(coordinator, ask, sink, receive)
            if sink is not None:
                # A comment on its way may send the headers: only then is it settled what a failure looks like.
                await sink.quiet()
                if sink.started or not isinstance(answer.outcome, Failure):
                    await sink.finish(answer)
                    return
        except (UnknownSelector, NotAllowed, BadChoice, Denied) as wrong:
            refused = _refused(wrong)
            if sink is None or not await self._begun(sink):
                raise refused from None
            await sink.abort(error_object(refused.status, str(refused), refused.code, refused.param))
            return
        except Gone:
            raise
        except Exception:
            if sink is None or not await self._begun(sink):
                raise
            _log.exception("request %s failed unexpectedly within its stream", request_id)
            await sink.abort(error_object(500, f"internal error; request id {request_id}", "internal_error"))
            return
        finally:
            if sink is not None:
                await sink.close()
        await self._whole(answer, shape, parsed.speaker, send, request_id)

    @staticmethod
    async def _begun(sink: SseSink) -> bool:
        await sink.quiet()
        return sink.started

    async def _ask(self, coordinator: Coordinating, ask: Ask, sink: SseSink | None, receive: Receive) -> Answer:
        asked = coordinator.answer(ask) if sink is None else coordinator.stream(ask, sink)
        if not self._watch:
            return await asked
        work = asyncio.ensure_future(asked)
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Gone
            return work.result()
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.wait((work, leaving))

    async def _whole(self, answer: Answer, shape: Shape, speaker: Speaker, send: Send, request_id: str) -> None:
        outcome = answer.outcome
        headers = [*self._id(request_id), *_headers(answer.provider, answer.model, answer.strategy, answer.report)]
        if isinstance(outcome, Failure):
            shown = show(outcome)
            body = {**shape.error(shown.status, shown.error), "orchestrator": answer.report}
            await send_json(send, shown.status, body, [*headers, *shown.headers])
            return
        assert isinstance(outcome, Reply)
        await send_json(send, 200, speaker.whole(outcome.body, answer), headers)


def meant(path: str) -> str:
    """The path that a caller means. Some clients' base URLs end in /v1 and others' do not, some in a slash, and people mix
    them up: each of these means one thing alone here."""
    path = re.sub("/{2,}", "/", path).rstrip("/") or "/"
    while path.startswith("/v1/v1/"):
        path = path.removeprefix("/v1")
    below = f"/v1{path}"
    return below if path not in METHODS and (below in METHODS or path.startswith("/models/")) else path


def _anthropic_row(row: Json) -> Json:
    """A row of the models as Anthropic's clients read it (docs.anthropic.com/en/api/models-list)."""
    return {"type": "model", "id": row["id"], "display_name": row["id"], "created_at": "1970-01-01T00:00:00Z"}


def _refused(wrong: UnknownSelector | NotAllowed | BadChoice | Denied) -> Refused:
    if isinstance(wrong, UnknownSelector):
        return Refused(404, "model_not_found", str(wrong), param="model")
    if isinstance(wrong, NotAllowed):
        return Refused(403, "model_not_allowed", str(wrong), param="model")
    if isinstance(wrong, Denied):
        seconds = () if wrong.retry_after_s is None else ((b"retry-after", str(ceil(wrong.retry_after_s)).encode()),)
        return Refused(wrong.status, wrong.code, str(wrong), headers=seconds)
    return Refused(400, "invalid_request", str(wrong), param=wrong.param)


def _headers(provider: str | None, model: str | None, strategy: str | None, report: Json | None) -> list[Header]:
    """The `x-orchestrator-*` headers, as far as they are known."""
    headers: list[Header] = []
    for name, value in ((b"provider", provider), (b"model", model), (b"strategy", strategy)):
        if value is not None:
            headers.append((b"x-orchestrator-" + name, header_value(value)))
    if report is not None:
        headers.append((b"x-orchestrator-attempts", str(len(report["attempts"])).encode()))
        if report["cost_usd"] is not None:
            headers.append((b"x-orchestrator-cost-usd", plain(report["cost_usd"]).encode()))
    return headers


def _with_headers(send: Send, more: tuple[Header, ...]) -> Send:
    """`send`, adding headers to the answer."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


def _request_id(scope: Scope) -> str:
    """The caller's own, if it is harmless, or a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(text := value.decode("latin-1")):
            return str(text)
    return uuid4().hex


def _user(scope: Scope) -> str:
    """The query's `user`. Raises Refused."""
    query: str = scope["query_string"].decode("latin-1")
    users = parse_qs(query).get("user", [])
    if len(users) != 1:
        raise Refused(400, "invalid_request", "'user' has to be said, once: /admin/rollout?user=NAME", param="user")
    return users[0]


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
