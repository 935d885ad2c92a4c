"""A replica of a local model: a named, detached Ray actor that supervises vLLM's server, or another engine's, on its node.

It asks for its GPUs, all of one node, so a tensor parallel model is one of these; replicas are spread over the nodes. The
server listens on the address that pools listen on, and asks for a key that only its pool is told.

It outlives a pool that was killed, since a model takes minutes to load and the pool that comes back finds it again by its
name. Its name holds a digest of the settings: others are other servers. Not asked for by any pool for `LONELY_S`, it ends
itself. Killed, Ray starts it again, empty: the pool's next question brings the settings. Its server ends with it, in
whichever way it ends (`orchestrator.hosting.launcher`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError

from actors.names import NAMESPACE, RELAY_HOST
from orchestrator import logs
from orchestrator.config.operations import Logs
from orchestrator.config.settings import Hosted, Provider
from orchestrator.hosting.child import Child
from orchestrator.hosting.keeper import Unheard
from orchestrator.hosting.status import Status

LONELY_S = 60.0
PLACED_S = 5.0
"""How long the answer of one that has answered before may be late, beyond what it was given."""
STOP_S = 30.0

_log = logging.getLogger("orchestrator.local")


class LocalModel:
    """The actor. Its methods run on one event loop."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._asked_s = asyncio.get_running_loop().time()
        self._watch = asyncio.ensure_future(self._end_when_lonely())

    async def attend(self, name: str, hosted: Hosted, logged: Logs | None, seen: int, timeout_s: float) -> Status:
        """See `orchestrator.hosting.keeper.Host.attend`."""
        self._asked_s = asyncio.get_running_loop().time()
        if self._child is None:
            if logged is not None:
                logs.configure(logged, f"model {name}")
            context = ray.get_runtime_context()
            host = os.environ.get(RELAY_HOST) or ray.util.get_node_ip_address()
            # vLLM's own Ray backend finds the cluster by it, should a model be spread over several nodes.
            env = {"RAY_ADDRESS": context.gcs_address}
            mark = f"{context.gcs_address}/{context.get_actor_name()}"
            self._child = Child(name, hosted, host, mark, env)
            self._child.start()
        status = await self._child.changed(seen, timeout_s)
        return status._replace(node=ray.get_runtime_context().get_node_id())

    async def stop(self) -> None:
        """Ends the server; what is left is to be killed."""
        self._watch.cancel()
        if self._child is not None:
            await self._child.stop()

    async def _end_when_lonely(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - self._asked_s < LONELY_S:
            await asyncio.sleep(1)
        _log.info("no pool any more: the local model ends")
        if self._child is not None:
            await self._child.stop()
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


class RayHost:
    """`orchestrator.hosting.keeper.Host` over such an actor."""

    def __init__(self, pool: str, provider: Provider, number: int, logged: Logs | None) -> None:
        assert provider.hosted is not None
        self._name = f"{provider.name}/{number}"
        self._hosted = provider.hosted
        self._actor_name = f"{pool}:{digest(provider.hosted)}:{number}".replace("pool:", "local:", 1)
        self._logged = logged
        self._actor: Any = None
        self._asked: asyncio.Task[Status] | None = None
        """A question that has not been answered yet."""
        self._placed = False

    async def attend(self, seen: int, timeout_s: float) -> Status:
        """See `Host.attend`. One that no node has room for yet is `placing`."""
        try:
            if self._actor is None:
                self._actor = await asyncio.to_thread(_find_or_make, self._actor_name, self._hosted)
            if self._asked is None:
                asking = self._actor.attend.remote(self._name, self._hosted, self._logged, seen, timeout_s)
                self._asked = asyncio.ensure_future(_answer(asking))
            ready, _ = await asyncio.wait([self._asked], timeout=timeout_s + PLACED_S)
            if not ready and not self._placed:
                return Status("placing")
            asked, self._asked = self._asked, None
            if not ready:
                asked.cancel()
                raise Unheard(f"its actor has not answered for {timeout_s + PLACED_S:g} s")
            status = asked.result()
        except Unheard:
            raise
        except Exception as error:  # whatever it was, it cannot be heard now, and will be asked again
            self._asked = None
            # Ended for good, by itself or by somebody: the next question makes it anew.
            self._actor = None
            why = str(error).strip().splitlines() or [""]
            raise Unheard(f"its actor was lost: {type(error).__name__}: {why[-1]}") from None
        self._placed = True
        return status

    async def stop(self) -> None:
        """See `Host.stop`."""
        if self._asked is not None:
            self._asked.cancel()
        if self._actor is None:
            return
        try:
            if self._placed:
                async with asyncio.timeout(STOP_S):
                    await self._actor.stop.remote()
        except (RayError, TimeoutError) as error:
            _log.warning("%s could not be asked to stop: %s", self._name, type(error).__name__)
        await asyncio.to_thread(ray.kill, self._actor, no_restart=True)


async def _answer(asking: Any) -> Status:
    status: Status = await asking
    return status


def digest(hosted: Hosted) -> str:
    """What tells servers of other settings apart. How many there are is their pool's concern."""
    said = {name: value for name, value in asdict(hosted).items() if name != "replicas"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _find_or_make(name: str, hosted: Hosted) -> Any:
    options = ray.remote(
        # What asks for nothing is not spread over the nodes.
        num_cpus=0 if hosted.gpus else 0.01,
        num_gpus=hosted.gpus,
        max_concurrency=100,
        max_restarts=-1,
        max_task_retries=0,
        enable_task_events=False,
        scheduling_strategy="SPREAD",
    )
    actor: Any = options(LocalModel)
    return actor.options(name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True).remote()
