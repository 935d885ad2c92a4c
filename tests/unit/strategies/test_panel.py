"""Consensus and cascade in virtual time: who is asked when, when it is over, and what comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.settings import Extract, Strategy
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import plan
from orchestrator.types import Failure, FailureKind, Reply, Request
from tests.virtual import Ran, Script, fails, run

REQUEST = Request({"messages": [{"role": "user", "content": "2 + 2?"}]}, stream=True)
MODELS = ("p/a", "p/b", "p/c")
VOTE = Strategy("consensus", quorum=2)
CASCADE = Strategy("cascade", extract=Extract(number="last"))


def says(after_s: float, text: Any, model: str = "m", **message: Any) -> Script:
    """An answer of that text."""
    content = text if isinstance(text, str) or text is None else json.dumps(text)
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    return Script(((after_s, Reply({"choices": [choice]}, model)),))


def route(strategy: Strategy, models: tuple[str, ...] = MODELS) -> Route:
    members = (Candidate("p", one.removeprefix("p/")) for one in (*models, *strategy.helpers))
    return Route("tier:t", strategy, tuple(members))


def ask(strategy: Strategy, *scripts: Any, models: tuple[str, ...] = MODELS, request: Request = REQUEST) -> Ran:
    return run(plan(route(strategy, models), request), scripts)


def said(ran: Ran) -> Any:
    assert isinstance(ran.verdict.outcome, Reply), ran.verdict.outcome
    return ran.verdict.outcome.body["choices"][0]["message"]["content"]


def report(ran: Ran) -> Any:
    assert ran.verdict.consensus is not None
    return ran.verdict.consensus


def failed(ran: Ran) -> Failure:
    assert isinstance(ran.verdict.outcome, Failure)
    return ran.verdict.outcome


def test_it_is_over_with_the_second_that_agrees() -> None:
    """All are asked at once, for whole answers; the third is left to be cancelled."""
    ran = ask(VOTE, says(3, "4"), says(9, "5"), says(1, "4.0"))
    assert [0, 0, 0] == [at for at, _ in ran.started]
    assert not any(call.request.stream for _, call in ran.started)
    assert (3, (1,), "4") == (ran.seconds, ran.left, said(ran))
    assert report(ran) == {
        "method": "majority",
        "answer": "4",
        "agreement": 1.0,
        "votes": [
            {"model": "p/a", "answer": "4", "latency_s": 3},
            {"model": "p/c", "answer": "4.0", "latency_s": 1},
        ],
        "escalated": False,
        "calls_saved": 1,
    }


def test_more_than_half_is_needed_unless_it_is_said() -> None:
    """Two of three; three of four."""
    assert 2 == ask(Strategy("consensus"), says(1, "a"), says(2, "a"), says(3, "b")).seconds
    four = ask(Strategy("consensus"), *(says(at, "a") for at in (1, 2, 3, 4)), models=(*MODELS, "p/d"))
    assert 3 == four.seconds


def test_the_leading_answer_is_given_where_none_has_a_quorum() -> None:
    """`best`: of a tie, the first in the configuration; it says that few agree."""
    ran = ask(VOTE, says(3, "a"), says(2, "b"), says(1, "c"))
    assert ("a", 3) == (said(ran), ran.seconds)
    assert (round(1 / 3, 4), 0) == (report(ran)["agreement"], report(ran)["calls_saved"])


def test_disagreement_escalates_once_as_soon_as_it_is_certain() -> None:
    """With a quorum of three, two that differ are enough: the third is stopped, the last one asked at once."""
    strategy = Strategy("consensus", quorum=3, escalate="p/e", on_disagreement="escalate")
    ran = ask(strategy, says(1, "a"), says(2, "b"), says(9, "a"), says(5, "b", "e"))
    assert [(2, 3)] == [(at, call.candidate) for at, call in ran.started if at]
    assert [(2, 2)] == ran.stopped
    assert (7, "b", 3) == (ran.seconds, said(ran), ran.verdict.call)
    assert (True, "b", 0.5, 1) == tuple(
        report(ran)[name] for name in ("escalated", "answer", "agreement", "calls_saved")
    )


def test_an_escalation_that_fails_leaves_the_leading_answer() -> None:
    """And says so."""
    strategy = Strategy("consensus", escalate="p/e", on_disagreement="escalate")
    ran = ask(strategy, says(1, "a"), says(2, "b"), says(3, "c"), fails(1))
    assert "a" == said(ran)
    assert (True, "server_error") == (report(ran)["escalated"], report(ran)["escalation_failed"])
    nobody = ask(strategy, fails(1), fails(1), fails(1), fails(1))
    # After two failures no two can agree; but as long as nobody has answered, the third may be all there is.
    assert (FailureKind.ALL_FAILED, 4) == (failed(nobody).kind, len(failed(nobody).causes))
    last = ask(strategy, fails(1), fails(1), says(5, "only"), fails(1))
    assert ("only", "server_error") == (said(last), report(last)["escalation_failed"])
    assert (True, None) == (report(nobody)["escalated"], report(nobody)["answer"])


def test_disagreement_may_be_an_error() -> None:
    """Which others may be asked after."""
    ran = ask(Strategy("consensus", on_disagreement="error"), says(1, "a"), says(2, "b"), fails(1))
    assert FailureKind.NO_CONSENSUS is failed(ran).kind
    assert failed(ran).kind.traits.try_other
    assert ["a", "b", None] == [vote["answer"] for vote in report(ran)["votes"]]


def test_failures_and_answers_that_say_nothing_do_not_vote() -> None:
    """Two of three still agree; nothing that can be compared is no agreement, and an answer all the same."""
    ran = ask(VOTE, says(1, "a"), fails(2), says(3, "a"))
    assert ("a", "server_error") == (said(ran), report(ran)["votes"][1]["outcome"])
    number = replace(VOTE, extract=Extract(number="last"))
    assert "none" == said(ask(number, says(3, "none"), says(1, "nothing"), says(2, "")))
    assert "5" == said(ask(number, says(3, "none"), says(1, "5"), says(2, "")))


def test_a_failure_ends_nothing_while_others_may_answer() -> None:
    """Neither one that forbids to ask others, nor one that rules an agreement out: those that run are heard first."""
    up = Strategy("consensus", quorum=3, escalate="p/e", on_disagreement="escalate")
    ran = ask(up, fails(0.1, FailureKind.MALFORMED), says(1, "a"), says(2, "b"), says(1, "c"))
    assert ("c", True) == (said(ran), report(ran)["escalated"])
    ran = ask(replace(up, escalate=None, on_disagreement="error"), fails(0.1), says(1, "a"), says(2, "b"))
    assert (FailureKind.NO_CONSENSUS, 1) == (failed(ran).kind, ran.seconds)
    both = ask(CASCADE, fails(0.1), says(1, "4"), models=("p/a", "p/b"))
    assert "4" == said(both)


@given(st.permutations([1.0, 2.0, 3.0]), st.lists(st.sampled_from("123"), min_size=3, max_size=3))
def test_who_is_quick_does_not_decide_a_cascade(latencies: list[float], texts: list[str]) -> None:
    """Of those that were asked together, in any order: the leading answer is the same."""
    strategy = replace(CASCADE, agree=3)
    ran = ask(strategy, *map(says, latencies, texts))
    assert said(ask(strategy, *(says(1, text) for text in texts))) == said(ran)


def test_a_refusal_for_its_content_may_be_routed_around() -> None:
    """`content_filter: fallback`: the others, and whoever is escalated to, are asked all the same."""
    refused = [fails(1, FailureKind.CONTENT_POLICY) for _ in range(3)]
    strategy = Strategy("consensus", escalate="p/e", on_disagreement="escalate")
    assert FailureKind.CONTENT_POLICY is failed(ask(strategy, *refused, says(1, "x"))).kind
    assert "x" == said(ask(replace(strategy, content_filter="fallback"), *refused, says(1, "x")))


def test_whoever_helps_is_asked_again_if_its_pool_is_lost() -> None:
    """Once: a judge in both orders, a merging model, the one that is escalated to."""
    lost, three = fails(1, FailureKind.POOL_LOST), (says(1, "x"), says(1, "y"), says(1, "z"))
    up = Strategy("consensus", escalate="p/e", on_disagreement="escalate")
    assert "w" == said(ask(up, *three, [lost, says(1, "w")]))
    assert "pool_lost" == report(ask(up, *three, [lost, lost]))["escalation_failed"]
    assert "w" == said(ask(replace(JUDGED, method="synthesize"), *three, [lost, says(1, "w")]))
    ran = ask(JUDGED, *three, [lost, lost, picks(1, 1), picks(1, 3)])
    assert (True, 7) == (report(ran)["judge"]["agreed"], len(ran.started))
    assert not report(ask(JUDGED, *three, [lost, lost, lost, picks(1, 1)]))["judge"]["agreed"]


def test_a_judge_sees_what_is_called() -> None:
    """An answer that calls a tool says which, and a conversation with tools is told in words: a judge has none."""

    def calls(after_s: float, city: str) -> Script:
        function = {"name": "weather", "arguments": json.dumps({"city": city})}
        return says(after_s, None, tool_calls=[{"id": "1", "type": "function", "function": function}])

    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    turns = [{"role": "user", "content": "hi"}, called, {"role": "tool", "tool_call_id": "1", "content": "sunny"}]
    request = REQUEST._replace(
        body={"messages": turns, "tools": [{"type": "function", "function": {"name": "weather"}}]}
    )
    ran = ask(
        JUDGED, calls(1, "Oslo"), calls(1, "Rome"), says(2, "nothing"), [picks(1, 1), picks(1, 3)], request=request
    )
    asked = ran.started[3][1].request.body
    assert {"messages"} == set(asked)
    assert ["user", "assistant", "user"] == [turn["role"] for turn in asked["messages"]]
    assert all(text in shown(ran.started[3][1]) for text in ("Oslo", "Rome", "sunny"))
    assert "weather" in asked["messages"][1]["content"]


def test_a_request_that_is_wrong_is_said_to_be() -> None:
    """Nobody is escalated to: the next would say the same."""
    strategy = Strategy("consensus", escalate="p/e", on_disagreement="escalate")
    ran = ask(strategy, *(fails(1, FailureKind.MALFORMED) for _ in range(3)), says(1, "x"))
    assert (FailureKind.MALFORMED, 3) == (failed(ran).kind, len(ran.started))


def test_a_lost_pool_is_asked_again_once() -> None:
    """The provider is not to blame, and the vote not lost."""
    lost = fails(1, FailureKind.POOL_LOST)
    ran = ask(VOTE, [lost, says(1, "a")], says(2, "a"), says(9, "b"))
    assert (2, "a", 4) == (ran.seconds, said(ran), len(ran.started))
    again = ask(VOTE, [lost, lost], says(3, "a"), says(4, "a"))
    assert (4, "pool_lost") == (again.seconds, report(again)["votes"][0]["outcome"])


def test_samples_of_one_model() -> None:
    """Five answers of one, and three that agree are enough."""
    scripts = [says(at, text) for at, text in ((1, "a"), (2, "b"), (3, "a"), (4, "a"), (9, "b"))]
    ran = ask(Strategy("consensus", samples=5), scripts, models=("p/a",))
    assert (5, 4, "a", 1) == (len(ran.started), ran.seconds, said(ran), report(ran)["calls_saved"])
    assert 0.75 == report(ran)["agreement"]


def test_weights_flip_a_majority() -> None:
    """Two against one, and the one weighs more: it is over with its vote alone."""
    strategy = Strategy("consensus", method="weighted", weights={"p/b": 3})
    ran = ask(strategy, says(1, "a"), says(2, "b"), says(3, "a"))
    assert (2, "b", 0.75) == (ran.seconds, said(ran), report(ran)["agreement"])
    assert [1.0, 3] == [vote["weight"] for vote in report(ran)["votes"]]
    assert "a" == said(ask(Strategy("consensus"), says(1, "a"), says(2, "b"), says(3, "a")))


@given(st.permutations([1.0, 2.0, 3.0, 4.0, 5.0]), st.lists(st.sampled_from("abc"), min_size=5, max_size=5))
def test_who_is_quick_does_not_decide(latencies: list[float], texts: list[str]) -> None:
    """The same answers in any order of arrival come to the same, and never later than with all of them."""
    models = tuple(f"p/{i}" for i in range(5))
    ran = ask(Strategy("consensus"), *map(says, latencies, texts), models=models)
    all_at_once = ask(Strategy("consensus"), *(says(1, text) for text in texts), models=models)
    assert (said(all_at_once), ran.seconds <= 5) == (said(ran), True)


def test_fields_of_structured_answers_are_voted_on_one_by_one() -> None:
    """What each field's majority says, although nobody said it as a whole."""
    request = REQUEST._replace(body={**REQUEST.body, "response_format": {"type": "json_schema"}})
    ada = {"name": "Ada", "age": 36, "city": "London"}
    ran = ask(
        VOTE, says(1, {**ada, "age": 35}), says(2, {**ada, "city": "Paris"}), says(3, {**ada, "name": "Eve"}),
        request=request,
    )  # fmt: skip
    assert (ada, ada) == (json.loads(said(ran)), report(ran)["answer"])
    assert (0.6667, 3) == (report(ran)["agreement"], ran.seconds)
    same = ask(VOTE, says(1, ada), says(2, {**ada, "age": "36"}), says(9, "no JSON"), request=request)
    assert (2, 0, 1.0) == (same.seconds, same.verdict.call, report(same)["agreement"])


