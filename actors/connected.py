"""`connect=` of the Python API: the application that runs already, through its handle.

An `Ask` goes there and an `Answer` comes back, pickled. Of a stream, whatever has come together travels at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from actors.app import NAME
from actors.cluster import joined
from orchestrator.asks import Answer, Ask, Sink
from orchestrator.callers import Caller
from orchestrator.config.operations import CallerKey
from orchestrator.config.settings import Rollout, Server
from orchestrator.errors import CallFailed, NoApplication, OrchestratorError
from orchestrator.rollout import decide
from orchestrator.types import Failure, FailureKind, Json

ROLLOUT_S = 1.0
OPENING_S = 20.0
"""How long an application that is there may take to answer its first question: it may be starting."""

_log = logging.getLogger("orchestrator.connected")


class Connected:
    """`orchestrator.wire.within.Coordinating` over the handle of a running application."""

    def __init__(self, handle: Any, rollout: Rollout) -> None:
        self._handle = handle
        self._rollout = rollout
        """As it was a second ago: who is sent through is decided without asking anybody."""
        self._streaming = handle.options(stream=True)
        self.server = Server()
        """Of what is opened here; the application has its own."""
        self.callers: tuple[CallerKey, ...] = ()
        """The same: whoever is within the cluster needs no key."""

    def hold(self) -> nullcontext[None]:
        """Nothing has to be held here: the application sees to it."""
        return nullcontext()

    def rollout(self, user: str) -> Json:
        """See `Coordinating.rollout`."""
        return decide(self._rollout, user)._asdict()

    async def follow(self) -> None:
        """Keeps up with what the application's configuration says of the rollout, until it is cancelled."""
        while True:
            await asyncio.sleep(ROLLOUT_S)
            try:
                self._rollout = await self._handle.rollout.remote()
            except (RayError, RayServeException, OrchestratorError) as error:
                # What was known stays: the application may be on its way back, and a request would say so.
                _log.info("the rollout could not be read: %s", type(error).__name__)

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
        except (RayError, RayServeException) as error:
            raise _lost(error) from None
        finally:
            response.cancel()
        raise _lost(None)

    async def models(self, caller: Caller | None = None) -> list[Json]:
        """See `Coordinating.models`."""
        models: list[Json] = await self._call(self._handle.models, caller)
        return models

    async def model(self, name: str, caller: Caller | None = None) -> Json | None:
        """See `Coordinating.model`."""
        model: Json | None = await self._call(self._handle.model, name, caller)
        return model

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
        except (RayError, RayServeException) as error:
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
    async with joined(address):
        handle = await asyncio.to_thread(_handle)
        application = Connected(handle, await _rollout(handle))
        following = asyncio.ensure_future(application.follow())
        try:
            yield application
        finally:
            following.cancel()
            await asyncio.wait([following])


async def application() -> Any:
    """The handle of the application of the cluster that this process is in, once it has answered. Raises NoApplication.

    For calls from the running loop alone: a router on a loop of its own costs a trip between threads each way.
    """
    handle = await asyncio.to_thread(_handle)
    handle._init(_run_router_in_separate_loop=False)
    # By default Serve makes each call one that a replica may refuse, for having too many, and so a generator of Ray's. Where
    # that ends, Ray waits for the caller to have heard of its items, within the replica's event loop (2.60,
    # `execute_streaming_generator_async`): a caller whose node dies and closes nothing would stop the whole coordinator, for
    # everybody. None refuses: they take whatever comes, and pools bound it. A plain call costs less, too.
    handle._router._asyncio_router._enable_strict_max_ongoing_requests = False
    await _rollout(handle)
    return handle


async def _rollout(handle: Any) -> Rollout:
    """The first question, which shows whether anybody answers. Raises NoApplication."""
    try:
        async with asyncio.timeout(OPENING_S):
            rollout: Rollout = await handle.rollout.remote()
    except (RayError, RayServeException, TimeoutError) as error:
        what = f"within {OPENING_S:g} s" if isinstance(error, TimeoutError) else f"({type(error).__name__})"
        raise NoApplication(f"the application {NAME!r} is there, but does not answer {what}") from None
    return rollout


def _handle() -> Any:
    try:
        return serve.get_app_handle(NAME)
    except (RayServeException, RayError, ValueError) as error:
        where = ray.get_runtime_context().gcs_address
        reason = str(error).strip().splitlines()[0]
        raise NoApplication(
            f"the Ray cluster at {where} has no application {NAME!r}: {reason} Start it with `orchestrator serve`, or "
            "`serve run configs/serve.yaml`; RAY_ADDRESS names another cluster"
        ) from None
