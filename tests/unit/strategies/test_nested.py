"""Tiers within tiers, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.settings import Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import Freely, plan
from orchestrator.types import Failure, FailureKind, Finish, Reply, Request
from tests.virtual import SENT, Script, answers, cut, fails, run, streams

REQUEST = Request({"messages": []})
FALLBACK, RACE = Strategy("fallback"), Strategy("race")


def leaf(name: str) -> Candidate:
    return Candidate("x", name)


def test_a_race_of_fallbacks_is_won_by_a_leaf() -> None:
    """Each side falls back on its own; the first answer of either wins."""
    left = Route("tier:l", FALLBACK, (leaf("a"), leaf("b")))
    right = Route("tier:r", FALLBACK, (leaf("c"), leaf("d")))
    ran = run(plan(Route("tier:t", RACE, (left, right)), REQUEST), [fails(1), answers(1), fails(3), answers(1)])
    assert [(0, 0), (0, 2), (1, 1)] == [(at, call.candidate) for at, call in ran.started]
    assert ran.seconds == 2
    assert {call.id: call.candidate for _, call in ran.started}[ran.verdict.call or 0] == 1


def test_a_fallback_of_races_starts_the_second_race_when_the_first_is_lost() -> None:
    """A child's failure is one failure of its parent's call."""
    first = Route("tier:l", RACE, (leaf("a"), leaf("b")))
    second = Route("tier:r", RACE, (leaf("c"), leaf("d")))
    scripts = [fails(1), fails(2), answers(5), answers(1)]
    ran = run(plan(Route("t", FALLBACK, (first, second)), REQUEST), scripts)
    assert [(0, 0), (0, 1), (2, 2), (2, 3)] == [(at, call.candidate) for at, call in ran.started]
    assert ran.seconds == 3


def test_a_tier_in_a_spill_is_busy_where_its_members_are() -> None:
    """Its own strategy decides who is asked; that one of them was busy has it waited for in the end."""
    inner = Route("tier:i", FALLBACK, (leaf("a"), leaf("b")))
    busy, down = fails(0, FailureKind.BUSY), fails(0)
    scripts: list[Script | list[Script]] = [[busy, answers(3)], down, down]
    ran = run(plan(Route("t", Strategy("spill", max_wait_s=1), (inner, leaf("c"))), REQUEST), scripts)
    assert [(0, 1), (1, 1), (2, None), (0, None)] == [
        (call.candidate, call.request.max_wait_s) for _, call in ran.started
    ]
    assert isinstance(ran.verdict.outcome, Reply)


def test_a_nested_stream_is_committed_once_and_stops_every_other_leaf() -> None:
    """The commit goes from leaf to root and back; the losers of all levels are stopped."""
    inner = Route("tier:i", RACE, (leaf("a"), leaf("b")))
    ran = run(plan(Route("t", RACE, (inner, leaf("c"))), REQUEST), [streams(3, 4), streams(1, 2), streams(5, 6)])
    assert [(1, 1)] == ran.commits
    assert [0, 2] == sorted(call for _, call in ran.stopped)
    assert ran.verdict.call == 1


def test_a_cut_in_a_nested_stream_is_gone_on_with_outside() -> None:
    """First within its tier, then by the parent's next; with what the caller has, through all levels."""
    inner = Route("tier:i", FALLBACK, (leaf("a"), leaf("b")))
    ran = run(plan(Route("t", FALLBACK, (inner, leaf("c"))), REQUEST), [cut(1, 2), fails(1), streams(1, 2)])
    assert [(0, None), (2, SENT), (3, SENT)] == [(at, call.request.resume) for at, call in ran.started]
    assert [0, 2] == [call for _, call in ran.commits]
    assert isinstance(ran.verdict.outcome, Finish)
    assert ran.verdict.call == 2


def test_a_cut_that_nobody_goes_on_with_reaches_the_caller() -> None:
    """The first failure is the verdict, through all levels."""
    inner = Route("tier:i", FALLBACK, (leaf("a"),))
    ran = run(plan(Route("t", FALLBACK, (inner, leaf("b"))), REQUEST), [cut(1, 2), fails(1)])
    assert isinstance(ran.verdict.outcome, Failure)
    assert ran.verdict.outcome.kind is FailureKind.CUT
    assert ran.verdict.outcome.message == "cut; going on elsewhere failed: server_error"


def test_a_hedged_tier_counts_time_from_its_own_start() -> None:
    """A child that is started late hedges after its own delay, and all that it starts is extra."""
    inner = Route("tier:i", Strategy("hedge", after_s=1.0), (leaf("b"), leaf("c")))
    outer = Route("t", Strategy("hedge", after_s=2.0), (leaf("a"), inner))
    ran = run(plan(outer, REQUEST), [answers(99), answers(99), answers(0.5)])
    assert [(0, 0, False), (2, 1, True), (3, 2, True)] == [(at, c.candidate, c.extra) for at, c in ran.started]
    assert ran.seconds == 3.5


