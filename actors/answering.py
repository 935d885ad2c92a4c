"""A coordinator as an actor: who answers a batch where there is no running application.

Beside the driver, not within it: what is in flight there are references of Ray's in either case, and a strategy's work does
not hold up the loop that keeps the window full.
"""

from __future__ import annotations

import pickle
from contextlib import AsyncExitStack
from typing import Any

import ray

from actors.embedded import embedded
from actors.pool import MAX_CONCURRENCY
from orchestrator.asks import Answer, Ask
from orchestrator.config.settings import Config
from orchestrator.coordinator import Coordinator
from orchestrator.errors import CallFailed, OrchestratorError
from orchestrator.types import Failure, FailureKind


class Answering:
    """The actor. It ends with whoever made it, and what it had begun ends with it, upstream too."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._coordinator: Coordinator | None = None

    async def open(self, config: Config) -> None:
        """Goes by this configuration, whose keys no argument of its creation could hold: Ray shows those."""
        if self._coordinator is None:
            self._coordinator = await self._stack.enter_async_context(embedded(config))

    async def answer(self, ask: bytes) -> bytes:
        """A pickled `Ask` becomes a pickled `Answer`, or the OrchestratorError that it was refused with."""
        came: Answer | OrchestratorError
        if self._coordinator is None:
            came = CallFailed(Failure(FailureKind.POOL_LOST, "the coordinator was restarted"))
        else:
            try:
                came = await self._coordinator.answer(Ask(*pickle.loads(ask)))  # noqa: S301 - from our own driver, by Ray
            except OrchestratorError as error:
                came = error
        return pickle.dumps(came, 5)

    async def aclose(self) -> None:
        """Lets go of the pools."""
        self._coordinator = None
        await self._stack.aclose()


def make() -> Any:
    """An actor of this process's."""
    # Ray makes it again where it was killed; its calls are not made again, since that would bill twice unasked.
    options = ray.remote(
        num_cpus=0, max_concurrency=MAX_CONCURRENCY, max_restarts=-1, max_task_retries=0, enable_task_events=False
    )
    actor: Any = options(Answering)
    return actor.remote()
