"""What the answer object says of costs, as long as only providers know them."""

from __future__ import annotations

import pytest

from orchestrator.asks import Ask
from orchestrator.config.settings import Strategy
from orchestrator.drive import Record
from orchestrator.report import report_of
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Reply, Request, Try, Usage

ASK = Ask("tier:t", Request({"messages": []}), None, "id")
ROUTE = Route("tier:t", Strategy("race"), (Candidate("p", "a"), Candidate("p", "b")))


def ended(outcome: Reply | Failure | None) -> Record:
    return Record(Candidate("p", "a"), 0.0, 1.0, outcome)


def answered(cost_usd: float | None) -> Record:
    return ended(Reply({}, "a", Usage(1, 2, cost_usd=cost_usd), (Try("ok", 0.0, 1.0, 200),)))


def failed(kind: FailureKind) -> Record:
    return ended(Failure(kind, "no", tries=(Try(kind.value, 0.0, 1.0, 500),)))


@pytest.mark.parametrize(
    ("records", "cost_usd"),
    [
        ([answered(0.25)], 0.25),
        ([answered(0.1), answered(0.2)], 0.3),
        ([answered(None)], None),
        ([answered(0.25), answered(None)], None),
        ([failed(FailureKind.SERVER_ERROR), answered(0.25)], 0.25),
        ([failed(FailureKind.SILENT), answered(0.25)], None),
        ([ended(None), answered(0.25)], None),
        ([failed(FailureKind.SERVER_ERROR)], None),
        ([], None),
    ],
)
def test_the_cost_of_the_whole(records: list[Record], cost_usd: float | None) -> None:
    """The sum, unless it is not known of one that may have cost something; an error costs nothing."""
    report = report_of(ASK, ROUTE, records, None, {})
    assert (cost_usd if cost_usd is None else pytest.approx(cost_usd)) == report["cost_usd"]
    assert [None] * len(records) == [one["first_token_s"] for one in report["attempts"]]
