"""Specs, pairs and answers, as tests need them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.asks import Answer
from orchestrator.batch.items import Item, asked_of
from orchestrator.batch.schedule import Pair
from orchestrator.types import Failure, FailureKind, Json, Reply

SPEC: Json = {"name": "n", "input": "in.jsonl", "output": "out", "arms": {"a": "sim/a"}}


def write_spec(folder: Path, items: list[Any] | None = None, **keys: Any) -> Path:
    """A spec in a folder, with its input; a key that is None is left out."""
    lines = [{"id": "1", "prompt": "hi", "answer": 2}] if items is None else items
    (folder / "in.jsonl").write_text("".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in lines))
    path = folder / "spec.yaml"
    # JSON is YAML; a line a key.
    said = {name: value for name, value in {**SPEC, **keys}.items() if value is not None}
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in said.items()))
    return path


def pair(name: str = "1", arm: str = "a", worst_usd: float = 0.0, **fields: Any) -> Pair:
    """An item of an arm."""
    body = {"messages": [{"role": "user", "content": "hi"}]}
    item = Item(1, name, "/v1/chat/completions", body)._replace(**fields)
    return Pair(item, arm, asked_of(item, "sim/a", {}), worst_usd)


def attempt(**fields: Any) -> Json:
    """One attempt of a report."""
    return {
        "provider": "sim",
        "model": "a",
        "outcome": "ok",
        "status": 200,
        "start_s": 0.5,
        "latency_s": 0.25,
        "input_tokens": 3,
        "output_tokens": 4,
        "cost_usd": None,
        "cost_is_estimate": False,
        **fields,
    }


def answer(
    outcome: Reply | Failure | FailureKind | str = "yes", attempts: list[Json] | None = None, **report: Any
) -> Answer:
    """An answer; a text, or a kind of failure, stands for itself."""
    if isinstance(outcome, str):
        choice = {"message": {"role": "assistant", "content": outcome}, "finish_reason": "stop"}
        outcome = Reply({"id": "x", "choices": [choice], "usage": {"prompt_tokens": 3}}, "a-1")
    if isinstance(outcome, FailureKind):
        outcome = Failure(outcome, "no")
    said = {"attempts": [attempt()] if attempts is None else attempts, "winner": "sim/a", "cost_usd": None, **report}
    return Answer(outcome, said, "first", "sim", "a-1")
