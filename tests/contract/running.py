"""Runs a scenario on a real runtime."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from orchestrator.drive import Record, drive
from orchestrator.routes import Candidate
from orchestrator.strategies import plan
from orchestrator.types import Failure, FailureKind, Opened, Request
from tests.contract.scenarios import Scenario

REQUEST = Request({"messages": [{"role": "user", "content": "hi"}]})


class Collected:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.opened_by: list[str] = []

    async def open(self, candidate: Candidate, opened: Opened, records: Sequence[Record]) -> None:
        self.opened_by.append(candidate.model)

    async def send(self, chunks: Sequence[bytes]) -> None:
        self.chunks += chunks


async def ran(scenario: Scenario, runtime: Any, *, stream: bool) -> tuple[tuple[str, ...], str | FailureKind | None]:
    """Who was asked, and the winner or the kind of failure: `Scenario.expected`.

    Asserts what holds of every run: only the winner's chunks were sent, and no call is left running.
    """
    route, sink = scenario.route, Collected()
    run = await drive(
        plan(route, REQUEST._replace(stream=stream)), tuple(route.leaves()), runtime, sink=sink, clock=time.monotonic
    )
    assert all(record.end_s is not None for record in run.records)
    asked = tuple(record.candidate.model for record in run.records)
    if isinstance(run.outcome, Failure):
        return asked, run.outcome.kind
    assert run.winner is not None
    assert sink.opened_by in ([], [run.winner.model])
    assert bool(sink.opened_by) == bool(sink.chunks)
    return asked, run.winner.model
