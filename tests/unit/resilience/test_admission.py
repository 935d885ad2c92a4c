"""The admission machine: who goes, who waits, who is refused."""

from __future__ import annotations

import heapq
import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import settings
from orchestrator.hosting.affinity import Load
from orchestrator.resilience.admission import IDLE_MODELS, TURN, Absence, Admission, Permit, Upstream, Waiter
from orchestrator.types import Failure, FailureKind, Usage

KEYS = (Upstream("a"), Upstream("b"), Upstream("c"))


def machine(accounts: int = 1, **sections: object) -> Admission:
    return Admission(settings.Provider("p", **sections), KEYS[:accounts], 0.0, random.Random(1))  # type: ignore[arg-type]


def permit(admission: Admission, model: str = "m", now_s: float = 0.0, tokens: int = 0) -> Permit:
    arrived = admission.arrive(model, tokens, 0, now_s)
    assert isinstance(arrived, Permit)
    return arrived


def waiter(admission: Admission, model: str = "m", now_s: float = 0.0, priority: int = 0) -> Waiter:
    arrived = admission.arrive(model, 0, priority, now_s)
    assert isinstance(arrived, Waiter)
    return arrived


def refusal(admission: Admission, model: str = "m", now_s: float = 0.0) -> Failure:
    arrived = admission.arrive(model, 0, 0, now_s)
    assert isinstance(arrived, Failure)
    return arrived


def fail(kind: FailureKind, **fields: float) -> Failure:
    return Failure(kind, kind.value, **fields)  # type: ignore[arg-type]


def test_first_come_first_served() -> None:
    """A released place goes to the first in the queue."""
    admission = machine(pool=settings.Pool(concurrency=1))
    held = permit(admission)
    first, second = waiter(admission), waiter(admission)
    admission.release(held, 1.0, None)
    assert admission.pump(1.0) == [first]
    assert isinstance(first.result, Permit)
    assert second.result is None


def served(admission: Admission, held: Permit, now_s: float) -> tuple[Waiter, Permit]:
    """Whoever gets the one place that becomes free."""
    admission.release(held, now_s, None)
    (let,) = admission.pump(now_s)
    assert isinstance(let.result, Permit)
    return let, let.result


def test_people_come_before_batches_that_have_waited_for_minutes() -> None:
    """A pool that a batch keeps full: who comes meanwhile waits for the next place, however long the batch's calls have."""
    admission = machine(pool=settings.Pool(concurrency=1))
    held = permit(admission)
    batch = [waiter(admission, priority=1) for _ in range(100)]
    for now_s in range(100, 180, 10):
        person = waiter(admission, now_s=now_s)
        let, held = served(admission, held, now_s + 1)
        assert person is let
        let, held = served(admission, held, now_s + 2)
        assert let in batch


def test_a_batch_is_not_starved_by_people_who_take_every_place() -> None:
    """Nothing for the first ten seconds, and then every tenth place."""
    admission = machine(pool=settings.Pool(concurrency=1, queue_timeout_s=1000))
    held = permit(admission)
    for _ in range(10):
        waiter(admission, priority=1)
    got: list[float] = []
    for now_s in range(100):
        waiter(admission, now_s=now_s)
        waiter(admission, now_s=now_s)
        let, held = served(admission, held, now_s + 0.5)
        got += [now_s] if let.key[0] else []
    assert list(range(10, 100, TURN)) == got


def test_a_batch_takes_no_place_in_the_queue_from_people() -> None:
    """Its calls wait beside the queue's bound, and longer than its time-out."""
    admission = machine(pool=settings.Pool(concurrency=1, queue=1, queue_timeout_s=5))
    permit(admission)
    batch = [waiter(admission, priority=1) for _ in range(50)]
    person = waiter(admission)
    assert refusal(admission).kind is FailureKind.QUEUE_FULL
    assert [person] == admission.pump(6.0)
    assert all(one.result is None for one in batch)


