"""How many requests and attempts there were, by their labels. Plain numbers that only grow; `actors.control` adds them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.types import FailureKind
from orchestrator.world import outcome_of

if TYPE_CHECKING:
    from orchestrator.accounting import Ended

MAX_LABELS = 2_000
"""Callers choose models' names: what comes beyond so many combinations is counted as `other`."""
Counts = Mapping[tuple[str, str, str], int]


class Counters:
    """The counts of one process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """(selector, strategy, outcome) -> requests."""
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        """(provider, model, outcome) -> attempts."""
        self.arms: Counter[tuple[str, str, str]] = Counter()
        """(selector of the split, arm, outcome of the arm) -> requests."""
        self.alerts: Counter[tuple[str, str]] = Counter()
        """(account, threshold) -> times that it was said that a budget is nearly spent: once for each threshold."""
        self.lost = 0
        """Requests that the ledger has no record of, although there is one."""

    def ended(self, ended: Ended) -> None:
        """See `orchestrator.accounting.Observer`."""
        report = ended.report
        self.request(report["selector"], report["strategy"], outcome_of(ended.outcome))
        for split, arm in report.get("arms", {}).items():
            self.arm(split, arm, ended.arm_outcomes.get(split, FailureKind.CANCELLED.value))
        for attempt in report["attempts"]:
            self.attempt(attempt["provider"], attempt["model"], attempt["outcome"])

    def request(self, selector: str, strategy: str, outcome: str) -> None:
        """One request ended."""
        _count(self.requests, (selector, strategy, outcome), ("other", strategy, outcome))

    def attempt(self, provider: str, model: str, outcome: str) -> None:
        """One attempt ended."""
        _count(self.attempts, (provider, model, outcome), (provider, "other", outcome))

    def arm(self, selector: str, arm: str, outcome: str) -> None:
        """One request ended that a split had sent to an arm; the outcome is the arm's, whatever others made up for it."""
        _count(self.arms, (selector, arm, outcome), ("other", arm, outcome))

    def add(self, other: Counters) -> None:
        """Adds another process's counts."""
        self.requests.update(other.requests)
        self.attempts.update(other.attempts)
        self.arms.update(other.arms)
        self.lost += other.lost
        self.alerts.update(other.alerts)

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """As JSON, by label."""
        return {
            "requests": _rows(("selector", "strategy", "outcome"), self.requests),
            "attempts": _rows(("provider", "model", "outcome"), self.attempts),
            "arms": _rows(("selector", "arm", "outcome"), self.arms),
        }


def total(parts: Iterable[Counters]) -> Counters:
    """The sum."""
    whole = Counters()
    for part in parts:
        whole.add(part)
    return whole


def _count(counts: Counter[tuple[str, str, str]], labels: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    counts[labels if labels in counts or len(counts) < MAX_LABELS else other] += 1


def _rows(names: tuple[str, str, str], counts: Counts) -> list[dict[str, Any]]:
    return [{**dict(zip(names, labels, strict=True)), "count": count} for labels, count in sorted(counts.items())]