def test_a_field_that_most_leave_out_is_left_out() -> None:
    """And an answer that calls a tool is one that has no fields."""
    fields = replace(VOTE, extract="fields")
    ran = ask(fields, says(1, {"a": 1, "b": 1}), says(2, {"a": 1}), says(3, {"a": 2}))
    assert {"a": 1} == json.loads(said(ran))
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ran = ask(fields, says(1, {"a": 1}), says(2, None, tool_calls=[call]), says(3, None, tool_calls=[call]))
    assert (1, [{"name": "f", "arguments": {}}]) == (ran.verdict.call, report(ran)["answer"])


def test_a_cascade_asks_one_more_only_while_they_disagree() -> None:
    """Two to begin with; the third when these differ; nobody else when it settles it."""
    ran = ask(CASCADE, says(2, "it is 4"), says(1, "4.0"), says(1, "5"))
    assert (2, 2, "it is 4", 1) == (ran.seconds, len(ran.started), said(ran), report(ran)["calls_saved"])
    ran = ask(CASCADE, says(2, "4"), says(1, "5"), says(3, "so 5"))
    assert [(0, 0), (0, 1), (2, 2)] == [(at, call.candidate) for at, call in ran.started]
    assert (5, "5", 0, "cascade") == (ran.seconds, said(ran), report(ran)["calls_saved"], report(ran)["method"])


