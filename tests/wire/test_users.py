"""Users' experiments, splits and the rollout, as callers see them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack


@pytest.fixture
async def research(upstream: Upstream, serve: Serve) -> Stack:
    """Two researchers, and splits over an upstream that answers as its models' names say."""
    up = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": [], "retry": {"attempts": 1}}
    half = {"control": {"model": "up/ok"}, "new": {"model": "up/other"}}
    return await serve(
        {
            "providers": {"up": up},
            "tiers": {
                "trial": {"strategy": "split", "arms": half},
                "trials": {
                    "strategy": "split",
                    "seed": "other",
                    "arms": {"old": {"model": "up/ok", "weight": 0}, "now": {"model": "tier:trial"}},
                },
                "each": {"strategy": "split", "unit": "request", "arms": half},
                "down": {"strategy": "split", "arms": {"a": {"model": "up/unavailable"}}},
                "saved": ["tier:down", "up/ok"],
                "outrun": {"strategy": "race", "models": ["tier:late", "up/ok"]},
                "late": {"strategy": "split", "arms": {"a": {"model": "up/slow-5"}}},
                "hedged": {"strategy": "hedge", "models": ["up/ok", "up/other"], "after": 1},
                "seldom": {
                    "strategy": "split",
                    "arms": {"a": {"model": "up/ok"}, "b": {"model": "tier:hedged", "weight": 0}},
                },
            },
            "users": {
                "john": {
                    "experiments": {
                        "exact": {"models": ["up/ok"], "params": {"seed": 1}, "override": {"temperature": 0}},
                        "whole": {"strategy": "race", "models": ["up/ok", "tier:trial"], "commit": "complete"},
                    }
                },
                "ada": {"experiments": {"exact": ["up/other"]}},
            },
            "rollout": {"percent": 10, "deny": ["eve"], "seed": "spring"},
        }
    )


async def test_an_experiment_is_asked_for_by_its_user(research: Stack, upstream: Upstream) -> None:
    """It answers like a tier: what it overrides wins over the request, its other parameters do not."""
    answer = await research.chat("user:john:exact", user="john", temperature=1, seed=2)
    report = answer.json()["orchestrator"]
    assert (200, "user:john:exact", "up/ok") == (answer.status_code, report["selector"], report["winner"])
    (asked,) = upstream.attempts("ok")
    assert (0, 2) == (asked.body["temperature"], asked.body["seed"])
    assert 200 == (await research.chat("user:john:whole")).status_code  # nobody has said who asks


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
@pytest.mark.parametrize(
    "choice",
    [{"model": "user:john:exact"}, {"model": "up/ok", "models": ["user:john:exact"]}, {"model": "user:john:none"}],
)
async def test_nobody_asks_for_anothers_experiment(
    research: Stack, upstream: Upstream, choice: dict[str, Any], fields: dict[str, Any]
) -> None:
    """403 in OpenAI's shape, whether there is such an experiment or not, and nothing is asked."""
    answer = await research.chat(**choice, user="ada", **fields)
    error = answer.json()["error"]
    assert (403, "permission_error", "model_not_allowed", "model") == (
        answer.status_code,
        error["type"],
        error["code"],
        error["param"],
    )
    assert f"{choice.get('models', [choice['model']])[0]!r} may not be used by the user 'ada'" == error["message"]
    assert [] == upstream.log