def test_a_batch_overtakes_nobody_who_waits() -> None:
    """Also where it comes at the moment at which a limit lets somebody go."""
    admission = machine(limits=settings.Limits(requests_per_minute=60))
    while isinstance(admission.arrive("m", 0, 0, 0.0), Permit):
        pass
    (person,) = admission.queue
    batch = waiter(admission, now_s=1.0, priority=1)
    assert [person] == admission.pump(1.0)
    assert [batch] == admission.pump(2.0)


def test_even_batches_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that wait."""
    monkeypatch.setattr("orchestrator.resilience.admission.PATIENT", 2)
    admission = machine(pool=settings.Pool(concurrency=1, queue=5))
    permit(admission)
    waiter(admission, priority=1), waiter(admission), waiter(admission, priority=1)
    refused = admission.arrive("m", 0, 1, 0.0)
    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.QUEUE_FULL


def test_a_full_queue_refuses_with_a_wait() -> None:
    """One place, one in the queue."""
    admission = machine(pool=settings.Pool(concurrency=1, queue=1))
    permit(admission)
    waiter(admission)
    refused = refusal(admission)
    assert refused.kind is FailureKind.QUEUE_FULL
    assert (refused.retry_after_s or 0) >= 1


def test_waiting_has_an_end() -> None:
    """After queue_timeout_s a waiting call is refused."""
    admission = machine(pool=settings.Pool(concurrency=1, queue_timeout_s=3))
    permit(admission)
    waiting = waiter(admission)
    assert admission.next_s(0.0) == 3
    assert admission.pump(3.0) == [waiting]
    assert isinstance(waiting.result, Failure)
    assert waiting.result.kind is FailureKind.QUEUE_TIMEOUT


def busy(admission: Admission, max_wait_s: float, now_s: float = 0.0, priority: int = 0) -> Failure:
    refused = admission.arrive("m", 0, priority, now_s, max_wait_s)
    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.BUSY
    return refused


def test_a_wait_is_predicted_and_refused() -> None:
    """By those who wait before it and its own turn, times the mean time that a place is taken, by the places."""
    admission = machine(pool=settings.Pool(concurrency=2))
    admission.release(permit(admission), 4.0, None, seconds=4.0)
    permit(admission), permit(admission)
    assert busy(admission, 1.9).retry_after_s == 2.0
    waits = [admission.arrive("m", 0, 0, 4.0, max_wait_s=6.0) for _ in range(3)]
    assert all(isinstance(one, Waiter) for one in waits)
    assert busy(admission, 7.9).message == ("a place would be free after about 8.0 s, and the request may wait 7.9 s")
    assert isinstance(admission.arrive("m", 0, 1, 4.0, max_wait_s=8.0), Waiter), "behind people"
    assert busy(admission, 7.0).retry_after_s == 8.0, "people go before the batch"


def test_a_place_that_is_free_is_no_wait() -> None:
    """Whatever a call may wait."""
    assert isinstance(machine().arrive("m", 0, 0, 0.0, 0.0), Permit)


def test_a_wait_that_was_predicted_shorter_ends_in_time() -> None:
    """And with the same kind; whoever waits behind it without a limit goes on waiting."""
    admission = machine(pool=settings.Pool(concurrency=1, queue_timeout_s=30))
    permit(admission)
    hurried, patient = admission.arrive("m", 0, 0, 0.0, 2.5), waiter(admission)
    assert isinstance(hurried, Waiter)
    assert admission.next_s(0.0) == 2.5
    assert admission.pump(2.5) == [hurried]
    assert isinstance(hurried.result, Failure)
    assert hurried.result.kind is FailureKind.BUSY
    assert patient.result is None


def test_a_limit_is_a_wait_that_is_known() -> None:
    """A minute's requests are used up: the next one goes in a second."""
    admission = machine(limits=settings.Limits(requests_per_minute=60))
    while isinstance(admission.arrive("m", 0, 0, 0.0, 0.5), Permit):
        pass
    assert busy(admission, 0.5).retry_after_s == 1.0
    assert isinstance(admission.arrive("m", 0, 0, 0.0, 1.5), Waiter)


