"""Hosts of their own on this machine: network namespaces on one link, each with an address and nothing else.

What crosses a network is tested across one: ports of two hosts do not meet, loopback is each host's own, and a host can
be cut off. Wants Linux, root and iproute2.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import pytest

_NUMBERS = itertools.count(1)


def refused() -> str | None:
    """Why no hosts can be made here; None: they can be."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces want root"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if made.returncode == 0 else f"network namespaces cannot be made: {made.stderr.decode().strip()}"


def need_hosts() -> None:
    """Skips the test where no hosts can be made; under CI it fails."""
    if (reason := refused()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


class Host:
    """A host: whatever is started on it sees its loopback, its link, and no other network."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def command(self, command: Sequence[str]) -> list[str]:
        """The command as this machine starts it on the host."""
        return ["ip", "netns", "exec", self.name, *command]

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts a process on it; what it leaves behind ends with the hosts."""
        return subprocess.Popen(self.command(command), env=env, text=True, **options)

    def run(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs a process on it to its end."""
        return subprocess.run(
            self.command(command), env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def processes(self) -> list[psutil.Process]:
        """What runs on it."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, timeout=20, check=False
        )
        found = []
        for pid in listed.stdout.split():
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(int(pid)))
        return found

    def cut(self) -> None:
        """Takes its link away: nothing comes or goes any more, and nobody is told."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def kill(self) -> None:
        """kill -9 of all that runs on it."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


class Hosts:
    """So many hosts on one link, until its `with` ends; a switch joins them, in a namespace of its own."""

    def __init__(self, count: int) -> None:
        mark = f"orch-{os.getpid()}-{next(_NUMBERS)}-{secrets.token_hex(2)}"
        subnet = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._switch = f"{mark}-switch"
        self.hosts = [Host(f"{mark}-{i}", f"{subnet}.{i + 1}") for i in range(count)]

    def __enter__(self) -> list[Host]:
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "switch", "up")
            for i, host in enumerate(self.hosts):
                _ip("netns", "add", host.name)
                pair = ("type", "veth", "peer", "name", f"port{i}", "netns", self._switch)
                _ip("-n", host.name, "link", "add", "eth0", *pair)
                _ip("-n", self._switch, "link", "set", f"port{i}", "master", "switch", "up")
                _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    _ip("-n", host.name, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self.hosts

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.kill()
        for name in (self._switch, *(host.name for host in self.hosts)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)
