"""A provider for tests, benchmarks and first steps: a real HTTP server that speaks OpenAI's chat completions.

aiohttp's low-level server, without routing or middleware. Pacing follows absolute times, and whatever is due goes out in
one write, so that a busy machine delays tokens but does not slow the stream down.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from aiohttp import web

from orchestrator.config.settings import Replay, Simulate
from orchestrator.simulate.answers import Refusal, Replayed, Script, Simulated
from orchestrator.simulate.embeddings import embeddings

MAX_CHOICES = 128
"""As OpenAI allows."""


class Server:
    """A running simulated provider."""

    def __init__(self, source: Simulated | Replayed, name: str) -> None:
        self._source = source
        self._fingerprint = "replay-simulated-latency" if isinstance(source, Replayed) else "simulated"
        self._name = name
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None, handler_cancellation=True))
        self.port = 0
        self.base_url = ""
        self.in_flight = 0
        self.peak = 0
        """The most calls that were in flight at once."""
        self.served = 0
        self.closed_early = 0
        """Calls whose caller went away."""

    async def start(self, host: str, port: int) -> None:
        """Begins to listen. Raises OSError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.base_url = f"http://{host}:{self.port}/v1"

    async def stop(self) -> None:
        """Closes all connections."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = (request.method, request.path)
        if route == ("POST", "/v1/chat/completions"):
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            try:
                return await self._chat(request)
            except Refusal as refusal:
                return _error(refusal.status, refusal.code, str(refusal))
            except (asyncio.CancelledError, ConnectionError):
                self.closed_early += 1
                raise
            finally:
                self.in_flight -= 1
                self.served += 1
        if route == ("POST", "/v1/embeddings"):
            try:
                return _json(200, embeddings(orjson.loads(await request.read())))
            except (orjson.JSONDecodeError, Refusal) as refusal:
                return _error(400, "invalid_request", str(refusal))
        if route == ("GET", "/v1/models"):
            rows = [{"id": m, "object": "model", "created": 0, "owned_by": self._name} for m in self._source.models]
            return _json(200, {"object": "list", "data": rows})
        if route == ("GET", "/health"):
            return _json(200, {"status": "ok", "in_flight": self.in_flight, "peak": self.peak, "served": self.served})
        return _error(404, "not_found", f"there is no {request.method} {request.path}")

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise Refusal(400, "invalid_json", "the body is not JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise Refusal(400, "invalid_request", "'model' is missing")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise Refusal(400, "invalid_request", "'messages' is missing")
        n = body.get("n")
        count = n if isinstance(n, int) else 1
        if count > MAX_CHOICES:
            raise Refusal(400, "invalid_request", f"'n' is {count}; at most {MAX_CHOICES} choices are made")
        script = self._source.script(body["model"], body)
        started_s = time.monotonic()
        head = {
            "id": f"chatcmpl-sim{self.served}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "system_fingerprint": self._fingerprint,
        }
        words = sum(len(str(m.get("content", "")).split()) for m in body["messages"] if isinstance(m, dict))
        usage = {"prompt_tokens": words, "completion_tokens": len(script.pieces) * count}
        usage["total_tokens"] = words + usage["completion_tokens"]
        if body.get("stream"):
            options = body.get("stream_options") or {}
            head["object"] = "chat.completion.chunk"
            return await self._stream(
                request, script, head, usage if options.get("include_usage") else None, started_s, count
            )
        rate = script.tokens_per_s
        await asyncio.sleep(script.first_s + (len(script.pieces) / rate if rate else 0))
        message: dict[str, Any] = {"role": "assistant", "content": "".join(script.pieces)}
        if script.calls:
            message = {"role": "assistant", "content": None, "tool_calls": _calls(script, self.served)}
        choices = [
            {"index": i, "message": message, "logprobs": None, "finish_reason": script.finish} for i in range(count)
        ]
        return _json(200, {**head, "choices": choices, "usage": usage})

    async def _stream(
        self,
        request: web.BaseRequest,
        script: Script,
        head: dict[str, Any],
        usage: dict[str, int] | None,
        started_s: float,
        count: int,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        await response.prepare(request)
        sent, rate = 0, script.tokens_per_s
        await asyncio.sleep(script.first_s)
        while sent < len(script.pieces):
            due = len(script.pieces)
            if rate:
                late_s = time.monotonic() - started_s - script.first_s
                due = min(due, max(sent + 1, int(late_s * rate) + 1))
            events = b""
            for position in range(sent, due):
                delta = {"content": script.pieces[position]}
                for index in range(count):
                    first = {"role": "assistant"} if position == 0 else {}
                    choice = {"index": index, "delta": {**first, **delta}, "finish_reason": None}
                    events += b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"
            await response.write(events)
            sent = due
            if sent < len(script.pieces) and rate:
                await asyncio.sleep(max(0.0, started_s + script.first_s + sent / rate - time.monotonic()))
        end = b""
        for call in _calls(script, self.served):
            # As models do: what is called, then its arguments in pieces.
            arguments = call["function"]["arguments"]
            named = {**call, "function": {**call["function"], "arguments": ""}}
            half = len(arguments) // 2
            parts = [
                {"index": call["index"], "function": {"arguments": a}} for a in (arguments[:half], arguments[half:])
            ]
            for index in range(count):
                for said in (named, *parts):
                    choice = {"index": index, "delta": {"tool_calls": [said]}, "finish_reason": None}
                    end += b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"
        for index in range(count):
            choice = {"index": index, "delta": {}, "finish_reason": script.finish}
            end += b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"
        if usage is not None:
            end += b"data: " + orjson.dumps({**head, "choices": [], "usage": usage}) + b"\n\n"
        await response.write(end + b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _calls(script: Script, served: int) -> list[dict[str, Any]]:
    return [
        {"index": i, "id": f"call_{served}_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(script.calls)
    ]


def _json(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return _json(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})


async def start(settings: Simulate | Replay, *, name: str, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Starts one in the running loop. Raises OSError, and ValueError for a recording that cannot be read."""
    server = Server(Simulated(settings, name) if isinstance(settings, Simulate) else Replayed(settings), name)
    await server.start(host, port)
    return server