def test_a_429_pauses_its_model_for_all_and_no_other() -> None:
    """Callers of the model wait it out; its siblings go."""
    admission = machine()
    admission.release(permit(admission), 0.0, fail(FailureKind.RATE_LIMITED, retry_after_s=2.0))
    waiting = waiter(admission)
    permit(admission, "sibling")
    assert admission.next_s(0.0) == 2.0
    assert admission.pump(1.9) == []
    assert admission.pump(2.0) == [waiting]


def test_a_long_pause_is_not_waited_out() -> None:
    """Longer than honour_retry_after_s: the next candidate is asked instead."""
    admission = machine()
    admission.release(permit(admission), 0.0, fail(FailureKind.RATE_LIMITED, retry_after_s=60.0))
    assert refusal(admission, now_s=1.0).kind is FailureKind.PAUSED


def test_a_model_that_fails_says_nothing_about_its_siblings() -> None:
    """Health is per model of a pool."""
    admission = machine(breaker=settings.Breaker(failures=2))
    for _ in range(2):
        admission.release(permit(admission), 0.0, fail(FailureKind.SERVER_ERROR))
    assert refusal(admission).kind is FailureKind.BREAKER_OPEN
    permit(admission, "sibling")


def test_who_is_not_asked_is_told_what_for() -> None:
    """The last failure that the breaker opened for: of the model, or of all of the account."""
    admission = machine(breaker=settings.Breaker(failures=1))
    admission.release(permit(admission), 0.0, fail(FailureKind.SERVER_ERROR))
    assert "it has failed repeatedly, last with: server_error" in refusal(admission).message
    admission.release(permit(admission, "sibling"), 0.0, fail(FailureKind.UNREACHABLE))
    assert "it has failed repeatedly, last with: unreachable" in refusal(admission, "third").message


def test_a_refused_key_closes_its_account_alone() -> None:
    """The other account serves; with both refused, nobody does, and it shows."""
    admission = machine(accounts=2)
    first = permit(admission)
    admission.release(first, 0.0, fail(FailureKind.UNAUTHORIZED))
    second = permit(admission)
    assert second.account is not first.account
    admission.release(second, 0.0, fail(FailureKind.UNAUTHORIZED))
    assert refusal(admission, "other").kind is FailureKind.BREAKER_OPEN
    assert admission.stats(0.0)["accounts"][0]["misconfigured"] == "provider_unauthorized"


def test_accounts_share_the_load() -> None:
    """The least busy account takes the next call."""
    admission = machine(accounts=2)
    assert [permit(admission).account.index for _ in range(4)] == [0, 1, 0, 1]


def test_tokens_are_corrected_by_what_was_used() -> None:
    """An answer longer than estimated is paid for by those that come after."""
    admission = machine(limits=settings.Limits(tokens_per_minute=600))
    held = permit(admission, tokens=10)
    admission.release(held, 0.0, None, usage=Usage(10, 110))
    waiter(admission)
    assert admission.next_s(0.0) == 6.0


def test_draining_refuses_what_comes_and_what_waits() -> None:
    """What runs goes on."""
    admission = machine(pool=settings.Pool(concurrency=1))
    permit(admission)
    waiting = waiter(admission)
    admission.draining = True
    assert refusal(admission).kind is FailureKind.DRAINING
    assert admission.pump(0.0) == [waiting]
    assert admission.in_flight == 1


def test_models_are_forgotten() -> None:
    """Callers choose the names, so what is remembered is bounded."""
    admission = machine()
    for name in range(IDLE_MODELS + 50):
        admission.release(permit(admission, str(name)), 0.0, None)
    assert len(admission.accounts[0].models) <= IDLE_MODELS + 1


