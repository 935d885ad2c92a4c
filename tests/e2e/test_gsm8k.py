"""Real input: 660 recorded questions through the endpoint, each answer equal to its recording, to the byte."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.serving import Served

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gsm8k"
MODELS = {path.stem: path for path in sorted((DATA / "replies").glob("*.jsonl"))} if DATA.is_dir() else {}
NAMES = [f"p{i}" for i in range(len(MODELS))]

pytestmark = pytest.mark.skipif(
    not MODELS and os.environ.get("CI") != "true", reason="the recordings are not on this machine"
)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Six replaying pools."""
    assert MODELS, f"no recordings in {DATA}"
    lines = ["providers:"]
    for name, (model, path) in zip(NAMES, MODELS.items(), strict=True):
        replay = {
            "files": {model: str(path)},
            "questions": str(DATA / "questions.jsonl"),
            "latency_s": {"median": 0.01, "p99": 0.05},
            "tokens_per_s": 20000,
        }
        lines.append(f"  {name}: {{replay: {json.dumps(replay)}}}")
    members = [f"{name}/{model}" for name, model in zip(NAMES, MODELS, strict=True)]
    lines += ["tiers:"]
    lines += [
        f"  {name}: {{strategy: {name}, models: {json.dumps(members)}}}" for name in ("first", "fallback", "race")
    ]
    config = tmp_path_factory.mktemp("replayed") / "config.yaml"
    config.write_text("\n".join(lines))
    served = Served(config)
    yield served
    served.stop()


@pytest.mark.parametrize("tier", ["first", "fallback", "race"])
@pytest.mark.parametrize("stream", [False, True])
async def test_660_answers_equal_their_recordings(replayed: Served, tier: str, stream: bool) -> None:
    """Whoever the answer names as its provider, its text is that provider's recording."""
    questions = _rows(DATA / "questions.jsonl")
    recorded = {
        name: {row["id"]: row["output"] for row in _rows(path)}
        for name, path in zip(NAMES, MODELS.values(), strict=True)
    }
    places = asyncio.Semaphore(64)
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=64)) as http:

        async def ask(question: dict[str, str]) -> tuple[str, str]:
            body = {
                "model": f"tier:{tier}",
                "messages": [{"role": "user", "content": question["prompt"]}],
                "stream": stream,
            }
            async with places:
                answer = await http.post(f"{replayed.url}/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return _streamed(answer.text) if stream else _whole(answer.json())

        answers = await asyncio.gather(*map(ask, questions))
    assert len(answers) == 660
    wrong = [
        q["id"] for q, (provider, text) in zip(questions, answers, strict=True) if recorded[provider][q["id"]] != text
    ]
    assert wrong == []


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _whole(body: Any) -> tuple[str, str]:
    return body["provider"], body["choices"][0]["message"]["content"]


def _streamed(text: str) -> tuple[str, str]:
    events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    return chunks[-1]["provider"], said


SHAPES: dict[str, tuple[str, Any, Any]] = {
    "chat": (
        "chat/completions",
        lambda prompt: {"messages": [{"role": "user", "content": prompt}]},
        lambda body: body["choices"][0]["message"]["content"],
    ),
    "completions": ("completions", lambda prompt: {"prompt": prompt}, lambda body: body["choices"][0]["text"]),
    "responses": (
        "responses",
        lambda prompt: {"input": prompt},
        lambda body: "".join(part["text"] for item in body["output"] for part in item["content"]),
    ),
    "messages": (
        "messages",
        lambda prompt: {"max_tokens": 4096, "messages": [{"role": "user", "content": prompt}]},
        lambda body: "".join(block["text"] for block in body["content"]),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_60_answers_in_each_shape(replayed: Served, shape: str) -> None:
    """The same texts, whichever shape they are asked for in."""
    path, asked, said = SHAPES[shape]
    name, (model, recording) = NAMES[0], next(iter(MODELS.items()))
    recorded = {row["id"]: row["output"] for row in _rows(recording)}
    async with httpx.AsyncClient(base_url=replayed.root, timeout=60) as http:

        async def ask(question: Any) -> None:
            body = {"model": f"{name}/{model}", **asked(question["prompt"])}
            answer = await http.post(f"/v1/{path}", json=body)
            assert recorded[question["id"]] == said(answer.json())

        await asyncio.gather(*map(ask, _rows(DATA / "questions.jsonl")[:60]))
