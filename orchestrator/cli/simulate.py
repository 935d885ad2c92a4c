"""`orchestrator simulate`: the simulated provider alone, as an upstream for tests of anything."""

from __future__ import annotations

import asyncio
import signal
import sys

from orchestrator.config.settings import Latency, Simulate
from orchestrator.simulate.server import start


def simulate(host: str, port: int, seed: int, median_s: float, p99_s: float) -> int:
    """Serves until SIGINT or SIGTERM."""
    return asyncio.run(_run(host, port, Simulate(Latency(median_s, p99_s), seed=seed)))


async def _run(host: str, port: int, settings: Simulate) -> int:
    try:
        server = await start(settings, name="sim", host=host, port=port)
    except OSError as error:
        print(f"--port: {port} cannot be used: {error.strerror}", file=sys.stderr)
        return 2
    print(f"ready {server.base_url}", flush=True)
    stopping = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    await stopping.wait()
    await server.stop()
    return 0