def test_each_level_asks_for_its_own_hedge_budget() -> None:
    """The budget is asked with the route whose clock ran out."""
    asked: list[str] = []

    class Refusing(Freely):
        def may_hedge(self, route: Route) -> bool:
            asked.append(route.selector)
            return False

    inner = Route("tier:i", Strategy("hedge", after_s=1.0), (leaf("b"), leaf("c")))
    outer = Route("t", Strategy("hedge", after_s=2.0), (inner, leaf("a")))
    run(plan(outer, REQUEST, Refusing()), [answers(9), answers(9), answers(9)])
    assert list(dict.fromkeys(asked)) == ["tier:i", "t"]


def test_a_hedge_by_a_share_asks_how_long_that_is() -> None:
    """Of its own route, for streams and whole answers apart."""

    class Knowing(Freely):
        def after_s(self, route: Route, *, stream: bool) -> float:
            assert route.selector == "t"
            return 3.0 if stream else 2.0

    route = Route("t", Strategy("hedge", after_share=0.95), (leaf("a"), leaf("b")))
    for stream, expected in ((False, 2.0), (True, 3.0)):
        ran = run(plan(route, Request({}, stream=stream), Knowing()), [answers(9), answers(9)])
        assert [0, expected] == [at for at, _ in ran.started]


def test_params_of_tiers_are_defaults() -> None:
    """The request's own value wins, then the outer tier's, then the inner one's."""
    inner = Route("i", Strategy("first", params={"a": 1, "b": 1, "c": 1}), (leaf("a"),))
    outer = Route("t", Strategy("first", params={"b": 2, "c": 2}), (inner,))
    ran = run(plan(outer, Request({"c": 3})), [answers(1)])
    assert {"a": 1, "b": 2, "c": 3} == ran.started[0][1].request.body


def test_a_race_for_the_whole_answer_does_not_stream() -> None:
    """`commit: complete` asks for whole answers, also within another tier."""
    inner = Route("i", Strategy("race", commit="complete"), (leaf("a"), leaf("b")))
    outer = Route("t", FALLBACK, (inner,))
    ran = run(plan(outer, Request({}, stream=True)), [answers(2), answers(1)])
    assert [False, False] == [call.request.stream for _, call in ran.started]
    assert isinstance(ran.verdict.outcome, Reply)


_routes = st.recursive(
    st.integers(0, 99).map(lambda i: leaf(str(i))),
    lambda inner: st.tuples(
        st.sampled_from([FALLBACK, RACE, Strategy("first"), Strategy("hedge", after_s=0.5)]),
        st.lists(inner, min_size=1, max_size=3),
    ).map(lambda t: Route("t", t[0], tuple(t[1]))),
    max_leaves=8,
)


@given(_routes, st.data())
def test_any_nest_ends_with_one_verdict(route: Candidate | Route, data: st.DataObject) -> None:
    """Whatever the schedule, a nest of tiers keeps the rules between a plan and its driver (the virtual one checks)."""
    root = route if isinstance(route, Route) else Route("t", FALLBACK, (route,))
    delay = st.floats(0.01, 3)
    script = st.one_of(
        delay.map(answers), delay.map(fails), delay.map(lambda s: streams(s, s + 1)), delay.map(lambda s: cut(s, s + 1))
    )
    leaves = tuple(root.leaves())
    ran = run(plan(root, REQUEST), [data.draw(script) for _ in leaves])
    assert len(ran.commits) <= 1 + sum(call.request.resume is not None for _, call in ran.started)
    if not isinstance(ran.verdict.outcome, Failure):
        assert ran.verdict.call in {call.id for _, call in ran.started}


def test_what_a_tier_overrides_wins_over_the_request() -> None:
    """And over a tier around it, which asks it like any caller."""
    inner = Route("i", Strategy("first", params={"a": 1}, override={"b": 1, "c": 1}), (leaf("a"),))
    outer = Route("t", Strategy("first", override={"c": 2, "d": 2}), (inner,))
    ran = run(plan(outer, Request({"b": 3, "d": 3, "e": 3})), [answers(1)])
    assert {"a": 1, "b": 1, "c": 1, "d": 2, "e": 3} == ran.started[0][1].request.body


def test_a_parameter_of_two_names_is_set_once() -> None:
    """`max_tokens` and `max_completion_tokens`: whoever wins, wins under either name."""
    for strategy, expected in (
        (Strategy("first", params={"max_tokens": 1}), {"max_completion_tokens": 9}),
        (Strategy("first", override={"max_tokens": 1}), {"max_tokens": 1}),
        (Strategy("first", params={"max_completion_tokens": 2}, override={"max_tokens": 1}), {"max_tokens": 1}),
    ):
        route = Route("t", strategy, (leaf("a"),))
        ran = run(plan(route, Request({"max_completion_tokens": 9})), [answers(1)])
        assert expected == ran.started[0][1].request.body
