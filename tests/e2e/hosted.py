"""A Ray cluster of several hosts (`tests.hosts`), each begun by `ray start` as on machines of their own, and the application
on it by `serve run`: a coordinator and an HAProxy on each.

The hosts share this machine's files, so each has a folder of its own for Ray's and HAProxy's; what else they need to know is
in the environment, as on a real cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx

from actors.launch import flags
from actors.names import RELAY_HOST
from tests.hosts import Host

GCS_PORT, HTTP_PORT = 6379, 8000
BIN = Path(sys.executable).parent
READY_S = 150.0
ASK_S = 240.0
REPLICA = "SERVE_REPLICA"
"""So an HAProxy calls coordinators; it also knows a proxy of Serve's, for when there are none."""
UP = "2"
"""HAProxy's word for a server that runs: `srv_op_state`."""


class Relayed(NamedTuple):
    """What a connection leads from and to."""

    coordinator: Host
    pool: Host


class Hosted:
    """The running cluster; the first host is its head."""

    def __init__(self, hosts: Sequence[Host], own: Mapping[str, str]) -> None:
        self.hosts = list(hosts)
        self.head = hosts[0]
        self.folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
        self.address = f"{self.head.address}:{GCS_PORT}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._environments = {host.name: self._environment(at, {**token, **own}) for at, host in enumerate(hosts)}

    def _environment(self, at: int, own: dict[str, str]) -> dict[str, str]:
        folder = f"{self.folder}/{at}"
        os.makedirs(folder)
        env = {**os.environ, **flags(folder, os.path.basename(self.folder)), **own, "RAY_TMPDIR": folder}
        del env[RELAY_HOST]  # pools listen where other hosts reach them
        env.pop("RAY_ADDRESS", None)
        return env

    def environment(self, host: Host) -> dict[str, str]:
        """Of a process on a host that is to find the cluster."""
        return {**self._environments[host.name], "RAY_ADDRESS": self.address}

    def begin(self) -> None:
        """`ray start` on each host."""
        self._ray_start(self.head, "--head", f"--port={GCS_PORT}", "--include-dashboard=false")
        for host in self.hosts[1:]:
            self._ray_start(host, f"--address={self.address}")

    def _ray_start(self, host: Host, *arguments: str) -> None:
        own = [f"--node-ip-address={host.address}", "--num-cpus=4", "--object-store-memory=80000000"]
        command = [str(BIN / "ray"), "start", *arguments, *own, "--disable-usage-stats"]
        done(host.run(command, self._environments[host.name], timeout_s=100))

    def serve(self, config: Path, replicas: int) -> None:
        """`serve run` of the application, on the head."""
        application = {
            "name": "orchestrator",
            "route_prefix": "/",
            "import_path": "actors.app:build",
            "args": {"config": str(config), "replicas": replicas, "keyless": "anybody"},
        }
        http = {"host": "0.0.0.0", "port": HTTP_PORT}
        file = Path(self.folder) / "serve.yaml"
        file.write_text(
            json.dumps({"proxy_location": "EveryNode", "http_options": http, "applications": [application]})
        )
        command = [str(BIN / "serve"), "run", "--non-blocking", str(file)]
        done(self.head.run(command, self.environment(self.head), timeout_s=100))

    def root(self, host: Host) -> str:
        """Where a host's own HAProxy is asked."""
        return f"http://{host.address}:{HTTP_PORT}"

    def ask(self, caller: Host, asking: Callable[[], Awaitable[Any]]) -> Any:
        """What comes of asking from a host, for no longer than `ASK_S`."""

        async def bounded() -> Any:
            with anyio.fail_after(ASK_S):
                return await asking()

        return caller.call(lambda: anyio.run(bounded))

    async def ready(self, *hosts: Host) -> None:
        """Returns once all pools can be reached through each host's port, whose HAProxy knows all coordinators. To be awaited
        on a host."""
        deadline_s = time.monotonic() + READY_S
        async with httpx.AsyncClient(timeout=10) as http:
            for host in hosts:
                said = "nothing"
                while said != "200":
                    assert time.monotonic() < deadline_s, f"{host.name} said {said}"
                    try:
                        answer = await http.get(f"{self.root(host)}/ready")
                        said = str(answer.status_code) if answer.is_success else answer.text
                    except httpx.HTTPError as error:
                        said = repr(error)
                    await anyio.sleep(0.2)
            # An HAProxy that answers may know one coordinator alone, and is replaced when it hears of another.
            while (known := self.known()) != [len(self.hosts)] * len(self.hosts):
                assert time.monotonic() < deadline_s, f"HAProxies know of {known} coordinators"
                await anyio.sleep(0.2)

    def known(self) -> list[int]:
        """To how many coordinators each HAProxy sends requests."""
        found = []
        # Where the one on a node has its folder is the head's to say, by the environment of Serve's controller.
        for path in Path(self.folder).glob("*/*/a"):
            with socket.socket(socket.AF_UNIX) as admin, contextlib.suppress(ConnectionError):
                admin.connect(str(path))
                admin.sendall(b"show servers state\n")
                with admin.makefile() as said:
                    rows = [row.split() for row in said]
                found.append(sum(len(row) > 5 and row[3].startswith(REPLICA) and row[5] == UP for row in rows))
        return found

    def batch(self, host: Host, spec: Path) -> subprocess.Popen[str]:
        """A batch whose driver is on a host; what it says is in `log`, beside the spec."""
        command = [sys.executable, "-m", "actors.batch", str(spec), "--connect", self.address]
        with (spec.parent / "log").open("a") as log:
            return host.start(command, self.environment(host), stdout=log, stderr=subprocess.STDOUT)

    def relayed(self) -> Counter[Relayed]:
        """The connections that coordinators have with pools, by where the two are: sessions, and streams."""
        pools = {local: host for host in self.hosts for local, _ in sockets(host, "LISTEN", "ray::Pool")}
        found = [(host, peer) for host in self.hosts for _, peer in sockets(host, "ESTAB", "ray::ServeRepli")]
        return Counter(Relayed(host, pools[peer]) for host, peer in found if peer in pools)

    def lose(self, host: Host) -> None:
        """A host whose power fails: its link is gone, and all that ran on it, and no connection was closed."""
        host.cut()
        host.kill()
        self.hosts.remove(host)

    def remove(self) -> None:
        """What is left of it beside the hosts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def sockets(host: Host, state: str, name: str) -> list[tuple[str, str]]:
    """The two ends of each socket on a host's own address that is in a state and held by a process so called (by its first
    15 letters)."""
    listed = host.run(["ss", "--tcp", "--all", "--numeric", "--processes", "--no-header"])
    done(listed)
    rows = [row.split(maxsplit=5) for row in listed.stdout.splitlines()]
    return [
        (local, peer)
        for kind, _, _, local, peer, *holders in rows
        if kind == state and local.startswith(f"{host.address}:") and f'"{name}"' in "".join(holders)
    ]


def done(ran: subprocess.CompletedProcess[str]) -> None:
    """It has ended well."""
    assert ran.returncode == 0, f"{ran.args}: {ran.stdout}\n{ran.stderr}"