@given(
    st.lists(st.tuples(st.sampled_from(["arrive", "end", "fail", "leave", "wait"]), st.integers(0, 3)), max_size=120),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_no_schedule_breaks_the_semaphore(steps: list[tuple[str, int]], concurrency: int, accounts: int) -> None:
    """Never more than `concurrency` an account; no permit lost; nobody waits while there is room for them."""
    pool = settings.Pool(concurrency=concurrency, queue=5, queue_timeout_s=50)
    admission = machine(accounts, pool=pool, breaker=settings.Breaker(failures=10_000))
    out: list[Permit] = []
    waiting: list[Waiter] = []
    now_s = 0.0
    for step, which in steps:
        if step == "arrive":
            arrived = admission.arrive(f"m{which}", 1, which % 2, now_s)
            if isinstance(arrived, Permit):
                out.append(arrived)
            elif isinstance(arrived, Waiter):
                waiting.append(arrived)
        elif step in ("end", "fail") and out:
            failure = fail(FailureKind.SERVER_ERROR) if step == "fail" else None
            admission.release(out.pop(which % len(out)), now_s, failure)
        elif step == "leave" and waiting:
            admission.abandon(waiting.pop(which % len(waiting)))
        else:
            now_s += which
        for let in admission.pump(now_s):
            waiting.remove(let)
            if isinstance(let.result, Permit):
                out.append(let.result)
        assert all(account.in_flight <= concurrency for account in admission.accounts)
        assert admission.in_flight == len(out)
        assert len(admission.queue) == len(waiting)
        if waiting:
            assert admission.in_flight == concurrency * accounts
            assert admission.next_s(now_s) < inf or all(one.key[0] for one in waiting)
    while out:
        admission.release(out.pop(), now_s, None)
        out += [let.result for let in admission.pump(now_s) if isinstance(let.result, Permit)]
    assert admission.in_flight == 0
    assert admission.queue == []


def test_spilling_keeps_a_pool_full_and_nobody_waiting() -> None:
    """Calls come half as often again as eight places can take them, each taking a time of its own: the places are busy all
    along, and whoever is let in waits no longer than it may."""
    rng, places, mean_s, max_wait_s = random.Random(5), 8, 4.0, 2.0
    admission = machine(pool=settings.Pool(concurrency=places))
    ends: list[tuple[float, int, Permit]] = []
    waits: list[float] = []
    busy_s, spilled, count = 0.0, 0, 4_000

    def begin(permit: Permit, now_s: float) -> None:
        nonlocal busy_s
        seconds = rng.expovariate(1 / mean_s)
        busy_s += seconds
        heapq.heappush(ends, (now_s + seconds, len(waits), permit))

    def let(now_s: float) -> None:
        nonlocal spilled
        for one in admission.pump(now_s):
            if isinstance(one.result, Permit):
                waits.append(now_s - one.since_s)
                begin(one.result, now_s)
            else:
                spilled += 1

    now_s = 0.0
    for _ in range(count):
        now_s += rng.expovariate(1.5 * places / mean_s)
        while (next_s := min(ends[0][0] if ends else inf, admission.next_s(now_s))) <= now_s:
            if ends and ends[0][0] == next_s:
                end_s, _, permit = heapq.heappop(ends)
                admission.release(permit, end_s, None, seconds=mean_s)
            let(next_s)
        arrived = admission.arrive("m", 0, 0, now_s, max_wait_s)
        if isinstance(arrived, Permit):
            waits.append(0.0)
            begin(arrived, now_s)
        elif isinstance(arrived, Failure):
            spilled += 1
    assert max(waits) <= max_wait_s
    assert busy_s / (places * now_s) > 0.95
    assert 0.3 < spilled / count < 0.4


def hosted(**sections: object) -> Admission:
    """A local model's, which has no replica yet."""
    provider = settings.Provider("gpu", hosted=settings.Hosted(command=("server",)), **sections)  # type: ignore[arg-type]
    return Admission(provider, (), 0.0, random.Random(1))


def replica(number: int) -> Upstream:
    return Upstream(f"k{number}", f"http://n{number}/v1", number)


STARTING = Absence(Failure(FailureKind.STARTING, "starting"), 60.0)
DOWN = Absence(Failure(FailureKind.DOWN, "no such model"), 0.0)


def test_a_model_that_starts_is_waited_for() -> None:
    """As long as it may take, which is longer than a place is waited for; and its first replica takes who waits."""
    admission = hosted(pool=settings.Pool(queue_timeout_s=1))
    admission.absence = STARTING
    waiting = waiter(admission)
    assert (60.0, []) == (admission.next_s(0.0), admission.pump(59.0))
    admission.configure(admission._provider, (replica(0),), 59.0)
    assert [waiting] == admission.pump(59.0)
    assert isinstance(waiting.result, Permit)
    assert 1 == admission.missed


def test_it_is_not_waited_for_by_whoever_has_another_to_ask() -> None:
    """A call that does not wait is refused at once, and counts as one that came."""
    admission = hosted()
    admission.absence = STARTING
    refused = admission.arrive("m", 0, 0, 0.0, waits=False)
    assert isinstance(refused, Failure)
    assert FailureKind.STARTING is refused.kind
    assert 1 == admission.missed


def test_one_that_does_not_come_up_in_time_or_at_all() -> None:
    """Whoever waited is told why: when the time is over, or as soon as there is no use in it."""
    admission = hosted()
    admission.absence = STARTING
    first, batch = waiter(admission), waiter(admission, priority=1)
    assert [first] == admission.pump(60.0)
    assert STARTING.failure == first.result
    admission.absence = DOWN
    assert [batch] == admission.pump(61.0)
    assert DOWN.failure == batch.result
    assert DOWN.failure == refusal(admission)


def test_a_full_queue_before_a_model_that_starts() -> None:
    """It is bounded as any other."""
    admission = hosted(pool=settings.Pool(queue=1))
    admission.absence = STARTING
    waiter(admission)
    assert FailureKind.QUEUE_FULL is refusal(admission).kind


def test_replicas_come_and_go() -> None:
    """What is in flight at one that was taken away goes on and counts there; others have their places all the same."""
    admission = hosted(pool=settings.Pool(concurrency=1))
    admission.configure(admission._provider, (replica(0),), 0.0)
    held = permit(admission)
    waiting = waiter(admission)
    admission.configure(admission._provider, (replica(1),), 1.0)
    assert [waiting] == admission.pump(1.0)
    assert (1, 1, 0) == tuple(admission.in_flight_at(f"http://n{n}/v1") for n in range(3))
    admission.release(held, 2.0, None)
    assert 0 == admission.in_flight_at("http://n0/v1")


def test_a_conversation_goes_to_its_home_among_those_that_can() -> None:
    """By the hash of what it has in common; to another where its home is full."""
    admission = hosted(pool=settings.Pool(concurrency=2))
    admission.configure(admission._provider, tuple(map(replica, range(3))), 0.0)

    def one() -> int | None:
        let = admission.arrive("m", 0, 0, 0.0, affinity=b"a conversation")
        assert isinstance(let, Permit)
        return let.account.upstream.replica

    chosen = [one() for _ in range(6)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert {0, 1, 2} == set(chosen)


def test_an_engine_that_queues_calls_itself_is_busy_too() -> None:
    """Where its least busy replica says that as many wait as run, a call would wait for as long as one takes."""
    admission = hosted()
    admission.configure(admission._provider, (replica(0), replica(1)), 0.0)
    admission.release(permit(admission), 4.0, None, seconds=4.0)
    held = [permit(admission) for _ in range(8)]
    for account in admission.accounts:
        account.load = Load(waiting=2.0)
    assert 4 == held[0].account.in_flight
    refused = admission.arrive("m", 0, 0, 4.0, max_wait_s=3.9)
    assert isinstance(refused, Failure)
    assert (FailureKind.BUSY, 4.0) == (refused.kind, refused.retry_after_s)
    assert isinstance(admission.arrive("m", 0, 0, 4.0, max_wait_s=4.1), Permit)


def test_a_model_that_starts_is_busy() -> None:
    """For as long as its start is waited for."""
    admission = hosted()
    admission.absence = STARTING
    refused = admission.arrive("m", 0, 0, 0.0, 2.0)
    assert isinstance(refused, Failure)
    assert (FailureKind.BUSY, 60.0) == (refused.kind, refused.retry_after_s)
