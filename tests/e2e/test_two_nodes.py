"""A node that dies, and deployments under load: what callers see of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.faults import read
from tests.e2e.test_under_load import TEXT, load, settled
from tests.engines import provider

pytestmark = pytest.mark.timed

CONFIG = """
providers:
  one: &sim {simulate: {latency_s: {median: 0.05, p99: 0.2}, tokens_per_s: 500}}
  two: *sim
  three: *sim
  four: *sim
"""
POOLS = ("one", "two", "three", "four")


class TwoNodes:
    """The running script (`tests/e2e/two_nodes.py`)."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "tests.e2e.two_nodes", str(config)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.root = f"http://127.0.0.1:{self.read()['port']}"

    def read(self) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def tell(self, command: str) -> Any:
        """Has it do something; returns what it then says."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()

    def where(self, node: str) -> list[str]:
        """The actors on a node."""
        found: list[str] = self.tell("where")[node]
        return found


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    config = Path(tmp_path_factory.mktemp("nodes")) / "config.yaml"
    # JSON is YAML; a local model whose replicas are to be spread.
    config.write_text(f"{CONFIG}  gpu: {json.dumps(provider(replicas=2))}\n")
    running = TwoNodes(config)
    yield running
    running.process.communicate(timeout=30)
    assert running.process.returncode == 0


async def long_stream(http: httpx.AsyncClient, seconds: float) -> str:
    """A stream that takes so long; what came of it."""
    model = f"one/echo+latency-0+rate-{20 / seconds}"
    body = {"model": model, "messages": [{"role": "user", "content": TEXT}], "stream": True}
    with contextlib.suppress(httpx.HTTPError):
        answer = await http.post("/v1/chat/completions", json=body)
        said, error, _ = read(answer.text, stream=True)
        return "whole" if said == TEXT and error is None else str(error)
    return "cut"


def replicas(nodes: TwoNodes) -> set[str]:
    """The names of the coordinators."""
    found: dict[str, list[str]] = nodes.tell("where")
    return {name for node in ("first", "second") for name in found[node] if name.startswith("SERVE_REPLICA")}


async def test_deployments_under_load(nodes: TwoNodes) -> None:
    """More replicas, fewer, all of them new each time: HAProxy is reloaded, streams of 12 s run on, no request is lost."""
    async with httpx.AsyncClient(base_url=nodes.root, timeout=60) as http:
        before = replicas(nodes)
        streams = [asyncio.ensure_future(long_stream(http, 12)) for _ in range(10)]
        loading = asyncio.ensure_future(load(http, 1_500, POOLS))
        for count in (3, 1, 2):
            await asyncio.to_thread(nodes.tell, f"deploy {count}")
        assert not before & replicas(nodes)
        whole, others = await loading
        assert (1_500, []) == (whole, others)
        assert ["whole"] * 10 == await asyncio.gather(*streams)
        assert not any(await settled(http))


@pytest.mark.timeout(300)
async def test_as_many_coordinators_as_there_is_to_do(nodes: TwoNodes) -> None:
    """Requests that stay in flight bring another one; afterwards there is one less, and nobody's answer is cut for it."""
    bounds = {"min": 1, "max": 2, "ongoing": 8, "up_s": 1, "down_s": 1}
    await asyncio.to_thread(nodes.tell, f"deploy {json.dumps(bounds)}")
    assert 1 == len(replicas(nodes))
    async with httpx.AsyncClient(base_url=nodes.root, timeout=120, limits=httpx.Limits(max_connections=50)) as http:
        streams = [asyncio.ensure_future(long_stream(http, 45)) for _ in range(24)]
        while 1 == len(await asyncio.to_thread(replicas, nodes)):
            await asyncio.sleep(0.5)
            assert not any(stream.done() for stream in streams), "there was one coordinator all the time"
        assert ["whole"] * 24 == await asyncio.gather(*streams)
        async with asyncio.timeout(90):
            while 2 == len(await asyncio.to_thread(replicas, nodes)):
                assert "whole" == await long_stream(http, 0.5)
    await asyncio.to_thread(nodes.tell, "deploy 2")


def local(nodes: TwoNodes, node: str) -> int:
    """How many replicas of the local model are on a node."""
    return len([name for name in nodes.where(node) if name.startswith("local:gpu:")])


async def both_up(http: httpx.AsyncClient) -> list[str]:
    """The nodes of the local model's replicas, once both are up."""
    while True:
        with contextlib.suppress(httpx.HTTPError, KeyError):
            rows = (await http.get("/admin/pools")).json()["pools"]
            found = next(row["replicas"] for row in rows if row["provider"] == "gpu")
            if [one["state"] for one in found] == ["up", "up"]:
                return [one["node"] for one in found]
        await asyncio.sleep(0.5)


async def test_a_node_that_dies(nodes: TwoNodes) -> None:
    """What its coordinator held is lost; its pools and local models come back on the other, and nothing stays in flight."""
    before = nodes.where("second")
    assert (1, 1) == (local(nodes, "first"), local(nodes, "second"))
    assert any(name.startswith("SERVE_REPLICA") for name in before), before
    assert any(name.startswith("pool:") for name in before), before
    async with httpx.AsyncClient(base_url=nodes.root, timeout=60) as http:
        loading = asyncio.ensure_future(load(http, 1_500, POOLS))
        await asyncio.sleep(1)
        await asyncio.to_thread(nodes.tell, "lose")
        whole, others = await loading
        assert whole + len(others) == 1_500
        assert len(others) <= 64, others
        async with asyncio.timeout(20):
            while {f"pool:{name}" for name in POOLS} - set(nodes.where("first")):
                await asyncio.sleep(0.5)
        assert [] == nodes.where("second")
        assert not any(await settled(http))
        assert (200, []) == await load(http, 200, POOLS)
        (one, other) = await asyncio.wait_for(both_up(http), 60)
        assert one == other
        assert 2 == local(nodes, "first")