async def test_anthropics_shape_says_who_asks_in_its_metadata(research: Stack) -> None:
    """And gets Anthropic's error."""
    body = {"model": "user:john:exact", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    own, others = [
        await research.http.post("/v1/messages", json={**body, "metadata": {"user_id": user}})
        for user in ("john", "ada")
    ]
    assert (200, 403) == (own.status_code, others.status_code)
    assert ("error", "permission_error") == (others.json()["type"], others.json()["error"]["type"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
    ],
)
async def test_the_other_shapes_say_it_too(research: Stack, path: str, body: dict[str, Any]) -> None:
    """By `user`, as chat completions do."""
    answer = await research.http.post(path, json={"model": "user:john:exact", "user": "ada", **body})
    assert (403, "model_not_allowed") == (answer.status_code, answer.json()["error"]["code"])


async def test_an_experiment_that_is_not_there(research: Stack) -> None:
    """404 with names that are spelled alike: the user's own, or somebody's where there is no such user."""
    for selector in ("user:john:exakt", "user:jon:exact"):
        answer = await research.chat(selector)
        assert 404 == answer.status_code
        message = answer.json()["error"]["message"]
        assert f"unknown model '{selector}'; did you mean user:john:exact" in message
        assert ("user:ada" in message) == (selector == "user:jon:exact")


async def test_why_a_user_was_left_out_is_said(research: Stack) -> None:
    """To whoever asks for an experiment of a broken file: that it is broken. What is in it is not everybody's."""
    research.coordinator.config.left_out["user:eve"] = "eve.yaml:1: no"  # type: ignore[index]
    message = (await research.chat("user:eve:one")).json()["error"]["message"]
    assert "unknown model 'user:eve:one' (left out: the file of its user has a mistake: GET /admin/config" in message
    assert "eve.yaml" not in message


async def test_experiments_are_listed(research: Stack) -> None:
    """After the tiers."""
    rows = (await research.http.get("/v1/models")).json()["data"]
    names = [row["id"] for row in rows if row["id"].startswith("user:")]
    assert ["user:john:exact", "user:john:whole", "user:ada:exact"] == names
    assert 200 == (await research.http.get("/v1/models/user:john:exact")).status_code


async def test_a_split_keeps_a_user_on_an_arm(research: Stack) -> None:
    """Streamed or whole, which the answer says, and counts."""
    arms: Counter[str] = Counter()
    for number in range(20):
        said = set()
        for stream in (False, True):
            answer = await research.chat("tier:trial", user=f"user-{number}", stream=stream)
            if stream:
                assert ['"arm":"control"' in answer.text, '"arm":"new"' in answer.text] in (
                    [True, False],
                    [False, True],
                )
                said.add("control" if '"arm":"control"' in answer.text else "new")
            else:
                report = answer.json()["orchestrator"]
                assert {"tier:trial": report["arm"]} == report["arms"]
                assert {"control": "up/ok", "new": "up/other"}[report["arm"]] == report["winner"]
                said.add(report["arm"])
        (arm,) = said
        arms[arm] += 2
    assert min(arms["control"], arms["new"]) > 0
    counted = research.coordinator.lasting.counters.arms
    assert {("tier:trial", arm, "ok"): count for arm, count in arms.items()} == dict(counted)


async def test_the_outermost_arm_comes_first(research: Stack) -> None:
    """Of splits within splits all arms are told, by selector; those within a race too, which has none of its own."""
    report = (await research.chat("tier:trials", user="ada")).json()["orchestrator"]
    assert "now" == report["arm"]
    assert ["tier:trials", "tier:trial"] == list(report["arms"])
    inner = (await research.chat("tier:trial", user="ada")).json()["orchestrator"]["arm"]
    assert inner == report["arms"]["tier:trial"]
    raced = (await research.chat("user:john:whole", user="john")).json()["orchestrator"]
    assert {"tier:trial": raced["arm"]} == raced["arms"]
    assert "arm" not in (await research.chat("up/ok")).json()["orchestrator"]


async def test_a_split_by_request(research: Stack) -> None:
    """One user comes to both arms, the same request always to one; where no user is said, so it is for users."""
    for model, fields in (("tier:each", {"user": "ada"}), ("tier:trial", {})):
        arms = {(await research.chat(model, **fields)).json()["orchestrator"]["arm"] for _ in range(20)}
        assert {"control", "new"} == arms
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        again = [
            await research.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "r1"}) for _ in "ab"
        ]
        assert 1 == len({answer.json()["orchestrator"]["arm"] for answer in again})


async def test_an_arm_that_fails_is_not_routed_around(research: Stack) -> None:
    """Its failure is the answer, and counts for it."""
    answer = await research.chat("tier:down", user="ada")
    assert (502, "a") == (answer.status_code, answer.json()["orchestrator"]["arm"])
    assert {("tier:down", "a", "server_error"): 1} == dict(research.coordinator.lasting.counters.arms)


async def test_what_others_make_up_for_is_no_success_of_an_arm(research: Stack) -> None:
    """A tier around the split may go on with another member: the arm failed, or was outrun, all the same."""
    for model in ("tier:saved", "tier:outrun"):
        answer = await research.chat(model, user="ada")
        assert (200, "up/ok") == (answer.status_code, answer.json()["orchestrator"]["winner"])
    counted = {("tier:down", "a", "server_error"): 1, ("tier:late", "a", "cancelled"): 1}
    assert counted == dict(research.coordinator.lasting.counters.arms)


async def test_hedges_of_an_arm_are_paid_for_by_its_own_requests(research: Stack) -> None:
    """Those that go to another arm add nothing to its budget."""
    for _ in range(3):
        await research.chat("tier:seldom")
    assert {} == research.coordinator._budgets
    await research.chat("tier:hedged")
    assert ["tier:hedged"] == list(research.coordinator._budgets)


async def test_a_request_cannot_split_by_itself(research: Stack) -> None:
    """It would choose its own arm."""
    answer = await research.chat("up/ok", orchestrator={"strategy": "split", "models": ["up/ok", "up/other"]})
    assert (400, "orchestrator.strategy") == (answer.status_code, answer.json()["error"]["param"])


async def test_the_rollout_of_a_user(research: Stack) -> None:
    """Who is sent through, and why; a question without a user is refused."""
    found = [
        (await research.http.get("/admin/rollout", params={"user": user})).json() for user in ("john", "eve", "zoë")
    ]
    assert {
        "user": "john", "use": True, "reason": "percent", "percent": 10, "bucket": 8.88433393403929, "seed": "spring",
    } == found[0]  # fmt: skip
    assert [("eve", False, "deny"), ("zoë", False, "percent")] == [
        (f["user"], f["use"], f["reason"]) for f in found[1:]
    ]
    for query in ("", "?user=", "?user=a&user=b"):
        refused = await research.http.get(f"/admin/rollout{query}")
        assert (400, "user") == (refused.status_code, refused.json()["error"]["param"])
