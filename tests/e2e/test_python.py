"""The Python API on Ray, each time in a process of its own: of the application that runs, and on a cluster of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.serving import Served

pytestmark = pytest.mark.timed

OWN = """
import os, ray
from orchestrator import sync
models = sync.create_models({config!r}).start()
model = models.model("sim/echo")
print(model.generate("one two").text, [delta.text for delta in model.stream("one two")])
print(os.path.dirname(ray.nodes()[0]["ObjectStoreSocketName"].split("/session_")[0]), flush=True)
{end}
print(ray.is_initialized())
"""
CONFIG = {"providers": {"sim": {"simulate": {"latency_s": {"median": 0, "p99": 0}}}}}


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Python, with these variables besides."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **env})


@pytest.fixture(scope="module")
def address(served: Served) -> dict[str, str]:
    """The variables that name the served cluster."""
    (raylet,) = served.processes("raylet/raylet")
    named = next(one for one in raylet.cmdline() if one.startswith("--gcs-address="))
    return {"RAY_ADDRESS": named.partition("=")[2], "RAY_AUTH_MODE": "token"}


@pytest.fixture(scope="module", params=["", "1"], ids=["as Serve is", "with Serve's flags"])
def seen(address: dict[str, str], request: pytest.FixtureRequest) -> Any:
    """What a user's process saw."""
    ended = run(
        "-m", "tests.e2e.connected", **address, **({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"} if request.param else {})
    )
    assert 0 == ended.returncode, ended.stderr
    first, second = map(json.loads, ended.stdout.splitlines())
    return {**first, "sync": second}


def test_a_running_application(seen: Any) -> None:
    """The same replies, streams, errors and clients as without one; by plain calls, too."""
    asked = seen["asked"]
    assert ["sim", ["server_error", "server_error", "ok"]] == asked["reply"]
    assert (["one", " two"], ["one two", "sim"]) == (asked["deltas"], asked["stream"])
    assert (True, True, "one two", True) == (asked["whole"], asked["list"], asked["openai"], asked["should_use"])
    unknown, context = "unknown model 'tier:rase'; did you mean tier:race", "context_length_exceeded: up/context"
    kinds = ["UnknownSelector", "UnknownSelector", "CallFailed", "CallFailed"]
    assert kinds == [kind for kind, _ in asked["errors"]]
    for (_, said), expected in zip(asked["errors"], (unknown, unknown, context, context), strict=True):
        assert said.startswith(expected)
    assert ["one", " two"] == seen["sync"]


def test_whoever_leaves_stops_what_goes_on(seen: Any) -> None:
    """Loops that are left, calls that are cancelled, handles that are: upstream stops within 200 ms, and the time to look."""
    assert {} == {way: took_s for way, took_s in seen["left"].items() if took_s > 1}


def test_the_applications_handle(seen: Any) -> None:
    """Plain dicts, whole and streamed; errors are ours on the other side, with all that they know."""
    handle = seen["handle"]
    assert (["one two", "sim", "sim/echo"], None) == (handle["body"], handle["cost"])
    assert (["one", " two", None], ["stop", "sim", "sim/echo"], 2) == (
        handle["chunks"], handle["last"], handle["tokens"],
    )  # fmt: skip
    assert (["server_error", True], "tier:race") == (handle["failed"], handle["unknown"])


def test_a_cluster_without_an_application(tmp_path: Path) -> None:
    """Says what is missing, and what to do. Nor is there one at an address where nobody is."""
    script = (
        "import ray, orchestrator.sync as sync\n"
        "ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
        "sync.create_models(connect='auto').start()"
    )
    ended = run("-c", script)
    last = ended.stderr.splitlines()[-1]
    assert "orchestrator.errors.NoApplication: the Ray cluster at" in last
    assert "Start it with `orchestrator serve`" in last


@pytest.mark.parametrize("end", ["models.close()", "", "os.kill(os.getpid(), 15)"], ids=["closed", "left", "ended"])
def test_a_cluster_of_its_own(end: str) -> None:
    """Is started, and nothing of it is left: closed, left open at exit, or ended by SIGTERM."""
    ended = run("-c", OWN.format(config=CONFIG, end=end), RAY_ADDRESS="")
    texts, folder, *initialised = ended.stdout.splitlines()
    assert "one two ['one', ' two']" == texts
    assert {"models.close()": ["False"], "": ["True"]}.get(end, []) == initialised
    deadline_s = time.monotonic() + 10
    while (found := processes(folder)) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert [] == found
    assert end.startswith("os.kill") or not os.path.exists(folder)


def processes(folder: str) -> list[str]:
    """Those of a cluster, by its folder."""
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in lines if folder in line]
