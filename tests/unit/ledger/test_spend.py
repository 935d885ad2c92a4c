"""What was spent, on SQLite and on PostgreSQL."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import BadChoice
from orchestrator.ledger.asking import BY, Asking, as_csv, asking
from orchestrator.ledger.records import Batch
from orchestrator.ledger.spend import spend
from orchestrator.ledger.store import Store
from orchestrator.types import Json
from tests.unit.ledger.making import AT_S, attempt, request

DAY_S = 86_400.0
MIDNIGHT_S = datetime(2026, 11, 18, tzinfo=UTC).timestamp()


@pytest.fixture
def store(ledger_url: str) -> Iterator[Store]:
    """With a handful of requests of two users."""
    with closing(Store(ledger_url)) as store:
        mini, large = attempt(300, model="mini"), attempt(90_000, model="large", provider="lab")
        records = (
            request("1", mini, at_s=MIDNIGHT_S, seconds=1.0, key="k"),
            request("2", mini, attempt(70, model="mini", outcome="cancelled", estimate=True), at_s=MIDNIGHT_S + 1),
            request(
                "3", attempt(None, outcome="server_error"), large, user="bob", at_s=MIDNIGHT_S + DAY_S, seconds=3.0
            ),
            request("4", attempt(None, model="mini"), user=None, at_s=MIDNIGHT_S + DAY_S),
            request("5", large, user="bob", outcome="stream_cut", at_s=MIDNIGHT_S + 2 * DAY_S - 0.001, seconds=60.0),
        )
        store.write(Batch("w", 1, records))
        yield store


def rows(answer: Json, *names: str) -> list[tuple[Any, ...]]:
    """Some columns."""
    return [tuple(row[name] for name in names) for row in answer["rows"]]


def test_by_user(store: Store) -> None:
    """Those who spent most first; requests of nobody are a row of their own; an attempt that was refused is no unknown."""
    answer = spend(store, Asking("user"))
    names = ("user", "requests", "attempts", "errors", "cost_usd", "estimated_usd", "unknown_cost", "mean_latency_s")
    assert [
        ("bob", 2, 3, 1, 18e-6, 0, 1, 3.0),
        ("ada", 2, 3, 0, 6.7e-8, 0.7e-8, 0, 1.0),
        (None, 1, 1, 0, 0, 0, 1, 1.0),
    ] == rows(answer, *names)
    assert (5, 7, 70, 140) == tuple(
        answer["total"][name] for name in ("requests", "attempts", "input_tokens", "output_tokens")
    )


def test_by_model_and_provider(store: Store) -> None:
    """Attempts are counted, with the requests that they were made for."""
    names = ("requests", "attempts", "errors", "cost_usd", "estimated_usd", "unknown_cost")
    assert [
        ("lab/large", 2, 2, 0, 18e-6, 0, 0),
        ("sim/mini", 3, 4, 0, 6.7e-8, 0.7e-8, 1),
        ("sim/chat", 1, 1, 1, 0, 0, 1),
    ] == rows(spend(store, Asking("model")), "model", *names)
    assert [("lab", 2, 2, 0, 18e-6, 0, 0), ("sim", 4, 5, 1, 6.7e-8, 0.7e-8, 2)] == rows(
        spend(store, Asking("provider")), "provider", *names
    )


def test_by_day_key_and_selector(store: Store) -> None:
    """Days are UTC's, in their order, from midnight to the last millisecond."""
    assert [("2026-11-18", 2), ("2026-11-19", 3)] == rows(spend(store, Asking("day")), "day", "requests")
    assert {(None, 4), ("k", 1)} == {*rows(spend(store, Asking("key")), "key", "requests")}
    assert [("tier:fast", 5)] == rows(spend(store, Asking("selector")), "selector", "requests")


def test_since_and_until(store: Store) -> None:
    """From the beginning of the one to before the other, of the total too."""
    answer = spend(store, Asking("day", MIDNIGHT_S + DAY_S, MIDNIGHT_S + 2 * DAY_S - 0.001))
    assert [("2026-11-19", 2)] == rows(answer, "day", "requests")
    assert (2, "2026-11-19T00:00:00Z", "2026-11-19T23:59:59.999000Z") == (
        answer["total"]["requests"],
        answer["since"],
        answer["until"],
    )
    assert [] == spend(store, Asking("model", until_s=MIDNIGHT_S))["rows"]
    assert 0 == spend(store, Asking("model", until_s=MIDNIGHT_S))["total"]["cost_usd"]


