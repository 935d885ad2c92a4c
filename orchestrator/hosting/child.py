"""One server of a local model as a process of this node: started, watched, and started again when it ends.

It gets a free port and a key that is made up for it, counts as up from the first time that its /health is answered, and is
ended and started anew when that has been silent for `hang_s`. Its lines are logged with its name. A start that comes to
nothing is repeated after a wait that doubles; one that was up is started again at once.

Nothing of it outlives this process: see `orchestrator.hosting.launcher`. What a launcher that was killed may leave bears a
mark, and is ended when its turn is over, and before the first one of the same name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.config.settings import Connections, Hosted, Timeouts
from orchestrator.hosting import launcher
from orchestrator.hosting.endings import ending_of, oom_kills, reason_of
from orchestrator.hosting.gauges import load_of
from orchestrator.hosting.status import Ending, Status
from orchestrator.providers import PRESETS, credentials
from orchestrator.transport import Transport, TransportError

MARK = "ORCHESTRATOR_LOCAL_MODEL"
PORTS = range(20_000, 30_000)
"""The system gives none of these away by itself: a port that is free now is so when the server has loaded its model."""
LOOK_S = 1.0
"""Between two looks at its health and its load."""
STARTING_S = 0.1
"""The same while it starts, doubled up to `LOOK_S`."""
ANSWER_S = 5.0
"""How long one such question may take."""
STEADY_S = 60.0
"""Up for so long, its end is no sign that it cannot stay up."""
BACKOFF_S = (1.0, 60.0)
"""The first wait after a start that came to nothing, and the longest."""
GRACE_S = 5.0
"""How long a server may take to end when it is asked to."""
LINES, LINE = 200, 2_000
"""Of its last lines so many are kept, and so much of each."""
_DROPPED = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", *(row.key_variable for row in PRESETS.values())})
"""What a server of another interpreter does not inherit, and what is none of its business."""

_log = logging.getLogger("orchestrator.local")


class Child:
    """A supervised server. `start` begins, `stop` ends it; `status` and `changed` tell how it is."""

    def __init__(self, name: str, hosted: Hosted, host: str, mark: str, env: Mapping[str, str] = {}) -> None:
        self._name = name
        self._mark = mark
        """Borne by all processes of its servers: no other child on this machine has the same, but one that came before it."""
        self._hosted = hosted
        self._host = host
        self._env = env
        """Beside what the settings say."""
        self.status = Status("starting")
        self._changed = asyncio.Event()
        self._lines: deque[str] = deque(maxlen=LINES)
        self._key = ""
        self._transport = Transport(Connections(), Timeouts(connect_s=ANSWER_S))
        self._gauged = True
        """Whether it has /metrics."""
        self._up_s: float | None = None
        """When it was first well; None: it has not come up."""
        self._oom_kills = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to supervise."""
        self._task = asyncio.ensure_future(self._supervise())

    async def stop(self) -> None:
        """Ends the server and all that belongs to it; returns when that is done."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._transport.aclose()
        self._say(state="stopped", base_url="", key="")

    async def changed(self, seen: int, timeout_s: float) -> Status:
        """The status as soon as its `changes` are others than those seen, or when the time is over."""
        if self.status.changes == seen:
            self._changed.clear()
            # Not `wait_for`: cancelled just when there is news, that of Python 3.11 forgets about it.
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
        return self.status

    def _say(self, **said: Any) -> None:
        self.status = self.status._replace(**said, changes=self.status.changes + 1)
        self._changed.set()

    async def _supervise(self) -> None:
        await asyncio.to_thread(_sweep, self._mark)
        failures = 0
        while True:
            self._up_s = None
            self._lines.clear()
            ending: Ending = "crashed"
            try:
                ending = await self._once()
            except (OSError, ValueError) as error:
                # No process to be had, no port; a word that no command line can hold.
                self._lines.append(f"{type(error).__name__}: {error}")
            reason = reason_of(self._lines, ending)
            up_s = self._up_for_s()
            failures = 0 if up_s is not None and up_s >= STEADY_S else failures + 1
            # Up for a moment, and then gone: the first time it is started again at once.
            wait_s = (
                0.0 if up_s is not None and failures <= 1 else min(BACKOFF_S[0] * 2 ** (failures - 1), BACKOFF_S[1])
            )
            state = "failed" if up_s is None else "restarting"
            said = _SAID[ending] + (f": {reason}" if reason else "")
            _log.warning("%s: the server %s; it is started again in %.0f s", self._name, said, wait_s)
            self._say(
                state=state, base_url="", key="", reason=said, ending=ending, again_s=wait_s,
                restarts=self.status.restarts + 1,
            )  # fmt: skip
            await asyncio.sleep(wait_s)

    def _up_for_s(self) -> float | None:
        """Since when it has been up; None: it has not come up."""
        return None if self._up_s is None else asyncio.get_running_loop().time() - self._up_s

    async def _once(self) -> Ending:
        """One server from its start to its end."""
        port, self._key = _free_port(self._host), secrets.token_urlsafe(32)
        filled = {"{host}": self._host, "{port}": str(port), "{key}": self._key, "{python}": sys.executable}
        words = [_filled(word, filled) for word in self._hosted.command]
        env = {name: value for name, value in os.environ.items() if name not in _DROPPED}
        env |= {"PYTHONUNBUFFERED": "1", MARK: self._mark, **self._env}
        env |= {name: _filled(value, filled) for name, value in self._hosted.env.items()}
        self._oom_kills = oom_kills()
        host = f"[{self._host}]" if ":" in self._host else self._host
        root = f"http://{host}:{port}"
        speech = _Speech(self._heard)
        loop = asyncio.get_running_loop()
        process, _ = await loop.subprocess_exec(
            lambda: speech, sys.executable, "-I", launcher.__file__, str(GRACE_S), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=env, start_new_session=True,
        )  # fmt: skip
        watching = asyncio.ensure_future(self._watch(root))
        try:
            await asyncio.wait((watching, speech.exited), return_when=asyncio.FIRST_COMPLETED)
            if not speech.exited.done():
                return watching.result()
            kills = oom_kills() - self._oom_kills
            # Its last words may still be in the pipe.
            await asyncio.wait([speech.ended], timeout=1.0)
            code = speech.exited.result()
            return ending_of(code if code >= 0 else 128 - code, self._lines, kills)
        finally:
            watching.cancel()
            await asyncio.shield(asyncio.ensure_future(self._end(process, speech)))

    async def _end(self, process: asyncio.SubprocessTransport, speech: _Speech) -> None:
        """Has the launcher end what it launched, and sees to what is left should it have been killed."""
        pipe = process.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()
        await asyncio.wait([speech.exited], timeout=3 * GRACE_S)
        process.close()  # a launcher that has not ended is killed
        await asyncio.to_thread(_sweep, self._mark)

    def _heard(self, raw: bytes) -> None:
        line = raw[:LINE].decode(errors="replace").rstrip().replace(self._key, "***")
        if line:
            self._lines.append(line)
            _log.info("[%s] %s", self._name, line)

    async def _watch(self, root: str) -> Ending:
        """Looks after the server; returns how it has to end: hung, or too slow to come up."""
        loop = asyncio.get_running_loop()
        began_s = well_s = loop.time()
        silent = 0
        pause_s = STARTING_S
        while True:
            well = await self._get(f"{root}/health") is not None
            now_s = loop.time()
            if well:
                well_s, silent = now_s, 0
                if self._up_s is None:
                    self._up_s, pause_s = now_s, LOOK_S
                    _log.info("%s: up after %.1f s at %s", self._name, now_s - began_s, root)
                    self._say(state="up", base_url=f"{root}/v1", key=self._key, again_s=0.0)
                await self._gauge(root)
                self._oom_kills = oom_kills()
            else:
                silent += 1
                if self._up_s is None and now_s - began_s > self._hosted.cold_start_s:
                    return "slow"
                # Not after a single look: this process itself may have stood still.
                if self._up_s is not None and now_s - well_s > self._hosted.hang_s and silent >= 3:
                    return "hung"
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_S)

    async def _gauge(self, root: str) -> None:
        if not self._gauged:
            return
        text = await self._get(f"{root}/metrics")
        if text is not None:
            self._gauged = bool(text)
            self.status = self.status._replace(load=load_of(text.decode(errors="replace")))

    async def _get(self, url: str) -> bytes | None:
        """What a path answers with; empty for one that is not there, None where nobody answers, or says that it is unwell."""
        try:
            async with asyncio.timeout(min(ANSWER_S, self._hosted.hang_s)):
                response = await self._transport.send(url, credentials("authorization", self._key), b"", method="GET")
                try:
                    body = await response.read()
                finally:
                    await response.aclose()
        except (TransportError, TimeoutError):
            return None
        if response.status >= 500:
            return None
        return body if response.status == 200 else b""


class _Speech(asyncio.SubprocessProtocol):
    """What a launcher and its server say, by lines, and when it ends. (A stream's `wait` would wait for whoever has inherited
    its standard output.)"""

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        """With the launcher's exit status."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """When no more will be said."""
        self._heard = heard
        self._rest = b""
        self._transport: Any = None
        """A subprocess's; uvloop's, which Ray's actors have, is none of asyncio's class."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.SubprocessProtocol`."""
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - there is one that speaks
        """See `asyncio.SubprocessProtocol`."""
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            self._heard(line)
        if len(self._rest) > LINE:
            self._heard(self._rest)
            self._rest = b""

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - it is over, however
        """See `asyncio.SubprocessProtocol`."""
        if fd == 1 and not self.ended.done():
            self._heard(self._rest)
            self.ended.set_result(None)

    def process_exited(self) -> None:
        """See `asyncio.SubprocessProtocol`."""
        code: int | None = self._transport.get_returncode()
        self.exited.set_result(-signal.SIGKILL if code is None else code)


_SAID: dict[Ending, str] = {
    "crashed": "ended by itself",
    "killed": "was killed",
    "hung": "did not answer any more",
    "out_of_memory": "ran out of memory",
    "slow": "did not come up in time",
    "not_found": "cannot be run",
}


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _free_port(host: str) -> int:
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port between {PORTS[0]} and {PORTS[-1]} is free")


def _sweep(borne: str) -> None:
    """Kills what bears a mark, on Linux."""
    mark = f"{MARK}={borne}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended, or is another user's: not ours
