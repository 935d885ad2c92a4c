"""The worst case of a route: by arithmetic, and against what plans really do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.budgets.worst import JUDGING_TOKENS, worst_of
from orchestrator.config.operations import Budgets
from orchestrator.config.settings import Config, ModelOptions, Provider, Quirks, Retry, Strategy
from orchestrator.pricing.book import Prices
from orchestrator.pricing.cost import AROUND_TOKENS
from orchestrator.pricing.price import Price
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import plan
from orchestrator.types import Failure, FailureKind, Reply, Request
from tests.virtual import SENT, Script, cut, fails, run, streams

OUTPUT = Price(input_per_mtok_usd=0.0, output_per_mtok_usd=1_000_000.0)
"""A dollar for each token that is written."""
INPUT = Price(input_per_mtok_usd=1_000_000.0, output_per_mtok_usd=0.0)
PRICES = {"p/a": OUTPUT, "p/b": OUTPUT, "p/c": OUTPUT, "p/in": INPUT, "claude/x": OUTPUT, "claude/claude-y": OUTPUT}
CONFIG = Config(
    {
        "p": Provider("p", retry=Retry(attempts=1), model_options={"c": ModelOptions(max_tokens=7)}),
        "claude": Provider("claude", "anthropic", retry=Retry(attempts=1)),
    },
    {},
    budgets=Budgets(max_tokens=1_000),
    prices=Prices(PRICES),
)
A, B, C = (Candidate("p", name) for name in "abc")


def asks(stream: bool = False, **body: Any) -> Request:
    return Request({"messages": [], **body}, stream=stream)


def usd(strategy: Strategy, *members: Candidate | Route, request: Request | None = None) -> float:
    return worst_of(Route("tier:t", strategy, members), request or asks(max_tokens=10), CONFIG).usd


@pytest.mark.parametrize(
    ("candidate", "body", "tokens"),
    [
        (A, {"max_tokens": 5}, 5),
        (A, {"max_completion_tokens": 6}, 6),
        (A, {"max_tokens": 5, "max_completion_tokens": 6}, 6),
        (A, {"max_tokens": 5, "n": 3}, 15),
        (A, {}, 1_000),
        (A, {"max_tokens": "many"}, 1_000),
        (C, {}, 7),
        (C, {"max_tokens": 100}, 7),
        (Candidate("claude", "x"), {}, 4_096),
        (Candidate("claude", "claude-y"), {}, 32_000),
        (Candidate("claude", "x"), {"max_tokens": 5, "anthropic": {"max_tokens": 9}}, 9),
    ],
)
def test_what_a_model_may_write(candidate: Candidate, body: dict[str, Any], tokens: int) -> None:
    """What the request says, else the model's limit, else what it is asked for where nobody says, else a guess; each choice
    counts. A model that cannot write so much writes what it can; what is meant for one provider alone counts there."""
    assert float(tokens) == usd(Strategy("first"), candidate, request=asks(**body))


def test_fields_for_one_provider_alone_count_there() -> None:
    """They go over the request's own, and others never see them."""
    quirks = replace(CONFIG.providers["p"].quirks, extension="groq")
    config = replace(CONFIG, providers={"p": replace(CONFIG.providers["p"], quirks=quirks)})
    route = Route("p/a", Strategy("first"), (A,))
    assert 40.0 == worst_of(route, asks(max_tokens=1, groq={"max_tokens": 20, "n": 2}), config).usd
    assert 1.0 == worst_of(route, asks(max_tokens=1, openai={"max_tokens": 20}), config).usd


def test_embeddings_write_nothing() -> None:
    """Their input is all that is billed."""
    assert 0.0 == usd(Strategy("first"), A, request=Request({"input": "x"}, operation="embeddings"))


def test_retries_count_for_their_input() -> None:
    """A try may break off when its provider has billed the input already."""
    config = replace(CONFIG, providers={"p": Provider("p", retry=Retry(attempts=4))})
    route, request = Route("p/in", Strategy("first"), (Candidate("p", "in"),)), Request({"m": 1}, input_tokens=100)
    assert AROUND_TOKENS + len('{"m":1}') + 400 == worst_of(route, request, config).usd


@pytest.mark.parametrize(
    ("strategy", "calls"),
    [
        (Strategy("first"), 1),
        (Strategy("fallback"), 3),
        (Strategy("balance"), 3),
        (Strategy("race"), 3),
        (Strategy("hedge", after_s=1.0), 3),
        (Strategy("consensus"), 3),
        (Strategy("consensus", samples=4), 12),
        (Strategy("cascade"), 3),
        (Strategy("split", arms={"a": 1.0, "b": 1.0, "c": 1.0}), 1),
        # The judge is no voter: two votes, and the judge twice.
        (Strategy("consensus", method="judge", judge="p/b"), 2 + 2 * 100),
        (Strategy("consensus", method="synthesize", judge="p/b"), 2 + 1),
        (Strategy("consensus", escalate="p/b"), 3),
        (Strategy("cascade", escalate="p/b"), 3),
    ],
    ids=str,
)
def test_each_call_that_may_be_made_counts(strategy: Strategy, calls: int) -> None:
    """Of whole answers: each member once, a voter for each sample, a judge twice (and by its own limit)."""
    assert 10.0 * calls == usd(strategy, A, B, A)


