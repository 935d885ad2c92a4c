"""How many replicas there are, where calls go, and what is said while there is none: in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.settings import Hosted, Replicas
from orchestrator.hosting.fleet import GROW_S, Fleet
from orchestrator.hosting.status import Demand, Status
from orchestrator.resilience.admission import Upstream
from orchestrator.types import FailureKind


def fleet(low: int, high: int, gpus: float = 0.0) -> Fleet:
    replicas = Replicas(low, high, target=10, idle_s=100.0)
    return Fleet("gpu", Hosted(command=("server",), replicas=replicas, cold_start_s=60.0, gpus=gpus), 0.0)


def up(number: int) -> Status:
    return Status("up", f"http://n{number}/v1", f"k{number}", changes=1)


def numbers(one: Fleet) -> list[int]:
    return sorted(number for number, replica in one.replicas.items() if not replica.leaving)


def test_as_many_as_are_always_wanted_are_started_at_once() -> None:
    """Two whatever is asked; calls go to those that are up."""
    one = fleet(2, 2)
    assert (0, 1) == one.step(Demand(), 0.0)
    assert () == one.step(Demand(), 1.0)
    assert () == one.upstreams()
    one.told(1, up(1))
    assert (Upstream("k1", "http://n1/v1", 1),) == one.upstreams()
    one.told(0, up(0))
    assert [0, 1] == [upstream.replica for upstream in one.upstreams()]
    one.told(1, up(1)._replace(state="restarting"))
    assert [0] == [upstream.replica for upstream in one.upstreams()]


def test_from_none_a_single_call_starts_one_at_once() -> None:
    """Also one that was refused, or is over already: it has come."""
    one = fleet(0, 3)
    assert () == one.step(Demand(), 0.0)
    assert (0,) == one.step(Demand(0, 1), 1.0)
    other = fleet(0, 3)
    assert (0,) == other.step(Demand(1), 0.0)


def test_more_are_started_when_more_have_been_needed_for_a_while() -> None:
    """A moment's crowd starts nobody; up to the most that there may be."""
    one = fleet(1, 3)
    assert (0,) == one.step(Demand(), 0.0)
    one.told(0, up(0))
    assert () == one.step(Demand(11), 10.0)
    assert () == one.step(Demand(9), 11.0)
    assert () == one.step(Demand(11), 12.0)
    assert () == one.step(Demand(11), 12.0 + GROW_S - 0.1)
    assert (1,) == one.step(Demand(11), 12.0 + GROW_S)
    assert () == one.step(Demand(1000), 20.0)
    assert (2,) == one.step(Demand(1000), 30.0)
    assert () == one.step(Demand(1000), 40.0)


def test_fewer_when_fewer_have_done_for_long_enough() -> None:
    """Down to the most that was needed within `idle_s`, the highest first, and to none where that is allowed."""
    one = fleet(0, 3)
    one.step(Demand(25), 0.0)
    for number in range(3):
        one.told(number, up(number))
    one.step(Demand(15), 50.0)
    assert () == one.step(Demand(), 99.0)
    assert [0, 1, 2] == numbers(one)
    one.step(Demand(), 101.0)
    assert [0, 1] == numbers(one)
    one.step(Demand(), 151.0)
    assert [] == numbers(one)
    assert () == one.upstreams()


def test_one_that_goes_ends_what_it_has_in_flight() -> None:
    """It gets no more calls, and is given up when it has none; needed again meanwhile, it stays."""
    one = fleet(0, 1)
    one.step(Demand(1), 0.0)
    one.told(0, up(0))
    one.step(Demand(), 1.0)
    one.step(Demand(), 200.0)
    assert {0: "http://n0/v1"} == one.leaving()
    assert () == one.gone({0: 2})
    assert () == one.step(Demand(3, 1), 201.0)
    assert [0] == [upstream.replica for upstream in one.upstreams()]
    one.step(Demand(0, 1), 202.0)
    one.step(Demand(0, 1), 400.0)
    assert (0,) == one.gone({0: 0})
    assert {} == one.replicas


