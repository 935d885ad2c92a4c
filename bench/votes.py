"""`make votes DATA=FOLDER`: what consensus is worth on recorded answers, and when it stops.

The folder has `questions.jsonl` (lines of {id, prompt, answer}) and `replies/MODEL.jsonl` (lines of {id, output}). The
latencies of a replay are simulated; accuracy, agreement and escalation are those of the recordings.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from bench.serving import Served
from orchestrator.config.settings import Extract, Latency, Simulate
from orchestrator.consensus import normal
from orchestrator.consensus.extract import extract
from orchestrator.simulate.answers import Simulated

PANEL = ("gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "claude-3-haiku-20240307")
STRONG = "claude-3-5-sonnet-20241022"
CONCURRENCY = 48
SIMULATED = Simulate(Latency(0.06, 0.4), tokens_per_s=1e9, seed=11)
SAY = ("say-4", "say-4.0", "say-$4")
"""Three that agree, each in words of its own."""


class Asked(NamedTuple):
    """One question, and what came of it."""

    question: Any
    body: Any
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the text's answer is the right one, by value."""
        found = extract(self.body, Extract(json="answer"))
        return found is not None and found.key == normal.text(self.question["answer"])

    @property
    def consensus(self) -> Any:
        """How the vote went."""
        return self.body["orchestrator"]["consensus"]

    @property
    def calls(self) -> int:
        """Calls that were made, ended or not."""
        return len(self.body["orchestrator"]["attempts"])


def rows(path: Path) -> list[Any]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def config(data: Path) -> str:
    """Pools that replay, a simulated one, and the tiers over them."""
    lines = ["providers:", f"  sim: {{simulate: {_flow(SIMULATED)}}}"]
    models = sorted(path.stem for path in (data / "replies").glob("*.jsonl"))
    for model in models:
        replay = {
            "files": {model: str(data / "replies" / f"{model}.jsonl")},
            "questions": str(data / "questions.jsonl"),
            "latency_s": {"median": 0.05, "p99": 0.4},
            "tokens_per_s": 1e9,
        }
        lines.append(f"  {name_of(model)}: {{replay: {json.dumps(replay)}}}")
    panel, strong = [selector(model) for model in PANEL], selector(STRONG)
    by = {"extract": {"json": "answer"}}
    tiers = {
        "majority": {"strategy": "consensus", "models": panel, "quorum": 2, **by},
        "cascade": {"strategy": "cascade", "models": panel[:2], "agree": 2, "escalate": strong, **by},
        "alike": {"strategy": "consensus", "models": [f"sim/{say}" for say in SAY], "quorum": 2},
        "samples": {
            "strategy": "consensus",
            "models": ["sim/right-0.7"],
            "samples": 5,
            "extract": {"number": "last"},
        },
    }
    return "\n".join([*lines, f"tiers: {json.dumps(tiers)}", ""])


def _flow(settings: Simulate) -> str:
    latency = {"median": settings.latency_s.median, "p99": settings.latency_s.p99}
    return json.dumps({"latency_s": latency, "tokens_per_s": settings.tokens_per_s, "seed": settings.seed})


def name_of(model: str) -> str:
    """The provider that replays a model."""
    return model.replace(".", "-").lower()


def selector(model: str) -> str:
    """The selector of a recorded model."""
    return f"{name_of(model)}/{model}"


async def ask(url: str, model: str, questions: Sequence[Any], concurrency: int = CONCURRENCY) -> list[Asked]:
    """Puts every question to a selector. Raises AssertionError for what is not answered."""
    places = asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=concurrency)) as http:

        async def one(question: Any) -> Asked:
            body = {"model": model, "messages": [{"role": "user", "content": question["prompt"]}]}
            async with places:
                began = time.monotonic()
                answer = await http.post(f"{url}/chat/completions", json=body)
                seconds = time.monotonic() - began
            assert answer.status_code == 200, answer.text
            return Asked(question, answer.json(), seconds)

        return list(await asyncio.gather(*map(one, questions)))


def second_of_three(count: int) -> list[float]:
    """When the second of the three that agree has its answer, request by request, by the simulated latencies alone."""
    source = Simulated(SIMULATED, "sim")
    body: Any = {"messages": [{"role": "user", "content": "x"}]}
    return [sorted(source.script(say, body).first_s for say in SAY)[1] for _ in range(count)]


async def measure(url: str, data: Path) -> None:
    """Prints the table."""
    questions = rows(data / "questions.jsonl")
    print(f"{len(questions)} questions, greedy recordings; latencies are simulated\n")
    print(f"{'':<34}{'right':>8}{'calls':>8}{'saved':>8}{'escalated':>11}{'p50 s':>8}")
    models = sorted(path.stem for path in (data / "replies").glob("*.jsonl"))
    for name, model in [(model, selector(model)) for model in models] + [
        ("majority of three", "tier:majority"),
        ("cascade of two, then the strong", "tier:cascade"),
    ]:
        asked = await ask(url, model, questions)
        right = statistics.fmean(one.right for one in asked)
        calls = statistics.fmean(one.calls for one in asked)
        votes = [one.consensus for one in asked] if model.startswith("tier:") else []
        saved = f"{statistics.fmean(vote['calls_saved'] for vote in votes):.2f}" if votes else ""
        escalated = f"{statistics.fmean(vote['escalated'] for vote in votes):.1%}" if votes else ""
        seconds = statistics.median(one.seconds for one in asked)
        print(f"{name:<34}{right:>8.1%}{calls:>8.2f}{saved:>8}{escalated:>11}{seconds:>8.3f}")
    same = [{"prompt": "2 + 2?"}] * 300
    alike = await ask(url, "tier:alike", same, concurrency=1)
    expected = second_of_three(len(same))
    mean, wanted = statistics.fmean(one.seconds for one in alike), statistics.fmean(expected)
    print(f"\nquorum 2 of 3: verdict after {mean * 1000:.1f} ms; by the latencies alone {wanted * 1000:.1f} ms")
    samples = await ask(url, "tier:samples", [{"prompt": "6 * 7?", "answer": "42"}] * 1000)
    right = statistics.fmean(one.consensus["answer"].startswith("42") for one in samples)
    ended = statistics.fmean(len(one.consensus["votes"]) for one in samples)
    print(f"5 samples of a model that is right 70 % of the time: right {right:.1%} (in theory 83.7 %), ")
    print(f"answers waited for {ended:.3f} (in theory 3.895)")


def main(folder: str) -> None:
    """Serves, measures, stops."""
    data = Path(folder).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "config.yaml"
        file.write_text(config(data))
        served = Served(file)
        try:
            asyncio.run(measure(served.url, data))
        finally:
            served.stop()


if __name__ == "__main__":
    main(sys.argv[1])
