"""A user's process that connects to a running application, run by test_python.py: prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from ray import serve

from orchestrator import CallFailed, Models, UnknownSelector, create_models, sync

HI: Any = [{"role": "user", "content": "one two"}]
LONG = "sim/latency-0.05+tokens-500+rate-20"


async def idle(models: Models) -> float:
    """How long it takes until nothing is in flight any more; at most two seconds, a poll of which takes some ms."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < 2:
        if not sum(row.get("in_flight", 0) for row in await models.pools()):
            break
    return time.monotonic() - began_s


async def asked(models: Models) -> dict[str, Any]:
    reply = await models.model("tier:fallback").generate("hi")
    stream = models.model("sim/echo").stream("one two")
    deltas = [delta.text async for delta in stream]
    seen: dict[str, Any] = {
        "reply": [reply.provider, [attempt["outcome"] for attempt in reply.attempts]],
        "deltas": deltas,
        "stream": [stream.reply.text, stream.reply.provider],
        "whole": [delta.text async for delta in models.model("tier:complete").stream("hi")] != [],
        "list": "tier:race" in await models.list(),
        "should_use": models.should_use("john"),
        "errors": [],
    }
    for selector in ("tier:rase", "up/context"):
        for streamed in (False, True):
            try:
                model = models.model(selector)
                _ = await (anext(model.stream("hi")) if streamed else model.generate("hi"))
            except (UnknownSelector, CallFailed) as error:
                seen["errors"].append([type(error).__name__, str(error).splitlines()[0]])
    client = models.openai()
    chat = await client.chat.completions.create(model="sim/echo", messages=HI)
    seen["openai"] = chat.choices[0].message.content
    return seen


async def left(models: Models) -> dict[str, float]:
    """How long what was left in each way goes on."""
    seen = {}
    async for _ in models.model(LONG).stream("hi"):
        break
    seen["loop"] = await idle(models)
    async with models.model(LONG).stream("hi") as stream:
        await anext(stream)
    seen["with"] = await idle(models)
    for model in (LONG, "sim/latency-20"):
        task = asyncio.ensure_future(models.model(model).generate("hi"))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        seen[f"cancelled {model}"] = await idle(models)
    handle: Any = serve.get_app_handle("orchestrator")
    streaming = handle.options(stream=True).stream.remote(LONG, HI)
    await anext(streaming)
    streaming.cancel()
    seen["handle"] = await idle(models)
    return seen


async def by_handle() -> dict[str, Any]:
    handle: Any = serve.get_app_handle("orchestrator")
    body = await handle.generate.remote("sim/echo", HI, temperature=0)
    chunks = [chunk async for chunk in handle.options(stream=True).stream.remote("sim/echo", HI)]
    seen: dict[str, Any] = {
        "body": [body["choices"][0]["message"]["content"], body["provider"], body["orchestrator"]["winner"]],
        "cost": body["usage"]["cost"],
        "chunks": [chunk["choices"][0]["delta"].get("content") for chunk in chunks],
        "last": [
            chunks[-1]["choices"][0]["finish_reason"],
            chunks[-1]["provider"],
            chunks[-1]["orchestrator"]["winner"],
        ],
        "tokens": chunks[-1]["usage"]["completion_tokens"],
    }
    try:
        await handle.generate.remote("up/unavailable", "hi")
    except CallFailed as error:
        seen["failed"] = [error.failure.kind.value, error.retryable]
    try:
        _ = [chunk async for chunk in handle.options(stream=True).stream.remote("tier:rase", "hi")]
    except UnknownSelector as error:
        seen["unknown"] = error.near[0]
    return seen


async def main() -> None:
    async with create_models(connect="auto") as models:
        seen = {"asked": await asked(models), "left": await left(models), "handle": await by_handle()}
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main())
    with sync.create_models(connect="auto") as models:
        print(json.dumps([delta.text for delta in models.model("sim/echo").stream("one two")]))
