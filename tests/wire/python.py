"""An upstream that answers as a test tells it to, and keeps what it was asked: for conversations of several turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from orchestrator.types import Json
from tests.upstream import completion


class Scripted:
    """Answers the first request with the first answer, and so on: text, a whole body, a stream, or a status and an error."""

    def __init__(self, *answers: str | bytes | Json | tuple[int, Json]) -> None:
        self._answers = iter(answers)
        self.asked: list[Json] = []
        """The bodies of the requests."""
        self.url = ""

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body = orjson.loads(await request.read())
        self.asked.append(body)
        answer, status = next(self._answers), 200
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="text/event-stream")
        if isinstance(answer, str):
            answer = completion(body["model"], answer)
        elif isinstance(answer, tuple):
            status, answer = answer
        return web.Response(status=status, body=orjson.dumps(answer), content_type="application/json")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Json]:
        """Serves it; gives the configuration of a provider `up` there."""
        runner = web.ServerRunner(web.Server(self._handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield {"providers": {"up": {"base_url": url, "models": [], "retry": {"attempts": 1}}}}
        finally:
            await runner.cleanup()


def calling(*calls: tuple[str, str], model: str = "m", **message: Any) -> Json:
    """An answer that calls tools: their names and arguments."""
    body = completion(model)
    made = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": text}}
        for i, (name, text) in enumerate(calls)
    ]
    body["choices"] = [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": made, **message},
            "finish_reason": "tool_calls",
        }
    ]
    return body


def results(asked: Sequence[Json]) -> list[str]:
    """What a model was told of its calls in the last request."""
    return [message["content"] for message in asked[-1]["messages"] if message["role"] == "tool"]
