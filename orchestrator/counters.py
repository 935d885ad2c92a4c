"""What one process has counted of its requests: plain numbers that only grow, by labels whose number is bounded.

They are pickled and brought to `actors.control`, which adds up those of all processes; `orchestrator.metrics` shows them.
Whoever else has something to count calls `Counters.count`. Measured: 12 µs of CPU a request of one attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.histogram import LATENCY_S, OVERHEAD_S, TOKENS_PER_S, Histogram
from orchestrator.types import FailureKind, Json
from orchestrator.world import outcome_of

if TYPE_CHECKING:
    from orchestrator.accounting import Ended

MAX_LABELS = 2_000
"""Callers choose models' names: what comes beyond so many combinations is counted as `other`."""
MAX_NAME = 200
"""A model's or selector's name that is longer is `other`, too."""
BUFFERED_S = 0.001
"""A stream that was there as soon as it had begun came out of a buffer: how fast its tokens were made is not known."""
LOST = "orchestrator_ledger_lost_total"
"""Requests that the ledger has no record of, although there is one."""
ALERTS = "orchestrator_budget_alerts_total"
"""Times that it was said that a budget is nearly spent, by account and threshold: once for each."""
Labels = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]

_K = FailureKind
_NEVER_SENT = frozenset(
    kind.value
    for kind in (
        _K.QUEUE_FULL, _K.QUEUE_TIMEOUT, _K.BUSY, _K.BREAKER_OPEN, _K.PAUSED, _K.OVER_BUDGET, _K.DRAINING, _K.UNSUPPORTED,
        _K.POOL_LOST, _K.STARTING, _K.DOWN,
    )
)  # fmt: skip
"""Ends of an attempt without an HTTP status that, then, never went upstream."""