def test_a_cascade_escalates_when_nobody_is_left() -> None:
    """And not before; a failure is one that does not agree."""
    strategy = replace(CASCADE, escalate="p/e", on_disagreement="escalate")
    ran = ask(strategy, says(1, "4"), says(2, "5"), says(1, "6"), says(4, "7", "e"))
    assert [(0, 0), (0, 1), (2, 2), (3, 3)] == [(at, call.candidate) for at, call in ran.started]
    assert ("7", 0.0, True) == (said(ran), report(ran)["agreement"], report(ran)["escalated"])
    ran = ask(strategy, says(1, "4"), fails(0.5), says(1, "4"), says(4, "7"))
    assert [(0, 0), (0, 1), (0.5, 2)] == [(at, call.candidate) for at, call in ran.started]
    assert "4" == said(ran)


def test_a_cascade_does_not_ask_whom_it_cannot_need() -> None:
    """Three have to agree: with two different answers of three, two more are asked at once, and none if that is hopeless."""
    models = tuple(f"p/{i}" for i in range(5))
    strategy = replace(CASCADE, agree=3)
    ran = ask(strategy, says(1, "1"), says(2, "2"), says(3, "3"), says(1, "3"), says(2, "3"), models=models)
    # The first two differ: whatever the third says, another is needed.
    assert [0, 0, 0, 2, 3] == [at for at, _ in ran.started]
    assert "3" == said(ran)
    wrong = replace(strategy, on_disagreement="error")
    hopeless = ask(wrong, says(1, "1"), says(2, "2"), says(3, "3"), models=models[:3])
    assert (2, FailureKind.NO_CONSENSUS) == (hopeless.seconds, failed(hopeless).kind)


