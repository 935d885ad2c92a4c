"""`make tails`: what strategies do to tails and failures, through the endpoint, next to what could be had.

- A hedge at p95 over a heavy-tailed upstream: p99.9 and added calls, next to the theory: with the latencies that the same
  upstream showed when it was asked directly, the second drawn independently of the first, min(x, d + y) with d their p95.
- `balance` over three deployments, of which one is four times slower and one fails half the time, next to turns (equal
  weights) and to the best static choice (the good one first, the others as its fallbacks).
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from bench.__main__ import calls, row
from bench.load import percentile, unary
from bench.serving import Served

REQUESTS = 5_000
MEDIAN_S, P99_S = 0.05, 3.0
"""Log-normal: 0.9 s at p95, 11.5 s at p99.9."""
TAIL, SPARE = "chat+tokens-10+rate-0", "spare+tokens-10+rate-0"
BALANCED = 2_000
CONFIG = """
providers:
  tail: {{base_url: {direct}, pool: {{concurrency: 1024, queue: 1000}}}}
  good: {{simulate: {{latency_s: {{median: 0.1, p99: 0.3}}, tokens_per_s: 10000}}}}
  slow: {{simulate: {{latency_s: {{median: 0.4, p99: 1.2}}, tokens_per_s: 10000}}}}
  flaky: {{simulate: {{latency_s: {{median: 0.1, p99: 0.3}}, tokens_per_s: 10000, error_rate: 0.5}}}}
tiers:
  hedge: {{strategy: hedge, models: [tail/{tail}, tail/{spare}], after: p95}}
  balance: {{strategy: balance, models: [slow/a, flaky/a, good/a]}}
  in_flight: {{strategy: balance, by: in_flight, models: [slow/a, flaky/a, good/a]}}
  turns: {{strategy: balance, by: weight, models: [slow/a, flaky/a, good/a]}}
  static: [good/a, slow/a, flaky/a]
"""


def theory(samples_s: list[float]) -> tuple[float, float]:
    """The p99.9 of a hedge at p95 over these latencies, and the share of calls that it adds."""
    rng = random.Random(1)
    after_s = percentile(samples_s, 0.95)
    drawn = (rng.sample(samples_s, 2) for _ in range(400_000))
    hedged = [min(first, after_s + second) for first, second in drawn]
    return percentile(hedged, 0.999), sum(first > after_s for first in samples_s) / len(samples_s)


async def hedge(through: str, direct: str) -> None:
    """The tail alone, hedged, and in theory."""
    alone = await unary(direct, TAIL, concurrency=128, requests=REQUESTS, steady=True)
    await unary(through, f"tail/{TAIL}", concurrency=64, requests=500)  # from here on the pool knows its p95
    before = await calls(through, TAIL)
    hedged = await unary(through, "tier:hedge", concurrency=128, requests=REQUESTS, steady=True)
    added = await calls(through, SPARE) / (await calls(through, TAIL) - before)
    least_s, share = theory(alone.latencies_s)
    for at in (0.5, 0.95, 0.99):
        with_s, without_s = percentile(hedged.latencies_s, at), percentile(alone.latencies_s, at)
        row(f"hedge at p95, p{at * 100:g}", f"{with_s * 1000:.0f} ms", f"unhedged {without_s * 1000:.0f} ms")
    with_s, without_s = percentile(hedged.latencies_s, 0.999), percentile(alone.latencies_s, 0.999)
    beside = f"unhedged {without_s:.2f} s: cut {without_s / with_s:.1f} times; in theory {least_s:.2f} s"
    row("hedge at p95, p99.9", f"{with_s:.2f} s", beside)
    row("hedge at p95, added calls", f"{added:.1%}", f"in theory {share:.1%}; {hedged.errors} errors")


async def balanced(through: str, tier: str) -> None:
    """One way of spreading calls: who was asked, how long it took, what failed."""
    latencies, asked, failed, errors = list[float](), Counter[str](), 0, 0
    left = iter(range(BALANCED))

    async def caller(http: aiohttp.ClientSession) -> None:
        nonlocal failed, errors
        body = {"model": f"tier:{tier}", "messages": [{"role": "user", "content": "hi"}]}
        loop = asyncio.get_running_loop()
        for _ in left:
            began_s = loop.time()
            async with http.post(f"{through}/chat/completions", json=body) as answer:
                report: Any = (await answer.json())["orchestrator"]
                errors += answer.status != 200
            latencies.append(loop.time() - began_s)
            asked[report["attempts"][0]["provider"]] += 1
            failed += report["attempts"][0]["outcome"] != "ok"

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(caller(http) for _ in range(32)))
    shares = ", ".join(f"{name} {asked[name] / BALANCED:.0%}" for name in ("good", "slow", "flaky"))
    p50_s, p95_s = percentile(latencies, 0.5), percentile(latencies, 0.95)
    beside = f"asked first: {shares}; first tries failed {failed / BALANCED:.1%}, requests {errors / BALANCED:.1%}"
    row(f"{tier}, p50 and p95", f"{p50_s:.2f} and {p95_s:.2f} s", beside)


async def measure(through: str, direct: str) -> None:
    """All figures."""
    for tier in ("turns", "balance", "in_flight", "static"):
        await balanced(through, tier)
    await hedge(through, direct)


def main() -> None:
    """Prints the table."""
    upstream = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "simulate", "--median", str(MEDIAN_S), "--p99", str(P99_S)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert upstream.stdout is not None
        direct = upstream.stdout.readline().split()[1]
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "tails.yaml"
            config.write_text(CONFIG.format(direct=direct, tail=TAIL, spare=SPARE))
            served = Served(config)
            try:
                print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
                print("| figure | through the endpoint | beside it |\n| --- | --- | --- |")
                asyncio.run(measure(served.url, direct))
            finally:
                served.stop()
    finally:
        upstream.terminate()
        upstream.wait(10)


if __name__ == "__main__":
    main()
