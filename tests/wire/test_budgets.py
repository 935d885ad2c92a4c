"""Budgets over the whole way of a request: what is refused, with what words, and what is spent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.wire.conftest import Serve, Stack

CENT = 2_000
"""Tokens of an answer that costs a cent."""


def configured(folder: Path, **budgets: Any) -> dict[str, Any]:
    return {
        "providers": {
            "sim": {"simulate": {"latency_s": {"median": 0, "p99": 0}, "tokens_per_s": 1e6}, "models": ["chat"]}
        },
        "pricing": {"overrides": {"sim/penny*": {"input_per_mtok_usd": 0, "output_per_mtok_usd": 5}}},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "users": {
            "ada": {"experiments": {"one": {"models": [f"sim/penny+tokens-{CENT}+rate-0"], "budget_usd": 0.015}}}
        },
        "budgets": {"wait_s": 1, **budgets},
    }


async def spends(stack: Stack, tokens: int, most: int = CENT, user: str = "ada", **fields: Any) -> Any:
    return await stack.chat(f"sim/penny+tokens-{tokens}+rate-0", max_tokens=most, user=user, **fields)


async def budgets(stack: Stack) -> dict[str, Any]:
    """By account, when all is on disk."""
    await stack.keeping.flush(10)
    answer = await stack.http.get("/admin/budgets")
    return {one["account"]: one for one in answer.json()["budgets"]}


async def test_a_budget_is_spent_to_its_end_and_not_beyond(serve: Serve, tmp_path: Path) -> None:
    """120 requests at once of up to a cent over a budget of 0.40 USD: all that pass are paid for, and less is left than the
    dearest of them would need."""
    stack = await serve(configured(tmp_path, users={"*": 0.4}, wait_s=60))
    answers = await asyncio.gather(*(spends(stack, 500 + 100 * (n % 15)) for n in range(120)))
    assert {200, 403} == {one.status_code for one in answers}
    assert {"budget_exceeded"} == {one.json()["error"]["code"] for one in answers if one.status_code == 403}
    spent = sum(one.json()["usage"]["cost"] for one in answers if one.status_code == 200)
    assert 0.38 < spent <= 0.4
    row = (await budgets(stack))["user:ada"]
    for _ in range(100):
        if row["leased_usd"] == 0:
            break
        await asyncio.sleep(0.2)
        row = (await budgets(stack))["user:ada"]
    assert pytest.approx(spent, abs=1e-9) == row["spent_usd"]
    assert (0.4, 0) == (row["limit_usd"], row["leased_usd"])
    assert pytest.approx(0.4 - spent, abs=1e-9) == row["left_usd"]


async def test_a_refusal_says_what_is_left_and_what_to_do(serve: Serve, tmp_path: Path) -> None:
    """In OpenAI's shape and in Anthropic's; a smaller request passes."""
    stack = await serve(configured(tmp_path, users={"ada": 0.005}))
    answer = await spends(stack, CENT)
    message = (
        "the budget of the user 'ada' is 0.005 USD, of which 0.0050 USD are left, and this request could cost up to "
        "0.0100 USD; ask for fewer tokens (max_tokens) or for a cheaper model"
    )
    assert (403, message) == (answer.status_code, answer.json()["error"]["message"])
    body = {"model": "sim/penny", "max_tokens": CENT, "messages": [{"role": "user", "content": "hi"}]}
    other = await stack.http.post("/v1/messages", json={**body, "metadata": {"user_id": "ada"}})
    assert (403, message) == (other.status_code, other.json()["error"]["message"])
    assert 200 == (await spends(stack, 100, most=100)).status_code


async def test_streams_pay_too(serve: Serve, tmp_path: Path) -> None:
    """What has been streamed is spent."""
    stack = await serve(configured(tmp_path, users={"ada": 0.015}))
    assert 200 == (await spends(stack, CENT, stream=True)).status_code
    assert 0.01 == (await budgets(stack))["user:ada"]["spent_usd"]
    assert 403 == (await spends(stack, CENT, stream=True)).status_code


async def test_an_experiment_has_a_budget_of_its_own(serve: Serve, tmp_path: Path) -> None:
    """Its researcher's, or less where the platform says so."""
    stack = await serve(configured(tmp_path))
    assert [200, 403] == [(await stack.chat("user:ada:one", user="ada", max_tokens=CENT)).status_code for _ in range(2)]
    assert 0.015 == (await budgets(stack))["experiment:ada:one"]["limit_usd"]
    bounded = await serve(configured(tmp_path / "..", experiments=0.005))
    answer = await bounded.chat("user:ada:one", user="ada", max_tokens=CENT)
    assert answer.json()["error"]["message"].startswith("the budget of the experiment 'ada:one' is 0.005 USD")


async def test_a_model_without_a_price(serve: Serve, tmp_path: Path) -> None:
    """Is refused under a budget, and only there, unless it is allowed."""
    stack = await serve(configured(tmp_path, users={"ada": 1}))
    answer = await stack.chat("sim/chat", user="ada")
    assert (403, "unpriced") == (answer.status_code, answer.json()["error"]["code"])
    assert 200 == (await stack.chat("sim/chat", user="bob")).status_code
    allowing = await serve(configured(tmp_path, users={"ada": 1}, unpriced="allow"))
    assert 200 == (await allowing.chat("sim/chat", user="ada")).status_code


async def test_budgets_go_on_after_a_restart(serve: Serve, tmp_path: Path) -> None:
    """What was spent is in the database."""
    before = await serve(configured(tmp_path, users={"ada": 0.015}))
    assert 200 == (await spends(before, CENT)).status_code
    await before.keeping.aclose()
    after = await serve(configured(tmp_path, users={"ada": 0.015}))
    assert 403 == (await spends(after, CENT)).status_code


async def test_without_a_ledger_there_are_no_budgets_to_show(serve: Serve) -> None:
    """It says so."""
    stack = await serve({"providers": {"sim": {"simulate": {}}}})
    answer = await stack.http.get("/admin/budgets")
    assert (404, "no_ledger") == (answer.status_code, answer.json()["error"]["code"])
