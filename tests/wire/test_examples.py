"""Every example runs as it stands, with no key and no network: configurations, experiments, the first steps from Python."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import Models, create_models
from orchestrator.config.load import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "configs" / "example.yaml"
EXAMPLES = (ROOT / "configs" / "default.yaml", EXAMPLE)


def selectors(path: Path) -> list[str]:
    config = load(path, {}, lambda _url: False)
    return [*(f"tier:{name}" for name in config.tiers), *(f"user:{name}" for name in config.experiments)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_configuration_is_good(path: Path) -> None:
    """No problem anywhere, the users' files included; what is left out is optional."""
    config = load(path, {}, lambda _url: False)
    named = set(re.findall(r"^  ([\w-]+):.*optional: true", path.read_text(), re.MULTILINE))
    named |= set(re.findall(r"^  ([\w-]+):\n    optional: true", path.read_text(), re.MULTILINE))
    assert named == set(config.left_out)


def test_every_strategy_is_shown() -> None:
    """All that there is, and each way in which votes decide."""
    from orchestrator.strategies import STRATEGIES

    config = load(EXAMPLE, {}, lambda _url: False)
    shown = [tier.strategy for tier in (*config.tiers.values(), *config.experiments.values())]
    assert set(STRATEGIES) - {"first"} == {strategy.name for strategy in shown}
    assert {"majority", "weighted", "judge", "synthesize"} == {s.method for s in shown if s.name == "consensus"}
    assert {"first"} <= {tier.strategy.name for tier in load(EXAMPLES[0], {}, lambda _url: False).tiers.values()}


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.name)
async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Path, Models]]:
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_ENDPOINT"))]:
        monkeypatch.delenv(name)
    async with create_models(request.param, runtime="asyncio") as models:
        yield request.param, models


async def test_every_tier_and_experiment_answers(opened: tuple[Path, Models]) -> None:
    """Whole and streamed, to whoever may ask."""
    path, models = opened
    assert selectors(path)

    async def answers(selector: str) -> None:
        user = selector.split(":")[1] if selector.startswith("user:") else None
        model = models.model(selector, user_id=user)
        assert (await model.generate("6 * 7 = ?", max_tokens=20)).text, selector
        assert "".join([delta.text async for delta in model.stream("6 * 7 = ?", max_tokens=20)]), selector

    await asyncio.gather(*map(answers, selectors(path)))


def test_the_first_steps() -> None:
    """Each of them says what came of it."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and name != "LOCAL_MODEL"}
    command = [sys.executable, "-W", "error", "examples/basic_usage.py"]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert (0, "") == (ran.returncode, ran.stderr)
    said = {line[:22].strip(): line[23:] for line in ran.stdout.splitlines()}
    assert said["a model"].startswith("[simulated by fast-lab, model small]")
    assert "'method': 'cascade'" in said["an experiment"]
    assert said["streamed"].endswith("…")
    assert "'ok')" in said["its attempts"]
    assert said["tools"].startswith("2 rounds, then: ")
    assert "Person(name='simulated', age=1)" == said["an object"]
    assert said["consensus"].startswith("42 with ")
    assert said["a failure"].startswith("invalid_request: fast-lab/error-400")
    assert "slow-lab/large (stands in" in said["a local model"]
    assert said["cost"].endswith(" USD")
    assert "True" == said["john is sent through"]
