"""An upstream that misbehaves on purpose: raw asyncio, since a framework cannot reset a connection or cut a chunked body.

The fault is chosen by the model's name. Every attempt is logged with its times and when the client went away.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

DONE = "data: [DONE]\n\n"


@dataclass
class Attempt:
    """One request as the upstream saw it."""

    model: str
    started_s: float
    body: Any
    ended_s: float | None = None
    """When it was answered, or when its client went away."""
    gone: bool = False
    head: str = ""
    """Its request line and headers, in lower case."""
    key: str = ""
    """What it bears, as it was written."""
    sent_bytes: int = 0
    """Of a flood: what has been taken from it."""


@dataclass
class Upstream:
    """The server. `log` has every attempt, `peak` the most at once."""

    port: int = 0
    log: list[Attempt] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    _server: asyncio.Server | None = None
    _counts: dict[str, int] = field(default_factory=dict)
    _down: dict[str, float] = field(default_factory=dict)
    """Since when a model has been down."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    def forget(self) -> None:
        """Faults that happen once happen again."""
        self._counts.clear()
        self._down.clear()

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
        written = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        head = written.lower()
        at = head.find("authorization: bearer ")
        key = written[at + 22 :].split("\r\n")[0] if at >= 0 else ""
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        model = str(body.get("model"))
        attempt = Attempt(model, time.monotonic(), body, head=head, key=key)
        self.log.append(attempt)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        count = self._counts[model] = self._counts.get(model, 0) + 1
        work = asyncio.ensure_future(self._answer(attempt, count, body, writer))
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
            attempt.gone = not work.done() or isinstance(work.exception(), ConnectionError)
            attempt.ended_s = time.monotonic()
            return not attempt.gone and work.result()
        finally:
            self.in_flight -= 1
            for task in (work, left):
                task.cancel()
            await asyncio.wait((work, left))

    async def _answer(self, attempt: Attempt, count: int, body: Any, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; says whether the connection stays open."""
        model = attempt.model
        stream = bool(body.get("stream"))
        name, _, value = model.partition("-")
        if name == "slow":
            await asyncio.sleep(float(value.partition("-")[0]))
        if name == "silent" or (name == "headers" and not stream):
            await asyncio.sleep(3600)
        if name == "reset":
            writer.transport.abort()
            return False
        if name == "once" and count == 1:
            return _whole(writer, 500, '{"error": {"message": "try again"}}')
        if name == "outage" and count > 1:
            # Healthy, then down for so long, then healthy.
            down_s = self._down.setdefault(model, time.monotonic())
            if time.monotonic() - down_s < float(value):
                return _whole(writer, *ERRORS["unavailable"])
        if name == "wait" and count == 1:
            return _whole(writer, *ERRORS["limited"], f"retry-after: {value}\r\n")
        if name == "echo":
            return _echo(attempt, writer, late=bool(value and stream))
        if name in ERRORS:
            return _whole(writer, *ERRORS[name])
        if not stream:
            return await self._unary(model, name, writer)
        words = _words(name, body["messages"][-1])
        if not words:
            return _whole(writer, 400, '{"error": {"message": "the last turn is not one that can be answered"}}')
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if name == "headers":
            await asyncio.sleep(3600)
        if name == "errorevent":
            _chunk(writer, 'data: {"error": {"message": "boom", "code": 503}}\n\n')
            return _chunk(writer, "")
        if name == "flood":
            return await self._flood(attempt, model, writer)
        if name in ENCODED:
            return await _encoded(writer, name, model)
        return await self._stream(model, name, value, words, writer)

    async def _flood(self, attempt: Attempt, model: str, writer: asyncio.StreamWriter) -> bool:
        """More than anybody reads, as fast as it is taken."""
        event = f"data: {json.dumps(delta(model, {'content': 'x' * 10_000}))}\n\n"
        while True:
            _chunk(writer, event)
            await writer.drain()
            attempt.sent_bytes += len(event)

    async def _unary(self, model: str, name: str, writer: asyncio.StreamWriter) -> bool:
        text = "x" * 20_000_000 if name == "huge" else "alpha beta gamma"
        data = json.dumps(completion(model, text)).encode()
        if name in ("cut", "stall"):
            writer.write(
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            )
            writer.write(data[: len(data) // 2])
            await writer.drain()
            if name == "stall":
                await asyncio.sleep(3600)
            writer.close()
            return False
        return _whole(writer, 200, data.decode(), f"x-policy: {'p' * 20_000}\r\n" if name == "headed" else "")

    async def _stream(self, model: str, name: str, value: str, words: list[str], writer: asyncio.StreamWriter) -> bool:
        for position, word in enumerate(words):
            said: dict[str, Any] = {"role": "assistant", "content": word} if position == 0 else {"content": word}
            if name == "tools":
                call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{"}}
                said = {"role": "assistant", "tool_calls": [call]}
            _chunk(writer, f"data: {json.dumps(delta(model, said))}\n\n")
            await writer.drain()
            if name == "drip":
                await asyncio.sleep(float(value))
            if name in ("cut", "tools", "stall", "badevent", "errorlater") and value and position + 1 == int(value):
                break
        if name in ("cut", "tools"):
            # A moment, so that what was sent has been read: a client may drop what it has with the connection.
            await asyncio.sleep(0.05)
            writer.close()
            return False
        if name == "stall":
            await asyncio.sleep(3600)
        if name == "badevent":
            _chunk(writer, "data: {not json\n\n")
        if name == "errorlater":
            _chunk(writer, 'data: {"error": {"message": "boom", "code": 503}}\n\n')
        if name not in ("unfinished", "badevent", "errorlater"):
            for event in ending(model)[: 1 if name == "chatty" else None]:
                _chunk(writer, f"data: {event}\n\n")
            while name == "chatty":
                _chunk(writer, ": still here\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            if name != "nodone":
                _chunk(writer, DONE)
        return _chunk(writer, "")


def _echo(attempt: Attempt, writer: asyncio.StreamWriter, *, late: bool) -> bool:
    """An error that repeats the key that it was asked with in all that it says; late: behind a first token."""
    key = attempt.key
    error = {"message": f"no such key: {key}", "type": key, "code": f"bad {key}", "param": key}
    if not late:
        return _whole(writer, 400, json.dumps({"error": error}))
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for event in (delta(attempt.model, {"content": "alpha"}), {"error": error}):
        _chunk(writer, f"data: {json.dumps(event)}\n\n")
    return _chunk(writer, "")


ERRORS: dict[str, tuple[int, str]] = {
    "unavailable": (503, '{"error": {"message": "overloaded"}}'),
    "limited": (429, '{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'),
    "html": (200, "<html>hello</html>"),
    "empty": (200, ""),
    "nochoices": (200, '{"id": "x"}'),
    "context": (400, '{"error": {"message": "too long", "code": "context_length_exceeded"}}'),
    "policy": (400, '{"error": {"message": "not this", "code": "content_policy_violation"}}'),
    "malformed": (400, '{"error": {"message": "no such parameter", "param": "foo", "code": "unknown_parameter"}}'),
    "unauthorized": (401, '{"error": {"message": "Incorrect API key provided: sk-abc***xyz"}}'),
    "forbidden": (403, '{"error": {"message": "this key may not"}}'),
}
ENCODED = {
    "huge": "x" * 20_000_000,
    "bigevent": "x" * 1_000_000,
    "bytes": "één 中文 😀",
    "crlf": "one two",
    "bom": "one two",
}
"""Texts that come whole, but in an unusual way."""


async def _encoded(writer: asyncio.StreamWriter, name: str, model: str) -> bool:
    """A whole stream: 20 MB of it, 1 MB in one event, byte by byte, with CRLF, with a BOM."""
    text = ENCODED[name]
    parts = [text[i : i + 100_000] for i in range(0, len(text), 100_000)] if name == "huge" else [text]
    events = [json.dumps(delta(model, {"role": "assistant", "content": part}), ensure_ascii=False) for part in parts]
    end = "\r\n" if name == "crlf" else "\n"
    data = "".join(f"data: {event}{end}{end}" for event in [*events, *ending(model), "[DONE]"]).encode()
    if name == "bom":
        data = b"\xef\xbb\xbf" + data
    size = 1 if name in ("bytes", "crlf") else 65_536
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        if size == 1 and start % 10 == 0:
            await asyncio.sleep(0.001)
    return _chunk(writer, "")


def ending(model: str) -> list[str]:
    """The events that end a stream: the finish, and the usage."""
    usage = {**delta(model, {}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}
    return [json.dumps(delta(model, {}, "stop")), json.dumps(usage)]


def _words(name: str, turn: dict[str, str]) -> list[str]:
    """What is streamed; nothing: the conversation is refused."""
    if name == "prefill":
        return ["alpha beta gamma".removeprefix(turn["content"])] if turn["role"] == "assistant" else []
    if turn["role"] == "assistant":
        return []
    words = {"other": ["alp", "ha be", "fore"], "split": ["al", "pha b", "eta ga", "mma"], "short": ["al"]}
    return words.get(name, ["alpha", " beta", " gamma"])


def completion(model: str, text: str = "alpha beta gamma") -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage: dict[str, Any] = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    if model.startswith("priced"):
        usage["cost"] = 0.001
    return {"id": "up-1", "object": "chat.completion", "created": 1, "model": model, "choices": choices, "usage": usage}


def delta(model: str, content: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk."""
    choices = [{"index": 0, "delta": content, "finish_reason": finish}]
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}


def _whole(writer: asyncio.StreamWriter, status: int, body: str, headers: str = "") -> bool:
    kind = "text/html" if body.startswith("<") else "application/json"
    data = body.encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{headers}\r\n".encode() + data
    )
    return True


def _chunk(writer: asyncio.StreamWriter, text: str) -> bool:
    data = text.encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    return True


@contextmanager
def running() -> Iterator[Upstream]:
    """One on a loop of its own, for tests that are served by other processes. Who is connected at its end is cut off."""
    server = Upstream()
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        await server.start()
        begun.set_result((asyncio.get_running_loop(), over))
        await over.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    loop, over = begun.result(10)
    yield server
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    assert not thread.is_alive()
