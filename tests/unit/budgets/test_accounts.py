"""The accounts of budgets: what is spent and leased never comes to more than the limit, and hardly anything lies idle."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.budgets.accounts import OVERTAKEN, Accounts, Ask, Exhausted, Granted, Waiting


def ask(writer: str, number: int, need: int, want: int = 0, kept: int = 0, limit: int = 100, waits: bool = True) -> Ask:
    return Ask(writer, number, "key:a", limit, kept, need, max(need, want), waits)


def test_far_from_the_end_a_lease_is_generous_and_near_it_exact() -> None:
    """A share of what is left for each who leases, as far as it is wanted; in the end what is needed."""
    accounts = Accounts()
    assert Granted(25, 100) == accounts.ask(ask("one", 1, 1, 1_000))
    assert Granted(9, 100) == accounts.ask(ask("two", 1, 1, 10))
    assert Granted(8, 100) == accounts.ask(ask("two", 2, 2, 1_000, kept=9))
    assert Granted(50, 100, scarce=True) == accounts.ask(ask("two", 3, 50, 1_000, kept=17))
    assert [("two", "key:a", 67), ("one", "key:a", 25)] == sorted(accounts.unwritten(), reverse=True)


def test_what_can_never_be_had_is_refused_and_what_may_come_is_waited_for() -> None:
    """Whoever needs more than is unspent is told what is left; whoever needs what others have leased stands in line."""
    accounts = Accounts()
    accounts.ask(ask("one", 1, 60))
    assert Exhausted(100) == accounts.ask(ask("two", 1, 101))
    waiting = accounts.ask(ask("two", 2, 50))
    assert isinstance(waiting, Waiting)
    accounts.settle("one", {"key:a": 45}, {})
    assert [] == accounts.serve(["key:a"])
    accounts.settle("one", {}, {"key:a": 15})
    assert [(waiting, Granted(50, 55, scarce=True))] == accounts.serve(["key:a"])
    other = accounts.ask(ask("one", 2, 40))
    accounts.settle("two", {"key:a": 20}, {})
    assert [(other, Exhausted(35))] == accounts.serve(["key:a"])


def test_who_does_not_want_to_wait_is_told_that_there_is_not_enough_now() -> None:
    """It has no place in line, and is told that others need it."""
    accounts = Accounts()
    accounts.ask(ask("one", 1, 60))
    assert Granted(0, 100, scarce=True) == accounts.ask(ask("two", 1, 50, waits=False))
    accounts.settle("one", {}, {"key:a": 60})
    assert [] == accounts.serve(["key:a"])


def test_a_smaller_need_overtakes_a_larger_one_so_many_times() -> None:
    """A large need does not hold up the small ones behind it, nor do those keep it from its turn for ever."""
    accounts = Accounts()
    accounts.ask(ask("holder", 1, 60))
    large = accounts.ask(ask("large", 1, 70))
    small = accounts.ask(ask("small", 1, 1))
    assert isinstance(large, Waiting)
    assert Granted(1, 100, scarce=True) == small
    for number in range(2, OVERTAKEN + 1):
        assert isinstance(accounts.ask(ask("small", number, 1)), Granted)
    assert isinstance(accounts.ask(ask("small", 99, 1)), Waiting)
    accounts.leave(large)
    assert ["small"] == [waiting.ask.writer for waiting, _ in accounts.serve(["key:a"])]


def test_an_answer_that_was_lost_is_handed_in_with_the_next_question() -> None:
    """Whoever asks says what it keeps: all else that it had leased is free, also what it never heard of."""
    accounts = Accounts()
    accounts.ask(ask("one", 1, 80))
    assert Granted(90, 100, scarce=True) == accounts.ask(ask("one", 2, 90))
    assert [90] == [row["leased"] for row in accounts.rows()]


def test_a_question_that_was_overtaken_has_no_effect() -> None:
    """An older one that arrives late takes nothing back of what a later one has granted."""
    accounts = Accounts()
    accounts.ask(ask("one", 2, 80))
    assert Granted(0, 0) == accounts.ask(ask("one", 1, 10))
    assert [80] == [row["leased"] for row in accounts.rows()]


def test_a_new_question_takes_the_place_of_the_last_one_in_line() -> None:
    """Nobody stands in line twice."""
    accounts = Accounts()
    accounts.ask(ask("one", 1, 80))
    accounts.ask(ask("two", 1, 30))
    second = accounts.ask(ask("two", 2, 40))
    accounts.settle("one", {}, {"key:a": 80})
    assert [(second, Granted(40, 100, scarce=True))] == accounts.serve(["key:a"])


def test_what_could_not_be_written_down_was_not_leased() -> None:
    """It is there for others."""
    accounts = Accounts()
    asked = ask("one", 1, 80)
    granted = accounts.ask(asked)
    assert isinstance(granted, Granted)
    accounts.undo(asked, granted)
    assert Granted(90, 100, scarce=True) == accounts.ask(ask("two", 1, 90))


def test_what_a_dead_writer_had_leased_is_spent() -> None:
    """Nobody else gets it; should the writer turn up after all, it may go on with what it has."""
    accounts = Accounts()
    accounts.ask(ask("one", 1, 60))
    accounts.settle("one", {"key:a": 10}, {})
    accounts.forfeit("one")
    assert [{"account": "key:a", "limit": 100, "spent": 60, "leased": 0, "left": 40}] == accounts.rows()
    assert Exhausted(40) == accounts.ask(ask("two", 1, 41))
    accounts.settle("one", {}, {"key:a": 50})
    assert Exhausted(40) == accounts.ask(ask("two", 2, 41))
    assert isinstance(accounts.ask(ask("one", 2, 90, limit=100)), Granted)


def test_an_answer_that_cost_more_than_was_leased_is_booked_as_it_is() -> None:
    """What it went beyond is spent, and is made up for out of the writer's next lease; others get no more for it."""
    accounts = Accounts()
    accounts.ask(ask("one", 1, 10))
    accounts.settle("one", {"key:a": 30}, {})
    assert [30] == [row["spent"] for row in accounts.rows()]
    assert Exhausted(70) == accounts.ask(ask("two", 1, 71))
    assert Granted(90, 70, scarce=True) == accounts.ask(ask("one", 2, 90, kept=-20))
    assert [70] == [row["leased"] for row in accounts.rows()]


