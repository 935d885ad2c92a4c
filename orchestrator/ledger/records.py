"""What travels from coordinators to the ledger. Costs are whole steps of the grid (`orchestrator.money`).

The hot path only notes what a request's end consists of (`note`); records are made of notes when a batch is posted.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from orchestrator.accounting import Ended
from orchestrator.money import GRID, units_of
from orchestrator.report import may_cost
from orchestrator.types import FailureKind, Json, Reply
from orchestrator.world import outcome_of

LARGEST = 10**15
"""Of what a provider says that it counted, and of a cost (100,000 USD): databases add up in 64 bits."""
LONGEST = 500
"""Characters of a name that a caller says; what comes after them is not kept."""

TEXT = 100_000
"""Characters of a question or an answer that are kept."""


class AttemptRecord(NamedTuple):
    """One attempt of a request, as its report has it."""

    provider: str
    model: str
    outcome: str
    status: int | None
    start_s: float
    latency_s: float | None
    first_token_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_units: int | None
    """None: not known, or nothing was sent."""
    is_estimate: bool
    unknown: bool
    """Whether it may have cost something that is not known."""


class ArmRecord(NamedTuple):
    """An arm of a split that a request was sent to."""

    split: str
    """Its selector."""
    arm: str
    outcome: str
    """What came of the arm itself, whatever others made up for it."""


class RequestRecord(NamedTuple):
    """One request that has ended."""

    id: str
    """The ledger's own, unlike any other; `request_id` is what the caller knows, and may have chosen."""
    at_s: float
    """When it began, in seconds since 1970."""
    seconds: float
    first_token_s: float | None
    request_id: str
    selector: str
    strategy: str
    user: str | None
    key: str | None
    """The name of the caller's key."""
    outcome: str
    """`ok`, or the kind of failure; `cancelled`: the caller left."""
    provider: str | None
    """The winner's."""
    model: str | None
    """The same."""
    cost_units: int | None
    """As the answer said; None: not known in full, or nothing was sent."""
    known_units: int
    """What is known of it: the same, or the sum of those attempts whose cost is known."""
    estimated_units: int
    """How much of that is an estimate."""
    unknown: bool
    """Whether it may have cost something that is not known."""
    input_tokens: int
    """Of all attempts, as far as they are known."""
    output_tokens: int
    question: str | None = None
    """What was asked and what was answered, where texts are kept (`ledger.store_text`)."""
    answer: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    arms: tuple[ArmRecord, ...] = ()
    """Of all splits that it went through, the outermost first."""


class Batch(NamedTuple):
    """What a coordinator has to say since its last batch. Posted again until it is acknowledged; written once."""

    writer: str
    """Who posts: one name for each recorder that there ever was."""
    sequence: int
    """1, 2, 3, … of this writer. 0, of an empty batch: it has nothing to say, and is there."""
    records: tuple[RequestRecord, ...] = ()
    spent: Mapping[str, int] = {}
    """Account -> units that the writer has spent of what it had leased."""
    returned: Mapping[str, int] = {}
    """Account -> units that it gives back of what it had leased."""


class Posted(NamedTuple):
    """The acknowledgement: the batch is on disk."""

    sequence: int
    keys_version: int
    """Grows with each change of the callers' keys in the database."""
    alerts: tuple[tuple[str, str], ...] = ()
    """Budgets of which it was said that they are nearly spent: account and threshold."""


class KeyRow(NamedTuple):
    """A caller's key, without the key, as the database has it. Times are seconds since 1970."""

    name: str
    key_sha256: str
    caller: str
    """What it may do, as JSON (`orchestrator.callers.Caller`)."""
    created_at: float
    expires: float | None = None
    revoked_at: float | None = None


class Note(NamedTuple):
    """What the hot path keeps of a request's end: no body, unless texts are wanted."""

    at_s: float
    seconds: float
    first_token_s: float | None
    user: str | None
    key: str | None
    outcome: str
    report: Json
    arm_outcomes: Mapping[str, str]
    question: str | None = None
    answer: str | None = None


def note(ended: Ended, *, texts: bool = False) -> Note:
    """What there is to record of a request, in about a microsecond; with its `texts` in so many more."""
    ask = ended.asked.ask
    return Note(
        ended.asked.at_s,
        ended.seconds,
        ended.first_token_s,
        ask.user,
        None if ask.caller is None else ask.caller.name,
        outcome_of(ended.outcome),
        ended.report,
        ended.arm_outcomes,
        _question(ask.request.body) if texts else None,
        _answer(ended) if texts else None,
    )


