"""`make soak`: five minutes at full load of everything at once, and whether anything grows.

Whole answers, streams, races, hedges, rescues, callers that leave early, models that nobody has heard of and selectors that
there are not, 48 at a time. Memory (what each process holds for itself) and open files are read every ten seconds; the slope
is a least-squares line over the second half, when pools and caches have filled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import aiohttp
import psutil

from actors.watchdog import marked
from bench.serving import Served

MINUTES = 5.0
CALLERS = 48
CONFIG = """
providers:
  sim: {simulate: {latency_s: {median: 0.02, p99: 0.2}, tokens_per_s: 2000, error_rate: 0.02}, retry: {backoff_s: 0.05}}
  spare: {simulate: {latency_s: {median: 0.02, p99: 0.2}, tokens_per_s: 2000}}
tiers:
  race: {strategy: race, models: [sim/a, spare/a]}
  hedge: {strategy: hedge, models: [sim/a, spare/a], after: p95}
  rescue: [sim/error-503, spare/a]
"""


def read(served: Served) -> dict[str, tuple[float, int]]:
    """By process: megabytes for itself, and open files."""
    found = {}
    for process in marked(served.mark):
        with contextlib.suppress(psutil.Error):
            title = (process.cmdline() or ["?"])[0].split("/")[-1].partition(".")[0]
            found[f"{title} {process.pid}"] = (process.memory_full_info().uss / 1e6, process.num_fds())
    return found


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line, a minute."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    across = sum((x - mean_x) ** 2 for x, _ in points)
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in points) / across if across else 0.0


async def caller(http: aiohttp.ClientSession, url: str, until_s: float, seen: Counter[str], number: int) -> None:
    """Asks for one thing after the other until the time is over."""
    rng = random.Random(number)
    while time.monotonic() < until_s:
        model = rng.choice(
            ["sim/a", "spare/a", "tier:race", "tier:hedge", "tier:rescue", f"sim/x{rng.random()}", "no/such"]
        )
        body = {"model": model, "stream": rng.random() < 0.5, "messages": [{"role": "user", "content": "hi " * 50}]}
        try:
            async with http.post(f"{url}/chat/completions", json=body) as answer:
                if rng.random() < 0.1:
                    seen["left"] += 1
                    continue  # leaves with the answer under way
                await answer.read()
                seen[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            seen[type(error).__name__] += 1


async def soak(served: Served, minutes: float) -> int:
    """Loads and reads; returns how many processes grow."""
    began_s = time.monotonic()
    until_s = began_s + 60 * minutes
    seen: Counter[str] = Counter()
    readings: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        loading = [asyncio.ensure_future(caller(http, served.url, until_s, seen, i)) for i in range(CALLERS)]
        while time.monotonic() < until_s:
            for name, (used, files) in (await asyncio.to_thread(read, served)).items():
                readings[name].append((time.monotonic() - began_s, used, files))
            await asyncio.sleep(10)
        await asyncio.gather(*loading)
    print(f"requests: {sum(seen.values())} ({', '.join(f'{name}: {count}' for name, count in seen.most_common())})\n")
    print("| process | memory by the minute | slope | open files, at most and slope |\n| --- | --- | --- | --- |")
    growing = 0
    for name, all_points in sorted(readings.items()):
        points = all_points[len(all_points) // 2 :]
        by_minute = " ".join(f"{mb:.0f}" for _, mb, _ in all_points[::6])
        mb_slope, file_slope = (
            slope([(at, mb) for at, mb, _ in points]),
            slope([(at, float(fds)) for at, _, fds in points]),
        )
        growing += mb_slope > 0.5 or file_slope > 2
        print(
            f"| {name} | {by_minute} MB | {mb_slope:+.2f} MB/min | {max(p[2] for p in points)}, {file_slope:+.1f}/min |"
        )
    return growing


def main() -> int:
    """Serves, loads, and prints the table; 1 if anything grew by more than half a megabyte or two files a minute."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "soak.yaml"
        config.write_text(CONFIG)
        served = Served(config, "--replicas", "2")
        try:
            print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
            return 1 if asyncio.run(soak(served, minutes)) else 0
        finally:
            served.stop()


if __name__ == "__main__":
    sys.exit(main())
