"""`make books`: what it costs to keep account: the same requests through endpoints that differ in what they keep.

`plain` keeps nothing, `again` is the same once more (how far two equal ones are apart is what the others' figures are worth),
`kept` has a ledger, a key with limits and a budget, and metrics that are scraped. `keys`, `ledger` and `budget` have parts of
that, and run where they are named: `python -m bench.books keys ledger`. All run beside each other and are loaded in turn, in
short slices and another order each time, so that whatever else the machine does falls on all of them; a ratio is that of two
slices of one round. CPU is summed over all processes of a cluster, and shown by process.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from bench.__main__ import FAST, cpu_us
from bench.load import percentile, unary
from bench.serving import Served, simulated

ROUNDS = 24
REQUESTS = 800
SCRAPE_S = 5.0
KEY = "sk-orch-bench"
SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
PROVIDERS = "providers: {up: {base_url: DIRECT, pool: {concurrency: 512, queue: 1000}}}\n"
PRICES = 'pricing: {overrides: {"up/*": {input_per_mtok_usd: 0.15, output_per_mtok_usd: 0.6}}}\n'
LEDGER = 'ledger: {url: "sqlite:///ledger.db"}\n'
LIMITED = "requests_per_minute: 6000000, tokens_per_minute: 600000000, "
BUDGET = "budget_usd: 100000, "


def _keys(*said: str) -> str:
    return f"server: {{keys: [{{{''.join(said)}name: bench, key_sha256: '{SHA256}', user: ada, admin: true}}]}}\n"


PARTS = {
    "plain": "",
    "again": "",
    "keys": _keys(LIMITED),
    "ledger": PRICES + LEDGER,
    "budget": PRICES + LEDGER + _keys(BUDGET),
    "kept": PRICES + LEDGER + _keys(LIMITED, BUDGET),
}
ALWAYS = ("plain", "again", "kept")


class Part:
    """One of the endpoints, and what was measured of it, a slice of load each."""

    def __init__(self, name: str, served: Served) -> None:
        self.served = served
        self.key = KEY if "keys" in PARTS[name] else None
        self.cpu_ms: list[float] = []
        """A request, of all processes."""
        self.p50_ms: list[float] = []
        self.by_process = Counter[str]()
        """CPU in microseconds, over all slices."""

    async def load(self, requests: int) -> None:
        """One slice. What is written late (a ledger's batch of the last fifth of a second) falls to the next one."""
        before = cpu_us(self.served)
        loaded = await unary(self.served.url, f"up/{FAST}", concurrency=32, requests=requests, key=self.key)
        assert loaded.errors == 0
        spent = cpu_us(self.served)
        spent.subtract(before)
        self.by_process += spent
        self.cpu_ms.append(spent.total() / requests / 1000)
        self.p50_ms.append(percentile(loaded.latencies_s, 0.5) * 1000)


async def scrape(part: Part) -> None:
    """As Prometheus would, until it is cancelled."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
        while True:
            async with http.get(f"{part.served.root}/metrics") as answer:
                assert answer.status == 200
                await answer.read()
            await asyncio.sleep(SCRAPE_S)


def ratios(of: Sequence[float], to: Sequence[float]) -> str:
    """The median of a list's ratios to another, and where that may lie (95 %, bootstrap)."""
    each = [a / b for a, b in zip(of, to, strict=True)]
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(each, k=len(each))) for _ in range(2_000))
    return f"{statistics.median(each):.3f} ({medians[50]:.3f} to {medians[-50]:.3f})"


async def measure(parts: dict[str, Part]) -> None:
    """Rounds by turns."""
    scraping = asyncio.ensure_future(scrape(parts["kept"]))
    for part in parts.values():
        await part.load(500)
    for part in parts.values():
        part.cpu_ms.clear()
        part.p50_ms.clear()
        part.by_process.clear()
    turns = list(parts.values())
    for number in range(ROUNDS):
        turns.append(turns.pop(0))
        for part in turns if number % 2 else reversed(turns):
            await part.load(REQUESTS)
    scraping.cancel()
    plain = parts["plain"]
    print("| endpoint | CPU a request | to `plain`'s | p50 at 32 | to `plain`'s |\n| --- | --- | --- | --- | --- |")
    for name, part in parts.items():
        cpu_ms, p50_ms = statistics.median(part.cpu_ms), statistics.median(part.p50_ms)
        print(
            f"| {name} | {cpu_ms:.3f} ms | {ratios(part.cpu_ms, plain.cpu_ms)} "
            f"| {p50_ms:.2f} ms | {ratios(part.p50_ms, plain.p50_ms)} |"
        )
    print("\nCPU a request by process, in ms:\n")
    print(f"| process | {' | '.join(parts)} |\n| --- |{' --- |' * len(parts)}")
    titles = sum((part.by_process for part in parts.values()), Counter[str]())
    for title, _ in titles.most_common(8):
        spent = (part.by_process[title] / ROUNDS / REQUESTS / 1000 for part in parts.values())
        print(f"| {title} | {' | '.join(f'{one_ms:.3f}' for one_ms in spent)} |")


def main(names: Sequence[str]) -> None:
    """Runs the benchmark and prints the tables."""
    if unknown := set(names) - set(PARTS):
        sys.exit(f"there is {', '.join(PARTS)}, and no {', '.join(sorted(unknown))}")
    with simulated() as direct, tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        parts: dict[str, Part] = {}
        for name, said in PARTS.items():
            if name in (*ALWAYS, *names):
                config = Path(folder) / name / "orchestrator.yaml"
                config.parent.mkdir()
                config.write_text(PROVIDERS.replace("DIRECT", direct) + said)
                served = Served(config)
                running.callback(served.stop)
                parts[name] = Part(name, served)
        asyncio.run(measure(parts))


if __name__ == "__main__":
    main(sys.argv[1:])
