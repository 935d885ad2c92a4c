"""Starting and ending: what is left behind, what is refused."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from bench.faults import read
from bench.serving import Served

pytestmark = pytest.mark.timed

DEFAULT = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"


@pytest.mark.parametrize("twice", [False, True], ids=["kill -9", "Ctrl-C twice"])
def test_a_sudden_end_leaves_nothing(served: Served, twice: bool) -> None:
    """A second cluster beside the first: it leaves no process and no port within 30 s, and the first stays."""
    second = Served(DEFAULT)
    if twice:
        second.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(10) == 130
        second.process.communicate()
    else:
        second.kill()
    deadline = time.monotonic() + 30
    while second.left() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert second.left() == []
    assert f"port {served.port}" in served.left()


def test_another_cluster_is_left_the_port_for_its_jobs(served: Served) -> None:
    """52365 is where the agent of whatever other cluster is on the machine takes jobs: nothing here listens there."""
    listening = set()
    for process in served.processes(""):
        with contextlib.suppress(psutil.Error):
            found = process.net_connections("tcp")
            listening |= {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}
    assert served.port in listening
    assert 52365 not in listening


def test_what_is_in_flight_is_answered_before_the_end() -> None:
    """Ctrl-C: what takes two seconds more gets them, what comes is refused, and what takes too long is cut; within 10 s."""
    one = Served(DEFAULT)

    def ask(model: str, stream: bool) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        try:
            answer = httpx.post(f"{one.url}/chat/completions", json=body, timeout=30)
        except httpx.HTTPError:
            return "cut"
        _, error, _ = read(answer.text, stream=stream and answer.status_code == 200)
        return "whole" if error is None else str(error["code"])

    with ThreadPoolExecutor() as threads:
        quick = [
            threads.submit(ask, "sim/latency-0+tokens-20+rate-10", True),
            threads.submit(ask, "sim/latency-2", False),
        ]
        long = threads.submit(ask, "sim/latency-20", False)
        time.sleep(0.7)
        stopped = threads.submit(one.stop)
        time.sleep(1)
        assert ask("sim/chat", False) == "draining"
        assert ["whole", "whole"] == [asked.result() for asked in quick]
        assert long.result() == "cut"
        assert stopped.result() < 10
    assert one.left() == []


def test_a_port_in_use_is_refused_at_once(served: Served) -> None:
    """One line, exit 2, nothing started."""
    command = [sys.executable, "-m", "orchestrator.cli", "serve", "--port", str(served.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"--port: {served.port} cannot be used")


def test_commands_speak_with_a_running_endpoint(served: Served) -> None:
    """ask, models, pools and check."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestrator.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert "simulated by sim" in run("ask", "sim/chat", "hello", "--url", served.url).stdout
    assert "simulated by sim" in run("ask", "tier:race", "hello", "--stream", "--url", served.url).stdout
    wrong = run("ask", "tier:rase", "hello", "--url", served.url)
    assert (wrong.returncode, "tier:race" in wrong.stderr) == (2, True)
    assert "tier:race" in run("models", "--url", served.url).stdout.splitlines()
    assert "narrow" in run("pools", "--url", served.url).stdout
    assert run("check", str(DEFAULT)).returncode == 0
    assert run("check", "/nowhere.yaml").returncode == 2
