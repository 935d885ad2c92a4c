"""Every scenario in virtual time and on asyncio, against real endpoints. (tests/cluster runs them on `ray.wait`.)"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.config.settings import Latency, Provider, Retry, Simulate
from orchestrator.endpoint import Endpoint
from orchestrator.local import Local
from orchestrator.simulate.server import start
from orchestrator.strategies import plan
from orchestrator.types import Failure
from tests.contract.running import REQUEST, ran
from tests.contract.scenarios import SCENARIOS, Scenario, script
from tests.virtual import run

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
ALL = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    server = await start(Simulate(Latency(0.01, 0.02)), name="sim")
    provider = Provider("sim", base_url=server.base_url, retry=Retry(attempts=1))
    endpoint = Endpoint(replace(provider, models=("chat",)))
    runtime = Local({"sim": endpoint})
    yield runtime
    await runtime.aclose()
    assert endpoint.stats()["in_flight"] == 0
    await endpoint.aclose()
    await server.stop()


@ALL
@BOTH
def test_in_virtual_time(scenario: Scenario, stream: bool) -> None:
    """The plan itself."""
    models = [candidate.model for candidate in scenario.route.leaves()]
    scripts = [script(model, stream=stream and not scenario.whole) for model in models]
    ran = run(plan(scenario.route, REQUEST._replace(stream=stream)), scripts)
    assert [models[candidate] for candidate in ran.asked] == list(scenario.asked)
    outcome = ran.verdict.outcome
    if isinstance(outcome, Failure):
        assert outcome.kind is scenario.kind
    else:
        assert outcome.model == scenario.winner


@ALL
@BOTH
async def test_on_asyncio(scenario: Scenario, stream: bool, local: Local) -> None:
    """One process, no cluster."""
    assert scenario.expected == await ran(scenario, local, stream=stream)
