"""Hosts of their own on this machine: namespaces of networks and processes on one link.

What crosses a network is tested across one: ports of two hosts do not meet, loopback is each host's own, nobody sees the
other's processes, and a host can be cut off, or die at once. They share this machine's files. Wants Linux, root, iproute2
and util-linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import psutil
import pytest

_NUMBERS = itertools.count(1)
_INIT = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "bash", "-c", "echo up; read")
"""A host's first process, with which all others end, and which itself ends with this one: whose pipe it reads from."""
_NEWNET = 0x40000000

T = TypeVar("T")


def refused() -> str | None:
    """Why no hosts can be made here; None: they can be."""
    if missing := [name for name in ("ip", "unshare", "nsenter", "bash") if shutil.which(name) is None]:
        return f"{', '.join(missing)} (iproute2, util-linux) not installed"
    if os.geteuid() != 0:
        return "namespaces want root"
    made = subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    return None if made.returncode == 0 else f"namespaces cannot be made: {made.stderr.decode().strip()}"


def need_hosts() -> None:
    """Skips the test where no hosts can be made; under CI it fails."""
    if (reason := refused()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


class Host:
    """A host: whatever is started on it sees its loopback, its link, its processes, and no others."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._booted: subprocess.Popen[str] | None = None
        self._init = 0

    def boot(self) -> None:
        """From then on things can be started on it."""
        self._booted = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *_INIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._booted.stdout is not None
        assert self._booted.stdout.readline() == "up\n"
        self._init = psutil.Process(self._booted.pid).children()[0].pid

    def command(self, command: Sequence[str]) -> list[str]:
        """The command as this machine starts it on the host."""
        return ["nsenter", "--target", str(self._init), "--net", "--pid", "--mount", *command]

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts a process on it, which ends with the host at the latest. Signals reach whoever waits for it here, not
        itself: `processes` has it."""
        return subprocess.Popen(self.command(command), env=env, text=True, **options)

    def run(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs a process on it to its end."""
        return subprocess.run(
            self.command(command), env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def call(self, function: Callable[[], T]) -> T:
        """What a function gives in a thread of its own whose sockets are the host's."""
        given: Future[T] = Future()

        def there() -> None:
            try:
                with open(f"/var/run/netns/{self.name}", "rb") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"{self.name} cannot be entered")
                given.set_result(function())
            except BaseException as error:
                given.set_exception(error)

        # No executor's, which waits for its thread: a test that has taken too long would wait for what it had called.
        threading.Thread(target=there, daemon=True).start()
        return given.result()

    def processes(self, title: str = "") -> list[psutil.Process]:
        """What runs on it, by this machine's numbers; those whose command holds `title`."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, timeout=20, check=False
        )
        own = {self._init, None if self._booted is None else self._booted.pid}
        found = []
        for pid in {int(pid) for pid in listed.stdout.split()} - own:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def cut(self) -> None:
        """Takes its link away: nothing comes or goes any more, and nobody is told."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def kill(self) -> None:
        """kill -9 of all that runs on it, at once; nothing can be started on it any more."""
        if self._booted is not None:
            booted, self._booted = self._booted, None
            with contextlib.suppress(psutil.Error):
                psutil.Process(self._init).kill()
            booted.communicate()


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
                host.boot()
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
