"""A coordinator's purse in virtual time: what is reserved without asking, what is waited for, what is refused, and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from orchestrator.budgets.accounts import Answer, Ask
from orchestrator.budgets.lending import Lending
from orchestrator.budgets.purse import SWEEP_S, Reserved
from orchestrator.callers import Caller
from orchestrator.config.operations import Budgets
from orchestrator.config.settings import Strategy, Tier
from orchestrator.errors import Denied, LedgerFailed
from orchestrator.money import GRID
from tests.unit.budgets.making import Disk, Replica, asked, config, ended, row
from tests.virtual_loop import run

CENT = GRID // 100


class Counting(Lending):
    """A ledger that may be away, and counts what it is asked."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.write)
        self.asks: list[Ask] = []
        self.away = False
        self.loses = 0
        """So many answers never arrive."""

    async def lease(self, ask: Ask, wait_s: float) -> Answer:
        self.asks.append(ask)
        if self.away:
            raise LedgerFailed("away")
        answer = await super().lease(ask, wait_s)
        if self.loses:
            self.loses -= 1
            raise LedgerFailed("lost on its way")
        return answer


Test = Callable[[Counting, Replica], Awaitable[None]]


def play(test: Test) -> None:
    """Runs a test over one ledger and one coordinator."""

    async def main() -> None:
        lending = Counting(Disk())
        replica = Replica(lending, "one")
        await test(lending, replica)
        await replica.aclose()

    run(main())


def usd(amount: float, **more: object) -> Budgets:
    return Budgets(users={"john": amount}, **more)  # type: ignore[arg-type]


async def reserved(replica: Replica, **how: object) -> Reserved:
    allowance = await replica.purse.allow(asked(config(usd(1.0)), **how))  # type: ignore[arg-type]
    assert allowance is not None
    return allowance


async def refusal(request: Awaitable[Reserved | None]) -> Denied:
    with pytest.raises(Denied) as raised:
        await request
    return raised.value


def test_without_budgets_nothing_is_reserved() -> None:
    """Nobody is asked."""

    async def main(lending: Counting, replica: Replica) -> None:
        assert None is await replica.purse.allow(asked(config()))
        assert [] == lending.asks

    play(main)


def test_the_ledger_is_asked_for_many_at_once() -> None:
    """Requests that come together share one question, and those after them find enough leased."""

    async def main(lending: Counting, replica: Replica) -> None:
        await asyncio.gather(*(reserved(replica, tokens=1_000) for _ in range(20)))
        before = len(lending.asks)
        assert before <= 2
        for _ in range(3):
            (await reserved(replica, tokens=1_000)).settle(None)
        assert before == len(lending.asks)

    play(main)


def test_more_is_asked_for_before_it_runs_out() -> None:
    """In the background: no later request of a steady flow waits for the ledger."""

    async def main(lending: Counting, replica: Replica) -> None:
        (await reserved(replica, tokens=100)).settle(None)
        loop = asyncio.get_running_loop()
        waited_s = 0.0
        for _ in range(300):
            began_s = loop.time()
            request = asked(config(usd(1.0)), tokens=100)
            allowance = await replica.purse.allow(request)
            waited_s += loop.time() - began_s
            assert allowance is not None
            allowance.settle(ended(request, 100 / 1e6))
            await asyncio.sleep(0.01)
        assert waited_s == 0
        assert 1 < len(lending.asks) < 30

    play(main)


