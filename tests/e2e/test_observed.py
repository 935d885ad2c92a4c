"""What is seen of a running application from outside: its metrics, through a real Prometheus and the dashboard as well, its
traces, and its log."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.launch import free_port
from bench.serving import Served
from tests.collector import Collector, collecting
from tests.upstream import Upstream

pytestmark = pytest.mark.timed

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "grafana"
PROMETHEUS = Path("/usr/bin/prometheus")
CONFIG = """
logs: {{format: json, requests: true}}
telemetry: {{otlp: "{otlp}", headers: {{x-token: s3cret-of-the-collector}}}}
providers:
  sim: {{simulate: {{latency_s: {{median: 0.03, p99: 0.1}}, tokens_per_s: 500}}}}
  up:
    base_url: http://127.0.0.1:{port}/v1
    api_key: none
    models: [ok]
    retry: {{attempts: 2, backoff_s: 0.01, backoff_max_s: 0.02}}
    breaker: {{failures: 100000}}
tiers:
  race: {{strategy: race, models: [sim/quick, sim/nimble]}}
  hedge: {{strategy: hedge, models: [sim/latency-0.2, up/ok], after: 0.02, extra_calls: 1}}
  rescue: [up/unavailable, sim/chat]
  trial: {{strategy: split, arms: {{old: {{model: sim/chat}}, new: {{model: up/ok}}}}}}
"""
LOAD = (
    ("sim/chat", False), ("sim/chat", True), ("tier:race", True), ("tier:hedge", False), ("tier:trial", False),
    ("up/unavailable", False), ("up/priced", False), ("up/slow-0.05", False),
)  # fmt: skip
"""Models of all kinds, and whether they are asked for a stream."""


class Running(NamedTuple):
    """The application, with two coordinators."""

    config: Path
    served: Served
    printed: list[str]
    """Lines of its standard error."""
    collector: Collector


class Observed:
    """How to look at it."""

    def __init__(self, running: Running) -> None:
        self.config, self.served, self.printed, self.collector = running
        self.http = httpx.AsyncClient(base_url=self.served.root, timeout=30)

    async def ask(self, model: str, *, stream: bool = False, user: str = "ada", **headers: str) -> httpx.Response:
        body = {"model": model, "stream": stream, "user": user, "messages": [{"role": "user", "content": "hi"}]}
        return await self.http.post("/v1/chat/completions", json=body, headers=headers)

    async def load(self, seconds: float) -> None:
        """All of `LOAD`, by several users at once, for so long."""
        until_s = time.monotonic() + seconds

        async def caller(user: str) -> None:
            while time.monotonic() < until_s:
                for model, stream in LOAD:
                    answer = await self.ask(model, stream=stream, user=user)
                    assert (502 if model == "up/unavailable" else 200) == answer.status_code, answer.text

        await asyncio.gather(*(caller(f"user-{number}") for number in range(4)))

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Name and the labels' values, in the order of their names -> value."""
        answer = await self.http.get("/metrics", headers={"accept": "text/plain"})
        assert 200 == answer.status_code, answer.text
        found = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
        return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in found}


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = tmp_path_factory.mktemp("observed") / "config.yaml"
    with collecting() as collector:
        config.write_text(CONFIG.format(port=upstream.port, otlp=collector.url))
        served = Served(config, "--replicas", "2")
        process = served.process
        printed: list[str] = []
        assert process.stderr is not None
        assert process.stdout is not None
        reading = threading.Thread(target=printed.extend, args=(process.stderr,), daemon=True)
        reading.start()
        yield Running(config, served, printed, collector)
        process.send_signal(signal.SIGINT)
        process.wait(30)
        reading.join(10)
        process.stderr.close()
        process.stdout.close()
        assert served.left() == []


@pytest.fixture
async def observed(running: Running) -> Any:
    one = Observed(running)
    yield one
    await one.http.aclose()


async def test_counts_are_those_of_all_processes_as_of_now(observed: Observed) -> None:
    """Requests that two coordinators have answered are there as soon as they are, and none twice."""
    key = ("orchestrator_requests_total", "ok", "sim/now", "first")
    found: dict[tuple[str, ...], float] = {}
    for number in (1, 2, 3):
        await asyncio.gather(*(observed.ask("sim/now") for _ in range(10)))
        began_s = time.monotonic()
        found = await observed.metrics()
        assert number * 10 == found[key]
        assert time.monotonic() - began_s < 1
    assert {"sim": 1.0, "up": 1.0} == {name[1]: v for name, v in found.items() if name[0] == "orchestrator_pool_up"}


async def test_a_killed_control_actor_is_a_reset_to_zero(observed: Observed) -> None:
    """What was counted before it was killed is not shown as new; what was not, once it is back."""
    key = ("orchestrator_requests_total", "ok", "sim/kept", "first")
    await asyncio.gather(*(observed.ask("sim/kept") for _ in range(20)))
    assert 20 == (await observed.metrics())[key]
    (control,) = observed.served.processes("ray::Control")
    os.kill(control.pid, signal.SIGKILL)
    psutil.wait_procs([control], timeout=5)
    for _ in range(3):
        await observed.ask("sim/kept")
    seen: list[float] = []
    deadline_s = time.monotonic() + 30
    while (not seen or seen[-1] != 3) and time.monotonic() < deadline_s:
        answer = await observed.http.get("/metrics")
        if answer.status_code == 200:
            seen.append((await observed.metrics()).get(key, 0.0))
        await asyncio.sleep(0.1)
    assert 3 == seen[-1]
    assert sorted(seen) == seen


