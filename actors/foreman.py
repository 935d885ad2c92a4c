"""Who hands out the work of a batch to its workers, and the money for it, and hears how they get on.

One actor of a run, which ends with its driver. Workers ask it for everything that no argument of theirs could hold: Ray shows
those, and a configuration has keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray

from orchestrator.batch.blocks import Chosen
from orchestrator.batch.leases import Lender
from orchestrator.batch.spec import Spec
from orchestrator.config.settings import Config
from orchestrator.errors import OrchestratorError

NEWS_S = 0.5
"""How often workers tell how they get on."""

Told = tuple[str, str, float | None]
"""Of a line: arm, outcome, cost."""


class Job(NamedTuple):
    """What all workers of a run have in common."""

    spec: Spec
    config: Config
    attached: bool
    """Whether the running application answers."""
    began_at: float
    workers: int
    spent_usd: float
    chosen: Chosen | None
    """A sample; None: all."""
    had: Mapping[str, frozenset[str]]
    """See `orchestrator.batch.feed.Feed`."""


class Hired(NamedTuple):
    """What one worker is to do."""

    job: Job
    window: int
    """So many requests at a time."""


@dataclass(slots=True)
class News:
    """What has happened since the last time."""

    lines: list[Told] = field(default_factory=list)
    failure: OrchestratorError | None = None
    """Why a worker could not go on."""
    refused: bool = False
    """Whether there was not enough money for something."""


class Foreman:
    """The actor."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._lender: Lender | None = None
        self._workers: dict[str, int] = {}
        self._news = News()
        self._stopping = asyncio.Event()

    async def begin(self, job: Job) -> None:
        """What is to be done."""
        self._job = job
        if job.spec.budget_usd is not None:
            self._lender = Lender(job.spec.budget_usd, job.spent_usd)

    async def hire(self, worker: str) -> Hired:
        """A worker begins, or begins again after it was killed."""
        assert self._job is not None
        number = self._workers.setdefault(worker, len(self._workers))
        each, over = divmod(self._job.spec.concurrency, self._job.workers)
        return Hired(self._job, each + (number % self._job.workers < over))

    async def lend(self, least_usd: float, wanted_usd: float) -> float:
        """See `Lender.lend`."""
        assert self._lender is not None
        return self._lender.lend(least_usd, wanted_usd)

    async def take_back(self, usd: float) -> None:
        """See `Lender.take_back`."""
        assert self._lender is not None
        self._lender.take_back(usd)

    async def gone_usd(self) -> float:
        """See `Lender.gone_usd`."""
        return 0.0 if self._lender is None else self._lender.gone_usd

    async def tell(self, lines: list[Told]) -> None:
        """Lines have come."""
        self._news.lines += lines

    async def fail(self, reason: OrchestratorError) -> None:
        """A worker cannot go on, and so nobody can."""
        self._news.failure = self._news.failure or reason
        self._stopping.set()

    async def news(self) -> News:
        """What has happened since it was asked last."""
        news, self._news = self._news, News(failure=self._news.failure)
        news.refused = self._lender is not None and self._lender.refused
        return news

    async def stop(self) -> None:
        """Nothing more is to be begun."""
        self._stopping.set()

    async def stopping(self) -> None:
        """Returns when nothing more is to be begun."""
        await self._stopping.wait()


def make() -> Any:
    """An actor of this process's."""
    # Lost, it has lost who was lent what: the run ends, and the next one counts anew.
    options = ray.remote(num_cpus=0, max_concurrency=10_000, max_restarts=0, enable_task_events=False)
    actor: Any = options(Foreman)
    return actor.remote()
