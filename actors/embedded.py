"""The Python API on Ray: a coordinator in the caller's process over pool actors (`embedded`), and one that asks the
application which runs already (`connected`).

Both join the cluster at hand; one that had to be started ends with the last who uses it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import ray
from ray.exceptions import RayError

from actors.pool import RELAY_HOST
from actors.pools import RayPools
from orchestrator.asks import Answer, Ask, Sink
from orchestrator.config.live import Snapshot
from orchestrator.config.settings import Config, Server
from orchestrator.coordinator import Coordinator
from orchestrator.errors import CallFailed, NoApplication, OrchestratorError
from orchestrator.types import Failure, FailureKind, Json

POOLS_UP_S = 20.0
"""How long it waits for its pools before it begins without those that do not come up."""
VERSION = 1
"""Of a configuration that does not change while it is in use."""
_FLAGS = {
    RELAY_HOST: "127.0.0.1",
    "RAY_worker_niceness": "0",
    "MALLOC_ARENA_MAX": "2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Of a cluster of one's own; see `actors.launch.flags` for what they are good for."""

_log = logging.getLogger("orchestrator.embedded")


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
                self._users = 0  # whoever used it has lost it: the user has shut Ray down
                if address is None and not os.environ.get("RAY_ADDRESS"):
                    self._start()
                else:
                    _connect(address or "auto")
                self._began = True
            self._users += 1

    def _start(self) -> None:
        # Short: sockets lie in it, and their paths have at most 107 characters.
        self._folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
        with _environment(_FLAGS):
            ray.init(
                address="local",
                include_dashboard=False,
                # Nothing here asks Ray for CPUs: gates bound the load. Ray only counts them.
                num_cpus=max(4, os.cpu_count() or 1),
                object_store_memory=200_000_000,
                log_to_driver=False,
                logging_level="warning",
                _temp_dir=f"{self._folder}/r",
            )

    def leave(self) -> None:
        """The last one out ends what was begun here."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._began:
                ray.shutdown()
                self._began = False
                if self._folder is not None:
                    shutil.rmtree(self._folder, ignore_errors=True)
                    self._folder = None


_joined = _Joined()


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
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = str(error).strip().splitlines()[0]
        where = os.environ.get("RAY_ADDRESS") or address
        raise NoApplication(f"no Ray cluster can be joined ({where}): {reason}") from None


@asynccontextmanager
async def _cluster(address: str | None) -> AsyncIterator[None]:
    await asyncio.to_thread(_joined.join, address)
    try:
        yield
    finally:
        await asyncio.to_thread(_joined.leave)


@asynccontextmanager
async def embedded(config: Config) -> AsyncIterator[Coordinator]:
    """A coordinator in this process over pools of the cluster at hand.

    The pools bear the configuration in their names: processes that use the same one share them, and nobody touches those
    of an application that runs there, whose settings may be others. They end with the last who uses them.
    """
    async with _cluster(None):
        pools = RayPools(group=_digest(config))
        try:
            await pools.apply(Snapshot(VERSION, config), POOLS_UP_S)
            yield Coordinator(config, pools.calls, pools)
        finally:
            await pools.close_others((), VERSION + 1)


def _digest(config: Config) -> str:
    said = repr((config.providers, config.keys))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class Connected:
    """`orchestrator.wire.app.Coordinating` over the handle of a running application."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)
        self.server = Server()
        """Of what is opened here; the application has its own."""

    def hold(self) -> nullcontext[None]:
        """Nothing has to be held here: the application sees to it."""
        return nullcontext()

    async def answer(self, ask: Ask) -> Answer:
        """See `Coordinating.answer`."""
        answer: Answer = await self._call(self._handle.answer, ask)
        return answer

    async def stream(self, ask: Ask, sink: Sink) -> Answer:
        """See `Coordinating.stream`. Cancelled, it cancels the request of the application."""
        response = self._streaming.answer_streamed.remote(ask)
        opened = False
        try:
            async for piece in response:
                if isinstance(piece, Answer):
                    return piece
                known, chunks = piece
                if not opened:
                    opened = True
                    await sink.open(*known)
                await sink.send(chunks)
        except OrchestratorError as error:
            raise _raised(error) from None
        except RayError as error:
            raise _lost(error) from None
        finally:
            response.cancel()
        raise _lost(None)

    async def models(self) -> list[Json]:
        """See `Coordinating.models`."""
        models: list[Json] = await self._call(self._handle.models)
        return models

    async def pools(self) -> list[Json]:
        """See `Coordinating.pools`."""
        pools: list[Json] = await self._call(self._handle.pools)
        return pools

    async def ready(self) -> tuple[bool, Json]:
        """See `Coordinating.ready`."""
        ready: tuple[bool, Json] = await self._call(self._handle.ready)
        return ready

    async def _call(self, method: Any, *arguments: object) -> Any:
        response = method.remote(*arguments)
        try:
            return await response
        except OrchestratorError as error:
            raise _raised(error) from None
        except RayError as error:
            raise _lost(error) from None
        except asyncio.CancelledError:
            response.cancel()
            raise


def _raised(error: OrchestratorError) -> BaseException:
    """What was raised there, without what Ray made of it."""
    raised: BaseException = getattr(error, "cause", error)
    return raised


def _lost(error: Exception | None) -> CallFailed:
    reason = "its coordinator ended the stream" if error is None else type(error).__name__
    return CallFailed(Failure(FailureKind.POOL_LOST, f"the running application was lost: {reason}"))


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connected]:
    """The application that runs on a cluster. Raises NoApplication."""
    async with _cluster(address):
        yield Connected(await asyncio.to_thread(_handle))


def _handle() -> Any:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    from actors.app import NAME

    try:
        return serve.get_app_handle(NAME)
    except (RayServeException, RayError, ValueError) as error:
        where = ray.get_runtime_context().gcs_address
        reason = str(error).strip().splitlines()[0]
        raise NoApplication(
            f"the Ray cluster at {where} has no application {NAME!r}: {reason} Start it with `orchestrator serve`, or "
            "`serve run configs/serve.yaml`; RAY_ADDRESS names another cluster"
        ) from None
