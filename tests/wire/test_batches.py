"""A batch over the whole way of its requests, in one process: what the upstream saw is what was paid for."""

from __future__ import annotations

import io
import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.costs import judging_of, worst_of
from orchestrator.batch.folder import Folder
from orchestrator.batch.items import survey
from orchestrator.batch.planning import Wanted, plan_of
from orchestrator.batch.runner import Runner
from orchestrator.batch.spec import load_spec
from orchestrator.batch.tally import Progress
from tests.unit.batch.given import write_spec
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

PRICES = {"ok-cheap": 1_000, "ok-dear": 2_000, "ok-judge": 500}
"""What a million tokens of output cost, in US dollars; an answer has three."""


async def asked(stack: Stack, folder: Path, **keys: Any) -> bool:
    """Runs a batch to its end, as one process does; whether there was no money for the rest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own: none of it is started
        from actors.within import WithinWindow

    items = [{"id": i, "prompt": "x", "answer": "y"} for i in range(60)]
    spec = load_spec(write_spec(folder, items, params={"max_tokens": 3}, concurrency=16, **keys))
    surveyed = survey(spec.input, spec.params, "up/ok")
    held = Folder(spec.output)
    held.open(spec, surveyed.sha256, force=False, now_s=time.time())
    plan = plan_of(spec, surveyed, held, Wanted())
    schedule = plan.schedule(worst_of(stack.config), judging_of(stack.config, spec))
    runner: Runner[Any] = Runner(
        schedule, WithinWindow(stack.coordinator), held, Progress("n", plan.tally, io.StringIO()),
        concurrency=spec.concurrency, began_at=time.time(), scorer=spec.scorer(),
    )  # fmt: skip
    try:
        await runner.run()
    finally:
        held.close()
    return schedule.out_of_money


def bill_usd(upstream: Upstream) -> float:
    """What the upstream would ask for all that it was asked."""
    return sum(3 * PRICES[one.model] / 1e6 for one in upstream.log)


@pytest.mark.parametrize("judge", [None, "up/ok-judge"])
async def test_what_is_paid_for_never_exceeds_the_budget(
    serve: Serve, upstream: Upstream, tmp_path: Path, judge: str | None
) -> None:
    """By the upstream's own count, over two arms and a judge, and over a second run with a larger budget; and it is spent."""
    stack = await serve(
        {
            "providers": {"up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []}},
            "pricing": {
                "overrides": {
                    f"up/{name}": {"input_per_mtok_usd": 0, "output_per_mtok_usd": usd} for name, usd in PRICES.items()
                }
            },
            "budgets": {"max_tokens": 3},
        }
    )
    score = None if judge is None else {"match": "judge", "judge": judge}
    keys: dict[str, Any] = {"arms": {"cheap": "up/ok-cheap", "dear": "up/ok-dear"}, "score": score}
    # An answer to a pair of both arms costs 0.009 USD, and 0.006 more where it is judged.
    pair_usd = 0.009 if judge is None else 0.015
    for budget_usd in (0.2, 0.4):
        assert await asked(stack, tmp_path, **keys, budget_usd=budget_usd)
        assert budget_usd - pair_usd <= bill_usd(upstream) <= budget_usd + 1e-9
    served = Counter(one.model for one in upstream.log)
    assert abs(served["ok-cheap"] - served["ok-dear"]) <= 2
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(lines) == served["ok-cheap"] + served["ok-dear"]
    paid = sum(line["cost_usd"] + ((line["score"] or {}).get("cost_usd") or 0) for line in lines)
    assert pytest.approx(bill_usd(upstream)) == paid
