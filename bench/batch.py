"""`make batch`: how full the window of a batch is, what a request of it costs, how it grows, and what people feel of it.

All on the simulated provider, on one cluster with the application: batches are attached to it (`--connect`), or have a
coordinator of their own (`never`). CPU is that of the processes of the kind, by the requests that were answered meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
from pyarrow import parquet

from bench.__main__ import row
from bench.jobs import Jobs
from bench.load import percentile, unary
from orchestrator.batch.results import read

WINDOW = 500
ITEMS = 50_000
ROWS, FILES = 100_000, 40
SLOW_S = 4.0
SLOW = f"latency-{SLOW_S:g}+tokens-10+rate-0"
"""125 requests a second fill the window."""
FAST = "latency-0+tokens-10+rate-0"
PERSON = "chat+tokens-10+rate-0"
"""Log-normal, as answers of models are: calls that all take the same time end together, in waves, and so do places."""
CONFIG = """
providers:
  sim: {simulate: {latency_s: {median: 0.4, p99: 3}}, pool: {concurrency: 600, queue: 1000}}
  narrow: {simulate: {latency_s: {median: 0.4, p99: 3}}, pool: {concurrency: 32, queue: 256}}
"""


class Ran(NamedTuple):
    """A batch that has run to its end."""

    lines: list[Any]
    rss_mb: list[float]
    """Of its driver, every half second."""
    cpu_s: float
    """Of its driver, without its start."""

    def steady(self) -> tuple[float, float, float]:
        """Requests a second in the middle half of it; and the mean seconds that one took there, waits included and
        without."""
        ends = sorted(line["at"] for line in self.lines)
        first, last = ends[len(ends) // 4], ends[3 * len(ends) // 4]
        within = [line for line in self.lines if first < line["at"] <= last]
        seen = sum(line["latency_s"] + line["waited_s"] for line in within) / len(within)
        return len(within) / (last - first), seen, sum(line["latency_s"] for line in within) / len(within)


def batch(
    jobs: Jobs, here: Path, model: str, items: int, window: int, connect: str, *, files: int = 0, **keys: Any
) -> subprocess.Popen[str]:
    """Starts a batch in a folder, or goes on with it: over one file, or over so many of parquet."""
    paths = {"config": "c.yaml", "input": "in" if files else "in.jsonl", "output": "out"}
    if not here.exists():
        here.mkdir()
        (here / "c.yaml").write_text(CONFIG)
        rows = [{"id": f"item-{i}", "prompt": f"Why is the sky blue? {i} " * 10} for i in range(items)]
        if files:
            (here / "in").mkdir()
            for at in range(files):
                parquet.write_table(pa.Table.from_pylist(rows[at::files]), here / "in" / f"{at}.parquet")
        else:
            (here / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"name": here.name, **paths, "arms": {"a": model}, "concurrency": window, **keys}
    (here / "spec.yaml").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "actors.batch", str(here / "spec.yaml"), "--connect", connect]
    env = {**jobs.environment(), "RAY_ADDRESS": jobs.address}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], here: Path) -> Ran:
    """Watches a batch until it has ended."""
    results, many = here / "out" / "results.jsonl", here / "out" / "results"
    driver = psutil.Process(process.pid)
    rss: list[float] = []
    begun_s = cpu_s = 0.0
    written = 0
    errors: list[str] = []
    reading = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reading.start()
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            times = driver.cpu_times()
            cpu_s = times.user + times.system
            # Only while it asks: its report takes memory of its own.
            size = (
                sum(1 for _ in many.iterdir()) if many.exists() else results.stat().st_size if results.exists() else 0
            )
            if size > written:
                written, begun_s = size, begun_s or cpu_s
                rss.append(driver.memory_info().rss / 1e6)
        time.sleep(0.5)
    assert process.returncode == 0, errors
    return Ran([*read(here / "out")], rss, cpu_s - begun_s)


KINDS = ("ray::ServeReplica", "ray::Answering", "ray::Pool", "ray::Simulator", "ray::MapWorker")


def cpu_of(jobs: Jobs, kind: str) -> float:
    """The CPU that processes of a kind have used so far."""
    total = 0.0
    for process in jobs.processes(kind):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Used:
    """The CPU that each kind uses meanwhile. A coordinator of one's own, and its pools, end with the batch: it is looked at
    until then."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._before = {kind: cpu_of(jobs, kind) for kind in KINDS}
        self._now = dict(self._before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(1):
            for kind in KINDS:
                self._now[kind] = max(self._now[kind], cpu_of(self._jobs, kind))

    def end(self) -> dict[str, float]:
        """Seconds, by kind."""
        self._over.set()
        self._thread.join()
        return {kind: self._now[kind] - self._before[kind] for kind in KINDS}


def full_window(jobs: Jobs, folder: Path, connect: str) -> None:
    """Throughput against concurrency by mean latency."""
    how = "own" if connect == "never" else "attached"
    items = 8 * WINDOW
    used = Used(jobs)
    ran = finish(batch(jobs, folder / how, f"sim/{SLOW}", items, WINDOW, connect), folder / how)
    spent = {"the driver": ran.cpu_s, **used.end()}
    rate, seen_s, latency_s = ran.steady()
    ideal = WINDOW / SLOW_S
    row(f"{how}, {WINDOW} in flight, a second", f"{rate:.0f}", f"{ideal:.0f} by {SLOW_S:g} s each: {rate / ideal:.1%}")
    beside = f"{seen_s:.3f} s a request, of which {latency_s:.3f} s upstream"
    row(f"{how}, the same by the mean latency that was seen", f"{rate * seen_s / WINDOW:.1%}", beside)
    for kind, seconds in spent.items():
        if seconds > 0.5:
            row(f"{how}, CPU per request of {kind.removeprefix('ray::')}", f"{seconds / items * 1000:.2f} ms")


def memory(jobs: Jobs, folder: Path) -> None:
    """Growth over many items."""
    here = folder / "memory"
    ran = finish(batch(jobs, here, f"sim/{FAST}", ITEMS, WINDOW, "never"), here)
    rate, _, _ = ran.steady()
    tenth, last = ran.rss_mb[len(ran.rss_mb) // 10], max(ran.rss_mb[-len(ran.rss_mb) // 10 :])
    beside = f"at the end {last:.0f} MB; {rate:.0f} requests a second"
    row(f"the driver's memory at 10 % of {ITEMS:,} items", f"{tenth:.0f} MB", beside)


def people(jobs: Jobs, folder: Path) -> None:
    """Somebody's latency, alone and while a batch keeps the same pool full."""

    def ask() -> list[float]:
        answered = asyncio.run(unary(jobs.url, f"narrow/{PERSON}", concurrency=4, requests=300))
        assert not answered.errors
        return answered.latencies_s

    alone = ask()
    here = folder / "people"
    process = batch(jobs, here, f"narrow/{PERSON}", 12_000, 256, jobs.address)
    results = here / "out" / "results.jsonl"
    while not results.exists() or not results.stat().st_size:
        assert process.poll() is None
        time.sleep(0.2)
    time.sleep(3)
    beside = ask()
    assert process.poll() is None, "the batch has ended before it was measured"
    process.terminate()
    process.communicate(timeout=30)
    for share in (0.5, 0.99):
        with_ms, without_ms = (percentile(one, share) * 1000 for one in (beside, alone))
        beside_it = f"alone {without_ms:.0f} ms: {with_ms / without_ms:.2f} times"
        row(f"people's p{share * 100:g} while a batch fills the pool", f"{with_ms:.0f} ms", beside_it)


def data(jobs: Jobs, folder: Path) -> None:
    """Many workers beside one: the same items, the same answers, how much less a second."""
    for name, model, items in (
        ("window", f"sim/echo+latency-{SLOW_S:g}", 10_000),
        ("cores", "sim/echo+latency-0", ROWS),
    ):
        said: list[dict[Any, Any]] = []
        rates: list[float] = []
        for how, files in (("plain", 0), ("blocks", FILES)):
            here = folder / f"{name}-{how}"
            began_s = time.monotonic()
            used = Used(jobs)
            ran = finish(batch(jobs, here, f"{model}+rate-0", items, WINDOW, "never", files=files), here)
            cpu = {"the driver": ran.cpu_s, **used.end()}
            ends = sorted(line["at"] for line in ran.lines)
            whole, (steady, _, _) = len(ends) / (ends[-1] - ends[0]), ran.steady()
            said.append({(line["item"], line["arm"]): (line["outcome"], line["text"]) for line in ran.lines})
            assert items == len(ran.lines) == len(said[-1])
            rates.append(whole)
            beside = (
                f"in the middle {steady:.0f}; with its start and its report {items / (time.monotonic() - began_s):.0f}"
            )
            row(f"{how}, {items:,} rows bound by the {name}, a second", f"{whole:.0f}", beside)
            spent = ", ".join(
                f"{kind.removeprefix('ray::')} {1000 * s / items:.2f}" for kind, s in cpu.items() if s > 0.5
            )
            row(f"{how}, CPU per request in ms", f"{1000 * sum(cpu.values()) / items:.2f}", spent)
        assert said[0] == said[1]
        row(f"blocks by plain, bound by the {name}", f"{rates[1] / rates[0]:.1%}", "the same answers")


PARTS: dict[str, Callable[[Jobs, Path], None]] = {
    "own": lambda jobs, folder: full_window(jobs, folder, "never"),
    "attached": lambda jobs, folder: full_window(jobs, folder, jobs.address),
    "people": people,
    "memory": memory,
    "data": data,
}


def main() -> None:
    """Runs the benchmark and prints the table; arguments name the parts that are wanted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "served.yaml").write_text(CONFIG)
        jobs = Jobs(folder / "served.yaml")
        try:
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            print("| figure | value | beside it |\n| --- | --- | --- |")
            for part in sys.argv[1:] or PARTS:
                PARTS[part](jobs, folder)
            print(f"load at the end {os.getloadavg()[0]:.1f}")
        finally:
            jobs.stop()


if __name__ == "__main__":
    main()
