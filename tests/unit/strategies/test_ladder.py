"""First, fallback, race and hedge in virtual time."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.strategies.ladder import ladder
from orchestrator.types import Failure, FailureKind, Finish, Reply, Request
from tests.virtual import SENT, Ran, Script, answers, cut, fails, run, streams

REQUEST = Request({"messages": []})
ABC = ("x/a", "x/b", "x/c")


def failure_of(ran_outcome: object) -> Failure:
    assert isinstance(ran_outcome, Failure)
    return ran_outcome


def test_fallback_asks_one_at_a_time() -> None:
    """The second is asked when the first has failed, and not before."""
    ran = run(ladder(ABC, REQUEST), [fails(1), answers(2), answers(0)])
    assert [(0, 0), (1, 1)] == [(at, call.candidate) for at, call in ran.started]
    assert ran.seconds == 3
    assert ran.verdict.call == 1


def limits(ran: Ran) -> list[tuple[int, float | None]]:
    """The candidates in the order in which they were asked, and how long each might let the call wait."""
    return [(call.candidate, call.request.max_wait_s) for _, call in ran.started]


BUSY = fails(0, FailureKind.BUSY)


def test_spill_asks_the_next_one_when_the_first_is_busy() -> None:
    """At once; the last one is waited for."""
    ran = run(ladder(ABC, REQUEST, max_wait_s=2), [BUSY, BUSY, answers(1)])
    assert [(0, 2.0), (1, 2.0), (2, None)] == limits(ran)
    assert ran.seconds == 1


def test_spill_waits_where_it_would_not_when_nobody_else_answers() -> None:
    """The first that was busy, and each once."""
    scripts: list[Script | list[Script]] = [[BUSY, BUSY], fails(1), [BUSY, BUSY]]
    ran = run(ladder(ABC, REQUEST, max_wait_s=2), scripts)
    assert [(0, 2.0), (1, 2.0), (2, None), (0, None), (2, None)] == limits(ran)
    assert FailureKind.ALL_FAILED is failure_of(ran.verdict.outcome).kind


def test_a_fallback_does_not_come_back_to_a_busy_one() -> None:
    """Its requests have no limit of their own; one that came from a spill around it keeps to that."""
    ran = run(ladder(ABC, REQUEST._replace(max_wait_s=1)), [BUSY, BUSY, BUSY])
    assert [(0, 1.0), (1, 1.0), (2, 1.0)] == limits(ran)


def test_a_spill_within_a_spill_keeps_to_both_limits() -> None:
    """The lower one; where the inner one would wait, the outer one's."""
    ran = run(ladder(ABC[:2], REQUEST._replace(max_wait_s=1), max_wait_s=2), [BUSY, answers(1)])
    assert [(0, 1.0), (1, 1.0)] == limits(ran)


def test_race_is_won_by_the_fastest() -> None:
    """Three at 100 ms, 1 s and 10 s answer in 100 ms; the others are left to be cancelled."""
    ran = run(ladder(ABC, REQUEST, stagger_s=0), [answers(10), answers(0.1, "fast"), answers(1)])
    assert ran.seconds == 0.1
    assert isinstance(ran.verdict.outcome, Reply)
    assert ran.verdict.outcome.model == "fast"
    assert ran.left == (0, 2)


def test_race_of_streams_commits_the_first_token_and_stops_the_rest() -> None:
    """The caller gets the stream whose first token came first, to its end."""
    ran = run(ladder(ABC, REQUEST, stagger_s=0), [streams(2, 3), streams(1, 9), streams(4, 5)])
    assert ran.commits == [(1, 1)]
    assert ran.stopped == [(1, 0), (1, 2)]
    assert isinstance(ran.verdict.outcome, Finish)
    assert ran.seconds == 9


def test_a_failed_racer_does_not_end_the_race() -> None:
    """A failure at once leaves the slower ones to win."""
    ran = run(ladder(ABC, REQUEST, stagger_s=0), [fails(0.1), fails(0.2), answers(1)])
    assert ran.verdict.call == 2


def test_hedge_asks_the_next_after_the_delay_as_an_extra() -> None:
    """A silent first gets company after the delay, marked as beyond what was asked for."""
    ran = run(ladder(ABC, REQUEST, stagger_s=0.5), [answers(10), answers(0.25), answers(1)])
    assert [(0, 0, False), (0.5, 1, True)] == [(at, call.candidate, call.extra) for at, call in ran.started]
    assert ran.seconds == 0.75


def test_hedge_answers_a_failure_at_once() -> None:
    """A failure is not waited out, and what replaces it is not an extra."""
    ran = run(ladder(ABC, REQUEST, stagger_s=5), [fails(0.1), answers(0.1), answers(1)])
    assert [(0, 0, False), (0.1, 1, False)] == [(at, call.candidate, call.extra) for at, call in ran.started]


