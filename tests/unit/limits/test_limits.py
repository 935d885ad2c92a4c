"""Limits of keys: as many as the limit says in any minute, over all coordinators, whatever happens between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.accounting import Asked, Ended
from orchestrator.asks import Ask
from orchestrator.callers import Caller
from orchestrator.config.settings import Config, Strategy
from orchestrator.errors import Denied
from orchestrator.limits.central import Central, Grant, Take
from orchestrator.limits.limiter import Away, Limiter, Standing
from orchestrator.limits.window import BUCKET_S, Window
from orchestrator.routes import Candidate, Route
from orchestrator.types import Failure, FailureKind, Request
from tests.virtual_loop import run


class Net:
    """A centre at some distance, which may be killed, and comes back knowing nothing."""

    def __init__(self, rng: random.Random, delay_s: float = 0.002) -> None:
        self.rng = rng
        self.delay_s = delay_s
        self.calls = 0
        self.away = False
        self.restart()

    def restart(self) -> None:
        self.central = Central(asyncio.get_running_loop().time())

    async def take(self, take: Take) -> Grant | None:
        self.calls += 1
        await asyncio.sleep(self.rng.random() * 2 * self.delay_s)
        if self.away:
            raise Away("killed")
        grant = self.central.take(asyncio.get_running_loop().time(), take)
        await asyncio.sleep(self.rng.random() * 2 * self.delay_s)
        if self.away:
            raise Away("killed before it could answer")
        return grant


def asked(caller: Caller | None, tokens: int = 0, **body: Any) -> Asked:
    route = Route("a/b", Strategy("first"), (Candidate("a", "b"),))
    return Asked(Ask("a/b", Request(body, input_tokens=tokens), None, "r", None, caller), route, Config({}, {}), 0.0)


def ended(one: Asked, *attempts: tuple[int | None, int | None]) -> Ended:
    rows = [{"input_tokens": inp, "output_tokens": out} for inp, out in attempts]
    return Ended(one, Failure(FailureKind.CANCELLED, ""), {"attempts": rows}, 1.0, None, {})


def limiters(net: Net, count: int) -> list[Limiter]:
    return [Limiter(net, asyncio.get_running_loop().time) for _ in range(count)]


async def offer(limiters: Sequence[Limiter], at_s: Sequence[float], caller: Caller, rng: random.Random) -> list[float]:
    """When requests passed that were offered at these times, each to any of the coordinators."""
    loop = asyncio.get_running_loop()
    passed: list[float] = []

    async def one(when_s: float) -> None:
        await asyncio.sleep(when_s)
        try:
            await rng.choice(limiters).allow(asked(caller))
        except Denied as denied:
            refusals.append(denied)
        else:
            passed.append(loop.time())

    refusals: list[Denied] = []
    await asyncio.gather(*(one(when_s) for when_s in at_s))
    assert {(429, "rate_limit_exceeded")} >= {(one.status, one.code) for one in refusals}
    assert all(0 < (one.retry_after_s or 0) <= 61 for one in refusals)
    return sorted(passed)


def most_in_a_minute(times: Sequence[float]) -> int:
    most = first = 0
    for last, at_s in enumerate(times):
        while times[first] <= at_s - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


SCHEDULES = {
    "at once": [0.0] * 1_000,
    "evenly": [number * 0.05 for number in range(1_200)],
    "just as many": [number * 0.1 for number in range(600)],
    "a burst, then evenly": [0.0] * 300 + [number * 0.06 for number in range(1_000)],
    "late": [50 + number * 0.01 for number in range(900)],
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_six_hundred_a_minute_over_all_coordinators(name: str, count: int) -> None:
    """Exactly so many pass, whether they come evenly or at once, and to whomever they come."""

    async def main() -> int:
        rng = random.Random(1)
        passed = await offer(limiters(Net(rng), count), SCHEDULES[name], Caller("k", requests_per_minute=600), rng)
        return len([at_s for at_s in passed if at_s < 60])

    assert 600 == run(main())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 120),
    st.lists(st.tuples(st.floats(0, 150), st.integers(1, 80), st.floats(0, 30)), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.002, 0.05]),
)
def test_never_more_in_any_minute(
    seed: int, count: int, limit: int, bursts: list[tuple[float, int, float]], delay_s: float
) -> None:
    """Whatever the schedule: no 60 seconds have more than the limit, and nobody is refused while a good part is free."""

    async def main() -> tuple[list[float], list[float]]:
        rng = random.Random(seed)
        times = sorted(start + rng.random() * over for start, number, over in bursts for _ in range(number))
        some = limiters(Net(rng, delay_s), count)
        return times, await offer(some, times, Caller("k", requests_per_minute=limit), rng)

    times, passed = run(main())
    assert most_in_a_minute(passed) <= limit
    first = [at_s for at_s in times if at_s < times[0] + 55]
    assert min(limit, len(first)) - count * (1 + limit // 16) <= len([at_s for at_s in passed if at_s < times[0] + 59])


@pytest.mark.parametrize("seed", range(5))
def test_the_limit_holds_across_kills(seed: int) -> None:
    """The centre is killed and comes back knowing nothing, several times: never more in a minute, and most of it passes."""

    async def main() -> list[float]:
        rng = random.Random(seed)
        net = Net(rng)

        async def kills() -> None:
            for _ in range(6):
                await asyncio.sleep(5 + rng.random() * 20)
                net.away = True
                await asyncio.sleep(rng.random() * 3)
                net.away = False
                net.restart()

        killing = asyncio.ensure_future(kills())
        times = [number * 0.01 for number in range(12_000)]
        passed = await offer(limiters(net, 3), times, Caller("k", requests_per_minute=300), rng)
        killing.cancel()
        return passed

    passed = run(main())
    assert most_in_a_minute(passed) <= 300
    assert len(passed) > 2 * 300 * 0.95


def test_what_is_not_used_goes_back_within_a_second() -> None:
    """One coordinator took a batch and has no use for it: another gets all of it."""

    async def main() -> tuple[int, int]:
        net = Net(random.Random(1))
        one, two = limiters(net, 2)
        caller = Caller("k", requests_per_minute=100)
        await one.allow(asked(caller))
        at_once = len(await offer([two], [0.0] * 200, caller, random.Random(1)))
        await asyncio.sleep(1)
        return at_once, len(await offer([two], [0.0] * 200, caller, random.Random(1)))

    at_once, later = run(main())
    assert 99 - 100 // 16 <= at_once <= 99
    assert 99 == at_once + later


def test_a_coordinator_that_died_has_used_what_it_held() -> None:
    """Until that is forgotten; it is not lost for ever."""

    async def main() -> list[int]:
        net = Net(random.Random(1))
        one, two = limiters(net, 2)
        caller = Caller("k", requests_per_minute=100)
        one._tell = lambda stock: None  # type: ignore[method-assign]  # it will be dead
        await one.allow(asked(caller))
        await asyncio.sleep(2)
        counts = [len(await offer([two], [0.0] * 200, caller, random.Random(1)))]
        await asyncio.sleep(59)
        counts.append(len(await offer([two], [0.0] * 200, caller, random.Random(1))))
        await asyncio.sleep(2)
        counts.append(len(await offer([two], [0.0] * 200, caller, random.Random(1))))
        return counts

    batch = 100 // 16
    assert [100 - batch, 0, 100] == run(main())


def test_one_that_is_heard_of_again_tells_of_its_whole_minute() -> None:
    """What it had held and not used is free again."""

    async def main() -> int:
        net = Net(random.Random(1))
        one, two = limiters(net, 2)
        caller = Caller("k", requests_per_minute=100)
        stalled, one._tell = one._tell, lambda stock: None  # type: ignore[method-assign]
        await one.allow(asked(caller))
        await asyncio.sleep(2)
        await two.allow(asked(caller))
        stalled(*one._stocks.values())
        await asyncio.sleep(1)
        return len(await offer([two], [0.0] * 200, caller, random.Random(1)))

    assert 98 == run(main())


def test_what_was_not_begun_is_given_back() -> None:
    """Somebody else refused it after its number had been counted."""

    async def main() -> list[int]:
        (one,) = limiters(Net(random.Random(1)), 1)
        caller = Caller("k", requests_per_minute=10)
        allowance = await one.allow(asked(caller))
        assert allowance is not None
        allowance.settle(None)
        return [len(await offer([one], [1.0] * 20, caller, random.Random(1)))]

    assert [10] == run(main())


def test_refusals_ask_nobody() -> None:
    """A thousand within a second are one question; so are a thousand that pass, of a limit far from its end."""

    async def main() -> tuple[int, int]:
        net = Net(random.Random(1))
        (one,) = limiters(net, 1)
        few, many = Caller("few", requests_per_minute=1), Caller("many", requests_per_minute=1_000_000)
        await one.allow(asked(few))
        await asyncio.sleep(2)
        before = net.calls
        await offer([one], [number * 0.0009 for number in range(1_000)], few, random.Random(1))
        refused = net.calls - before
        before = net.calls
        await offer([one], [number * 0.0004 for number in range(1_000)], many, random.Random(1))
        return refused, net.calls - before

    assert (1, 1) == run(main())


def test_what_is_in_use_is_kept() -> None:
    """A key that is used all the time, far from its limits: the centre is asked once, then told twice a second, and no
    request waits for it; when it is used no more, all goes back."""

    async def main() -> tuple[int, int, int, int]:
        loop = asyncio.get_running_loop()
        net = Net(random.Random(1))
        one, two = limiters(net, 2)
        caller = Caller("k", requests_per_minute=6_000, tokens_per_minute=60_000)
        waited = 0
        for _ in range(1_000):
            began_s = loop.time()
            allowance = await one.allow(asked(caller, 10))
            waited += loop.time() > began_s
            assert allowance is not None
            allowance.settle(ended(asked(caller), (8, 1)))
            await asyncio.sleep(0.01)
        calls = net.calls
        await asyncio.sleep(1.1)
        await two.allow(asked(caller, 10))
        requests, tokens = two.standing(caller)
        return waited, calls, requests.remaining, tokens.remaining

    waited, calls, requests, tokens = run(main())
    assert waited <= 2  # of the first
    assert calls <= 2 * (1 + 10 * 2 + 1)
    assert (6_000 - 1_001, 60_000 - 9_010) == (requests, tokens)


@pytest.mark.parametrize("late_s", [0.0, 0.1, 0.3, 0.45])
@pytest.mark.parametrize("alone", [True, False])
def test_a_large_request_is_no_reason_to_keep_as_much_again(alone: bool, late_s: float) -> None:
    """After it, and beside small ones that go on, another large one passes: here and at another coordinator."""

    async def main() -> int:
        one, two = limiters(Net(random.Random(1)), 2)
        caller = Caller("k", tokens_per_minute=100_000)
        for _ in range(41):
            await one.allow(asked(caller, 10))
            await asyncio.sleep(0.05)
        await one.allow(asked(caller, 40_000))
        for _ in range(12):
            await one.allow(asked(caller, 10))
            await asyncio.sleep(0.05)
        await asyncio.sleep(late_s)
        asking = one if alone else two
        await asking.allow(asked(caller, 48_000))
        await asyncio.sleep(2)
        return asking.standing(caller)[0].remaining

    assert run(main()) <= 100_000 - 88_000


def test_tokens_are_reserved_and_corrected() -> None:
    """By the estimate before, by what was used after: what was too much is free again, what was too little is charged."""

    async def main() -> list[object]:
        (one,) = limiters(Net(random.Random(1)), 1)
        caller = Caller("k", tokens_per_minute=1_000)
        said: list[object] = []

        async def ask(tokens: int, *attempts: tuple[int | None, int | None], begun: bool = True, **body: Any) -> None:
            request = asked(caller, tokens, **body)
            try:
                allowance = await one.allow(request)
            except Denied as denied:
                said.append(str(denied).partition(",")[0])
                return
            assert allowance is not None
            await asyncio.sleep(0.7)
            allowance.settle(ended(request, *attempts) if begun else None)
            await asyncio.sleep(0.7)
            said.append(next(row.remaining for row in one.standing(caller)))

        await ask(100, (80, 120), (None, None))  # 200
        await ask(100, (80, 20), max_tokens=600)  # 300
        await ask(100, (None, None), max_completion_tokens=300)  # not known: the estimate stays: 700
        await ask(50, begun=False, max_tokens=200)  # nothing
        await ask(200, max_tokens=200)
        await ask(100, (500, 500))  # over the limit, by 700
        await ask(1)
        await asyncio.sleep(61)
        await ask(5_000, (900, 1))  # more than there ever is: it waits until all is free
        return said

    refused = "the key 'k' may use 1000 tokens in a minute"
    assert [800, 700, 300, 300, refused, 0, refused, 99] == run(main())


def test_what_is_refused_for_its_tokens_is_no_request() -> None:
    """The request that was counted first is given back."""

    async def main() -> tuple[Standing, ...]:
        (one,) = limiters(Net(random.Random(1)), 1)
        caller = Caller("k", requests_per_minute=10, tokens_per_minute=100)
        await one.allow(asked(caller, 60))
        with pytest.raises(Denied, match="100 tokens"):
            await one.allow(asked(caller, 60))
        await asyncio.sleep(1)
        return one.standing(caller)

    requests, tokens = run(main())
    assert ("requests", 10, 9) == requests[:3]
    assert ("tokens", 100, 40) == tokens[:3]
    assert 58 < requests.reset_s <= 60


def test_who_has_no_limits() -> None:
    """Is let through, and nobody is asked; so is who has no key."""

    async def main() -> list[object]:
        net = Net(random.Random(1))
        (one,) = limiters(net, 1)
        free = Caller("free")
        return [await one.allow(asked(None)), await one.allow(asked(free)), one.standing(free), net.calls]

    assert [None, None, (), 0] == run(main())


def test_a_changed_limit_counts_at_once() -> None:
    """Upwards it lets through who was refused a moment ago; downwards what was used still counts."""

    async def main() -> list[int]:
        (one,) = limiters(Net(random.Random(1)), 1)
        counts = []
        for limit in (10, 30, 20):
            caller = Caller("k", requests_per_minute=limit)
            counts.append(len(await offer([one], [0.0] * 50, caller, random.Random(1))))
        return counts

    assert [10, 20, 0] == run(main())


@pytest.mark.parametrize("limit", [1, 2, 60])
def test_a_lowered_limit_counts_for_who_goes_on(limit: int) -> None:
    """What was granted under the one before is not used up first."""

    async def main() -> int:
        net = Net(random.Random(1))
        (one,) = limiters(net, 1)
        before, after = (Caller("k", requests_per_minute=number) for number in (20_000, limit))
        for _ in range(50):
            await one.allow(asked(before))
            await asyncio.sleep(0.01)
        return len(await offer([one], [number * 0.01 for number in range(2_000)], after, random.Random(1)))

    assert max(0, limit - 50) == run(main())


def test_a_restarted_centre_gives_those_who_ask_their_part() -> None:
    """One of two coordinators is not heard of any more: the other has its part of what was free, not ever less of it."""

    async def main() -> int:
        net = Net(random.Random(1))
        one, two = limiters(net, 2)
        caller = Caller("k", requests_per_minute=1_000)
        await two.allow(asked(caller))
        for _ in range(120):
            await one.allow(asked(caller))
            await asyncio.sleep(0.02)
        net.restart()
        return len(await offer([one], [number * 0.02 for number in range(2_500)], caller, random.Random(1)))

    passed = run(main())
    assert 350 < passed <= 1_000 - 121


def test_keys_come_and_go() -> None:
    """What nobody has used for a while is let go of, here and at the centre."""

    async def main() -> tuple[int, int]:
        net = Net(random.Random(1))
        (one,) = limiters(net, 1)
        for number in range(50):
            await one.allow(asked(Caller(f"k{number}", requests_per_minute=5)))
        await asyncio.sleep(200)
        for name in ("new", "newer"):
            await one.allow(asked(Caller(name, requests_per_minute=5)))
            await asyncio.sleep(70)
        return len(one._stocks), len(net.central._limits)

    assert (2, 1) == run(main())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.floats(-70, 0), st.integers(-5, 50)), max_size=60))
def test_a_window_is_the_sum_of_its_last_minute(uses: list[tuple[float, float, int]]) -> None:
    """Never less than what was used in the last 60 seconds, and what is older is gone a tenth of a second later."""
    window, now_s = Window(), 1_000.0
    noted: list[tuple[float, int]] = []
    for after_s, ago_s, amount in uses:
        now_s += after_s
        window.add(now_s, now_s + ago_s, amount)
        if int((now_s + ago_s) / BUCKET_S + 1) * BUCKET_S + 60 > now_s:
            noted.append((now_s + ago_s, amount))
        expected = sum(one for at_s, one in noted if (int(at_s / BUCKET_S) + 1) * BUCKET_S + 60 > now_s)
        assert expected == window.forget(now_s) == window.total
        assert expected == sum(one for _, one in window.forgets())
        assert window.any() == any((int(at_s / BUCKET_S) + 1) * BUCKET_S + 60 > now_s for at_s, _ in noted)
        for (age_s, _), (gone_s, _) in zip(window.ages(now_s), window.forgets(), strict=True):
            assert now_s - age_s + 60 == pytest.approx(gone_s)
