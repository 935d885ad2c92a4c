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
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.__main__ import row
from bench.jobs import Jobs
from bench.load import percentile, unary

WINDOW = 500
ITEMS = 50_000
SLOW = "latency-2+tokens-10+rate-0"
"""Two seconds each: 250 requests a second fill the window."""
FAST = "latency-0+tokens-10+rate-0"
PERSON = "latency-0.5+tokens-10+rate-0"
CONFIG = """
providers:
  sim: {simulate: {latency_s: {median: 0.4, p99: 3}}, pool: {concurrency: 600, queue: 1000}}
  narrow: {simulate: {latency_s: {median: 0.4, p99: 3}}, pool: {concurrency: 64, queue: 256}}
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


def batch(jobs: Jobs, folder: Path, name: str, model: str, items: int, window: int, connect: str) -> subprocess.Popen[str]:
    """Starts a batch."""
    here = folder / name
    here.mkdir()
    (here / "c.yaml").write_text(CONFIG)
    with (here / "in.jsonl").open("w") as file:
        for i in range(items):
            file.write(json.dumps({"id": f"item-{i}", "prompt": f"Why is the sky blue? {i} " * 10}) + "\n")
    spec = {"name": name, "config": "c.yaml", "input": "in.jsonl", "output": "out", "arms": {"a": model}, "concurrency":
    window} (here / "spec.yaml").write_text(json.dumps(spec)) command = [sys.executable, "-m", "actors.batch", str(here /
    "spec.yaml"), "--connect", connect] env = {**jobs.environment(), "RAY_ADDRESS": jobs.address} return
    subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], results: Path) -> Ran:
    """Watches a batch until it has ended."""
    driver = psutil.Process(process.pid)
    rss: list[float] = []
    begun_s = cpu_s = 0.0
    errors: list[str] = []
    assert process.stderr is not None
    reading = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reading.start()
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            times = driver.cpu_times()
            cpu_s = times.user + times.system
            if results.exists() and results.stat().st_size:
                begun_s = begun_s or cpu_s
                rss.append(driver.memory_info().rss / 1e6)
        time.sleep(0.5)
    assert process.returncode == 0, errors
    return Ran([json.loads(line) for line in results.open()], rss, cpu_s - begun_s)


def cpu_of(jobs: Jobs, title: str) -> float:
    """The CPU that processes of a kind have used so far."""
    total = 0.0
    for process in jobs.processes(title):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def full_window(jobs: Jobs, folder: Path, connect: str) -> None:
    """Throughput against concurrency by mean latency."""
    how = "attached" if connect != "never" else "own"
    items = 20 * WINDOW
    kinds = ("ray::ServeReplica", "ray::Answering", "ray::Pool", "ray::Simulator")
    before = {kind: cpu_of(jobs, kind) for kind in kinds}
    # The coordinator of one's own, and its pools, end with the batch: they are looked at until then.
    used = dict(before)
    process = batch(jobs, folder, f"window-{how}", f"sim/{SLOW}", items, WINDOW, connect)
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(1):
            for kind in kinds:
                used[kind] = max(used[kind], cpu_of(jobs, kind))

    thread = threading.Thread(target=watch) thread.start() ran = finish(process, folder / f"window-{how}" / "out" /
    "results.jsonl") watching.set() thread.join() rate, seen_s, latency_s = ran.steady() row(f"{how}, {WINDOW} in flight,
    requests a second", f"{rate:.0f}", f"{WINDOW} / 2 s is {WINDOW / 2:.0f}: {rate / WINDOW * 2:.1%}") row(f"{how}, the
    window's share that is in flight", f"{rate * seen_s / WINDOW:.1%}", f"{seen_s:.3f} s a request, {latency_s:.3f} s
    upstream") row(f"{how}, CPU per request of the driver", f"{ran.cpu_s / items * 1000:.2f} ms") for kind in kinds:
        if (spent := used[kind] - before[kind]) > 0.5:
            row(f"{how}, CPU per request of {kind.removeprefix('ray::')}", f"{spent / items * 1000:.2f} ms")


def memory(jobs: Jobs, folder: Path) -> None:
    """Growth over many items.""" process = batch(jobs, folder, "memory", f"sim/{FAST}", ITEMS, WINDOW, "never") ran =
    finish(process, folder / "memory" / "out" / "results.jsonl") rate, _, _ = ran.steady() tenth, last =
    ran.rss_mb[len(ran.rss_mb) // 10], max(ran.rss_mb[-len(ran.rss_mb) // 10 :]) row(f"driver's memory at 10 % of {ITEMS:,}
    items", f"{tenth:.0f} MB", f"at the end {last:.0f} MB; {rate:.0f} requests a second")


def people(jobs: Jobs, folder: Path) -> None:
    """Somebody's latency, alone and while a batch keeps the same pool full."""

    def ask() -> list[float]:
        answered = asyncio.run(unary(jobs.url, f"narrow/{PERSON}", concurrency=4, requests=240))
        assert not answered.errors
        return answered.latencies_s

    alone = ask()
    process = batch(jobs, folder, "people", f"narrow/{PERSON}", 6_000, 256, jobs.address)
    results = folder / "people" / "out" / "results.jsonl"
    while not results.exists() or not results.stat().st_size:
        assert process.poll() is None
        time.sleep(0.2)
    time.sleep(3)
    beside = ask()
    assert process.poll() is None, "the batch has ended before it was measured"
    process.terminate()
    process.communicate(timeout=30)
    for share in (0.5, 0.99):
        with_s, without_s = percentile(beside, share), percentile(alone, share) row(f"people's p{share * 100:g} beside a
        batch", f"{with_s * 1000:.0f} ms", f"alone {without_s * 1000:.0f} ms: {with_s / without_s:.2f}")


def main() -> None:
    """Runs the benchmark and prints the table; arguments name the parts that are wanted."""
    wanted = sys.argv[1:] or ["own", "attached", "people", "memory"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "served.yaml").write_text(CONFIG)
        jobs = Jobs(folder / "served.yaml")
        try:
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n| figure | value | beside it |\n| --- | --- | ---
            |") if "own" in wanted:
                full_window(jobs, folder, "never")
            if "attached" in wanted:
                full_window(jobs, folder, jobs.address)
            if "people" in wanted:
                people(jobs, folder)
            if "memory" in wanted:
                memory(jobs, folder)
            print(f"load at the end {os.getloadavg()[0]:.1f}")
        finally:
            jobs.stop()


if __name__ == "__main__":
    main()
