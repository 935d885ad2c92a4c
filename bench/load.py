"""Load on an endpoint, and what it felt like: one asyncio process over aiohttp, cheap enough to share two cores with it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


@dataclass(frozen=True)
class Unary:
    """Latencies in seconds."""

    latencies_s: list[float]
    seconds: float
    errors: int


@dataclass(frozen=True)
class Streams:
    """First tokens and the largest gap of each stream, in seconds."""

    first_s: list[float]
    gaps_s: list[float]
    chunks: int
    complete: int


def _body(model: str, *, stream: bool) -> dict[str, object]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Why is the sky blue? " * 10}]}


async def unary(
    url: str,
    model: str,
    *,
    concurrency: int,
    requests: int,
    over_s: float = 0.0,
    steady: bool = False,
    key: str | None = None,
) -> Unary:
    """`requests` whole answers, `concurrency` at a time, the first ones begun evenly over `over_s`.

    `steady`: the load goes on, uncounted, until the last of them has ended: what takes long is not measured in a lull.
    """
    latencies: list[float] = []
    errors = begun = 0

    async def worker(session: aiohttp.ClientSession, wait_s: float) -> None:
        nonlocal errors, begun
        await asyncio.sleep(wait_s)
        while begun < requests or (steady and len(latencies) < requests):
            begun += 1
            counts, began_s = begun <= requests, time.perf_counter()
            async with session.post(f"{url}/chat/completions", json=_body(model, stream=False)) as answer:
                await answer.read()
                errors += answer.status != 200
            if counts:
                latencies.append(time.perf_counter() - began_s)

    headers = None if key is None else {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        began_s = time.perf_counter()
        await asyncio.gather(*(worker(session, over_s * i / concurrency) for i in range(concurrency)))
        return Unary(latencies, time.perf_counter() - began_s, errors)


async def streams(url: str, model: str, *, count: int, over_s: float = 0.0) -> Streams:
    """`count` streams at once, begun evenly over `over_s`."""
    first: list[float] = []
    gaps: list[float] = []
    chunks = complete = 0

    async def one(session: aiohttp.ClientSession, wait_s: float) -> None:
        nonlocal chunks, complete
        await asyncio.sleep(wait_s)
        began_s = last_s = time.perf_counter()
        largest_s, seen, end = 0.0, 0, b""
        async with session.post(f"{url}/chat/completions", json=_body(model, stream=True)) as answer:
            async for data in answer.content.iter_any():
                now_s = time.perf_counter()
                if not seen:
                    first.append(now_s - began_s)
                else:
                    largest_s = max(largest_s, now_s - last_s)
                last_s = now_s
                seen += data.count(b"data: ")
                end = (end + data)[-32:]
        chunks += seen
        complete += end.endswith(b"data: [DONE]\n\n")
        gaps.append(largest_s)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session, over_s * i / count) for i in range(count)))
    return Streams(first, gaps, chunks, complete)
