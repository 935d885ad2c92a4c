"""Several nodes, each on a host of its own: what is asked through one and answered by a pool on another, and a node that is
lost.

What a test of nodes on one host cannot show: that pools are reached by their nodes' addresses, that each node has an HAProxy,
and what comes of a node that dies and closes nothing (`test_two_nodes.py` has the rest).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.faults import read
from tests.e2e.hosted import Hosted, Relayed
from tests.e2e.test_under_load import TEXT, gauges, load, settled
from tests.hosts import Host, Hosts, need_hosts

pytestmark = pytest.mark.timed

CONFIG = """
providers:
  one: &sim {simulate: {latency_s: {median: 0.05, p99: 0.2}, tokens_per_s: 500}}
  two: *sim
  three: *sim
  four: *sim
"""
POOLS = ("one", "two", "three", "four")
FLAGS = {
    # A node that has not answered for so long is dead. By default that takes Ray half a minute and more.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    # A lost coordinator's connections hang until an HAProxy ends that has been replaced since: 120 s by default.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "12",
}
STREAM_S = 8
ITEMS = 120


class Cluster:
    """A head and a worker with the application, and a caller beside them."""

    def __init__(self, hosted: Hosted, caller: Host) -> None:
        self.hosted = hosted
        self.head, self.worker = hosted.hosts
        self.caller = caller

    def http(self, host: Host) -> httpx.AsyncClient:
        """The endpoint by a host's own port."""
        return httpx.AsyncClient(base_url=self.hosted.root(host), timeout=90)

    async def places(self) -> dict[str, str]:
        """The address of each pool's node."""
        async with self.http(self.head) as http:
            return {name: row["node"] for name, row in (await gauges(http)).items() if "node" in row}

    async def spread(self) -> dict[str, str]:
        """The same, once both nodes have some: Ray puts a pool anywhere, and one that was killed anywhere again."""
        while len(POOLS) > len(places := await self.places()) or len({*places.values()}) < 2:
            for pool in self.hosted.hosts[0].processes("ray::Pool") + self.hosted.hosts[1].processes("ray::Pool"):
                pool.kill()
            await self.hosted.ready(self.head, self.worker)
        return places


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_hosts()
    config = tmp_path_factory.mktemp("nodes") / "config.yaml"
    config.write_text(CONFIG)
    with Hosts(3) as (head, worker, caller):
        hosted = Hosted([head, worker], FLAGS)
        try:
            hosted.begin()
            hosted.serve(config, replicas=2)
            hosted.ask(caller, lambda: hosted.ready(head, worker))
            yield Cluster(hosted, caller)
        finally:
            for host in (head, worker):
                host.kill()
            hosted.remove()


def chat(stream: bool, *models: str) -> dict[str, Any]:
    """A request whose answer is its question; of several models, each is asked where the one before it fails."""
    choice = {"model": models[0]} if len(models) == 1 else {"model": "any", "orchestrator": {"models": models}}
    return {**choice, "messages": [{"role": "user", "content": TEXT}], "stream": stream}


def slow(provider: str) -> str:
    """A model that takes `STREAM_S` to say it."""
    return f"{provider}/echo+latency-0+rate-{20 / STREAM_S:g}"


async def told(http: httpx.AsyncClient, body: dict[str, Any]) -> str:
    """What came of a request: `whole`, an error's code, or the name of what befell the connection."""
    try:
        answer = await http.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as lost:
        return type(lost).__name__
    said, error, _ = read(answer.text, stream=body["stream"] and answer.status_code == 200)
    if error is None:
        assert TEXT == said, "half an answer with a clean end"
    return "whole" if error is None else str(error["code"])


def write_batch(folder: Path) -> Path:
    """A batch that asks every pool."""
    folder.mkdir()
    items = "".join(json.dumps({"id": f"{i}", "prompt": f"{i}?"}) + "\n" for i in range(ITEMS))
    (folder / "in.jsonl").write_text(items)
    arms = {name: f"{name}/echo+latency-0.5" for name in POOLS}
    spec = {"name": folder.name, "input": "in.jsonl", "output": "out", "arms": arms, "concurrency": 32}
    path = folder / "spec.yaml"
    path.write_text(json.dumps(spec))
    return path


def results(spec: Path) -> list[bytes]:
    """The whole lines of a batch's results."""
    file = spec.parent / "out" / "results.jsonl"
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def log(spec: Path) -> str:
    """What a batch has said."""
    return (spec.parent / "log").read_text()


