"""The application: a configuration becomes a Ray Serve application of coordinators over pools.

`build` is what `serve run actors.app:build config=…` and `serve deploy configs/serve.yaml` call.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from ray import serve
from ray.exceptions import RayError

from actors.answers import RayAnswers
from actors.following import Following
from actors.ledger import RayDesk
from actors.pools import RayPools
from actors.scaling import MOST_ONGOING, cpus_of, replicas_of
from orchestrator import logs
from orchestrator.asks import Answer, Ask, Reloaded
from orchestrator.cache.flights import Flights
from orchestrator.callers import Caller
from orchestrator.config.live import Snapshot
from orchestrator.config.load import default_config, load
from orchestrator.config.settings import Rollout
from orchestrator.config.shown import shown
from orchestrator.coordinator import Coordinator
from orchestrator.counters import Counters
from orchestrator.errors import CallFailed
from orchestrator.keyring import KeyBook, Keyring
from orchestrator.lasting import Lasting
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.keeping import Keeping
from orchestrator.limits.limiter import Limiter
from orchestrator.python.asking import AnswerStream, Opened, ask_for, ending, whole
from orchestrator.types import Failure, FailureKind, Json
from orchestrator.wire.access import Access, Keyless, keyless_of
from orchestrator.wire.app import App
from orchestrator.wire.http import Refused

NAME = "orchestrator"
POOLS_UP_S = 20.0
"""How long a new coordinator waits for its pools before it begins to serve without those that do not come up."""
DRAIN_S = 600.0
"""How long a coordinator that is to go may take for what it has in flight: as long as HAProxy leaves it its connections
(RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S), and as a call may take."""
RELOAD_UP_S = 5.0
"""The same for pools that a changed configuration brings."""
FLUSH_S = 2.0
"""How long a replica that ends waits for the ledger to acknowledge its last records."""

_log = logging.getLogger("orchestrator.app")


class CoordinatorReplica:
    """A Serve replica: coordinators, one a snapshot of the configuration, behind a raw ASGI application.

    A request keeps the coordinator, and with it the configuration, that it began with. A new snapshot is taken over in
    three steps: pools are made and configured, the new coordinator takes all that comes from then on, and when the one
    before it has nothing in flight any more, the pools that only it had use for are closed.
    """

    async def __init__(self, config: str, keyless: Keyless) -> None:  # type: ignore[misc]  # Serve awaits it
        self._pools = RayPools()
        self._answers = RayAnswers()
        # What was learned of deployments, what was counted, and the cache, outlive configurations.
        self._lasting = Lasting(cache=Flights(self._answers))
        self._keeping = Keeping(self._lasting, RayDesk)
        self._following = Following(config, self._lasting.counters, self._take, self._drain)
        self._limiter = Limiter(self._following)
        # Before whatever reserves money: what is refused for its number costs nobody anything.
        self._lasting.limiting += (self._limiter,)
        self._current: Coordinator | None = None
        self._former: list[Coordinator] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._keyring = Keyring(self._book)
        self._access = Access(keyless, self._keyring)
        self.draining = False
        """See `orchestrator.wire.within.Admin`."""
        await self._following.start()
        self._keyring.start()

    async def _take(self, snapshot: Snapshot) -> None:
        logs.configure(snapshot.config.logs, "coordinator")
        await self._pools.apply(snapshot, POOLS_UP_S if self._current is None else RELOAD_UP_S)
        self._keeping.follow(snapshot.config.ledger)
        before = self._current
        self._access.taken(snapshot.config.callers)
        self._current = Coordinator(snapshot.config, self._pools.calls, self._pools, lasting=self._lasting)
        await self._answers.apply(snapshot.config)
        if before is not None:
            self._former.append(before)
            task = asyncio.ensure_future(self._close(before, snapshot.version))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, former: Coordinator, version: int) -> None:
        await former.idle()
        self._former.remove(former)
        used = {name for one in (self.coordinator(), *self._former) for name in one.config.providers}
        await self._pools.close_others(used, version)

    async def _drain(self) -> None:
        self.draining = True
        for one in (*self._former, self.coordinator()):
            await one.idle()
        await asyncio.to_thread(self._lasting.telemetry.flush)
        await self._keeping.flush(FLUSH_S)

    async def __del__(self) -> None:
        """Called by Serve, when a replica that is replaced or taken away has answered what it had in flight."""
        await self._keeping.flush(FLUSH_S)

    def _book(self) -> KeyBook | None:
        """Where keys are kept; without any in the configuration none are asked for, and nobody needs to look."""
        asked_for = self._current is not None and self._current.callers
        return self._keeping.desk if asked_for else None

    def coordinator(self) -> Coordinator:
        """The one that answers what comes now."""
        assert self._current is not None
        return self._current

    def __serve_build_asgi_app__(self) -> App:
        # Serve sends its own x-request-id and cancels a request whose caller has left.
        return App(
            self.coordinator, self, self._access, own_request_id=False, watch=False, standing=self._limiter.standing
        )

    async def config(self) -> Json:
        """See `orchestrator.wire.within.Admin`."""
        snapshot = self._following.snapshot
        assert snapshot is not None
        try:
            status = await self._following.status()
        except (RayError, TimeoutError) as error:
            status = {"problems": [f"the control actor does not answer: {type(error).__name__}"]}
        return {"version": snapshot.version, **status, "config": shown(snapshot.config)}

    async def counters(self) -> Counters:
        """See `orchestrator.wire.within.Admin`."""
        try:
            return await self._following.counters()
        except (RayError, TimeoutError) as error:
            # Nothing is better than a part: a scrape that fails leaves a gap, a counter that falls is taken for new calls.
            what = f"the control actor does not answer: {type(error).__name__}"
            raise Refused(503, "metrics_unavailable", what) from None

    async def reload(self) -> Reloaded:
        """See `orchestrator.wire.within.Admin`."""
        try:
            return await self._following.reload()
        except (RayError, TimeoutError) as error:
            return Reloaded(0, (f"the control actor does not answer: {type(error).__name__}",))

    async def spend(self, asked: Asking) -> Json | None:
        """See `orchestrator.wire.within.Admin`."""
        spent = await self._keeping.spend(asked)
        if spent is not None:
            try:
                spent["lost"] = (await self._following.status())["lost"]
            except (RayError, TimeoutError):
                _log.info("the control actor is away: only this coordinator's lost records are shown")
        return spent

    async def budgets(self) -> list[Json] | None:
        """See `orchestrator.wire.within.Admin`."""
        return await self._keeping.budgets()

    # By handle (contract §5): `h = serve.get_app_handle("orchestrator")`.

    async def generate(
        self, selector: str, messages: Sequence[Any] | str, user_id: str | None = None, **params: Any
    ) -> Json:
        """A whole answer, the body that HTTP's callers get: `await h.generate.remote("tier:fast", messages)`.

        A text in the place of messages is the user's. Raises UnknownSelector, BadChoice and CallFailed.
        """
        return whole(await self.answer(ask_for(selector, _turns(messages), params, stream=False, user=user_id)))

    async def stream(
        self, selector: str, messages: Sequence[Any] | str, user_id: str | None = None, **params: Any
    ) -> AsyncIterator[Json]:
        """The chunks of an answer: `async for chunk in h.options(stream=True).stream.remote("tier:fast", messages)`.

        The last one has `finish_reason`, `provider`, `usage` and the `orchestrator` object. Raises like `generate`, also in
        the middle. Whoever goes no further calls `cancel()` of what `remote` returned, which stops what goes on upstream.
        """
        stream = AnswerStream(self._serving(), ask_for(selector, _turns(messages), params, stream=True, user=user_id))
        try:
            while chunks := await stream.read():
                for chunk in chunks:
                    yield orjson.loads(chunk)
            chunks, finish = ending(stream.answer)
            for chunk in chunks:
                yield orjson.loads(chunk)
            yield finish.last
        finally:
            await stream.aclose()

    async def answer(self, ask: Ask) -> Answer:
        """For `create_models(connect=…)`: see `Coordinating.answer`."""
        return await self._serving().answer(ask)

    async def answer_streamed(self, ask: Ask) -> AsyncIterator[tuple[Opened, Sequence[bytes]] | Answer]:
        """The same for `Coordinating.stream`: what was sent to the sink, with what it was opened with; then the answer."""
        stream = AnswerStream(self._serving(), ask)
        try:
            while chunks := await stream.read():
                assert stream.opened is not None
                yield stream.opened, chunks
            yield stream.answer
        finally:
            await stream.aclose()

    def _serving(self) -> Coordinator:
        if self.draining:
            raise CallFailed(Failure(FailureKind.DRAINING, "the application is being stopped"))
        return self.coordinator()

    async def models(self, caller: Caller | None = None) -> list[Json]:
        """What /v1/models lists."""
        return await self.coordinator().models(caller)

    async def model(self, name: str, caller: Caller | None = None) -> Json | None:
        """What /v1/models/NAME says; None: there is no such model."""
        return await self.coordinator().model(name, caller)

    async def rollout(self) -> Rollout:
        """Who is sent through, for those who decide by themselves (`orchestrator.rollout`)."""
        return self.coordinator().config.rollout

    async def pools(self) -> list[Json]:
        """What /admin/pools shows."""
        return await self.coordinator().pools()

    async def ready(self) -> tuple[bool, Json]:
        """What /ready says."""
        return await self.coordinator().ready()


def _turns(messages: Sequence[Any] | str) -> Sequence[Any]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def build(args: dict[str, Any]) -> Any:
    """The Serve application. `args`: `config` (a path that every node can read), `replicas` (so many coordinators, default 1,
    or bounds of autoscaling: `actors.scaling`), `cpus` (of a node's, that a coordinator takes; default 0.01), `drain_s`
    (default 600: how long a replica that is replaced or taken away may go on with what it has in flight), `keyless` (who may
    use it while the configuration has no keys: `here`, this machine alone, `nobody`, `anybody`; default: where it has keys
    now, `nobody`, so that a reload that loses them opens it to nobody, else `anybody`)."""
    known = ("config", "replicas", "cpus", "drain_s", "keyless")
    if unknown := set(args) - set(known):
        raise ValueError(f"unknown arguments {', '.join(sorted(unknown))}; there is {', '.join(known)}")
    config = os.path.abspath(args.get("config") or default_config())
    keys = load(config).callers  # what is wrong is said here, before anything is started
    keyless = keyless_of(args.get("keyless"), keys)
    deployment = serve.deployment(
        name="coordinator",
        **replicas_of(args.get("replicas", 1)).options(),
        max_ongoing_requests=MOST_ONGOING,
        graceful_shutdown_timeout_s=float(args.get("drain_s", DRAIN_S)),
        graceful_shutdown_wait_loop_s=0.2,
        # Not nothing: what asks for nothing is not spread over the nodes, and lands on a head that is to be kept free.
        ray_actor_options={"num_cpus": cpus_of(args.get("cpus", 0.01))},
        # A line for each request costs 0.03 ms; who wants one has HAProxy's or the records of requests. (By the level, too:
        # without its log, Serve makes the line and throws it away.)
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(serve.ingress()(CoordinatorReplica))
    return deployment.bind(config, keyless)