JUDGED = Strategy("consensus", method="judge", judge="p/j")


def picks(after_s: float, number: int) -> Script:
    return says(after_s, f'```json\n{{"best": {number}}}\n```')


def shown(call: Any) -> str:
    """What a judge sees."""
    text: str = call.request.body["messages"][-1]["content"]
    return text


def test_a_judge_is_asked_in_both_orders_and_has_to_say_the_same() -> None:
    """The first of one order is the last of the other: picks that name one answer count."""
    ran = ask(JUDGED, says(1, "yes"), says(2, "no"), says(3, "maybe"), [picks(1, 1), picks(2, 3)])
    (at, one), (_, other) = ran.started[3:]
    assert 3 == at
    texts = [[part.split("\n")[1] for part in shown(call).split("<answer")[1:]] for call in (one, other)]
    assert texts[0] == texts[1][::-1]
    assert {"yes", "no", "maybe"} == set(texts[0])
    assert shown(one).startswith("2 + 2?")
    assert (texts[0][0], 5) == (said(ran), ran.seconds)
    assert {"model": "p/j", "agreed": True} == {k: report(ran)["judge"][k] for k in ("model", "agreed")}


def test_a_judge_that_goes_by_place_decides_nothing() -> None:
    """It prefers the first, both times: what is decided is what a disagreement comes to."""
    biased = [picks(1, 1), picks(1, 1)]
    ran = ask(JUDGED, says(1, "b"), says(2, "a"), says(3, "a"), biased)
    assert ("a", False) == (said(ran), report(ran)["judge"]["agreed"])
    strategy = replace(JUDGED, escalate="p/e", on_disagreement="escalate")
    ran = ask(strategy, says(1, "x"), says(2, "y"), says(3, "z"), biased, says(1, "w"))
    assert ("w", True) == (said(ran), report(ran)["escalated"])