def weight_of(noted: Note) -> int:
    """How much memory a note takes, in some 2,000 bytes."""
    if noted.question is None and noted.answer is None:
        return 1
    return 1 + (len(noted.question or "") + len(noted.answer or "")) // 2_000


def _question(body: Json) -> str:
    """What was asked, as JSON."""
    return orjson.dumps(body.get("messages", body.get("input"))).decode()[:TEXT].replace("\0", "")


def _answer(ended: Ended) -> str | None:
    """What was answered, if that is text."""
    outcome = ended.outcome
    text = ended.text
    if isinstance(outcome, Reply):
        message = (outcome.body.get("choices") or [{}])[0].get("message") or {}
        text = message.get("content")
    return text[:TEXT].replace("\0", "") if isinstance(text, str) else None


def record_of(id_: str, noted: Note) -> RequestRecord:
    """The record of a request."""
    report = noted.report
    attempts: list[AttemptRecord] = []
    known = estimated = inputs = outputs = 0
    some_unknown = False
    for entry in report["attempts"]:
        attempt = _attempt(entry)
        attempts.append(attempt)
        if attempt.cost_units is not None:
            known += attempt.cost_units
            if attempt.is_estimate:
                estimated += attempt.cost_units
        some_unknown = some_unknown or attempt.unknown
        inputs += attempt.input_tokens or 0
        outputs += attempt.output_tokens or 0
    cost = _units(report["cost_usd"])
    provider, _, model = (report["winner"] or "").partition("/")
    arms = report.get("arms")
    return RequestRecord(
        id_,
        noted.at_s,
        noted.seconds,
        noted.first_token_s,
        _text(report["request_id"]),
        _text(report["selector"]),
        report["strategy"],
        None if noted.user is None else _text(noted.user),
        noted.key,
        noted.outcome,
        provider or None,
        _text(model) or None,
        cost,
        known if cost is None else cost,
        estimated,
        cost is None and some_unknown,
        inputs,
        outputs,
        noted.question,
        noted.answer,
        tuple(attempts),
        () if arms is None else tuple(_arm(split, arm, noted.arm_outcomes) for split, arm in arms.items()),
    )


def _arm(split: str, arm: str, outcomes: Mapping[str, str]) -> ArmRecord:
    return ArmRecord(_text(split), arm, outcomes.get(split, FailureKind.CANCELLED.value))


def _attempt(entry: Json) -> AttemptRecord:
    cost = _units(entry["cost_usd"])
    outcome = entry["outcome"]
    return AttemptRecord(
        entry["provider"],
        _text(entry["model"]),
        outcome,
        entry["status"],
        entry["start_s"],
        entry["latency_s"],
        entry["first_token_s"],
        _whole(entry["input_tokens"]),
        _whole(entry["output_tokens"]),
        cost,
        entry["cost_is_estimate"],
        cost is None and may_cost(outcome),
    )


def _units(usd: Any) -> int | None:
    return None if usd is None else LARGEST if usd > LARGEST / GRID else units_of(usd)


def _whole(number: Any) -> int | None:
    return number if number is None or number < LARGEST else LARGEST


def _text(said: str) -> str:
    """PostgreSQL has no place for a zero character."""
    return said if len(said) <= LONGEST and "\0" not in said else said[:LONGEST].replace("\0", "")


def packed(batch: Batch) -> bytes:
    """A batch on its way to another process. As plain tuples: named ones take five times as long."""
    records = [(*one[:-2], [*map(tuple, one.attempts)], [*map(tuple, one.arms)]) for one in batch.records]
    return pickle.dumps((batch.writer, batch.sequence, records, dict(batch.spent), dict(batch.returned)), 5)


def unpacked(data: bytes) -> Batch:
    """Back again."""
    writer, sequence, records, spent, returned = pickle.loads(data)  # noqa: S301 - from a coordinator, by Ray
    return Batch(writer, sequence, tuple(map(_record, records)), spent, returned)


def _record(row: tuple[Any, ...]) -> RequestRecord:
    attempts, arms = map(AttemptRecord._make, row[-2]), map(ArmRecord._make, row[-1])
    return RequestRecord._make((*row[:-2], tuple(attempts), tuple(arms)))
