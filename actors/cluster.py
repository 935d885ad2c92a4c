"""The Ray cluster at hand, for whoever uses the Python API: joined, or started and ended with the last who uses it."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import ray
from ray.exceptions import RayError

from actors.fresh import begin
from actors.names import RELAY_HOST
from orchestrator.errors import NoApplication

_FLAGS = {
    RELAY_HOST: "127.0.0.1",
    "RAY_worker_niceness": "0",
    "MALLOC_ARENA_MAX": "2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Of a cluster of one's own; see `actors.launch.flags` for what they are good for."""


class _Joined:
    """The cluster that this process is in. Ray is a process's only one, so there is one of these."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._began = False
        """Whether Ray was initialised here, not by the user."""
        self._folder: str | None = None
        """Of a cluster that was started."""

    def join(self, address: str | None) -> None:
        """Joins the cluster at an address; None: that of RAY_ADDRESS, or a fresh one. Raises NoApplication."""
        with self._lock:
            if not ray.is_initialized():
                self._forget()  # whoever used it has lost it: the user has shut Ray down
                try:
                    if address is None and not os.environ.get("RAY_ADDRESS"):
                        self._start()
                    else:
                        _connect(address or "auto")
                except BaseException:
                    self._forget()
                    raise
                self._began = True
            self._users += 1

    def _start(self) -> None:
        # Short: sockets lie in it, and their paths have at most 107 characters.
        self._folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
        # A process that ends without closing its models; Ray's own hook comes after this one.
        atexit.register(self._end)
        with _environment(_FLAGS):
            begin(
                include_dashboard=False,
                # Nothing here asks Ray for CPUs: gates bound the load. Ray only counts them.
                num_cpus=max(4, os.cpu_count() or 1),
                logging_level="error",
                _temp_dir=f"{self._folder}/r",
            )

    def leave(self) -> None:
        """The last one out ends what was begun here."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._began:
                self._end()

    def _end(self) -> None:
        ray.shutdown()
        self._forget()

    def _forget(self) -> None:
        self._users, self._began = 0, False
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
            atexit.unregister(self._end)


_here = _Joined()


@contextmanager
def _environment(flags: dict[str, str]) -> Iterator[None]:
    """The flags for the processes that are started meanwhile; whatever the user has set stays."""
    added = {name: value for name, value in flags.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _connect(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = str(error).strip().splitlines()[0]
        where = os.environ.get("RAY_ADDRESS") or address
        raise NoApplication(
            f"no Ray cluster can be joined ({where}): {reason} Is `orchestrator serve` running? Where a cluster is named, "
            "here or by RAY_ADDRESS, RAY_AUTH_MODE=token is needed, too, if it has tokens: those of `orchestrator serve` do"
        ) from None
    # Serve says at each handle that it has made one.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


class _Stay:
    """One user's stay in the cluster. A thread that joins it cannot be cancelled: ended meanwhile, it leaves when it has."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._joined = self._over = False

    def begin(self) -> None:
        """Joins, unless it is over already. Raises NoApplication."""
        with self._lock:
            if not self._over:
                _here.join(self._address)
                self._joined = True

    def end(self) -> None:
        """Leaves, if it has joined."""
        with self._lock:
            self._over = True
            if self._joined:
                self._joined = False
                _here.leave()


@asynccontextmanager
async def joined(address: str | None) -> AsyncIterator[None]:
    """In the cluster at an address (`auto`: one that is found) meanwhile; None: that of RAY_ADDRESS, or one of one's own.

    Where Ray is initialised already, that is the cluster. Raises NoApplication where there is none.
    """
    stay = _Stay(address)
    try:
        await asyncio.to_thread(stay.begin)
        yield
    finally:
        # Begun at once and in a thread, so that it is done however often this is cancelled.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, stay.end))
