"""`make books`: what it costs to keep account: the same requests through an endpoint with ledger, keys, limits, a budget and
metrics that are scraped, and through one without any of them.

Both run beside each other and are loaded in turn, so that whatever else the machine does falls on both; CPU is summed over
all processes of each cluster, the ledger's included.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import tempfile
from pathlib import Path

import aiohttp

from bench.__main__ import FAST, cpu_s, row
from bench.load import percentile, unary
from bench.serving import Served, simulated

ROUNDS = 8
REQUESTS = 2_000
SCRAPE_S = 5.0
KEY = "sk-orch-bench"
PLAIN = "providers: {{up: {{base_url: {direct}, pool: {{concurrency: 512, queue: 1000}}}}}}\n"
KEPT = (
    PLAIN
    + """
pricing: {{overrides: {{"up/*": {{input_per_mtok_usd: 0.15, output_per_mtok_usd: 0.6}}}}}}
ledger: {{url: "sqlite:///ledger.db"}}
server:
  keys:
    - {{name: bench, key_sha256: "{sha256}", user: ada, budget_usd: 100000, requests_per_minute: 6000000,
        tokens_per_minute: 600000000, admin: true}}
"""
)


async def scrape(served: Served) -> None:
    """As Prometheus would, until it is cancelled."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
        while True:
            async with http.get(f"{served.root}/metrics") as answer:
                assert answer.status == 200
                await answer.read()
            await asyncio.sleep(SCRAPE_S)


async def spent_ms(served: Served, key: str | None) -> tuple[float, float]:
    """CPU a request, and the median latency, both in milliseconds. What is written late counts, too."""
    before_s = cpu_s(served)
    loaded = await unary(served.url, f"up/{FAST}", concurrency=32, requests=REQUESTS, key=key)
    assert loaded.errors == 0
    return (cpu_s(served) - before_s) / REQUESTS * 1000, percentile(loaded.latencies_s, 0.5) * 1000


async def measure(plain: Served, kept: Served) -> None:
    """Rounds by turns; the ratio is of each pair."""
    scraping = asyncio.ensure_future(scrape(kept))
    for served, key in ((plain, None), (kept, KEY)):
        await unary(served.url, f"up/{FAST}", concurrency=32, requests=500, key=key)
    pairs = [(await spent_ms(plain, None), await spent_ms(kept, KEY)) for _ in range(ROUNDS)]
    scraping.cancel()
    for what, index in (("CPU a request", 0), ("p50 at 32", 1)):
        with_ms, without_ms = (statistics.median(pair[which][index] for pair in pairs) for which in (1, 0))
        ratio = statistics.median(pair[1][index] / pair[0][index] for pair in pairs)
        row(f"{what}, kept account of", f"{with_ms:.3f} ms", f"without {without_ms:.3f} ms; in the median {ratio:.3f}")


def main() -> None:
    """Runs the benchmark and prints the table."""
    with simulated() as direct, tempfile.TemporaryDirectory() as folder:
        plain, kept = Path(folder) / "plain.yaml", Path(folder) / "kept.yaml"
        plain.write_text(PLAIN.format(direct=direct))
        kept.write_text(KEPT.format(direct=direct, sha256=hashlib.sha256(KEY.encode()).hexdigest()))
        first = Served(plain)
        try:
            second = Served(kept)
            try:
                asyncio.run(measure(first, second))
            finally:
                second.stop()
        finally:
            first.stop()


if __name__ == "__main__":
    main()
