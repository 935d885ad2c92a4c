"""Runs a scenario on a real runtime and holds it against what was expected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from orchestrator.drive import Record, drive
from orchestrator.routes import Candidate
from orchestrator.strategies import plan
from orchestrator.types import Failure, Opened, Request
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


async def check(scenario: Scenario, runtime: Any, *, stream: bool) -> None:
    """Asserts the outcome, the winner, who was asked, and that a winner's chunks alone were sent."""
    route, sink = scenario.route, Collected()
    run = await drive(
        plan(route, REQUEST._replace(stream=stream)), tuple(route.leaves()), runtime, sink=sink, clock=time.monotonic
    )
    assert [record.candidate.model for record in run.records] == list(scenario.asked)
    if isinstance(run.outcome, Failure):
        assert run.outcome.kind is scenario.kind
        return
    assert run.winner is not None
    assert run.winner.model == scenario.winner
    if sink.opened_by:
        assert sink.opened_by == [scenario.winner]
        assert sink.chunks
    assert all(record.end_s is not None for record in run.records)
