"""Active probes of a provider's accounts: what they say, what they do not, and that they end."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from orchestrator.config.settings import Breaker, Health, Timeouts
from orchestrator.config.settings import Provider as Settings
from orchestrator.endpoint import Endpoint
from orchestrator.inquiry import AGAIN_S, MODELS_S
from orchestrator.transport import Transport
from orchestrator.types import Failure, FailureKind, Reply
from tests.wire.test_endpoint import REQUEST, endpoint, ok

EVERY_S = 0.02


class Provider:
    """Answers probes with `probe` (a status, or an exception) and calls with `call`."""

    def __init__(self) -> None:
        self.probe: int | Exception = 200
        self.call = 200
        self.paths: list[str] = []
        self.keys: set[str | None] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return ok(request) if self.call == 200 else httpx.Response(self.call)
        self.paths.append(request.url.path)
        self.keys.add(request.headers.get("authorization"))
        if isinstance(self.probe, Exception):
            raise self.probe
        return httpx.Response(self.probe)

    def watched(self, *keys: str, failures: int = 2, path: str = "/models") -> Endpoint:
        """Probed; its breaker opens after `failures` and stays open for a long time."""
        settings = {"health": Health(EVERY_S, path), "breaker": Breaker(failures, 60, 3600), "timeouts": Timeouts(0.5)}
        found = endpoint(self, *keys, **settings)
        found.watch()
        return found


def breaker(one: Endpoint) -> tuple[str, str | None]:
    account = one.stats()["accounts"][0]
    return account["breaker"], account["misconfigured"]


async def until(one: Endpoint, state: str) -> None:
    async with asyncio.timeout(5):
        while breaker(one)[0] != state:
            await asyncio.sleep(0.01)


async def test_a_dead_address_is_noticed_without_calls_and_back_at_once() -> None:
    """No call is sent into the dark; none has to be the one that finds out that it is light again."""
    provider = Provider()
    one = provider.watched("a", "b", path="/healthz")
    provider.probe = httpx.ConnectError("refused")
    await until(one, "open")
    refused = await one.call(REQUEST, "m")
    assert isinstance(refused, Failure)
    assert FailureKind.BREAKER_OPEN is refused.kind
    provider.probe = 200
    await until(one, "closed")
    assert isinstance(await one.call(REQUEST, "m"), Reply)
    assert ({"/v1/healthz"}, {"Bearer a", "Bearer b"}) == (set(provider.paths), provider.keys)
    await one.aclose()


@pytest.mark.parametrize("status", [429, 404])
async def test_an_answer_of_any_kind_says_that_somebody_is_there(status: int) -> None:
    """A path that there is not, or a limit for lists, closes nothing."""
    provider = Provider()
    provider.probe = status
    one = provider.watched(failures=1)
    await asyncio.sleep(EVERY_S * 5)
    assert provider.paths
    assert ("closed", None) == breaker(one)
    await one.aclose()


async def test_a_refused_key_is_marked_and_a_good_one_unmarked() -> None:
    """By one probe either way."""
    provider = Provider()
    provider.probe = 401
    one = provider.watched(failures=100)
    await until(one, "open")
    assert "HTTP 401" == breaker(one)[1]
    provider.probe = 200
    await until(one, "closed")
    assert breaker(one)[1] is None
    await one.aclose()


@pytest.mark.parametrize(("call", "status"), [(401, 200), (401, 404), (401, 429), (402, 200), (402, 429)])
async def test_what_a_call_was_told_of_the_key_only_a_call_takes_back(call: int, status: int) -> None:
    """A list that anybody may read says nothing of a key, and nothing of its credit."""
    provider = Provider()
    one = provider.watched("a")
    provider.call = call
    await one.call(REQUEST, "m")
    provider.probe = status
    seen = len(provider.paths)
    while len(provider.paths) < seen + 3:
        await asyncio.sleep(EVERY_S)
    assert ("open", f"HTTP {call}") == breaker(one)
    await one.aclose()


@pytest.mark.parametrize("status", [404, 429])
async def test_what_a_probe_was_told_of_the_key_only_a_200_takes_back(status: int) -> None:
    """Of the same path, which has shown that it looks at the key."""
    provider = Provider()
    provider.probe = 401
    one = provider.watched("a", failures=100)
    await until(one, "open")
    provider.probe = status
    seen = len(provider.paths)
    while len(provider.paths) < seen + 3:
        await asyncio.sleep(EVERY_S)
    assert ("open", "HTTP 401") == breaker(one)
    provider.probe = 200
    await until(one, "closed")
    assert breaker(one)[1] is None
    await one.aclose()


async def test_an_empty_purse_is_not_filled_by_a_key_that_is_good() -> None:
    """A probe that was refused and then answered takes back its own word alone."""
    provider = Provider()
    provider.probe = 401
    one = provider.watched("a", failures=100)
    await until(one, "open")
    provider.probe = 200
    await until(one, "closed")
    provider.call = 402
    await one.call(REQUEST, "m")
    seen = len(provider.paths)
    while len(provider.paths) < seen + 3:
        await asyncio.sleep(EVERY_S)
    assert ("open", "HTTP 402") == breaker(one)
    await one.aclose()


async def test_a_probe_says_nothing_of_a_model() -> None:
    """A model that fails stays closed to calls, though the provider's list answers."""
    provider = Provider()
    provider.call = 500
    one = provider.watched(failures=1)
    await one.call(REQUEST, "m")
    await asyncio.sleep(EVERY_S * 5)
    assert ("closed", None) == breaker(one)
    assert "open" == one.stats()["accounts"][0]["models"]["m"]["breaker"]
    await one.aclose()


async def test_a_provider_that_is_silent_is_ill_and_probes_end_with_the_endpoint() -> None:
    """A probe is bounded by `connect_s`; after the end none is made, by a former endpoint neither."""
    asked = 0

    async def silent(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(60)
        raise AssertionError

    settings = {"health": Health(EVERY_S), "breaker": Breaker(1, 60, 3600), "timeouts": Timeouts(0.05)}
    one = endpoint(silent, **settings)  # type: ignore[arg-type]
    one.watch()
    await until(one, "open")
    after = one.successor(one.provider, ())
    await one.retire()
    before = asked
    await asyncio.sleep(EVERY_S * 10)
    assert before == asked
    await after.aclose()


async def test_a_list_that_cannot_be_had_does_not_replace_one_that_was() -> None:
    """And it is asked for again sooner than one that could."""
    now_s = 0.0
    answers = iter([(500, {}), (200, {"data": [{"id": "a"}]}), (500, {}), (200, {"data": [{"id": "b"}]})])

    def handler(_: httpx.Request) -> httpx.Response:
        status, body = next(answers)
        return httpx.Response(status, json=body)

    settings = Settings("p", base_url="http://up/v1")
    transport = Transport(settings.connections, settings.timeouts, httpx.MockTransport(handler))
    one = Endpoint(settings, (), transport, clock=lambda: now_s)
    found = []
    for later_s in (0, AGAIN_S, MODELS_S - 1, 1, AGAIN_S - 1, 1):
        now_s += later_s
        found.append(await one.models())
    assert [(), ("a",), ("a",), ("a",), ("a",), ("b",)] == found
    assert next(answers, None) is None
    await one.aclose()