def test_hedge_without_budget_waits_for_what_runs() -> None:
    """A refused hedge is not started, and a failure may still use the rung."""
    ran = run(ladder(ABC, REQUEST, stagger_s=0.5, may_hedge=lambda _: False), [fails(3), answers(1), answers(1)])
    assert [(0, 0), (3, 1)] == [(at, call.candidate) for at, call in ran.started]


def test_a_refused_hedge_is_asked_for_again() -> None:
    """The budget refills, and a call that takes long is worth it the more."""
    ran = run(ladder(ABC, REQUEST, stagger_s=0.5, may_hedge=lambda at_s: at_s > 0.93), [answers(3), answers(0.1)])
    assert [(0, 0, False), (0.95, 1, True)] == [(round(at, 6), call.candidate, call.extra) for at, call in ran.started]


def test_a_malformed_request_is_not_sent_to_anybody_else() -> None:
    """The provider's reason is the verdict."""
    ran = run(ladder(ABC, REQUEST), [fails(1, FailureKind.MALFORMED), answers(1), answers(1)])
    assert ran.asked == [0]
    assert failure_of(ran.verdict.outcome).kind is FailureKind.MALFORMED


def test_a_racer_may_still_answer_what_another_calls_malformed() -> None:
    """What is in flight is waited for; nothing new is started."""
    ran = run(ladder(ABC, REQUEST, stagger_s=2), [answers(5), fails(1, FailureKind.MALFORMED), answers(1)])
    assert ran.asked == [0, 1]
    assert ran.verdict.call == 0


def test_all_failed_names_each_candidate_and_keeps_the_shortest_wait() -> None:
    """One failure for all, with the causes in order."""
    ran = run(
        ladder(ABC, REQUEST),
        [fails(1, retry_after_s=9), fails(1, FailureKind.QUEUE_FULL, retry_after_s=3), fails(1, FailureKind.SILENT)],
    )
    failure = failure_of(ran.verdict.outcome)
    assert failure.kind is FailureKind.ALL_FAILED
    assert [name for name, _ in failure.causes] == list(ABC)
    assert failure.retry_after_s == 3
    assert failure.message == "all candidates failed: server_error; queue_full; timeout"


def test_a_single_candidate_fails_as_itself() -> None:
    """There is nothing to sum up."""
    ran = run(ladder(ABC[:1], REQUEST), [fails(1)])
    assert failure_of(ran.verdict.outcome).kind is FailureKind.SERVER_ERROR


def test_a_lost_pool_is_asked_once_more() -> None:
    """Its restart gets the call when nothing else is left, once."""
    lost = fails(1, FailureKind.POOL_LOST)
    assert run(ladder(ABC[:1], REQUEST), [[lost, answers(1)]]).verdict.call == 1
    twice = run(ladder(ABC[:1], REQUEST), [[lost, lost]])
    assert twice.asked == [0, 0]
    assert failure_of(twice.verdict.outcome).kind is FailureKind.POOL_LOST


def test_a_cut_stream_is_gone_on_with_by_the_next() -> None:
    """It is asked to go on from what the caller has, and its end is the verdict."""
    ran = run(ladder(ABC, REQUEST), [cut(1, 2), fails(1), streams(1, 3)])
    assert [(0, None), (2, SENT), (3, SENT)] == [(at, call.request.resume) for at, call in ran.started]
    assert [(1, 0), (4, 2)] == ran.commits
    assert isinstance(ran.verdict.outcome, Finish)
    assert (2, 6) == (ran.verdict.call, ran.seconds)


def test_who_was_stopped_may_go_on() -> None:
    """The losers of a race have not failed."""
    ran = run(ladder(ABC[:2], REQUEST, stagger_s=0), [cut(1, 2), [streams(5, 9), streams(1, 2)]])
    assert [0, 1, 1] == ran.asked
    assert [1] == [call for _, call in ran.stopped]
    assert (2, 4) == (ran.verdict.call, ran.seconds)


def test_a_stream_may_be_cut_again() -> None:
    """As long as there is somebody left."""
    ran = run(ladder(ABC, REQUEST), [cut(1, 2), cut(1, 2), streams(1, 2)])
    assert [0, 1, 2] == [call for _, call in ran.commits]
    assert isinstance(ran.verdict.outcome, Finish)


