"""The processes between whoever supervises a server and the server: they see to it that nothing of it is left.

    python launcher.py GRACE_S PROGRAM ARGUMENT…

The standard input is a pipe that the supervisor holds open and writes nothing to: its end means that the supervisor is gone,
in whichever way, or wants the server gone. Then all that descends from here is asked to end, and killed `GRACE_S` later; so
is what the program leaves behind when it ends by itself. The exit status is the program's, 128 and its number for a signal.

A server has processes of its own (vLLM's engine), which may put themselves into other sessions or lose their parent: on
Linux orphans below are given to these processes (PR_SET_CHILD_SUBREAPER), so that all of them stay their descendants. There
are two, since Ray kills the children of an actor that it ends: the outer one waits for the inner one, which does the work,
and does it itself should that be killed; the inner one is told when the outer one dies (PR_SET_PDEATHSIG), as is the program.
What is left where both are killed at once bears a mark in its environment, by which its supervisor finds it.

They run by themselves, with nothing but the standard library, in the interpreter's isolated mode: 7 MB each.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""From Linux's <sys/prctl.h>."""
POLL_S = 0.05


def prctl(option: int, value: int) -> None:
    """Linux's; elsewhere nothing, and the pipe alone has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, as far as the system tells."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in brackets, may hold anything; the parent is the second field after it.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it has ended
        children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    ahead = [pid]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def send(pids: list[int], number: int) -> None:
    """A signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def reap() -> dict[int, int]:
    """What has ended by now: pid -> exit status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def clear(group: int, grace_s: float) -> dict[int, int]:
    """Ends all that is below; returns what was reaped of it."""
    ended: dict[int, int] = {}
    for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        deadline_s = time.monotonic() + limit_s
        told: set[int] = set()
        while left := descendants(os.getpid()) or group_of(group):
            # Whoever appears meanwhile is told as well, and each once: a second SIGTERM ends some servers at once.
            send([pid for pid in left if pid not in told], number)
            told.update(left)
            ended |= reap()
            if time.monotonic() >= deadline_s:
                break
            time.sleep(POLL_S)
    return ended | reap()


def group_of(group: int) -> list[int]:
    """Where there is no /proc: a process group, as one."""
    if Path("/proc/self/stat").exists():
        return []
    try:
        os.killpg(group, 0)
    except OSError:
        return []
    return [-group]


def start(command: list[str]) -> int:
    """The program as a child, in a process group of its own; its pid. 127: it cannot be run."""
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # noqa: S606 - the command is the configuration's
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(127)


def watch(command: list[str], grace_s: float) -> int:
    """The inner process: runs the program until it ends, or is to end; the exit status."""
    noticed, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    outer = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.setsid()
    program = start(command)
    code: int | None = None
    while code is None:
        ready = select.select([0, noticed], [], [])[0]
        numbers = os.read(noticed, 4096) if noticed in ready else b""
        # Where a dying parent sends nothing, its heir is another.
        wanted = signal.SIGTERM in numbers or os.getppid() != outer or (0 in ready and not os.read(0, 4096))
        code = reap().get(program)
        if code is None and wanted:
            code = clear(program, grace_s).get(program, -signal.SIGKILL)
    clear(program, grace_s)
    return code if code >= 0 else 128 - code


def main() -> int:
    """See the module."""
    grace_s, command = float(sys.argv[1]), sys.argv[2:]
    # Ctrl-C at a terminal is for whoever supervises; the pipe tells what it comes to.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    inner = os.fork()
    if not inner:
        os._exit(watch(command, grace_s))
    code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    clear(inner, grace_s)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