def test_what_a_request_cost_is_what_is_spent() -> None:
    """Not what was reserved; one that was not begun after all costs nothing."""

    async def main(lending: Counting, replica: Replica) -> None:
        request = asked(config(usd(1.0)))
        allowance = await replica.purse.allow(request)
        assert allowance is not None
        allowance.settle(ended(request, 0.0025))
        (await reserved(replica)).settle(None)
        await replica.aclose()
        assert (GRID // 400, 0) == (row(lending)["spent"], row(lending)["leased"])

    play(main)


def test_a_cost_that_is_not_known_counts_as_the_worst_case() -> None:
    """Where there is a price, and the known parts of it in any case."""

    async def main(lending: Counting, replica: Replica) -> None:
        costs: tuple[tuple[list[float | None], int], ...] = (([None], CENT), ([0.02, None], 3 * CENT))
        for each, spent in costs:
            request = asked(config(usd(1.0)))
            allowance = await replica.purse.allow(request)
            assert allowance is not None
            allowance.settle(ended(request, None, [{"cost_usd": cost} for cost in each]))
            await asyncio.sleep(1)
            assert spent == row(lending)["spent"]

    play(main)


def test_a_model_without_a_price_is_refused_under_a_budget() -> None:
    """It is named, with what may be done; without a budget nobody minds."""

    async def main(lending: Counting, replica: Replica) -> None:
        denied = await refusal(replica.purse.allow(asked(config(usd(1.0)), model="new")))
        assert (403, "unpriced") == (denied.status, denied.code)
        assert denied.message.startswith("the budget of the user 'john' does not allow p/new: its price is not known;")
        assert None is await replica.purse.allow(asked(config(), model="new"))

    play(main)


def test_a_model_without_a_price_may_be_allowed(caplog: pytest.LogCaptureFixture) -> None:
    """It counts as what is known of it, which is logged once."""

    async def main(lending: Counting, replica: Replica) -> None:
        for cost in (None, 0.5):
            request = asked(config(usd(1.0, unpriced="allow")), model="new")
            allowance = await replica.purse.allow(request)
            assert allowance is not None
            allowance.settle(ended(request, cost))
        await replica.aclose()
        assert GRID // 2 == row(lending)["spent"]

    with caplog.at_level(logging.WARNING):
        play(main)
    assert 1 == caplog.text.count("the price of p/new is not known: it counts as nothing in budgets")


def test_a_request_that_can_never_be_paid_is_refused_at_once() -> None:
    """With what is left, what it could cost, and what to do."""

    async def main(lending: Counting, replica: Replica) -> None:
        began_s = asyncio.get_running_loop().time()
        denied = await refusal(replica.purse.allow(asked(config(usd(0.005)))))
        assert (403, "budget_exceeded", False) == (denied.status, denied.code, denied.retryable)
        assert (
            "the budget of the user 'john' is 0.005 USD, of which 0.0050 USD are left, and this request could cost up to "
            "0.0100 USD; ask for fewer tokens (max_tokens) or for a cheaper model"
        ) == denied.message
        assert 1 > asyncio.get_running_loop().time() - began_s

    play(main)


def test_what_costs_nothing_goes_on_when_a_budget_is_spent() -> None:
    """Nobody is asked, and nothing is refused."""

    async def main(lending: Counting, replica: Replica) -> None:
        request = asked(config(usd(0.0)), model="free")
        allowance = await replica.purse.allow(request)
        assert allowance is not None
        allowance.settle(ended(request, 0.0))
        assert [] == lending.asks

    play(main)


def test_a_request_waits_for_what_others_may_give_back() -> None:
    """As long as is allowed; then it is refused, and told that requests are still running."""

    async def main(lending: Counting, replica: Replica) -> None:
        tight = config(usd(0.01, wait_s=2.0))
        first, second = asked(tight), asked(tight)
        holding = await replica.purse.allow(first)
        assert holding is not None
        waiting = asyncio.ensure_future(replica.purse.allow(second))
        await asyncio.sleep(1.5)
        holding.settle(ended(first, 0.0))
        holding = await waiting
        assert holding is not None
        began_s = asyncio.get_running_loop().time()
        denied = await refusal(replica.purse.allow(asked(tight)))
        assert 2.0 == pytest.approx(asyncio.get_running_loop().time() - began_s, abs=0.1)
        assert "0.0100 USD are left, but requests that run may still need them" in denied.message
        holding.settle(ended(second, 0.01))
        await asyncio.sleep(1)
        denied = await refusal(replica.purse.allow(asked(tight)))
        assert "0.0000 USD are left, and" in denied.message

    play(main)


def test_who_leaves_while_waiting_leaves_nothing_reserved() -> None:
    """Those behind it in line go on at once."""

    async def main(lending: Counting, replica: Replica) -> None:
        tight = config(usd(0.01))
        holding = await replica.purse.allow(asked(tight, tokens=6_000))
        large = asyncio.ensure_future(replica.purse.allow(asked(tight, tokens=9_000)))
        await asyncio.sleep(0.5)
        small = asyncio.ensure_future(replica.purse.allow(asked(tight, tokens=4_000)))
        await asyncio.sleep(0.5)
        large.cancel()
        await asyncio.sleep(0.5)
        assert small.done()
        for allowance in (holding, small.result()):
            assert allowance is not None
            allowance.settle(None)
        await replica.aclose()
        assert (0, 0) == (row(lending)["spent"], row(lending)["leased"])

    play(main)


def test_who_leaves_just_when_its_turn_has_come_leaves_nothing_reserved() -> None:
    """What was reserved for it is free again."""

    async def main(lending: Counting, replica: Replica) -> None:
        tight = config(usd(0.01))
        holding = await replica.purse.allow(asked(tight))
        assert holding is not None
        waiting = asyncio.ensure_future(replica.purse.allow(asked(tight)))
        await asyncio.sleep(0.5)
        holding.settle(None)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(await replica.purse.allow(asked(tight)), Reserved)

    play(main)


def test_who_leaves_just_when_it_is_refused_is_gone() -> None:
    """Nothing was reserved for it."""

    async def main(lending: Counting, replica: Replica) -> None:
        tight = config(usd(0.01))
        holding = await replica.purse.allow(asked(tight))
        waiting = asyncio.ensure_future(replica.purse.allow(asked(tight)))
        await asyncio.sleep(0.5)
        replica.purse._leases["user:john"].refuse(0, lambda units: Denied(403, "budget_exceeded", "no"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert holding is not None
        holding.settle(None)
        assert isinstance(await replica.purse.allow(asked(tight)), Reserved)

    play(main)


def test_a_ledger_that_does_not_answer_in_time_is_away() -> None:
    """Nobody knows what is left: it is not said to be nothing."""

    async def main() -> None:
        replica = Replica(Lending(Disk(write_s=10).write), "one")
        denied = await refusal(replica.purse.allow(asked(config(usd(1.0, wait_s=1.0)))))
        assert (503, "ledger_unavailable") == (denied.status, denied.code)
        await replica.aclose()

    run(main())


def test_several_budgets_are_all_reserved_or_none() -> None:
    """Where one is spent, nothing of the others is taken."""

    async def main(lending: Counting, replica: Replica) -> None:
        tier = Tier("john:a", Strategy("first"), ("p/m",), 0.005)
        both = config(usd(1.0), {"john:a": tier})
        caller = Caller("laptop", budget_usd=0.5)
        denied = await refusal(replica.purse.allow(asked(both, caller=caller, selector="user:john:a")))
        assert denied.message.startswith("the budget of the experiment 'john:a' is 0.005 USD")
        await asyncio.sleep(3)
        assert {"key:laptop": 0, "user:john": 0, "experiment:john:a": 0} == {
            one["account"]: one["leased"] for one in lending.accounts.rows()
        }
        allowance = await replica.purse.allow(asked(both, caller=caller, selector="user:john:a", tokens=4_000))
        assert allowance is not None
        allowance.settle(ended(asked(both), 0.002))
        await replica.aclose()
        assert [GRID // 500] * 3 == [one["spent"] for one in lending.accounts.rows()]

    play(main)


def test_of_several_budgets_those_that_suffice_are_not_asked_for() -> None:
    """Only the one that lacks something."""

    async def main(lending: Counting, replica: Replica) -> None:
        await reserved(replica, tokens=1_000)
        await asyncio.sleep(0.1)
        before = len(lending.asks)
        both = asked(config(usd(1.0)), caller=Caller("a-laptop", budget_usd=0.5), tokens=1_000)
        assert isinstance(await replica.purse.allow(both), Reserved)
        assert {"key:a-laptop"} == {ask.account for ask in lending.asks[before:]}

    play(main)


def test_who_leaves_from_within_the_line_changes_nothing_for_the_first() -> None:
    """Nor for those who were refused while they were leaving."""

    async def main(lending: Counting, replica: Replica) -> None:
        tight = config(usd(0.01))
        holding = await replica.purse.allow(asked(tight))
        assert holding is not None
        first, second = (asyncio.ensure_future(replica.purse.allow(asked(tight, tokens=5_000))) for _ in range(2))
        await asyncio.sleep(0.5)
        asks = len(lending.asks)
        second.cancel()
        await asyncio.sleep(0.5)
        assert asks == len(lending.asks)
        holding.settle(ended(asked(tight), 0.005))
        assert isinstance(await first, Reserved)

    play(main)


def test_what_runs_when_all_is_closed_gives_back_when_it_ends() -> None:
    """Nothing of it stays leased."""

    async def main(lending: Counting, replica: Replica) -> None:
        running = await reserved(replica)
        await replica.purse.aclose()
        running.settle(ended(asked(config(usd(1.0))), 0.002))
        await asyncio.sleep(1)
        assert (GRID // 500, 0) == (row(lending)["spent"], row(lending)["leased"])

    play(main)


def test_what_is_not_used_goes_back() -> None:
    """After a moment, so that others may have it; and who nobody pays into is forgotten."""

    async def main(lending: Counting, replica: Replica) -> None:
        (await reserved(replica)).settle(None)
        assert row(lending)["leased"] > 0
        await asyncio.sleep(3 * SWEEP_S)
        assert 0 == row(lending)["leased"]
        assert {} == replica.purse._leases

    play(main)


def test_an_answer_that_was_lost_is_given_back() -> None:
    """What the ledger had leased in it is not held for spent."""

    async def main(lending: Counting, replica: Replica) -> None:
        lending.loses = 1
        (await reserved(replica)).settle(None)
        await asyncio.sleep(4 * SWEEP_S)
        assert 0 == row(lending)["leased"]

    play(main)


def test_a_ledger_that_is_away_keeps_nobody_from_spending_what_is_leased() -> None:
    """What goes beyond it is refused as passing, after the wait; when the ledger is back, all goes on."""

    async def main(lending: Counting, replica: Replica) -> None:
        small, large = config(usd(1.0, wait_s=1.0)), config(usd(1.0, wait_s=1.0))
        await reserved(replica, tokens=1_000)
        lending.away = True
        waiting = asyncio.ensure_future(replica.purse.allow(asked(large, tokens=900_000)))
        await asyncio.sleep(0.5)
        assert isinstance(await replica.purse.allow(asked(small, tokens=1_000)), Reserved)
        denied = await refusal(waiting)
        assert (503, "ledger_unavailable", True) == (denied.status, denied.code, denied.retryable)
        lending.away = False
        assert isinstance(await replica.purse.allow(asked(large, tokens=900_000)), Reserved)

    play(main)


def test_another_limit_holds_from_the_next_request_on() -> None:
    """What was leased under the old one goes back."""

    async def main(lending: Counting, replica: Replica) -> None:
        await reserved(replica, tokens=1_000)
        denied = await refusal(replica.purse.allow(asked(config(usd(0.001)), tokens=1_001)))
        assert "is 0.001 USD" in denied.message
        assert isinstance(await replica.purse.allow(asked(config(usd(2.0)), tokens=1_500_000)), Reserved)

    play(main)


def test_an_answer_beyond_its_worst_case_is_made_up_for() -> None:
    """It is booked as it is, and leaves less for those that come."""

    async def main(lending: Counting, replica: Replica) -> None:
        tight = config(usd(0.02))
        request = asked(tight)
        allowance = await replica.purse.allow(request)
        assert allowance is not None
        allowance.settle(ended(request, 0.015))
        denied = await refusal(replica.purse.allow(asked(tight)))
        assert "0.0050 USD are left" in denied.message
        assert isinstance(await replica.purse.allow(asked(tight, tokens=5_000)), Reserved)

    play(main)


def test_a_bug_of_the_ledgers_is_logged_and_passes(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits is told that it does not answer; the next one asks again."""

    class Broken(Counting):
        async def lease(self, ask: Ask, wait_s: float) -> Answer:
            if not self.asks:
                self.asks.append(ask)
                raise RuntimeError("a bug")
            return await super().lease(ask, wait_s)

    async def main() -> None:
        replica = Replica(Broken(Disk()), "one")
        quick = config(usd(1.0, wait_s=1.0))
        assert 503 == (await refusal(replica.purse.allow(asked(quick)))).status
        assert isinstance(await replica.purse.allow(asked(quick)), Reserved)
        await replica.aclose()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "the ledger could not be asked about the budget of the user 'john'" in caplog.text


def test_periods_have_accounts_of_their_own() -> None:
    """A budget that is spent today is whole tomorrow."""

    async def main(lending: Counting, replica: Replica) -> None:
        daily = config(usd(0.01, period="day"))
        request = asked(daily)
        allowance = await replica.purse.allow(request)
        assert allowance is not None
        allowance.settle(ended(request, 0.01))
        await asyncio.sleep(1)
        assert "for 1970-01-01 is" in (await refusal(replica.purse.allow(request))).message
        assert isinstance(await replica.purse.allow(request._replace(at_s=86_400.0)), Reserved)

    play(main)


def test_the_configuration_is_the_requests_own() -> None:
    """One that began before a change is held to what was then."""

    async def main(lending: Counting, replica: Replica) -> None:
        before = config(usd(1.0))
        after = replace(before, budgets=Budgets())
        assert isinstance(await replica.purse.allow(asked(before)), Reserved)
        assert None is await replica.purse.allow(asked(after))

    play(main)


def test_a_budget_is_not_forgotten_while_a_request_waits_for_another() -> None:
    """The ledger takes its time over the first, for longer than between two sweeps: the second is still the request's, and
    what it cost is acknowledged in both."""

    async def main(lending: Counting, replica: Replica) -> None:
        caller = Caller("laptop", budget_usd=0.5)
        request = asked(config(usd(1.0)), caller=caller)
        lease = replica.lease

        async def slow(ask: Ask, wait_s: float) -> Answer:
            await asyncio.sleep(1.8)
            return await lease(ask, wait_s)

        replica.lease = slow  # type: ignore[method-assign]
        allowance = await replica.purse.allow(request)
        assert allowance is not None
        allowance.settle(ended(request, 0.002))
        await asyncio.sleep(3)
        await replica.aclose()
        assert [GRID // 500] * 2 == [one["spent"] for one in lending.accounts.rows()]

    play(main)
