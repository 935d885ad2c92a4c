"""Votes on real answers: 660 recorded questions through the endpoint, held against a script that knows nothing of it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bench import votes
from bench.serving import Served
from tests.e2e.test_gsm8k import DATA, MODELS
from tests.upstream import Upstream

pytestmark = pytest.mark.skipif(
    not MODELS and os.environ.get("CI") != "true", reason="the recordings are not on this machine"
)


@pytest.fixture(scope="module")
def voting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Six replaying pools, a simulated one, and tiers that vote over them."""
    assert MODELS, f"no recordings in {DATA}"
    config = tmp_path_factory.mktemp("votes") / "config.yaml"
    config.write_text(votes.config(DATA))
    served = Served(config)
    yield served
    served.stop()


# The independent script: its own way from a text to a number, its own count.


def number(text: str) -> float | None:
    said = re.findall(r'"answer":\s*"?([^"\n}]*)', text)
    found = re.fullmatch(r"\s*[-$]*\s*([\d,]+(?:\.\d+)?)\s*%?\s*", said[-1]) if said else None
    return None if found is None else float(found[1].replace(",", "")) * (-1 if "-" in said[-1] else 1)


def value(text: str) -> Any:
    said = re.findall(r'"answer":\s*"?([^"\n}]*)', text)
    return None if not said else number(text) if number(text) is not None else said[-1].strip().rstrip(".").casefold()


RECORDED = {
    model: {row["id"]: value(row["output"]) for row in votes.rows(path)} for model, path in sorted(MODELS.items())
}


def majority(question: str) -> Any:
    cast = [RECORDED[model][question] for model in votes.PANEL]
    (best, count), *_ = Counter(one for one in cast if one is not None).most_common(1) or [(None, 0)]
    return best if count >= 2 else next((one for one in cast if one is not None), None)


def cascade(question: str) -> tuple[Any, bool]:
    one, other = (RECORDED[model][question] for model in votes.PANEL[:2])
    return (one, False) if one is not None and one == other else (RECORDED[votes.STRONG][question], True)


def right(question: Any, answer: Any) -> bool:
    return bool(answer == float(question["answer"].replace(",", "")))


# The endpoint.


@pytest.fixture(scope="module")
def questions() -> list[Any]:
    return votes.rows(DATA / "questions.jsonl")


@pytest.mark.parametrize("model", sorted(MODELS))
async def test_each_model_alone(voting: Served, questions: list[Any], model: str) -> None:
    """As many right answers as the recordings hold."""
    asked = await votes.ask(voting.url, votes.selector(model), questions)
    expected = [right(one, RECORDED[model][one["id"]]) for one in questions]
    assert expected == [one.right for one in asked]


async def test_a_majority_of_three(voting: Served, questions: list[Any]) -> None:
    """Answer by answer what the script counts; a call is saved exactly where the first two that came agree."""
    asked = await votes.ask(voting.url, "tier:majority", questions)
    expected = [right(one, majority(one["id"])) for one in questions]
    assert expected == [one.right for one in asked]
    assert [3] * 660 == [one.calls for one in asked]
    for one in asked:
        came = sorted(one.consensus["votes"], key=lambda vote: vote["latency_s"])
        cast = [RECORDED[vote["model"].partition("/")[2]][one.question["id"]] for vote in came]
        saved = 1 if cast[0] is not None and cast[0] == cast[1] else 0
        assert (saved, 3 - saved) == (one.consensus["calls_saved"], len(came))
    best_alone = max(
        statistics.fmean(right(one, RECORDED[model][one["id"]]) for one in questions) for model in votes.PANEL
    )
    assert statistics.fmean(expected) > best_alone


async def test_a_cascade(voting: Served, questions: list[Any]) -> None:
    """Two cheap ones that agree, else the strong one: the same answers, the same escalations, the same calls."""
    asked = await votes.ask(voting.url, "tier:cascade", questions)
    expected = [cascade(one["id"]) for one in questions]
    assert [right(q, answer) for q, (answer, _) in zip(questions, expected, strict=True)] == [
        one.right for one in asked
    ]
    assert [escalated for _, escalated in expected] == [one.consensus["escalated"] for one in asked]
    assert [2 + escalated for _, escalated in expected] == [one.calls for one in asked]


async def test_the_verdict_comes_with_the_second_that_agrees(voting: Served) -> None:
    """In the mean, the second order statistic of the latencies that the simulation drew, and what the endpoint adds."""
    asked = await votes.ask(voting.url, "tier:alike", [{"prompt": "2 + 2?"}] * 120, concurrency=1)
    expected = votes.second_of_three(len(asked))
    late = statistics.fmean(one.seconds for one in asked) - statistics.fmean(expected)
    assert 0 < late < 0.1, f"{late:.3f} s on a machine that may be busy"
    # Request by request: none before its time, and in most cases the third was saved.
    assert all(one.seconds > least for one, least in zip(asked, expected, strict=True))
    assert statistics.fmean(one.consensus["calls_saved"] for one in asked) > 0.6


async def test_samples_of_a_model_that_is_right_70_percent_of_the_time(voting: Served) -> None:
    """Right as often, and as many answers waited for, as the binomial says, within four standard errors."""
    asked = await votes.ask(voting.url, "tier:samples", [{"prompt": "6 * 7?"}] * 800)
    p, q = 0.7, 0.3
    accuracy = sum(math.comb(5, k) * p**k * q ** (5 - k) for k in (3, 4, 5))
    over_after = {n: math.comb(n - 1, 2) * (p**3 * q ** (n - 3) + q**3 * p ** (n - 3)) for n in (3, 4, 5)}
    mean = sum(n * share for n, share in over_after.items())
    spread = math.sqrt(sum(n * n * share for n, share in over_after.items()) - mean**2)
    is_right = [one.consensus["answer"] == "42" for one in asked]
    waited = [len(one.consensus["votes"]) for one in asked]
    assert abs(statistics.fmean(is_right) - accuracy) < 4 * math.sqrt(accuracy * (1 - accuracy) / len(asked))
    assert abs(statistics.fmean(waited) - mean) < 4 * spread / math.sqrt(len(asked))
    assert [5 - count for count in waited] == [one.consensus["calls_saved"] for one in asked]


async def test_who_is_not_needed_any_more_is_closed(served: Served, upstream: Upstream) -> None:
    """Two that agree after 0.1 s: the third, at ten, is let go of within 0.2 s."""
    choice = {
        "strategy": "consensus",
        "models": ["patient/slow-10-vote", "patient/slow-0.1-vote", "patient/slow-0.05-vote"],
    }
    body = {"model": "any", "messages": [{"role": "user", "content": "hi"}], "orchestrator": choice}
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(f"{served.url}/chat/completions", json=body)
    answered = time.monotonic()
    assert (200, 1) == (answer.status_code, json.loads(answer.text)["orchestrator"]["consensus"]["calls_saved"])
    await asyncio.sleep(0.4)
    (attempt,) = upstream.attempts("slow-10-vote")
    assert attempt.gone
    assert attempt.ended_s is not None
    assert attempt.ended_s - answered < 0.2