def test_one_that_failed_goes_before_one_that_is_up() -> None:
    """Whatever their numbers."""
    one = fleet(0, 2)
    one.step(Demand(20), 0.0)
    one.told(0, Status("failed", reason="ended by itself"))
    one.told(1, up(1))
    one.step(Demand(5), 1.0)
    one.step(Demand(5), 200.0)
    assert [1] == numbers(one)


def test_other_bounds_are_gone_by() -> None:
    """A reload changes how many there are, and restarts none."""
    one = fleet(1, 1)
    one.step(Demand(), 0.0)
    one.configure(Hosted(command=("server",), replicas=Replicas(3, 3)))
    assert (1, 2) == one.step(Demand(), 1.0)


def test_fewer_that_there_may_be_are_fewer_at_once() -> None:
    """Whatever was needed while there might be more: their GPUs are wanted elsewhere, and not in `idle_s`."""
    one = fleet(0, 3)
    one.step(Demand(25), 0.0)
    one.configure(Hosted(command=("server",), replicas=Replicas(0, 1, target=10, idle_s=100.0)))
    assert () == one.step(Demand(25), 1.0)
    assert [0] == numbers(one)


def test_a_call_is_told_what_it_can_count_on() -> None:
    """While it is started, for the first time or again: to wait; when it does not come up: why, in its own words, at once."""
    one = fleet(0, 1)
    assert (FailureKind.STARTING, 60.0) == (one.absence(0.0).failure.kind, one.absence(0.0).wait_s)
    assert "" == one.problem(0.0)
    one.step(Demand(1), 0.0)
    one.told(0, Status("starting"))
    assert "the model is being started" == one.problem(0.0)
    one.told(0, Status("failed", reason="ended by itself: ValueError: no such model", again_s=30.0))
    failure, wait_s = one.absence(1.0)
    assert (FailureKind.DOWN, 0.0, 30.0) == (failure.kind, wait_s, failure.retry_after_s)
    assert "the model does not come up: the server ended by itself: ValueError: no such model" == failure.message
    assert failure.message == one.problem(1.0)
    one.told(0, up(0))
    assert "" == one.problem(2.0)
    one.told(0, Status("restarting", reason="was killed"))
    assert FailureKind.STARTING is one.absence(3.0).failure.kind


def test_one_that_no_node_has_room_for() -> None:
    """Waited for as long as a cold start may take: a node may be on its way. Then it is said."""
    one = fleet(1, 1, gpus=4.0)
    one.step(Demand(), 0.0)
    assert FailureKind.STARTING is one.absence(59.0).failure.kind
    failure = one.absence(61.0).failure
    assert "the model does not come up: no node has 4 free GPUs" == failure.message
    (shown,) = one.shown()
    assert ("placing", "no node has 4 free GPUs") == (shown["state"], shown["reason"])


def test_what_is_shown_holds_no_key() -> None:
    """State, node, reason, restarts, load."""
    one = fleet(1, 1)
    one.step(Demand(), 0.0)
    one.told(0, up(0)._replace(node="n", restarts=2, ending="hung"))
    (shown,) = one.shown()
    assert "k0" not in str(shown)
    assert (0, "up", "n", None, "hung", 2) == tuple(
        shown[name] for name in ("replica", "state", "node", "reason", "ending", "restarts")
    )
    one.leave()
    assert "leaving" == one.shown()[0]["state"]


def test_news_of_one_that_was_given_up_are_none() -> None:
    """They may have been on their way."""
    one = fleet(0, 1)
    one.told(0, up(0))
    assert () == one.upstreams()


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 60)), max_size=40), st.integers(0, 2), st.integers(1, 3))
def test_the_bounds_hold(looks: list[tuple[float, int]], low: int, more: int) -> None:
    """Whatever is asked, whenever: never more than at most, never fewer than at least."""
    one = fleet(low, low + more)
    now_s = 0.0
    for after_s, calls in looks:
        now_s += after_s
        one.step(Demand(calls), now_s)
        assert low <= len(numbers(one)) <= low + more
        one.gone({})