def test_arms(ledger_url: str) -> None:
    """By split and arm: rates and means with their intervals. A request of two splits counts in both."""
    with closing(Store(ledger_url)) as store:
        made = []
        for n in range(40):
            arm, inner = ("new", {"tier:inner": "x"}) if n % 4 == 0 else ("control", {})
            units = 10_000 + n * 100 if arm == "new" else 5_000
            outcome = "server_error" if n in (1, 2) else "ok"
            made.append(
                request(str(n), attempt(units), outcome=outcome, seconds=1 + n / 10, arms={"tier:trial": arm, **inner})
            )
        gone = request("gone", attempt(None, outcome="cancelled"), outcome="cancelled", arms={"tier:trial": "new"})
        store.write(Batch("w", 1, (*made, gone)))
        answer = spend(store, Asking("arm"))
    assert [
        ("tier:inner", "x", 10, 0, 1.0, 0),
        ("tier:trial", "control", 30, 2, 0.933333, 0),
        ("tier:trial", "new", 11, 0, 1.0, 1),
    ] == rows(answer, "split", "arm", "requests", "errors", "success_rate", "unknown_cost")
    _, control, new = answer["rows"]
    assert (0.7868, 0.9815) == pytest.approx((control["success_rate_low"], control["success_rate_high"]), abs=5e-5)
    assert (5e-7, 5e-7, 5e-7) == tuple(control[f"mean_cost_usd{end}"] for end in ("", "_low", "_high"))
    # 0, 4, … 36: the standard deviation is sqrt(1760 / 12 * 10 / 11) = 12.11 steps of 1e-8 USD.
    assert 1.18e-6 == new["mean_cost_usd"]
    assert 1.9599640 * 12.110601 / 10**0.5 * 1e-8 == pytest.approx(new["mean_cost_usd_high"] - 1.18e-6, abs=1e-12)
    assert 2.8 == new["mean_latency_s"]
    assert new["mean_latency_s_low"] < 2.8 < new["mean_latency_s_high"]


def test_an_arm_of_which_nothing_is_known(ledger_url: str) -> None:
    """Whose only caller left: no rate, no means."""
    with closing(Store(ledger_url)) as store:
        gone = request("1", attempt(None, outcome="cancelled"), outcome="cancelled", arms={"tier:trial": "new"})
        store.write(Batch("w", 1, (gone,)))
        (row,) = spend(store, Asking("arm"))["rows"]
    assert [None] * 3 == [row[name] for name in ("success_rate", "mean_cost_usd", "mean_latency_s_low")]


def test_many_rows(ledger_url: str) -> None:
    """A thousand are shown, and it is said that there are more; the total is of all."""
    with closing(Store(ledger_url)) as store:
        store.write(Batch("w", 1, tuple(request(str(n), attempt(n), user=f"u{n}") for n in range(1_001))))
        answer = spend(store, Asking("user"))
    assert (1_000, True, 1_001) == (len(answer["rows"]), answer["more"], answer["total"]["requests"])
    assert "u1000" == answer["rows"][0]["user"]


@settings(max_examples=25)
@given(
    costs=st.lists(
        st.tuples(st.sampled_from(("ada", "bob", None)), st.lists(st.integers(0, 10**12), min_size=1, max_size=4)),
        max_size=30,
    )
)
def test_all_ways_of_adding_up_agree(costs: list[tuple[str | None, list[int]]]) -> None:
    """By user, key, selector, model, provider, arm and day: to the last step of the grid."""
    with closing(Store("sqlite://")) as store:
        records = [
            request(
                str(n), *(attempt(one, model=f"m{one % 3}") for one in units), user=user, arms={"tier:t": f"a{n % 2}"}
            )
            for n, (user, units) in enumerate(costs)
        ]
        store.write(Batch("w", 1, tuple(records)))
        for by in BY:
            answer = spend(store, Asking(by))
            expected = sum(sum(units) for _, units in costs)
            assert expected == round(answer["total"]["cost_usd"] * 1e10)
            assert expected == sum(round(row["cost_usd"] * 1e10) for row in answer["rows"])


def test_csv(store: Store) -> None:
    """The same rows; small costs are written out; what a spreadsheet would run is text."""
    store.write(Batch("w", 2, (request("6", user="=cmd()"),)))
    found = list(csv.DictReader(io.StringIO(as_csv(spend(store, Asking("user"))))))
    assert {"bob": "0.000018", "ada": "0.000000067", "": "0", "'=cmd()": "0.00000005"} == {
        row["user"]: row["cost_usd"] for row in found
    }
    nothing = Asking("arm", until_s=0.0)
    assert as_csv(spend(store, nothing)).startswith("split,arm,requests,attempts")
    assert as_csv(spend(store, nothing._replace(by="day"))).startswith("day,requests,attempts")


@pytest.mark.parametrize(
    ("said", "at_s"),
    [
        (None, None),
        ("", None),
        ("2026-11-18", MIDNIGHT_S),
        ("2026-11-18T01:00", MIDNIGHT_S + 3600),
        ("2026-11-18T01:00:00Z", MIDNIGHT_S + 3600),
        ("2026-11-18T01:00:00+01:00", MIDNIGHT_S),
        ("2026-11-18T01:00:00 01:00", MIDNIGHT_S),
        ("7d", AT_S - 7 * DAY_S),
        ("36h", AT_S - 1.5 * DAY_S),
        ("30m", AT_S - 1800),
        ("999999d", 0.0),
        ("0001-01-01", 0.0),
        ("9999-12-31T23:59:59-23:00", 253_402_300_799.0),
    ],
)
def test_times(said: str | None, at_s: float | None) -> None:
    """Days and times in UTC, or so long ago."""
    assert Asking("user", at_s, at_s) == asking(None, said, said, AT_S)


def test_wrong_questions() -> None:
    """Each names the parameter and says what it may be."""
    with pytest.raises(BadChoice, match="by: has to be one of user, key, selector, model, provider, arm, day"):
        asking("colour", None, None, AT_S)
    for param, said in (("since", "yesterday"), ("until", "2026-13-01")):
        with pytest.raises(BadChoice, match=f"{param}: has to be a day"):
            asking("day", **{"since": None, "until": None, param: said}, now_s=AT_S)