def assert_once(spec: Path) -> None:
    """Each pair has been answered, once."""
    rows = [json.loads(line) for line in results(spec)]
    assert {"ok"} == {row["outcome"] for row in rows}
    assert {(str(i), arm): 1 for i in range(ITEMS) for arm in POOLS} == Counter(
        (row["item"], row["arm"]) for row in rows
    )


@pytest.mark.timeout(300)
def test_pools_of_other_hosts(cluster: Cluster) -> None:
    """Whole answers and streams through each node's port, of pools on either: read over the pools' advertised addresses, by
    coordinators on both."""

    async def ask() -> None:
        places = await cluster.spread()
        idle = cluster.hosted.relayed()
        # A session of each coordinator with each pool.
        on = Counter(places.values())
        hosts = {host.address: host for host in cluster.hosted.hosts}
        assert {Relayed(by, hosts[at]): count for by in hosts.values() for at, count in on.items()} == idle
        chosen = [next(name for name, at in places.items() if at == host.address) for host in hosts.values()]
        async with cluster.http(cluster.head) as one, cluster.http(cluster.worker) as other:
            whole = [told(http, chat(False, f"{name}/echo")) for http in (one, other) for name in POOLS * 4]
            assert {"whole"} == {*await asyncio.gather(*whole)}
            bodies = [chat(True, f"{name}/echo+latency-0+rate-4") for name in chosen * 6]
            random.Random(1).shuffle(bodies)
            streams = [asyncio.ensure_future(told(http, body)) for body in bodies for http in (one, other)]
            while (cluster.hosted.relayed() - idle).total() < len(streams):
                await asyncio.sleep(0.1)
                assert not any(stream.done() for stream in streams)
            read_by = cluster.hosted.relayed() - idle
            assert {"whole"} == {*await asyncio.gather(*streams)}
        assert {(by, at) for by in hosts.values() for at in hosts.values()} == {*read_by}
        assert cluster.hosted.relayed() == idle

    cluster.hosted.ask(cluster.caller, ask)


@pytest.mark.timeout(300)
def test_a_node_that_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    """Its power fails, and nothing is closed. Streams that its coordinator held are cut, those that only its pools sent are
    gone on with by others; a batch whose driver lives ends as if nothing had been, and one whose driver was there is gone on
    with elsewhere: each pair once."""
    hosted, head, worker = cluster.hosted, cluster.head, cluster.worker
    staying, moving = write_batch(tmp_path / "staying"), write_batch(tmp_path / "moving")

    async def lose() -> tuple[int, list[str]]:
        """How many streams the surviving coordinator held, and what came of all."""
        places = await cluster.spread()
        lost, kept = (next(name for name, at in places.items() if at == one.address) for one in (worker, head))
        while min(len(results(staying)), len(results(moving))) < 32:
            await asyncio.sleep(0.1)
        idle = hosted.relayed()
        async with cluster.http(head) as http:
            bodies = [chat(True, slow(lost), slow(kept)), chat(True, slow(kept), slow(lost))] * 8
            streams = [asyncio.ensure_future(told(http, body)) for body in bodies]
            while (read_by := hosted.relayed() - idle).total() < len(streams):
                await asyncio.sleep(0.1)
            held = sum(count for one, count in read_by.items() if one.coordinator == head)
            await asyncio.to_thread(hosted.lose, worker)
            return held, list(await asyncio.gather(*streams))

    with hosted.batch(head, staying) as driver, hosted.batch(worker, moving) as lost_driver:
        held, came = hosted.ask(cluster.caller, lose)
        assert -9 == lost_driver.wait(10)
        assert 0 == driver.wait(120), log(staying)
    assert 0 < held < len(came)
    assert held == came.count("whole"), came
    assert {"whole", "RemoteProtocolError"} == {*came}
    assert_once(staying)
    durable = results(moving)
    assert 32 <= len(durable) < ITEMS * len(POOLS)
    with hosted.batch(head, moving) as driver:
        assert 0 == driver.wait(120), log(moving)
    assert durable == results(moving)[: len(durable)]
    assert_once(moving)

    async def after() -> None:
        """What was lost has come back on what is left."""
        async with cluster.http(head) as http:
            assert (200, []) == await load(http, 200, POOLS)
            assert not any(await settled(http))
        assert dict.fromkeys(POOLS, head.address) == await cluster.places()

    hosted.ask(cluster.caller, after)