def expressions() -> list[tuple[str, str]]:
    """Title and expression of each curve of the dashboard, as Grafana would ask for it."""
    board = json.loads((CONFIGS / "orchestrator.json").read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    variables = {"$__rate_interval": "10s", **{f"${one['name']}": ".*" for one in board["templating"]["list"]}}
    for name in sorted(variables, key=len, reverse=True):
        found = [(title, expression.replace(name, variables[name])) for title, expression in found]
    return found


@pytest.fixture
def prometheus(running: Running, tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the application by the example's configuration, each second; its address."""
    if not PROMETHEUS.is_file() and os.environ.get("CI") != "true":
        pytest.skip("there is no Prometheus: Debian's package `prometheus` has it")
    key = tmp_path / "key"
    key.write_text("none")
    example = (CONFIGS / "prometheus.yml").read_text()
    own = {
        "/etc/prometheus/orchestrator.key": str(key), "127.0.0.1:8000": f"127.0.0.1:{running.served.port}", "15s": "1s",
    }  # fmt: skip
    for said, instead in own.items():
        assert said in example
        example = example.replace(said, instead)
    (tmp_path / "prometheus.yml").write_text(example)
    url = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    process = subprocess.Popen([PROMETHEUS, *options, f"--web.listen-address={url}", "--log.level=error"])
    yield f"http://{url}"
    process.terminate()
    process.wait(10)


async def test_every_expression_of_the_dashboard_finds_something(observed: Observed, prometheus: str) -> None:
    """Asked of a real Prometheus that scraped a loaded run by the example's configuration: none is empty, or no number."""
    await observed.load(8)
    async with httpx.AsyncClient(base_url=prometheus) as asked:

        async def values(expression: str) -> list[float]:
            answer = (await asked.get("/api/v1/query", params={"query": expression})).json()
            assert "success" == answer["status"], (expression, answer)
            return [float(row["value"][1]) for row in answer["data"]["result"]]

        empty = []
        for title, expression in expressions():
            found = await values(expression)
            if not found or all(map(math.isnan, found)):
                empty.append((title, expression, found))
        assert [] == empty
        scraped = await values("sum(orchestrator_requests_total)")
    counted = sum(v for name, v in (await observed.metrics()).items() if name[0] == "orchestrator_requests_total")
    assert 0 < scraped[0] <= counted


@pytest.mark.parametrize("stream", [False, True])
async def test_attempts_of_pool_actors_are_within_their_request(
    observed: Observed, upstream: Upstream, stream: bool
) -> None:
    """Request and tries are of different processes; in the trace they hang together, and upstream was told of the same."""
    trace, caller = os.urandom(16).hex(), os.urandom(8).hex()
    known = len(upstream.attempts("unavailable"))
    headers = {"traceparent": f"00-{trace}-{caller}-01", "x-request-id": f"traced-{stream}"}
    answer = await observed.ask("tier:rescue", stream=stream, **headers)
    assert 200 == answer.status_code
    request, attempts = await asyncio.to_thread(observed.collector.of, answer.headers["x-request-id"])
    assert ("chat tier:rescue", "SERVER", trace, caller) == (request.name, request.kind, request.trace, request.parent)
    assert ["chat unavailable", "chat unavailable", "chat chat"] == [one.name for one in attempts]
    assert {("CLIENT", trace)} == {(one.kind, one.trace) for one in attempts}
    seen = upstream.attempts("unavailable")[known:]
    assert [True, True] == [f"00-{trace}-{one.id}-01" in at.head for one, at in zip(attempts, seen, strict=False)]
    assert all(request.start_s <= one.start_s <= one.end_s <= request.end_s + 0.01 for one in attempts)


def lines_of(served: Served) -> list[dict[str, Any]]:
    """What the application's processes have logged, as Ray keeps it."""
    folder = Path("/tmp") / served.mark / "r" / "session_latest" / "logs"
    found = [line for path in folder.glob("worker-*.err") for line in path.read_text(errors="replace").splitlines()]
    return [json.loads(line) for line in found if line.startswith('{"time"')]


async def test_each_request_is_a_line_of_json(observed: Observed) -> None:
    """With its id, by whichever process; no text of the conversation and no secret is in anything that was logged."""
    body = {"model": "tier:rescue", "user": "eve", "messages": [{"role": "user", "content": "a most private question"}]}
    answer = await observed.http.post("/v1/chat/completions", json=body)
    request_id = answer.headers["x-request-id"]
    deadline_s = time.monotonic() + 10
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)
        found = [line for line in lines_of(observed.served) if line.get("request_id") == request_id]
    (line,) = found
    assert ("orchestrator.requests", "coordinator", "tier:rescue", "eve", "ok", "sim/chat") == tuple(
        line[name] for name in ("logger", "process", "selector", "user", "outcome", "winner")
    )
    assert 3 == len(line["attempts"])
    everything = "".join(map(str, lines_of(observed.served)))
    assert ("private" in everything, "s3cret" in everything) == (False, False)


async def test_a_refused_reload_is_said_on_the_terminal(observed: Observed) -> None:
    """Where it was started: which file, and what is wrong with it; the same for the processes that write elsewhere."""
    good = observed.config.read_text()
    observed.config.write_text(good + "nonsense: true\n")
    try:
        deadline_s = time.monotonic() + 10
        while not any("nonsense" in line for line in observed.printed) and time.monotonic() < deadline_s:
            await asyncio.sleep(0.1)
        (said,) = [json.loads(line) for line in observed.printed if "nonsense" in line]
        assert ("error", "orchestrator.config", "control") == (said["level"], said["logger"], said["process"])
        assert f"{observed.config}:" in said["message"]
    finally:
        observed.config.write_text(good)
