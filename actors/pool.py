"""The provider pool: a named, detached Ray actor around one endpoint.

All ways in share it, so its limits, breakers and queue hold for all of them. It imports what it needs to call a provider
and nothing else: no Serve, no pydantic, no YAML, no SDK.

Keys come by actor call, never as arguments of its creation, which Ray shows. After a restart it has none, and no sessions:
coordinators notice at once, connect again and bring them along. Left without any session for `LONELY_S`, it ends itself, so
that nothing outlives the application that made it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy, NotIn

from actors.names import NAMESPACE, RELAY_HOST
from actors.relay import Address, Called, Relay, Ticketed
from orchestrator import current, logs
from orchestrator.config.operations import Logs
from orchestrator.config.settings import Provider, Replay, Simulate
from orchestrator.endpoint import Endpoint
from orchestrator.simulate.server import Server
from orchestrator.simulate.server import start as start_simulated
from orchestrator.types import Chunk, Failure, FailureKind, Json, Reply

if TYPE_CHECKING:
    from orchestrator.hosting.keeper import Keeper

HEAD = "node:__internal_head__"
"""The resource that Ray gives to the head node alone."""
LABEL = "orchestrator/pools"
"""A node's label. `none`: it is to hold no pools, while there are other nodes. What asks for no CPUs could otherwise be on a
head that is to be kept free, or keep a node with GPUs from being given back."""
LONELY_S = 60.0
LEAVING_S = 1.0
"""The same for a pool whose provider is no longer configured."""
MAX_CONCURRENCY = 100_000
"""Calls that Ray lets into the actor at once: more than any gate and queue, which are what bounds them."""

_UNLABELLED = NodeLabelSchedulingStrategy({}, soft={LABEL: NotIn("none")})

_log = logging.getLogger("orchestrator.pool")


class Pool:
    """The actor. Its methods run on one event loop."""

    def __init__(self) -> None:
        # Its own node's, not that of whoever made it; and anew after a restart, which may be on another node.
        self._relay = Relay(os.environ.get(RELAY_HOST) or ray.util.get_node_ip_address())
        self._settings: tuple[Provider, tuple[str, ...]] | None = None
        self._endpoint: Endpoint | None = None
        self._simulator: Any = None
        self._simulated_at = ""
        self._keeper: Keeper | None = None
        self._version = 0
        """Of the configuration that the settings are from."""
        self._leaving = False
        self._starting = asyncio.Lock()
        self._listening = False
        self._retiring: set[asyncio.Task[None]] = set()
        # From the beginning: whoever made it may be gone before it opens a session.
        self._watch = asyncio.ensure_future(self._end_when_lonely())

    async def open_session(
        self, provider: Provider, keys: tuple[str, ...], version: int, logged: Logs | None = None
    ) -> Address:
        """A session for one coordinator, which brings the settings it knows. Raises what keeps the pool from starting."""
        async with self._starting:
            if not self._listening:
                await self._relay.start()
                self._listening = True
        await self.configure(provider, keys, version, logged)
        return self._relay.open_session()

    async def configure(
        self, provider: Provider, keys: tuple[str, ...], version: int, logged: Logs | None = None
    ) -> None:
        """Goes on by these settings, unless newer ones have come: a coordinator may lag behind. What is in flight goes on."""
        async with self._starting:
            if self._endpoint is not None and version < self._version:
                return
            self._version, self._leaving = version, False
            if logged is not None:
                logs.configure(logged, f"pool {provider.name}")
            if self._settings == (provider, keys):
                return
            before, simulator = self._endpoint, self._simulator
            called = await self._simulated_by(provider)
            self._endpoint = Endpoint(called, keys) if before is None else before.successor(called, keys)
            self._endpoint.watch()
            self._settings = (provider, keys)
            self._keep(provider, logged)
            if before is not None:
                self._later(_retire(before, simulator if simulator is not self._simulator else None))

    def _keep(self, provider: Provider, logged: Logs | None) -> None:
        """Hosts the local model that it is, if it is one."""
        keeper, self._keeper = self._keeper, None
        if provider.hosted is None and keeper is None:
            return
        # Of local models alone; the first imports this module.
        from actors.local_model import RayHost, digest
        from orchestrator.hosting.keeper import Keeper

        assert self._endpoint is not None
        hosted = provider.hosted
        if keeper is not None and hosted is not None and digest(keeper.hosted) == digest(hosted):
            keeper.configure(provider, self._endpoint)
            self._keeper = keeper
            return
        if keeper is not None:
            self._later(keeper.retire())
        if hosted is not None:
            name = ray.get_runtime_context().get_actor_name()
            self._keeper = Keeper(provider, self._endpoint, lambda number: RayHost(name, provider, number, logged))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _simulated_by(self, provider: Provider) -> Provider:
        """The settings with the address of the simulated provider, if it is one; a running one that fits is kept."""
        made_up = provider.simulate or provider.replay
        if made_up is None:
            self._simulator = None
            return provider
        before = None if self._settings is None else self._settings[0].simulate or self._settings[0].replay
        if self._simulator is None or before != made_up:
            # Owned by this actor: Ray ends it when this actor ends, in whichever way.
            # On this node: it listens on the node's loopback address.
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            options = ray.remote(num_cpus=0, max_concurrency=MAX_CONCURRENCY, scheduling_strategy=here)
            simulator: Any = options(Simulator)
            fresh = simulator.remote(made_up, provider.name)
            self._simulated_at = await fresh.start.remote()
            self._simulator = fresh
        return replace(provider, base_url=self._simulated_at)

    async def retire(self, version: int) -> None:
        """The provider is not in version `version` of the configuration: the pool ends when its last session has."""
        if version > self._version:
            self._leaving = True

    async def call(self, called: bytes) -> bytes:
        """One call of one model: a pickled `Called` becomes a pickled pair of a Reply, Failure or Ticketed, and how long
        the model takes (`Latencies.quantiles`): all coordinators learn it from the pool that they share.

        Ends early, with a Failure, when its session cancels it or ends.
        """
        asked = Called(*pickle.loads(called))  # noqa: S301 - from a coordinator, by Ray
        with current.request(asked.request_id, asked.trace):
            outcome = await self._call(asked)
        endpoint = self._endpoint
        known = None if endpoint is None else endpoint.quantiles(asked.model, stream=asked.request.stream)
        return pickle.dumps((outcome, known), 5)

    async def _call(self, called: Called) -> Reply | Failure | Ticketed:
        session, call, model, request, extra, *_ = called
        owner, endpoint = self._relay.session(session), self._endpoint
        if owner is None or endpoint is None:
            return Failure(FailureKind.POOL_LOST, "the pool was restarted")
        if call in owner.cancelled:
            del owner.cancelled[call]
            return Failure(FailureKind.CANCELLED, "cancelled before it began")
        task = asyncio.current_task()
        assert task is not None
        owner.calls[call] = task
        stream = None
        try:
            if not request.stream:
                return await endpoint.call(request, model, extra=extra)
            stream = await endpoint.open(request, model, extra=extra)
            if isinstance(stream, Failure):
                return stream
            pieces = await stream.read()
            rest = isinstance(pieces[-1], Chunk)
            return Ticketed(stream.opened, pieces, self._relay.offer(owner, call, stream) if rest else b"")
        except asyncio.CancelledError:
            if stream is not None and not isinstance(stream, Failure):
                await stream.aclose()
            if call in owner.cancelled or self._relay.session(session) is None:
                # Cancelled by the session, not by Ray: a value may still be returned.
                task.uncancel()
                return Failure(FailureKind.CANCELLED, "cancelled")
            raise
        finally:
            owner.calls.pop(call, None)
            owner.cancelled.pop(call, None)

    async def stats(self) -> Json:
        """What /admin/pools shows of this pool."""
        stats: Json = {} if self._endpoint is None else self._endpoint.stats()
        if self._keeper is not None:
            stats |= {"replicas": self._keeper.shown(), "absent": self._keeper.problem()}
        return {**stats, "sessions": self._relay.sessions, "node": ray.util.get_node_ip_address(), "pid": os.getpid()}

    async def models(self) -> tuple[str, ...]:
        """The models that the provider lists."""
        return () if self._endpoint is None else await self._endpoint.models()

    async def simulated(self) -> Json | None:
        """The counters of the simulated provider behind this pool, if there is one."""
        if self._simulator is None:
            return None
        counters: Json = await self._simulator.counters.remote()
        return counters

    async def _end_when_lonely(self) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        while True:
            await asyncio.sleep(1)
            since_s = self._relay.idle_since_s if self._listening else begun_s
            if since_s is not None and loop.time() - since_s > (LEAVING_S if self._leaving else LONELY_S):
                _log.info("no coordinator any more: the pool ends")
                if self._keeper is not None:
                    await self._keeper.aclose()
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


async def _retire(endpoint: Endpoint, simulator: Any) -> None:
    await endpoint.retire()
    if simulator is not None:
        ray.kill(simulator)


class Simulator:
    """A simulated provider as an actor: a real HTTP server on its node's loopback address."""

    def __init__(self, settings: Simulate | Replay, name: str) -> None:
        self._settings = settings
        self._name = name
        self._server: Server | None = None

    async def start(self) -> str:
        """Starts it; returns its base URL."""
        self._server = await start_simulated(self._settings, name=self._name)
        return self._server.base_url

    async def counters(self) -> Json:
        """How many calls it has seen, and the most at once."""
        server = self._server
        assert server is not None
        return {
            "in_flight": server.in_flight,
            "peak": server.peak,
            "served": server.served,
            "closed_early": server.closed_early,
        }