def test_accounts_are_taken_over_from_the_disk() -> None:
    """What was spent and leased before holds."""
    accounts = Accounts()
    accounts.restore("key:a", 50, {"one": 20})
    assert "key:a" in accounts
    assert isinstance(accounts.ask(ask("two", 1, 31)), Waiting)
    assert Granted(30, 50, scarce=True) == accounts.ask(ask("three", 1, 30))


@dataclass
class Writer:
    """A coordinator as the accounts know it: what it holds, and what it has not told yet."""

    name: str
    held: int = 0
    reserved: int = 0
    untold: list[tuple[int, int]] = field(default_factory=list)
    line: Waiting | None = None
    dead: bool = False

    @property
    def kept(self) -> int:
        return self.held + sum(spent + returned for spent, returned in self.untold)


LIMIT = 1_000
_DOING = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["ask", "hand in", "lost", "reserve", "settle", "return", "tell", "leave", "die"]),
    st.integers(1, 400),
)


@given(st.lists(_DOING, max_size=120))
def test_nothing_ever_goes_beyond_the_limit(doings: list[tuple[int, str, int]]) -> None:
    """Whatever is asked, lost, settled and told in whatever order, and whoever dies: what is really spent and what may still
    be spent of leases never comes to more than the limit; nor does what the accounts say."""
    accounts = Accounts()
    writers = [Writer("w0"), Writer("w1"), Writer("w2")]
    really_spent = 0

    def take(answered: list[tuple[Waiting, Granted | Exhausted]]) -> None:
        for waiting, answer in answered:
            (writer,) = [one for one in writers if one.name == waiting.ask.writer]
            if writer.line is waiting and isinstance(answer, Granted):
                writer.held += answer.units
            writer.line = None if writer.line is waiting else writer.line

    for number, (which, doing, units) in enumerate(doings, 1):
        writer = writers[which]
        if writer.dead:
            continue
        match doing:
            case "ask" | "hand in" | "lost" if writer.line is None:
                if doing == "hand in":
                    writer.held = writer.reserved
                asked = Ask(writer.name, number, "key:a", LIMIT, writer.kept, units, units * 3, doing == "hand in")
                answer = accounts.ask(asked)
                if isinstance(answer, Waiting):
                    writer.line = answer
                elif isinstance(answer, Granted) and doing != "lost":
                    writer.held += answer.units
                take(accounts.serve(["key:a"]))
            case "reserve" if writer.held - writer.reserved >= units:
                writer.reserved += units
            case "settle" if writer.reserved:
                cost = min(units, writer.reserved)
                writer.reserved -= cost
                writer.held -= cost
                writer.untold.append((cost, 0))
                really_spent += cost
            case "return" if writer.held > writer.reserved:
                given_back = min(units, writer.held - writer.reserved)
                writer.held -= given_back
                writer.untold.append((0, given_back))
            case "tell" if writer.untold:
                spent, returned = writer.untold.pop(0)
                accounts.settle(writer.name, {"key:a": spent}, {"key:a": returned})
                take(accounts.serve(["key:a"]))
            case "leave" if writer.line is not None:
                accounts.leave(writer.line)
                writer.line = None
                take(accounts.serve(["key:a"]))
            case "die":
                writer.dead = True
                accounts.forfeit(writer.name)
                take(accounts.serve(["key:a"]) if "key:a" in accounts else [])
        assert LIMIT >= really_spent + sum(one.held for one in writers if not one.dead)
        assert all(LIMIT >= row["spent"] + row["leased"] for row in accounts.rows())
