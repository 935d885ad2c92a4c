"""`make bench`: what a request costs through the endpoint, next to the same upstream asked directly in the same run.

The upstream is `orchestrator simulate`, a process of its own. CPU is summed over all processes of the cluster (HAProxy,
coordinators, pools, Ray's own), not over the upstream and the load. Figures are not a pass: the machine may be shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import tempfile
from collections import Counter
from pathlib import Path

import aiohttp
import psutil

from actors.watchdog import marked
from bench.load import percentile, streams, unary
from bench.serving import Served, simulated

FAST = "latency-0+tokens-10+rate-0"
STREAM_S = 30
TAIL, SPARE = "chat+tokens-10+rate-0", "spare+tokens-10+rate-0"
"""Log-normal: 0.4 s in the median, 1.66 s at p95, 3 s at p99."""


def cpu_us(served: Served) -> Counter[str]:
    """The CPU that the cluster has used so far, in microseconds, by the processes' titles."""
    spent = Counter[str]()
    for process in marked(served.mark):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            # Ray's say what they are at, too: `ray::Ledger.post`.
            title = (process.cmdline() or [process.name()])[0].split("/")[-1].split(".")[0]
            spent[title] += round((times.user + times.system) * 1e6)
    return spent


def cpu_s(served: Served) -> float:
    """The same of all processes, in seconds."""
    return cpu_us(served).total() / 1e6


def pss_mb(processes: list[psutil.Process]) -> float:
    """Proportional set size: shared pages are counted once over all who share them. Linux only."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error, AttributeError):
            total += process.memory_full_info().pss / 1e6
    return total


def row(what: str, value: str, beside: str = "") -> None:
    """One line of the table."""
    print(f"| {what} | {value} | {beside} |", flush=True)


async def measure(served: Served, direct: str) -> None:
    """All figures, in order."""
    through = served.url
    await unary(direct, FAST, concurrency=8, requests=200)
    await unary(through, f"up/{FAST}", concurrency=32, requests=500)

    before_s = cpu_s(served)
    loaded = await unary(through, f"up/{FAST}", concurrency=32, requests=3000)
    spent_ms = (cpu_s(served) - before_s) / 3000 * 1000
    plain = await unary(direct, FAST, concurrency=32, requests=3000)
    row("CPU per unary request, 32 at a time", f"{spent_ms:.2f} ms", f"{loaded.errors} errors")
    row("unary requests a second, 32 at a time", f"{3000 / loaded.seconds:.0f}", f"direct {3000 / plain.seconds:.0f}")
    row("p99, 32 at a time", f"{percentile(loaded.latencies_s, 0.99) * 1000:.1f} ms", "")

    one = await unary(through, f"up/{FAST}", concurrency=1, requests=400)
    alone = await unary(direct, FAST, concurrency=1, requests=400)
    for share in (0.5, 0.99):
        added_ms = (percentile(one.latencies_s, share) - percentile(alone.latencies_s, share)) * 1000
        beside = f"direct {percentile(alone.latencies_s, share) * 1000:.2f} ms"
        row(f"added p{share * 100:.0f}, one connection", f"{added_ms:.2f} ms", beside)

    model = f"latency-0.2+tokens-{50 * STREAM_S}+rate-50"
    for how, over_s in (("begun over 5 s", 5.0), ("begun at once", 0.0)):
        own = await streams(direct, model, count=100, over_s=over_s)
        before_s = cpu_s(served)
        many = await streams(through, f"up/{model}", count=100, over_s=over_s)
        spent_ms = (cpu_s(served) - before_s) / many.chunks * 1000
        row(
            f"CPU per streamed chunk, 100 streams of 50/s {how}",
            f"{spent_ms:.3f} ms",
            f"{many.complete} of 100 complete",
        )
        for share in (0.5, 0.99):
            plain_ms = percentile(own.first_s, share) * 1000
            added_ms = percentile(many.first_s, share) * 1000 - plain_ms
            row(f"added first token p{share * 100:.0f}, {how}", f"{added_ms:.1f} ms", f"direct {plain_ms:.0f} ms")
        row(
            f"longest silence between chunks, {how}",
            f"{max(many.gaps_s) * 1000:.0f} ms",
            f"direct {max(own.gaps_s) * 1000:.0f} ms",
        )

    await unary(through, "tier:race", concurrency=8, requests=80)
    before_s = cpu_s(served)
    await asyncio.sleep(5)
    idle = (cpu_s(served) - before_s) / 5
    row("CPU of the idle cluster", f"{idle:.3f} cores")
    before_s = cpu_s(served)
    raced = await unary(through, "tier:race", concurrency=8, requests=400, over_s=0.1)
    spent_ms = (cpu_s(served) - before_s - idle * raced.seconds) / 400 * 1000
    quick = await unary(direct, "latency-0.1+tokens-10+rate-0", concurrency=8, requests=400, over_s=0.1)
    p99_ms, least_ms = (percentile(result.latencies_s, 0.99) * 1000 for result in (raced, quick))
    row("race of 100 ms and 1 s, p99", f"{p99_ms:.1f} ms", f"the 100 ms one directly {least_ms:.1f} ms")
    row("CPU per race of two", f"{spent_ms:.2f} ms", "at 70 a second, the idle cluster's share taken off")

    tail = await unary(through, f"up/{TAIL}", concurrency=64, requests=2000)
    # The pool knows the first model's p95 by now.
    hedged = await unary(through, "tier:hedge", concurrency=64, requests=2000)
    for share in (0.5, 0.99, 0.999):
        with_ms, without_ms = (percentile(one.latencies_s, share) * 1000 for one in (hedged, tail))
        row(f"hedge at p95 over a heavy tail, p{share * 100:g}", f"{with_ms:.0f} ms", f"unhedged {without_ms:.0f} ms")
    row("hedge, added calls", f"{await calls(through, SPARE) / 2000:.1%}", "")


async def calls(url: str, model: str) -> int:
    """How often a model was called, as /admin/pools counts."""
    async with aiohttp.ClientSession() as http, http.get(url.removesuffix("/v1") + "/admin/pools") as answer:
        accounts = (await answer.json())["pools"][0]["accounts"]
    return sum(account["models"][model]["calls"] for account in accounts)


def main() -> None:
    """Runs the benchmark and prints the table."""
    with simulated() as direct, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.yaml"
        config.write_text(
            f"providers: {{up: {{base_url: {direct}, pool: {{concurrency: 512, queue: 1000}}}}}}\n"
            "tiers:\n"
            "  race: {strategy: race, models: [up/latency-0.1+tokens-10+rate-0, up/latency-1+tokens-10+rate-0]}\n"
            f"  hedge: {{strategy: hedge, models: [up/{TAIL}, up/{SPARE}], after: p95}}\n"
        )
        served = Served(config)
        try:
            print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
            print("| figure | through the endpoint | beside it |\n| --- | --- | --- |")
            row("time to ready", f"{served.seconds_to_ready:.1f} s", "")
            row("memory of all processes, idle (PSS)", f"{pss_mb(marked(served.mark)):.0f} MB", "")
            row("memory of a pool actor (PSS)", f"{pss_mb(served.processes('ray::Pool')):.0f} MB", "")
            asyncio.run(measure(served, direct))
        finally:
            row("time to stop", f"{served.stop():.1f} s", f"left behind: {served.left() or 'nothing'}")


if __name__ == "__main__":
    main()