def actor_name(provider: str) -> str:
    """The name of a provider's pool in the namespace `orchestrator`."""
    return f"pool:{provider}"


def find_or_make(provider: str) -> Any:
    """The handle of a provider's pool; the first who asks makes it. What stands behind the provider's name tells it apart
    from others of the same provider."""
    return detached(Pool, actor_name(provider), max_concurrency=MAX_CONCURRENCY)


def on_the_head() -> dict[str, float] | None:
    """What an actor asks for that is to be on the head node; None: this cluster has none that says so. Blocks."""
    return {HEAD: 0.001} if HEAD in ray.cluster_resources() else None


def detached(
    kind: type, name: str, *arguments: object, max_concurrency: int, resources: dict[str, float] | None = None
) -> Any:
    """The handle of a named actor that outlives whoever made it; the first who asks makes it. `resources`: what its node has
    to have; without, it may be on any node that is not labelled otherwise."""
    options = ray.remote(
        # None: where tasks have taken all CPUs of a cluster, they may be waiting for this very actor.
        num_cpus=0,
        # A byte: Ray looks at labels for nobody who asks for nothing at all.
        memory=1,
        resources=resources,
        scheduling_strategy="DEFAULT" if resources else _UNLABELLED,
        max_concurrency=max_concurrency,
        max_restarts=-1,
        # A call that is made again bills twice: whether it may be is decided by plans, not by Ray.
        max_task_retries=0,
        # A record of each call for Ray's dashboard: 0.1 ms of CPU a call.
        enable_task_events=False,
    )
    actor: Any = options(kind)
    named = actor.options(name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True)
    return named.remote(*arguments)
