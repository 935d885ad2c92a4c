"""An upstream that misbehaves on purpose: raw asyncio, since a framework cannot reset a connection or cut a chunked body.

The fault is chosen by the model's name. Every attempt is logged with its times and when the client went away.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

DONE = "data: [DONE]\n\n"


@dataclass
class Attempt:
    """One request as the upstream saw it."""

    model: str
    started_s: float
    ended_s: float | None = None
    """When it was answered, or when its client went away."""
    gone: bool = False


@dataclass
class Upstream:
    """The server. `log` has every attempt, `peak` the most at once."""

    port: int = 0
    log: list[Attempt] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    _server: asyncio.Server | None = None
    _counts: dict[str, int] = field(default_factory=dict)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    def attempts(self, model: str) -> list[Attempt]:
        """What came for one model."""
        return [attempt for attempt in self.log if attempt.model == model]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        model = str(body.get("model"))
        attempt = Attempt(model, time.monotonic())
        self.log.append(attempt)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        count = self._counts[model] = self._counts.get(model, 0) + 1
        work = asyncio.ensure_future(self._answer(model, count, body, writer))
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
            attempt.gone = not work.done()
            attempt.ended_s = time.monotonic()
            if attempt.gone:
                return False
            return work.result()
        finally:
            self.in_flight -= 1
            for task in (work, left):
                task.cancel()
            await asyncio.wait((work, left))

    async def _answer(  # noqa: PLR0912 - a list of faults
        self, model: str, count: int, body: Any, writer: asyncio.StreamWriter
    ) -> bool:
        """Answers one request; says whether the connection stays open."""
        stream = bool(body.get("stream"))
        name, _, value = model.partition("-")
        if name == "slow":
            await asyncio.sleep(float(value))
        if name == "silent" or (name == "headers" and not stream):
            await asyncio.sleep(3600)
        if name == "reset":
            writer.transport.abort()
            return False
        if name == "once" and count == 1:
            return _whole(writer, 500, '{"error": {"message": "try again"}}')
        errors: dict[str, tuple[int, str]] = {
            "unavailable": (503, '{"error": {"message": "overloaded"}}'),
            "limited": (429, '{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'),
            "html": (200, "<html>hello</html>"),
            "empty": (200, ""),
            "nochoices": (200, '{"id": "x"}'),
            "context": (400, '{"error": {"message": "too long", "code": "context_length_exceeded"}}'),
            "malformed": (
                400,
                '{"error": {"message": "no such parameter", "param": "foo", "code": "unknown_parameter"}}',
            ),
            "unauthorized": (401, '{"error": {"message": "Incorrect API key provided: sk-abc***xyz"}}'),
        }
        if name in errors:
            return _whole(writer, *errors[name])
        if not stream:
            return _whole(writer, 200, json.dumps(completion(model)))
        words = _words(name, body["messages"][-1])
        if not words:
            return _whole(writer, 400, '{"error": {"message": "the last turn is not one that can be answered"}}')
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if name == "headers":
            await asyncio.sleep(3600)
        if name == "errorevent":
            _chunk(writer, 'data: {"error": {"message": "boom", "code": 503}}\n\n')
            return _chunk(writer, "")
        for position, word in enumerate(words):
            said: dict[str, Any] = {"role": "assistant", "content": word} if position == 0 else {"content": word}
            if name == "tools":
                call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{"}}
                said = {"role": "assistant", "tool_calls": [call]}
            _chunk(writer, f"data: {json.dumps(delta(model, said))}\n\n")
            await writer.drain()
            if name == "drip":
                await asyncio.sleep(float(value))
            if name in ("cut", "tools", "stall", "badevent") and value and position + 1 == int(value):
                break
        if name in ("cut", "tools"):
            writer.close()
            return False
        if name == "stall":
            await asyncio.sleep(3600)
        if name == "badevent":
            _chunk(writer, "data: {not json\n\n")
        if name not in ("unfinished", "badevent"):
            _chunk(writer, f"data: {json.dumps(delta(model, {}, 'stop'))}\n\n")
            usage = {**delta(model, {}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}
            _chunk(writer, f"data: {json.dumps(usage)}\n\n")
            if name != "nodone":
                _chunk(writer, DONE)
        return _chunk(writer, "")


def _words(name: str, turn: dict[str, str]) -> list[str]:
    """What is streamed; nothing: the conversation is refused."""
    if name == "prefill":
        return ["alpha beta gamma".removeprefix(turn["content"])] if turn["role"] == "assistant" else []
    if turn["role"] == "assistant":
        return []
    words = {"other": ["alp", "ha be", "fore"], "split": ["al", "pha b", "eta ga", "mma"], "short": ["al"]}
    return words.get(name, ["alpha", " beta", " gamma"])


def completion(model: str) -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": "alpha beta gamma"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    return {"id": "up-1", "object": "chat.completion", "created": 1, "model": model, "choices": choices, "usage": usage}


def delta(model: str, content: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk."""
    choices = [{"index": 0, "delta": content, "finish_reason": finish}]
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}


def _whole(writer: asyncio.StreamWriter, status: int, body: str) -> bool:
    kind = "text/html" if body.startswith("<") else "application/json"
    data = body.encode()
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    return True


def _chunk(writer: asyncio.StreamWriter, text: str) -> bool:
    data = text.encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    return True