@pytest.mark.parametrize("second", [fails(9), says(9, "I cannot say"), picks(9, 7)])
def test_one_pick_alone_does_not_count(second: Script) -> None:
    """The other asking fails, or names nothing; once that is known, nobody waits for the rest."""
    strategy = replace(JUDGED, on_disagreement="error")
    ran = ask(strategy, says(1, "x"), says(2, "y"), says(3, "z"), [picks(1, 1), second])
    assert (FailureKind.NO_CONSENSUS, 12) == (failed(ran).kind, ran.seconds)
    ran = ask(strategy, says(1, "x"), says(2, "y"), says(3, "z"), [second, replace(second)])
    assert (1, 12) == (len(ran.left), ran.seconds)


def test_there_is_nothing_to_judge_where_all_say_the_same() -> None:
    """Or where there is one answer alone."""
    ran = ask(JUDGED, says(1, "yes"), says(2, "Yes."), says(3, "YES"), fails(1))
    assert (3, "yes", 3) == (len(ran.started), said(ran), ran.seconds)
    assert "only" == said(ask(JUDGED, fails(1), says(2, "only"), fails(1), fails(1)))


def test_a_judge_waits_for_as_many_as_the_quorum_says() -> None:
    """Those that are late are stopped when it is asked."""
    ran = ask(replace(JUDGED, quorum=2), says(1, "yes"), says(2, "no"), says(9, "maybe"), [picks(1, 1), picks(1, 2)])
    assert ([(2, 2)], 3, 1) == (ran.stopped, ran.seconds, report(ran)["calls_saved"])


def test_a_merging_model_sees_every_answer() -> None:
    """Its answer is the answer, by the request's own parameters; whatever was a matter of choices is left out."""
    body = {**REQUEST.body, "temperature": 0.2, "n": 1, "anthropic": {"top_k": 5}}
    strategy = replace(JUDGED, method="synthesize")
    ran = ask(
        strategy, says(1, "yes"), says(2, "no"), says(3, "maybe"), says(1, "it depends"),
        request=REQUEST._replace(body=body),
    )  # fmt: skip
    (_, call) = ran.started[3]
    assert all(f"\n{text}\n" in shown(call) for text in ("yes", "no", "maybe"))
    assert ({"temperature", "messages"}, False) == (set(call.request.body), call.request.stream)
    assert ("it depends", 4, 0.0) == (said(ran), ran.seconds, report(ran)["agreement"])
    assert "yes" == said(ask(strategy, says(1, "yes"), says(2, "no"), says(3, "maybe"), fails(1)))


def test_what_a_judge_is_asked_follows_the_conversation() -> None:
    """In the last turn, if that is a user's, with its pictures; else in one of its own."""
    turns: Any = [
        ([{"type": "text", "text": "what is this?"}], 1, 2),
        ("plain", 1, None),
    ]
    for content, length, parts in turns:
        request = REQUEST._replace(body={"messages": [{"role": "user", "content": content}]})
        ran = ask(JUDGED, says(1, "a"), says(1, "b"), says(1, "c"), [picks(1, 1), picks(1, 1)], request=request)
        messages = ran.started[3][1].request.body["messages"]
        assert length == len(messages)
        assert parts is None or parts == len(messages[-1]["content"])
    request = REQUEST._replace(body={"messages": [{"role": "assistant", "content": "x"}]})
    ran = ask(JUDGED, says(1, "a"), says(1, "b"), says(1, "c"), [picks(1, 1), picks(1, 1)], request=request)
    assert ["assistant", "user"] == [one["role"] for one in ran.started[3][1].request.body["messages"]]