class Counters:
    """The counts of one process."""

    def __init__(self) -> None:
        self.requests: Counter[Labels] = Counter()
        """(selector, strategy, outcome) -> requests."""
        self.attempts: Counter[Labels] = Counter()
        """(provider, model, outcome) -> attempts."""
        self.arms: Counter[Labels] = Counter()
        """(selector of the split, arm, outcome of the arm) -> requests."""
        self.calls: Counter[Labels] = Counter()
        """(`first`, `hedge` or `retry`,) -> calls that went upstream."""
        self.tokens: Counter[Labels] = Counter()
        """(provider, model, `input`, `output`, `cached` or `reasoning`) -> tokens. Cached ones are input as well, reasoning
        ones output."""
        self.cost_usd: dict[Labels, float] = {}
        """(provider, model, user) -> US dollars, as far as they are known; no user: an empty one."""
        self.named: dict[str, dict[Pairs, float]] = {}
        """What others count (`count`): by name, then by labels with their values."""
        self.request_s = Histogram(LATENCY_S)
        self.first_token_s = Histogram(LATENCY_S)
        self.overhead_s = Histogram(OVERHEAD_S)
        self.attempt_s = Histogram(LATENCY_S)
        """By provider and model, as the two that follow."""
        self.attempt_first_token_s = Histogram(LATENCY_S)
        self.attempt_tokens_per_s = Histogram(TOKENS_PER_S)

    def ended(self, ended: Ended) -> None:
        """See `orchestrator.accounting.Observer`."""
        report, outcome = ended.report, outcome_of(ended.outcome)
        self.request(_short(report["selector"]), report["strategy"], outcome)
        for split, arm in report.get("arms", {}).items():
            self.arm(split, arm, ended.arm_outcomes.get(split, FailureKind.CANCELLED.value))
        user = _short(ended.asked.ask.user or "")
        attempts = report["attempts"]
        sent = [attempt for attempt in attempts if _was_sent(attempt)]
        for attempt in attempts:
            self._attempt(attempt, user)
        hedges = retries = 0
        for record in ended.records:
            hedges += record.extra
            # Those of a call that was stopped are not known.
            retries += max(0, len(record.outcome.tries) - 1) if record.outcome is not None else 0
        for kind, number in (("first", len(sent) - hedges - retries), ("hedge", hedges), ("retry", retries)):
            if number > 0:
                self.calls[kind,] += number
        if outcome == "ok":
            self.request_s.observe(ended.seconds)
        if ended.first_token_s is not None:
            self.first_token_s.observe(ended.first_token_s)
        if attempts and outcome != FailureKind.CANCELLED.value:
            self.overhead_s.observe(max(0.0, ended.seconds - upstream_s(sent)))

    def _attempt(self, attempt: Json, user: str) -> None:
        labels = provider, model = attempt["provider"], _short(attempt["model"])
        outcome, latency_s, first_s = attempt["outcome"], attempt["latency_s"], attempt["first_token_s"]
        self.attempt(provider, model, outcome)
        output = attempt["output_tokens"]
        for direction, number in (
            ("input", attempt["input_tokens"]),
            ("output", output),
            ("cached", attempt.get("cached_tokens")),
            ("reasoning", attempt.get("reasoning_tokens")),
        ):
            if number:
                _count(self.tokens, (provider, model, direction), (provider, "other", direction), number)
        if cost := attempt["cost_usd"]:
            _count(self.cost_usd, (provider, model, user), (provider, "other", "other"), cost)
        if first_s is not None:
            self.attempt_first_token_s.observe(first_s, labels)
        if outcome == "ok" and latency_s is not None:
            self.attempt_s.observe(latency_s, labels)
            writing_s = latency_s - (first_s or 0.0)
            if output and writing_s > BUFFERED_S:
                self.attempt_tokens_per_s.observe(output / writing_s, labels)

    def request(self, selector: str, strategy: str, outcome: str) -> None:
        """One request ended."""
        _count(self.requests, (selector, strategy, outcome), ("other", strategy, outcome))

    def attempt(self, provider: str, model: str, outcome: str) -> None:
        """One attempt ended."""
        _count(self.attempts, (provider, model, outcome), (provider, "other", outcome))

    def arm(self, selector: str, arm: str, outcome: str) -> None:
        """One request ended that a split had sent to an arm; the outcome is the arm's, whatever others made up for it."""
        _count(self.arms, (selector, arm, outcome), ("other", arm, outcome))

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1.0) -> None:
        """Adds to a counter of any name, which ends in `_total` and is shown by it: `count("orchestrator_cache_total",
        {"outcome": "hit"})`. Names and labels' names are the code's own; values beyond `MAX_LABELS` combinations of a name
        are counted as `other`. An amount of 0 makes it known before anything has happened. Never raises."""
        pairs = tuple(sorted((labels or {}).items()))
        _count(self.named.setdefault(name, {}), pairs, tuple((label, "other") for label, _ in pairs), amount)

    def counted(self, name: str) -> float:
        """What a counter of that name has come to, over all labels."""
        return sum(self.named.get(name, {}).values())

    def add(self, other: Counters, sign: int = 1) -> None:
        """Adds another process's counts; with a sign of -1, takes them away."""
        for ours, theirs in zip(self._counts(), other._counts(), strict=True):
            _add(ours, theirs, sign)
        for name, counts in other.named.items():
            _add(self.named.setdefault(name, {}), counts, sign)
        for here, there in zip(self._histograms(), other._histograms(), strict=True):
            here.add(there, sign)

    def _counts(self) -> Sequence[dict[Labels, Any]]:
        return self.requests, self.attempts, self.arms, self.calls, self.tokens, self.cost_usd

    def _histograms(self) -> Sequence[Histogram]:
        return (
            self.request_s, self.first_token_s, self.overhead_s,
            self.attempt_s, self.attempt_first_token_s, self.attempt_tokens_per_s,
        )  # fmt: skip

    @property
    def extra_calls_ratio(self) -> float:
        """Hedges and retries over the calls that they were added to; 0 where there were none."""
        first = self.calls["first",]
        return (self.calls["hedge",] + self.calls["retry",]) / first if first else 0.0

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Requests, attempts and arms as JSON, by label."""
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


def upstream_s(attempts: Sequence[Json]) -> float:
    """How long at least one of these attempts was upstream."""
    if len(attempts) == 1:
        return attempts[0]["latency_s"] or 0.0
    whole_s, until_s = 0.0, 0.0
    for start_s, seconds in sorted((attempt["start_s"], attempt["latency_s"] or 0.0) for attempt in attempts):
        end_s = start_s + seconds
        whole_s += max(0.0, end_s - max(start_s, until_s))
        until_s = max(until_s, end_s)
    return whole_s


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else "other"


def _was_sent(attempt: Json) -> bool:
    return attempt["status"] is not None or attempt["outcome"] not in _NEVER_SENT


def _count(counts: dict[Any, Any], labels: tuple[Any, ...], other: tuple[Any, ...], amount: float = 1) -> None:
    if labels not in counts and len(counts) >= MAX_LABELS:
        labels = other
    counts[labels] = counts.get(labels, 0) + amount


def _add(ours: dict[Any, Any], theirs: Mapping[Any, Any], sign: int) -> None:
    for labels, number in theirs.items():
        ours[labels] = ours.get(labels, 0) + sign * number


def _rows(names: Labels, counts: Mapping[Labels, int]) -> list[dict[str, Any]]:
    return [{**dict(zip(names, labels, strict=True)), "count": count} for labels, count in sorted(counts.items())]
