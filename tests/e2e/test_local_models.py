"""Local models on a cluster: actors that host stand-in engines. Whoever is killed, it is back, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from bench.serving import Served
from tests.engines import LONG_S, among, calls, processes, provider, servers


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where engines write their calls; its name is in their command lines."""
    return Path(tmp_path_factory.mktemp("local")) / "calls.jsonl"


@pytest.fixture(scope="module")
def local(log: Path) -> Iterator[Served]:
    """An endpoint with a local model of two replicas, one that never comes up, and one that no node has room for."""
    config = log.with_name("config.yaml")
    providers = {
        "gpu": provider("--log", log, "--children", 1, replicas=2),
        "broken": provider("--log", log, "--fail", "no such model"),
        "huge": provider("--log", log, gpus=8, replicas={"min": 0, "max": 1}),
        "sim": {"simulate": {}},
    }
    config.write_text(yaml.safe_dump({"providers": providers, "tiers": {"home": ["gpu/echo", "sim/echo"]}}))
    served = Served(config)
    yield served
    if served.process.poll() is None:
        served.stop()
    assert [] == served.left()
    assert [] == processes(str(log))


def wait(true: Callable[[], Any], what: str) -> Any:
    """What a condition comes to, once it is true."""
    deadline_s = time.monotonic() + LONG_S
    while not (found := true()):
        assert time.monotonic() < deadline_s, f"{what} did not come within {LONG_S:g} s"
        time.sleep(0.1)
    return found


def replicas(local: Served, name: str = "gpu") -> list[dict[str, Any]]:
    """What /admin/pools shows of them; none while the pool is away."""
    rows = httpx.get(f"{local.root}/admin/pools").json()["pools"]
    return next((row.get("replicas", []) for row in rows if row["provider"] == name), [])


def up(local: Served) -> bool:
    """Whether both answer."""
    return [row["state"] for row in replicas(local)] == ["up", "up"]


def ask(local: Served, text: str, model: str = "gpu/echo") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{local.url}/chat/completions", json=body, timeout=LONG_S)


def engines(log: Path) -> set[int]:
    """The processes of engines that serve."""
    return {one.pid for one in among(servers(str(log)), may_come_up)}


def may_come_up(one: psutil.Process) -> bool:
    """Whether it is not of the model that never does."""
    return "--fail" not in one.cmdline()


def test_two_replicas_of_one_pool_answer(local: Served, log: Path) -> None:
    """Each in an actor of its own; conversations stay where they are."""
    wait(lambda: up(local), "both")
    for _ in range(2):
        for number in range(8):
            assert 200 == ask(local, f"conversation {number}").status_code
    seen = {(call["text"], call["pid"]) for call in calls(log)}
    assert (8, 2) == (len(seen), len({pid for _, pid in seen}))
    assert all(row["node"] for row in replicas(local))


def test_what_is_not_up_says_why(local: Served) -> None:
    """In its own words, also in /ready, which is ready; where no node has room, a call with another to ask goes on."""
    why = "the model does not come up: the server ended by itself: RuntimeError: no such model"
    answer = wait(lambda: (found := ask(local, "x", "broken/m")).status_code == 503 and found, "a refusal")
    assert f"broken/m: {why}" == answer.json()["error"]["message"]
    ready = httpx.get(f"{local.root}/ready")
    assert (200, why) == (ready.status_code, ready.json()["models"]["broken"])
    body = {"model": "huge/m", "models": ["sim/chat"], "messages": [{"role": "user", "content": "x"}]}
    assert "sim" == httpx.post(f"{local.url}/chat/completions", json=body, timeout=LONG_S).json()["provider"]
    (row,) = wait(lambda: replicas(local, "huge"), "a replica that waits for a node")
    assert ("placing", "no node has 8 free GPUs") == (row["state"], row["reason"])


def test_a_server_that_is_killed_is_back(local: Served, log: Path) -> None:
    """Callers with another to ask never notice; both replicas are up again."""
    wait(lambda: up(local), "both")
    before = engines(log)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert all(ask(local, f"caller {n}", "tier:home").status_code == 200 for n in range(10))
    wait(lambda: up(local) and len(engines(log) - before) == 2, "both")


def test_an_actor_that_is_killed_is_back_and_its_server_went_with_it(local: Served, log: Path) -> None:
    """kill -9 of what supervises: the server and what it had started end, and others take their place."""
    wait(lambda: up(local), "both")
    before = {one.pid for one in among(processes(str(log)), may_come_up)}
    for actor in local.processes("LocalModel"):
        actor.kill()
    assert all(ask(local, f"caller {n}", "tier:home").status_code == 200 for n in range(10))
    wait(lambda: not before & {one.pid for one in processes(str(log))}, "the end of all before")
    wait(lambda: up(local), "both")
    assert 200 == ask(local, "hello").status_code


def test_a_pool_that_is_killed_finds_its_models_again(local: Served, log: Path) -> None:
    """They take minutes to load: they outlive it."""
    wait(lambda: up(local), "both")
    before = engines(log)
    for pool in local.processes("Pool"):
        pool.kill()
    wait(lambda: ask(local, "hello").status_code == 200, "an answer")
    wait(lambda: up(local), "both")
    assert before == engines(log)


def test_the_whole_cluster_killed_leaves_nothing(local: Served, log: Path) -> None:
    """kill -9 of what serves."""
    assert engines(log)
    local.kill()
    wait(lambda: not local.left() and not processes(str(log)), "an end without anything left")
