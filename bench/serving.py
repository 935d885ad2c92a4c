"""`orchestrator serve` as a process of its own, as a user runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from actors.launch import free_port
from actors.watchdog import MARK, marked


@contextmanager
def simulated() -> Iterator[str]:
    """The simulated provider as a process of its own meanwhile; its base URL."""
    command = [sys.executable, "-m", "orchestrator.cli", "simulate"]
    upstream = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert upstream.stdout is not None
        yield upstream.stdout.readline().split()[1]
    finally:
        upstream.terminate()
        upstream.communicate(timeout=10)


class Served:
    """A running endpoint. `mark` is borne by every process of its cluster."""

    def __init__(self, config: Path | str, *arguments: str) -> None:
        self.config = Path(config)
        self.port = free_port()
        command = [sys.executable, "-m", "orchestrator.cli", "serve", "--config", str(config), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        began = time.monotonic()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.seconds_to_ready = time.monotonic() - began
        if line != f"ready http://127.0.0.1:{self.port}/v1\n":
            self.process.terminate()
            raise AssertionError(f"{line!r} instead of ready: {self.process.communicate()[1]}")
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        self.mark = self._mark()

    def _mark(self) -> str:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if mark := child.environ().get(MARK):
                    return mark
            except psutil.Error:
                continue
        raise AssertionError("no process of the cluster bears a mark")

    def processes(self, title: str) -> list[psutil.Process]:
        """The cluster's processes whose title holds `title`."""
        found = []
        for process in marked(self.mark):
            try:
                if title in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def left(self) -> list[str]:
        """What is left of it: processes, and the port."""
        left = []
        for process in marked(self.mark):
            try:
                left.append(" ".join(process.cmdline()) or process.name())
            except psutil.Error:
                continue
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                left.append(f"port {self.port}")
        return left

    def stop(self) -> float:
        """Ctrl-C; returns how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        return time.monotonic() - began

    def kill(self) -> None:
        """kill -9 of the serving process alone."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()
