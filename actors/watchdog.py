"""Sees to it that nothing outlives `orchestrator serve`, not even when it is killed with -9.

Ray's own processes die with the driver that started them, but HAProxy does not, and holds the port. So `serve` puts a
mark into the environment, which all that it starts inherits, and starts this small process beside itself. It waits for the
end of a pipe whose other end only `serve` holds; then it ends whatever still bears the mark, and removes the private
folder.

Run as `python -m actors.watchdog MARK FOLDER`, with the pipe as standard input.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

MARK = "ORCHESTRATOR_CLUSTER"
GRACE_S = 3.0
"""How long the marked processes may take to end by themselves, and again after SIGTERM."""


def marked(mark: str) -> list[psutil.Process]:
    """The processes that bear the mark, except this one."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _bears(process, mark):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it has ended, or is another user's: not ours
    return found


def _bears(process: psutil.Process, mark: str) -> bool:
    if sys.platform != "linux":
        return process.environ().get(MARK) == mark
    # psutil stops reading at an empty entry, and a process that has changed its title (Ray's do) may begin with some.
    return f"{MARK}={mark}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")


def sweep(mark: str, grace_s: float = GRACE_S) -> None:
    """Ends all marked processes: waits, asks, then kills."""
    for ask in (None, signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace_s
        processes = marked(mark)
        if ask is not None:
            for process in processes:
                try:
                    process.send_signal(ask)
                except psutil.Error:
                    continue  # it has ended meanwhile
        while processes and time.monotonic() < deadline:
            time.sleep(0.1)
            processes = marked(mark)
        if not processes:
            return


def main() -> None:
    """See the module."""
    mark, folder = sys.argv[1:]
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    sweep(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