def test_a_stream_that_nobody_can_go_on_with_says_what_befell_it_first() -> None:
    """What kept the others from it is named, and does not hide the first failure."""
    ran = run(ladder(ABC, REQUEST), [cut(1, 2), fails(1, FailureKind.MALFORMED), cut(1, 2)])
    failure = failure_of(ran.verdict.outcome)
    assert (FailureKind.CUT, 0) == (failure.kind, ran.verdict.call)
    assert failure.message == "cut; going on elsewhere failed: invalid_request; cut"
    assert ran.verdict.sent is SENT


@pytest.mark.parametrize("how", ["off", "unsuited", "alone"])
def test_a_stream_is_not_gone_on_with(how: str) -> None:
    """Where it is switched off, where the caller has what nobody can go on with, and where there is nobody else."""
    names = ABC[:1] if how == "alone" else ABC
    scripts = [cut(1, 2), streams(1, 2), streams(1, 2)][: len(names)]
    ran = run(ladder(names, REQUEST, resume=how != "off"), scripts, None if how == "unsuited" else SENT)
    assert (FailureKind.CUT, "cut") == (failure_of(ran.verdict.outcome).kind, failure_of(ran.verdict.outcome).message)
    assert ran.asked == [0]


def test_a_whole_answer_is_nothing_to_go_on_with() -> None:
    """A tier that decides by whole answers; the next is asked."""
    ran = run(ladder(ABC, REQUEST), [cut(1, 2), answers(1), streams(1, 2)])
    assert (2, [0, 1, 2]) == (ran.verdict.call, ran.asked)


def test_a_refusal_for_its_content_may_be_routed_around() -> None:
    """Only where the tier says so."""
    scripts = [fails(1, FailureKind.CONTENT_POLICY), answers(1)]
    assert failure_of(run(ladder(ABC[:2], REQUEST), scripts).verdict.outcome).kind is FailureKind.CONTENT_POLICY
    around = frozenset({FailureKind.CONTENT_POLICY})
    assert run(ladder(ABC[:2], REQUEST, around=around), scripts).verdict.call == 1


_delay = st.floats(0.001, 100, allow_nan=False)
_script = st.one_of(
    _delay.map(answers),
    st.tuples(_delay, _delay).map(lambda t: streams(t[0], t[0] + t[1])),
    st.tuples(_delay, _delay).map(lambda t: cut(t[0], t[0] + t[1])),
    st.tuples(_delay, st.sampled_from([k for k in FailureKind if k is not FailureKind.POOL_LOST])).map(
        lambda t: fails(t[0], t[1])
    ),
)


@given(st.lists(_script, min_size=1, max_size=5), st.one_of(st.just(0.0), st.just(inf), _delay))
def test_any_schedule_ends_with_one_verdict(scripts: list[Script], stagger_s: float) -> None:
    """Each rung is asked at most once, or once more to go on with a stream, and whoever was served last has the verdict."""
    ran = run(ladder([f"x/{i}" for i in range(len(scripts))], REQUEST, stagger_s=stagger_s), scripts)
    plain = [call.candidate for _, call in ran.started if call.request.resume is None]
    resumed = [call.candidate for _, call in ran.started if call.request.resume is not None]
    for asked in (plain, resumed):
        assert sorted(set(asked)) == sorted(asked)
    assert plain == sorted(plain)
    assert len(ran.commits) <= 1 + len(resumed)
    if isinstance(ran.verdict.outcome, Reply | Finish):
        assert ran.verdict.call is not None
        if ran.commits:
            assert ran.commits[-1][1] == ran.verdict.call


@given(st.lists(_delay, min_size=1, max_size=6))
def test_a_race_takes_as_long_as_its_fastest(delays: list[float]) -> None:
    """The verdict comes at the minimum of the latencies: no strategy adds time of its own."""
    ran = run(ladder([str(i) for i in range(len(delays))], REQUEST, stagger_s=0), [answers(d) for d in delays])
    assert ran.seconds == pytest.approx(min(delays))


@pytest.mark.parametrize(
    ("stagger_s", "waits"), [(inf, [False, False, True]), (0, [True, True, True]), (0.5, [True, True, True])]
)
def test_who_waits_for_a_model_to_be_started(stagger_s: float, waits: list[bool]) -> None:
    """In a fallback the last alone: the others have somebody after them. In a race and a hedge time sees to it."""
    ran = run(ladder(ABC, REQUEST, stagger_s=stagger_s), [fails(1), fails(1), answers(1)])
    assert waits == [call.request.waits for _, call in ran.started]


def test_within_a_fallback_nobody_waits_but_at_its_end() -> None:
    """A tier among its members is asked as its first member is."""
    ran = run(ladder(ABC, REQUEST._replace(waits=False)), [fails(1), fails(1), answers(1)])
    assert [False, False, False] == [call.request.waits for _, call in ran.started]
