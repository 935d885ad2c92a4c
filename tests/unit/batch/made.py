"""Results of runs for tests: made up, and from the recordings of real models, with costs and latencies made up, by seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.batch.score import Score
from orchestrator.batch.scoring import Scorer
from orchestrator.config.settings import Extract
from orchestrator.types import Json

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "gsm8k"
BEGAN = 1_700_000_000.0
PRICES = {
    "Meta-Llama-3.1-8B-Instruct": (0.05, 0.08),
    "claude-3-5-sonnet-20241022": (3.0, 15.0),
    "claude-3-haiku-20240307": (0.25, 1.25),
    "gemini-1.5-flash": (0.075, 0.3),
    "gemma-2-9b-it": (0.2, 0.2),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
}
"""USD a million tokens, in and out, made up."""


def line(item: str, arm: str, **more: Any) -> Json:
    """One line of results: answered, unless said otherwise."""
    return {
        "item": item,
        "arm": arm,
        "outcome": "ok",
        "text": "18",
        "expected": "18",
        "cost_usd": 0.001,
        "cost_is_estimate": False,
        "input_tokens": 100,
        "output_tokens": 50,
        "latency_s": 1.0,
        "attempts": 1,
        "provider": "p",
        "model": arm,
        "winner": f"p/{arm}",
        "consensus": None,
        "error": None,
        "score": None,
        "at": BEGAN,
        "start_s": 0.0,
        "request_id": "r",
        **more,
    }


def right(item: str, arm: str, correct: bool | None = True, said: str | None = None, **more: Any) -> Json:
    """A scored line."""
    extracted = said if said is not None else "18" if correct else "17"
    return line(item, arm, score={"correct": correct, "extracted": extracted, "why": None, "cost_usd": None}, **more)


def failed(item: str, arm: str, code: str = "timeout", **more: Any) -> Json:
    """A line that was not answered."""
    error = {"code": code, "message": f"p/{arm} failed: {code}"}
    nothing = {
        "text": None,
        "cost_usd": None,
        "input_tokens": None,
        "output_tokens": None,
        "winner": None,
        "model": None,
    }
    return line(item, arm, outcome=code, error=error, **{**nothing, **more})


def folder(where: Path, rows: Sequence[Json], **run: Any) -> Path:
    """A folder that holds these results."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if run:
        (where / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return where


def timed(rows: Iterator[Json], seed: int, concurrency: int = 32) -> Iterator[Json]:
    """Lines as a run would have written them: costs of their tokens, latencies, one in 80 failed."""
    chance = random.Random(seed)
    free = [0.0] * concurrency
    for row in rows:
        slot = min(range(concurrency), key=free.__getitem__)
        price_in, price_out = PRICES[row["arm"]]
        latency_s = round(chance.lognormvariate(0.2 + price_out / 20, 0.5), 4)
        free[slot] += latency_s
        when = {"latency_s": latency_s, "at": BEGAN + free[slot], "start_s": free[slot]}
        if chance.random() < 1 / 80:
            yield failed(row["item"], row["arm"], chance.choice(["timeout", "rate_limited", "server_error"]), **when)
            continue
        tokens = {"input_tokens": 180, "output_tokens": len(row["text"]) // 4}
        cost_usd = round((180 * price_in + tokens["output_tokens"] * price_out) / 1e6, 10)
        yield {**row, **when, **tokens, "cost_usd": cost_usd}


def recorded() -> Iterator[Json]:
    """660 questions × 6 models, as they were answered; `DATA` has to be there."""
    scorer = Scorer(Score("number", Extract(json="answer")))
    questions = {row["id"]: row for row in _rows(DATA / "questions.jsonl")}
    for path in sorted((DATA / "replies").glob("*.jsonl")):
        for row in _rows(path):
            scored = scorer.score(row["output"], questions[row["id"]]["answer"])
            expected = questions[row["id"]]["answer"]
            yield line(row["id"], path.stem, text=row["output"], expected=expected, score=scored._asdict())


def _rows(path: Path) -> list[Any]:
    return [json.loads(one) for one in path.read_text(encoding="utf-8").split("\n") if one]
