"""Kept answers, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cache.answers import DEAD_S, LARGEST_SHARE, LONGEST_S, OVERHEAD_BYTES, Answers, Looked

MINE, BUSY = Looked(yours=True), Looked()


def kept(answers: Answers, key: bytes, now_s: float = 0.0, ttl_s: float = 1e9) -> bytes | None:
    """What is there, without leaving a claim."""
    looked = answers.look(key, "reader", ttl_s, now_s)
    if looked.yours:
        answers.give(key, "reader", None, 0, now_s)
    return looked.value


def test_an_answer_is_kept_until_its_time_is_over() -> None:
    """Neither older than whoever gave it allows, nor than whoever looks."""
    answers = Answers(1_000_000)
    assert MINE == answers.look(b"k", "a", 60, 0)
    answers.give(b"k", "a", b"yes", 60, 0)
    assert Looked(b"yes") == answers.look(b"k", "b", 60, 59.9)
    assert MINE == answers.look(b"k", "b", 10, 10), "too old for this one"
    assert Looked(b"yes") == answers.look(b"k", "c", 60, 10), "and good for another"
    assert MINE == answers.look(b"k", "b", 100, 60)
    assert (0, 0) == (len(answers), answers.size_bytes), "what nobody may have any more is gone"


def test_one_makes_it_and_the_others_wait() -> None:
    """Until it is given, or its owner has nothing to give; a claim may be taken again by its owner."""
    answers = Answers(1_000_000)
    assert [MINE, MINE, BUSY] == [answers.look(b"k", owner, 60, 0) for owner in "aab"]
    answers.give(b"k", "b", None, 60, 1)
    assert answers.is_claimed(b"k"), "only its owner gives it up"
    answers.give(b"k", "a", None, 60, 1)
    assert [MINE, BUSY] == [answers.look(b"k", owner, 60, 1) for owner in "ba"]
    answers.give(b"k", "b", b"yes", 60, 2)
    assert Looked(b"yes") == answers.look(b"k", "a", 60, 2)
    assert 0 == answers.claims


def test_an_owner_that_is_silent_has_lost_its_claim() -> None:
    """One that gives signs of life keeps it, but not for ever; what it gives later is an answer all the same."""
    answers = Answers(1_000_000)
    answers.look(b"k", "dead", 60, 0)
    assert BUSY == answers.look(b"k", "b", 60, DEAD_S - 0.1)
    assert MINE == answers.look(b"k", "b", 60, DEAD_S)
    answers.give(b"k", "dead", b"late", 60, DEAD_S)
    assert answers.is_claimed(b"k")
    assert Looked(b"late") == answers.look(b"k", "c", 60, DEAD_S)
    alive = Answers(1_000_000)
    alive.look(b"k", "a", 60, 0)
    for now_s in range(0, int(LONGEST_S), 4):
        alive.beat({"a"}, now_s)
        assert BUSY == alive.look(b"k", "b", 60, now_s)
    alive.beat({"a"}, LONGEST_S)
    assert 0 == alive.claims


def test_claims_of_the_silent_are_let_go_of() -> None:
    """Somebody else's sign of life is enough for it: nothing piles up."""
    answers = Answers(1_000_000)
    for key in range(100):
        answers.look(b"%d" % key, "dead", 60, 0)
    answers.beat({"other"}, DEAD_S)
    assert 0 == answers.claims


def test_the_least_recently_used_goes_first() -> None:
    """Where there is no room; a look counts as use."""
    size = 1 + 1 + OVERHEAD_BYTES
    answers = Answers(size * 20 + 10)
    for key in range(20):
        answers.give(b"%c" % key, "a", b"x", 60, 0)
    assert b"x" == kept(answers, b"\x00")
    answers.give(b"new", "a", b"x", 60, 0)
    assert [b"x", None, b"x", b"x"] == [kept(answers, key) for key in (b"\x00", b"\x01", b"\x02", b"new")]


def test_a_huge_answer_drives_nobody_out() -> None:
    """One over a tenth of all is not kept, and what it replaces is not either."""
    answers = Answers(100_000)
    answers.give(b"k", "a", b"old", 60, 0)
    answers.give(b"other", "a", b"x", 60, 0)
    largest = int(100_000 * LARGEST_SHARE) - OVERHEAD_BYTES - 1
    answers.give(b"k", "a", b"y" * (largest + 1), 60, 1)
    assert [None, b"x"] == [kept(answers, b"k", 1), kept(answers, b"other", 1)]
    answers.give(b"k", "a", b"y" * largest, 60, 1)
    assert b"y" * largest == kept(answers, b"k", 1)


def test_a_new_bound_is_kept_at_once() -> None:
    """Less room: what is too much goes. None: nothing is kept."""
    answers = Answers(1_000_000)
    for key in range(100):
        answers.give(b"%c" % key, "a", b"x", 60, 0)
    answers.bound(10_000)
    assert 10_000 // (2 + OVERHEAD_BYTES) == len(answers)
    answers.bound(0)
    answers.give(b"k", "a", b"x", 60, 0)
    assert (0, 0) == (len(answers), answers.size_bytes)


def test_no_time_is_no_answer() -> None:
    """What may be kept for no time is not kept."""
    answers = Answers(1_000_000)
    answers.give(b"k", "a", b"x", 0, 0)
    assert 0 == len(answers)


@dataclass
class Given:
    at_s: float
    ttl_s: float
    value: bytes


STEPS = st.tuples(
    st.integers(0, 5),  # key
    st.sampled_from(["look", "give", "nothing", "bound", "beat"]),
    st.sampled_from("abc"),  # owner
    st.floats(0, 20),  # ttl
    st.integers(0, 3_000),  # bytes, or the bound in tens
    st.floats(0, 4),  # time until then
)


@given(st.lists(STEPS, max_size=80))
def test_whatever_happens(steps: list[tuple[int, str, str, float, int, float]]) -> None:
    """Never more bytes than may be, never an answer of another key or one that is too old, never two who make one."""
    bound = 20_000
    answers, now_s = Answers(bound), 0.0
    last: dict[int, Given] = {}
    makers: dict[int, tuple[str, float]] = {}
    for count, (key, what, owner, ttl_s, size, pause_s) in enumerate(steps):
        now_s += pause_s
        if what == "look":
            looked = answers.look(b"%d" % key, owner, ttl_s, now_s)
            if looked.value is not None:
                entry = last[key]
                assert entry.value == looked.value
                assert now_s - entry.at_s < min(ttl_s, entry.ttl_s)
            elif looked.yours:
                maker, heard_s = makers.get(key, (owner, now_s))
                assert maker == owner or now_s - heard_s >= DEAD_S
                makers[key] = owner, now_s
        elif what in ("give", "nothing"):
            value = b"%d:%d:" % (key, count) + b"x" * size if what == "give" else None
            answers.give(b"%d" % key, owner, value, ttl_s, now_s)
            if value is not None:
                last[key] = Given(now_s, ttl_s, value)
            if key in makers and makers[key][0] == owner:
                del makers[key]
        elif what == "beat":
            answers.beat({owner}, now_s)
            makers = {k: (o, now_s if o == owner else at_s) for k, (o, at_s) in makers.items()}
        else:
            bound = size * 10
            answers.bound(bound)
        assert answers.size_bytes <= bound
        assert (0 == len(answers)) == (0 == answers.size_bytes)