def test_embeddings_are_not_voted_on() -> None:
    """Said so, and nobody is asked."""
    ran = ask(VOTE, request=Request({"input": "x"}, operation="embeddings"))
    assert (FailureKind.UNSUPPORTED, []) == (failed(ran).kind, ran.started)


def test_members_may_be_tiers_and_a_vote_a_member() -> None:
    """A tier votes by its answer; the vote of the tier that answered stands in the report of what is around it."""
    inner = route(VOTE)
    spare = Candidate("p", "s")
    outer = Route("tier:o", Strategy("fallback"), (inner, spare))
    ran = run(plan(outer, REQUEST), [says(1, "4"), says(2, "4"), says(3, "5"), says(1, "6")])
    assert ("4", 2, 1.0) == (said(ran), ran.seconds, report(ran)["agreement"])
    assert 3 == len(ran.started)
    members = (Route("tier:f", Strategy("fallback"), (spare, spare)), Candidate("p", "b"), Candidate("p", "c"))
    nest = Route("tier:n", replace(VOTE, escalate="tier:f", on_disagreement="escalate"), (*members, members[0]))
    ran = run(plan(nest, REQUEST), [fails(1), says(1, "x"), says(9, "y"), says(2, "z"), says(4, "q"), fails(1)])
    assert ("q", True) == (said(ran), report(ran)["escalated"])
    assert "tier:f" == report(ran)["votes"][0]["model"]


def test_any_order_of_any_outcomes_comes_to_an_end() -> None:
    """Answers, failures and lost pools in each order: the verdict is one, and never later than the last."""
    outcomes = (("a", None), ("a", None), ("b", None), (None, FailureKind.SERVER_ERROR))
    for order in permutations(range(4)):
        scripts = []
        for place, (text, kind) in zip(order, outcomes, strict=True):
            scripts.append(fails(place + 1, kind) if kind else says(place + 1, text))
        models = tuple(f"p/{i}" for i in range(4))
        ran = ask(VOTE, *scripts, models=models)
        assert ("a", True) == (said(ran), ran.seconds <= 4)


def test_the_winner_of_a_vote_within_a_tier_is_whose_answer_it_is() -> None:
    """Not whoever was heard of last: the second that agrees, or the judge."""
    for strategy, scripts in (
        (VOTE, [says(1, "4", "a"), says(2, "4", "b"), says(9, "5")]),
        (JUDGED, [says(1, "x"), says(2, "y"), says(3, "z"), [picks(1, 1), picks(1, 3)]]),
    ):
        inner = route(strategy)
        alone = ask(strategy, *scripts)
        outer = Route("tier:o", Strategy("fallback"), (inner, Candidate("p", "s")))
        nested = run(plan(outer, REQUEST), [*scripts, fails(1)])
        assert (alone.verdict.call, said(alone)) == (nested.verdict.call, said(nested))


def test_a_vote_that_is_none_fails_within_a_tier_as_anywhere() -> None:
    """Embeddings: the next member is asked, or the reason given; a tier among its own members makes no difference."""
    embeddings = Request({"input": "x"}, operation="embeddings")
    inner, spare = route(VOTE), Candidate("p", "s")
    outer = Route("tier:o", Strategy("fallback"), (inner, spare))
    ran = run(plan(outer, embeddings), [fails(1)] * 3 + [says(1, "vector")])
    assert ("vector", [3]) == (said(ran), ran.asked)
    alone = Route("tier:p", Strategy("fallback"), (inner,))
    assert FailureKind.UNSUPPORTED is failed(run(plan(alone, embeddings), [fails(1)] * 3)).kind
    tiers = Route("tier:q", Strategy("consensus"), (alone, inner))
    assert FailureKind.UNSUPPORTED is failed(run(plan(tiers, embeddings), [fails(1)] * 6)).kind
    race = Route("tier:r", Strategy("race"), (inner, alone))
    assert FailureKind.ALL_FAILED is failed(run(plan(race, embeddings), [fails(1)] * 6)).kind


def test_how_many_calls_a_route_may_come_to() -> None:
    """Samples at every level, a judge twice."""
    inner = route(Strategy("consensus", samples=4), ("p/a", "p/b"))
    outer = Route("tier:o", replace(JUDGED, samples=3), (inner, Candidate("p", "s"), inner))
    assert (8, (8 + 1) * 3 + 2 * 8) == (inner.calls(), outer.calls())