def test_the_dearest_arm_counts() -> None:
    """Only one is asked."""
    two = Route("tier:two", Strategy("fallback"), (A, B))
    assert 20.0 == usd(Strategy("split", arms={"a": 1.0, "b": 1.0}), A, two)


def test_members_may_be_tiers_with_parameters() -> None:
    """What a tier sets counts where the request says nothing; what it insists on, always."""
    child = Route("tier:child", Strategy("fallback", params={"max_tokens": 3}, override={"n": 2}), (A, B))
    assert 12.0 + 1_000.0 == usd(Strategy("fallback"), child, C, A, request=asks()) - 7.0


def test_a_model_without_a_price_is_named() -> None:
    """And what the others may cost."""
    worst = worst_of(Route("", Strategy("fallback"), (A, Candidate("p", "new"))), asks(max_tokens=10), CONFIG)
    assert (10.0, "p/new") == (worst.usd, worst.unpriced)
    split = Strategy("split", arms={"a": 1.0, "b": 1.0})
    assert "p/new" == worst_of(Route("", split, (A, Candidate("p", "new"))), asks(max_tokens=10), CONFIG).unpriced


def test_a_judge_reads_all_answers() -> None:
    """Its input is longer by what they may have written."""
    judged = Strategy("consensus", method="synthesize", judge="p/in")
    plain = usd(Strategy("first"), Candidate("p", "in"))
    assert 20.0 + plain + 20 + JUDGING_TOKENS == usd(judged, A, B, Candidate("p", "in"))


def test_whoever_goes_on_with_a_stream_reads_what_was_sent() -> None:
    """Not where nobody is to go on, nor where there is nobody else."""
    reader = Candidate("p", "in")
    plain = usd(Strategy("first"), reader)
    request = asks(stream=True, max_tokens=10)
    assert 10.0 + plain + 20 == usd(Strategy("fallback"), A, reader, request=request)
    assert 10.0 + plain == usd(Strategy("fallback", resume="off"), A, reader, request=request)
    assert plain == usd(Strategy("fallback"), reader, request=request)


_STRATEGIES = st.sampled_from(
    [
        Strategy("fallback"),
        Strategy("race"),
        Strategy("race", commit="complete"),
        Strategy("hedge", after_s=1.0),
        Strategy("race", resume="off"),
        Strategy("consensus", samples=2),
        Strategy("consensus", method="judge", judge="p/c"),
        Strategy("cascade", escalate="p/c", on_disagreement="escalate"),
    ]
)


def _says(after_s: float, text: str) -> Script:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    return Script(((after_s, Reply(body, "m")),))


_WHOLE = st.one_of(
    st.builds(_says, st.floats(0.1, 5), st.sampled_from(["1", "2", "3"])),
    st.builds(
        fails, st.floats(0.1, 5), st.sampled_from([FailureKind.SILENT, FailureKind.SERVER_ERROR, FailureKind.CUT])
    ),
)
_STREAMED = st.one_of(
    st.builds(streams, st.floats(0.1, 2), st.floats(2.1, 5)),
    st.builds(cut, st.floats(0.1, 2), st.floats(2.1, 5)),
    st.builds(fails, st.floats(0.1, 5), st.just(FailureKind.SILENT)),
)


@given(_STRATEGIES, st.booleans(), st.data())
def test_no_plan_makes_more_calls_than_are_counted(strategy: Strategy, stream: bool, data: st.DataObject) -> None:
    """Whatever upstreams do, every call of a plan is billed in full at the most: together never more than the worst case. A
    stream that is cut and gone on with elsewhere, whose losers were billed and are asked again, stays within it too."""
    request = Request({"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}, stream=stream)
    whole = strategy.name in ("consensus", "cascade") or strategy.commit == "complete" or not stream
    one = _WHOLE if whole else _STREAMED
    scripts: list[Script | list[Script]] = [data.draw(st.lists(one, min_size=4, max_size=4)) for _ in range(3)]
    route = Route("tier:t", strategy, (A, B, C))
    ran = run(plan(route, request), scripts, SENT)
    billed = sum(10.0 if call.candidate != 2 else 7.0 for _, call in ran.started)
    assert billed <= worst_of(route, request, CONFIG).usd
    assert isinstance(ran.verdict.outcome, Failure) or ran.started


@pytest.mark.parametrize(
    ("own", "tokens"),
    [
        ({"max_tokens": 50}, 50),
        ({"max_tokens": "60"}, 60),
        ({"max_completion_tokens": 7.5}, 8),
        ({"n": "3"}, 21),
        ({}, 7),
    ],
)
def test_what_a_provider_alone_is_told_counts_as_it_may_read_it(own: dict[str, Any], tokens: int) -> None:
    """It goes upstream as it stands: over what the model is known to write, and as text."""
    provider = replace(CONFIG.providers["p"], quirks=Quirks(extension="openai"))
    config = replace(CONFIG, providers={**CONFIG.providers, "p": provider})
    worst = worst_of(Route("p/c", Strategy("first"), (C,)), asks(max_tokens=9, openai=own), config)
    assert pytest.approx(tokens) == worst.usd
