"""The start commands of cluster.yaml, run as `ray up` runs them: a head and a worker, each on a host of its own (a network
namespace), and an answer through the ports of both.

What stands between this and AWS is left out: instances, SSH and containers. The commands are composed by Ray's own
functions, run by the same shell, with the files that they mount in a home that is theirs. `ray stop` is the one thing that is
not run: it would stop every Ray on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_environment_variables, _with_interactive
from ray.autoscaler._private.util import prepare_config, with_head_node_ip

from actors.launch import EVERYWHERE
from orchestrator.keys import hash_of
from tests.hosts import Host, Hosts, need_hosts

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = ("/tmp/ray", "/tmp/haproxy-serve")
"""Folders that two machines do not share, beside their homes: each host has its own there."""
UP_S = 90
KEY = "sk-orch-of-this-test"

ANSWER = """
import json, sys, urllib.error, urllib.request
body = {"model": "sim/chat", "messages": [{"role": "user", "content": "hello"}]}
headers = {"authorization": "Bearer " + key for key in sys.argv[2:]}
asked = urllib.request.Request(sys.argv[1] + "/v1/chat/completions", json.dumps(body).encode(), headers)
try:
    with urllib.request.urlopen(asked, timeout=20) as answer:
        print(answer.status, json.load(answer)["provider"])
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print(error)
"""
REACHED = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    print("reached")
except OSError as error:
    print(error)
"""
WHERE = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="error")
nodes = {node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes()}
actors = ray._private.state.actors(actor_state_name="ALIVE").values()
print(json.dumps([(one["Name"], nodes[one["Address"]["NodeID"]]) for one in actors]))
"""


class Machine:
    """A host with a home, as `ray up` leaves one: files mounted, and a shell that finds the package."""

    def __init__(self, host: Host, folder: Path, config: dict[str, Any]) -> None:
        self.host = host
        self.home = folder.parent / "home"
        own = folder / "home"
        self._mounts = {str(self.home): own, **{path: folder / Path(path).name for path in PRIVATE}}
        for path in self._mounts.values():
            path.mkdir(parents=True)
        # The image has the package where any shell finds it.
        (own / ".bashrc").write_text(f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}\n")
        for remote, local in config["file_mounts"].items():
            there = ROOT / local.replace("~", str(folder.parent))
            shutil.copytree(there, own / remote.removeprefix("~/"))
        keyed = own / "orchestrator/configs/default.yaml"
        default = yaml.safe_load(keyed.read_text())
        default["server"]["keys"] = [{"name": "one", "key_sha256": hash_of(KEY), "models": ["*"]}]
        keyed.write_text(yaml.safe_dump(default))
        # As `ray up` leaves it on the head, whose files are mounted on to workers.
        remote = config | {"file_mounts": {path: path for path in config["file_mounts"]}}
        (own / "ray_bootstrap_config.yaml").write_text(json.dumps(remote))

    def command(self, command: list[str]) -> list[str]:
        """A command that sees the host's own folders."""
        mounts = [word for there, own in self._mounts.items() for word in (str(own), there)]
        script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"'
        return ["sh", "-c", script, "sh", *mounts, "--", *command]

    def run(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        """Runs it there to its end."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {"HOME": str(self.home), "PATH": path, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        return self.host.run(self.command(command), env=kept | env, timeout_s=UP_S)

    def start(self, command: str, kind: dict[str, Any]) -> None:
        """Runs a start command, with what the autoscaler says of the node's type."""
        env = {"RAY_OVERRIDE_RESOURCES": kind["resources"], "RAY_OVERRIDE_LABELS": kind.get("labels")}
        told = _with_environment_variables(command, {name: value for name, value in env.items() if value})
        ran = self.run(["bash", "-c", " ".join(_with_interactive(told))])
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def raylet(self) -> dict[str, str]:
        """The environment that Ray was started in."""
        (raylet,) = [one for one in self.host.processes() if one.name() == "raylet"]
        return raylet.environ()

    def answer(self, address: str, *keys: str) -> str:
        """What comes of a question to the endpoint at an address."""
        return self.run([sys.executable, "-c", ANSWER, f"http://{address}:8000", *keys]).stdout.strip()

    def reached(self, address: str, port: int) -> str:
        """Whether anybody listens there, as seen from here."""
        return self.run([sys.executable, "-c", REACHED, address, str(port)]).stdout.strip()

    def until(self, answers: str, found: Callable[[], str]) -> None:
        """Waits for what is said."""
        deadline = time.monotonic() + UP_S
        while (said := found()) != answers:
            assert time.monotonic() < deadline, said
            time.sleep(0.5)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """A head and a worker, as they are before anything is started."""
    need_hosts()
    secrets = tmp_path / ".orchestrator"
    secrets.mkdir(mode=0o700)
    (secrets / "auth_token").write_text("a-token-of-this-test-alone\n")
    (secrets / "keys.env").write_text("# the providers'\nGROQ_API_KEY='gsk-$of-this-test'\n")
    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    (tmp_path / "home").mkdir()
    made = [path for path in map(Path, PRIVATE) if not path.exists()]
    try:
        for path in made:
            path.mkdir(exist_ok=True)
        with Hosts(2) as hosts:
            for host in hosts:
                # Ray finds a machine's address by the way out.
                assert host.run(["ip", "route", "add", "default", "dev", "eth0"]).returncode == 0
            yield [Machine(host, tmp_path / f"{i}", config) for i, host in enumerate(hosts)]
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
                path.rmdir()


@pytest.mark.timeout(300)
def test_start_commands(machines: list[Machine]) -> None:
    """The application that cluster.yaml deploys answers on both; what the head is not for is not on it."""
    head, worker = machines
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    heads, workers = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    assert ["ray stop"] == [one for one in heads if "ray stop" in one] == [one for one in workers if "ray stop" in one]
    for command in heads[1:]:
        head.start(command, config["available_node_types"]["head"])
    for command in with_head_node_ip(workers[1:], head.host.address):
        worker.start(command, config["available_node_types"]["cpu"])

    for one in machines:
        one.until("200 sim", lambda one=one: one.answer("127.0.0.1", KEY))  # type: ignore[misc]
        env = one.raylet()
        assert EVERYWHERE.items() <= env.items()
        assert ("token", "gsk-$of-this-test") == (env["RAY_AUTH_MODE"], env["GROQ_API_KEY"])
        assert env["RAY_SERVE_HAPROXY_NBTHREAD"].isdecimal()
    # The endpoint is there for whoever has a key; the dashboard is the head's own; and Ray lets nobody in without its token.
    assert "200 sim" == head.answer(worker.host.address, KEY)
    assert head.answer(worker.host.address).startswith('401 {"error":')
    assert "reached" == head.reached("127.0.0.1", 8265)
    assert "refused" in worker.reached(head.host.address, 8265)
    status = ["ray", "status", "--address", f"{head.host.address}:6379"]
    wrong = worker.run(status, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="another")
    assert (False, True) == (wrong.returncode == 0, "nauthenticated" in wrong.stdout + wrong.stderr)

    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.home / "orchestrator/secrets/auth_token")}
    listed = head.run([sys.executable, "-c", WHERE], **token)
    placed = json.loads(listed.stdout)
    on_head = {name for name, cpus in placed if cpus == 0}
    elsewhere = {name for name, cpus in placed if cpus > 0}
    assert "control" in on_head
    assert {"pool:sim", "pool:groq"} <= elsewhere
    assert any(name.startswith("SERVE_REPLICA") for name in elsewhere)
    assert [] == [name for name in on_head if name.startswith(("pool:", "SERVE_REPLICA"))]
