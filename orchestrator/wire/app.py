"""The HTTP application that callers see (contract §3): a raw ASGI app over a coordinator."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, MutableMapping, Sequence
from difflib import get_close_matches
from functools import partial
from math import ceil
from typing import Any
from uuid import uuid4

from orchestrator import current
from orchestrator.asks import Answer, Ask, Gone
from orchestrator.callers import Caller
from orchestrator.errors import BadChoice, Denied, NotAllowed, UnknownSelector
from orchestrator.limits.limiter import Standing
from orchestrator.money import plain
from orchestrator.types import Failure, Json, Reply
from orchestrator.wire.access import Access
from orchestrator.wire.errors import error_object, show
from orchestrator.wire.http import (
    Header,
    Receive,
    Refused,
    Scope,
    Send,
    cache_control,
    duration,
    header_value,
    noticing,
    read_body,
    send_json,
)
from orchestrator.wire.openapi import METHODS, methods_of
from orchestrator.wire.origins import check_origin, preflight
from orchestrator.wire.shape import Shape, Speaker
from orchestrator.wire.shapes import MESSAGES, SHAPES, speaking
from orchestrator.wire.sse import SseSink
from orchestrator.wire.states import States
from orchestrator.wire.within import Admin, Coordinating

_log = logging.getLogger("orchestrator.wire")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


_LIMITS = {
    what: tuple(f"x-ratelimit-{name}-{what}".encode() for name in ("limit", "remaining", "reset"))
    for what in ("requests", "tokens")
}


class App:
    """The ASGI application.

    `current` gives the coordinator of the configuration in use: a request keeps the one that it began with. `access` looks
    at keys; None: whoever calls is within, as a process is that opened it for itself.
    `own_request_id`: whether `x-request-id` is sent from here (Ray Serve sends its own). `watch`: whether the caller's
    going away has to be noticed here (Ray Serve cancels the request itself). `standing`: how a key stands with its limits,
    for the headers of its answers.
    """

    def __init__(
        self,
        current: Callable[[], Coordinating],
        admin: Admin,
        access: Access | None,
        *,
        own_request_id: bool = True,
        watch: bool = True,
        standing: Callable[[Caller], Sequence[Standing]] | None = None,
    ) -> None:
        self._current = current
        self._admin = admin
        self._access = access
        self._own_request_id = own_request_id
        self._watch = watch
        self._standing = standing
        self._states = States(current, admin, access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request_id = _request_id(scope)
        with current.request(request_id):
            await self._respond(scope, receive, noticing(send), request_id)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        path = meant(scope["path"])
        shape = speaking(path, scope)
        if shape is MESSAGES:
            # Anthropic's name for it, which its clients read and say in their errors.
            named = ((b"request-id", request_id.encode()),)
            send = _with_headers(send, lambda: named)
        try:
            coordinator, caller = self._current(), None
            if self._access is not None:
                self._access.guard(scope, coordinator.callers)
            if allowed := check_origin(scope, coordinator.server.origins, keys=bool(coordinator.callers)):
                send = _with_headers(send, lambda: allowed)
                if (wanted := preflight(scope)) is not None:
                    await send({"type": "http.response.start", "status": 204, "headers": [*wanted]})
                    await send({"type": "http.response.body", "body": b""})
                    return
            if self._access is not None:
                # Preflights bear no key: they were answered above.
                caller = await self._access.caller(scope, path, coordinator.callers)
            if caller is not None and self._standing is not None and path in SHAPES:
                send = _with_headers(send, partial(_limits, self._standing, caller))
            await self._route(path, scope, receive, send, request_id, caller)
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

    async def _route(
        self, path: str, scope: Scope, receive: Receive, send: Send, request_id: str, caller: Caller | None
    ) -> None:
        taken = methods_of(path)
        if not taken:
            near = get_close_matches(path, METHODS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(404, "not_found", f"there is no {path}{hint} (there is {', '.join(METHODS)})")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in taken:
            needed = ", ".join(taken)
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
                await self._answer(shape, coordinator, scope, receive, send, request_id, caller)
            return
        await self._states.answer(path, scope, receive, send, self._id(request_id), caller)

    async def _answer(
        self,
        shape: Shape,
        coordinator: Coordinating,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        caller: Caller | None,
    ) -> None:
        body = await read_body(scope, receive, int(coordinator.server.max_body_mb * 1_000_000))
        headers = dict(scope["headers"])
        parsed = shape.parse(body, headers)
        user = parsed.user if caller is None or caller.user is None else caller.user
        traceparent = headers.get(b"traceparent", b"").decode("latin-1") or None
        caching = cache_control(scope)
        ask = Ask(parsed.selector, parsed.request, parsed.override, request_id, user, caller, traceparent, caching)
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
        if "cache" in report:
            headers.append((b"x-orchestrator-cache", report["cache"].encode()))
    return headers


def _with_headers(send: Send, more: Callable[[], Sequence[Header]]) -> Send:
    """`send`, adding headers to the answer, as they are when it begins."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *more()]}
        await send(message)

    return sending


def _limits(standing: Callable[[Caller], Sequence[Standing]], caller: Caller) -> list[Header]:
    """How a key stands with its limits, as OpenAI says it (platform.openai.com/docs/guides/rate-limits, "in headers")."""
    headers: list[Header] = []
    for what, limit, remaining, reset_s in standing(caller):
        names = _LIMITS[what]
        headers += ((names[0], b"%d" % limit), (names[1], b"%d" % remaining), (names[2], duration(reset_s).encode()))
    return headers


def _request_id(scope: Scope) -> str:
    """The caller's own, if it is harmless, or a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(text := value.decode("latin-1")):
            return str(text)
    return uuid4().hex


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
