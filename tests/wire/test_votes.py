"""Consensus and cascade through the application: what the caller gets, whole and streamed, and what is closed meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.simulate.server import Server
from tests.wire.conftest import Serve, Stack

HI = [{"role": "user", "content": "hi"}]
QUICK, LATER, STUCK = "latency-0.01+rate-0", "latency-0.1+rate-0", "latency-20+rate-0"


@pytest.fixture
async def voting(sim: Server, serve: Serve) -> Stack:
    """Tiers that take a vote."""
    three = [f"sim/{QUICK}+say-4", f"sim/{STUCK}+say-5", f"sim/{LATER}+say-4"]
    apart = [f"sim/{QUICK}+say-1", f"sim/{QUICK}+say-2", f"sim/{QUICK}+say-3"]
    up = {"escalate": f"sim/{QUICK}+say-9"}
    return await serve(
        {
            "providers": {"sim": {"base_url": sim.base_url, "models": ["chat"]}},
            "tiers": {
                "vote": {"strategy": "consensus", "models": three, "quorum": 2},
                "apart": {"strategy": "consensus", "models": apart, "on_disagreement": "error"},
                "up": {"strategy": "cascade", "models": apart[:2], **up},
                "judged": {"strategy": "consensus", "models": apart, "method": "judge", "judge": "sim/judge-3"},
                "biased": {
                    "strategy": "consensus", "models": apart, "method": "judge", "judge": "sim/judge-first",
                    "on_disagreement": "error",
                },
                "merged": {"strategy": "consensus", "models": apart, "method": "synthesize", "judge": "sim/echo"},
                "safe": ["tier:apart", "tier:up"],
            },
            "server": {"keepalive_s": 0.03},
        }
    )  # fmt: skip


async def test_it_is_over_with_the_second_that_agrees(voting: Stack, sim: Server) -> None:
    """The answer, how it came about, and the third's connection closed."""
    answer = await voting.chat("tier:vote")
    report = answer.json()["orchestrator"]
    assert ("4", "consensus") == (answer.json()["choices"][0]["message"]["content"], report["strategy"])
    assert ("4", 1.0, False, 1) == tuple(
        report["consensus"][name] for name in ("answer", "agreement", "escalated", "calls_saved")
    )
    assert [f"sim/{QUICK}+say-4", f"sim/{LATER}+say-4"] == [vote["model"] for vote in report["consensus"]["votes"]]
    assert ["ok", "cancelled", "ok"] == [attempt["outcome"] for attempt in report["attempts"]]
    assert report["winner"] == f"sim/{QUICK}+say-4"
    await asyncio.sleep(0.1)
    assert (1, 0) == (sim.closed_early, sim.in_flight)


async def test_streamed_it_is_silent_until_the_verdict(voting: Stack) -> None:
    """Comments, then the winning text at once; nothing that might be withdrawn."""
    answer = await voting.chat("tier:vote", stream=True)
    lines = [line for line in answer.text.splitlines() if line]
    first = next(i for i, line in enumerate(lines) if line.startswith("data: "))
    assert [": keepalive"] * first == lines[:first]
    assert first >= 2
    chunks = [json.loads(line[6:]) for line in lines[first:-1]]
    assert "data: [DONE]" == lines[-1]
    assert "4" == "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert "4" == chunks[-1]["orchestrator"]["consensus"]["answer"]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_agreement_is_an_error_where_that_is_wanted(voting: Stack, stream: bool) -> None:
    """With a code of its own, and every vote."""
    answer = await voting.chat("tier:apart", stream=stream)
    body = json.loads(answer.text.splitlines()[-2][6:]) if answer.status_code == 200 else answer.json()
    assert "no_consensus" == body["error"]["code"]
    assert ["1", "2", "3"] == [vote["answer"] for vote in body["orchestrator"]["consensus"]["votes"]]


async def test_a_cascade_that_escalates(voting: Stack) -> None:
    """Two cheap ones that differ, then the third."""
    body = (await voting.chat("tier:up")).json()
    assert ("9", True) == (body["choices"][0]["message"]["content"], body["orchestrator"]["consensus"]["escalated"])
    assert 3 == len(body["orchestrator"]["attempts"])
    assert "9" == (await voting.chat("tier:safe")).json()["orchestrator"]["consensus"]["answer"]


async def test_judges(voting: Stack) -> None:
    """One that looks at the answers decides; one that goes by their place does not; a merging model sees them all."""
    judged = (await voting.chat("tier:judged")).json()
    assert "3" == judged["choices"][0]["message"]["content"]
    assert judged["orchestrator"]["consensus"]["judge"] == {
        "model": "sim/judge-3", "picks": [f"sim/{QUICK}+say-3"] * 2, "agreed": True,
    }  # fmt: skip
    assert "no_consensus" == (await voting.chat("tier:biased")).json()["error"]["code"]
    merged = (await voting.chat("tier:merged")).json()["choices"][0]["message"]["content"]
    assert all(f">\n{text}\n</answer>" in merged for text in "123")


async def test_a_vote_of_the_requests_own(voting: Stack) -> None:
    """Without configuration."""
    choice: dict[str, Any] = {
        "strategy": "consensus", "models": ["sim/say-1", "sim/say-2"], "method": "weighted",
        "weights": {"sim/say-2": 2}, "extract": {"number": "last"},
    }  # fmt: skip
    body = (await voting.chat("any", orchestrator=choice)).json()
    assert "2" == body["choices"][0]["message"]["content"]
    samples = {"strategy": "consensus", "samples": 3, "escalate": "tier:up"}
    assert 3 == len((await voting.chat("sim/right-1", orchestrator=samples)).json()["orchestrator"]["attempts"])


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"strategy": "consensus", "quorum": 9}, "orchestrator.quorum"),
        ({"strategy": "consensus", "models": ["sim/a"], "method": "weighted", "weights": {"x": 1}}, "orchestrator.weights"),
        ({"strategy": "consensus", "extract": {"regex": "("}}, "orchestrator.extract"),
        ({"strategy": "cascade", "models": ["sim/a"]}, "orchestrator.agree"),
        ({"strategy": "consensus", "models": ["tier:vote"] * 4, "samples": 6}, "orchestrator.models"),
    ],
)  # fmt: skip
async def test_a_vote_that_cannot_work(voting: Stack, choice: Any, param: str) -> None:
    """400, and which key it is."""
    answer = await voting.chat("sim/a", orchestrator=choice)
    assert (400, param) == (answer.status_code, answer.json()["error"]["param"])


async def test_embeddings_are_not_voted_on(voting: Stack) -> None:
    """400, in words."""
    answer = await voting.http.post("/v1/embeddings", json={"model": "tier:vote", "input": "x"})
    assert (400, "unsupported") == (answer.status_code, answer.json()["error"]["code"])
