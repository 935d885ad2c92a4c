"""What a caller may use, by the patterns of its key."""

from __future__ import annotations

import pytest

from orchestrator.callers import Caller


@pytest.mark.parametrize(
    ("pattern", "fits", "not_so"),
    [
        ("*", ("a/b", "tier:x", ""), ()),
        ("tier:*", ("tier:x", "tier:"), ("a/tier:x", "Tier:x")),
        ("openai/*", ("openai/gpt-4o", "openai/a/b"), ("openai", "azure/openai/x")),
        ("*/gpt-4o", ("openai/gpt-4o", "a/b/gpt-4o"), ("openai/gpt-4o-mini", "gpt-4o")),
        ("a/b", ("a/b",), ("a/b2", "a/", "xa/b")),
    ],
)
def test_patterns(pattern: str, fits: tuple[str, ...], not_so: tuple[str, ...]) -> None:
    """A star at either end stands for anything, nothing too; without one, the name has to be the same."""
    caller = Caller("k", models=("no/such", pattern))
    assert [*fits] == [name for name in (*fits, *not_so) if caller.may_use(name)]


def test_a_key_without_models() -> None:
    """May use none."""
    assert not Caller("k", models=()).may_use("a/b")


def test_experiments() -> None:
    """Are for those whose they are, and for admins; nobody is the user None."""
    callers = (Caller("j", "john"), Caller("e", "eve"), Caller("n"), Caller("a", admin=True))
    assert [True, False, False, True] == [caller.may_use_experiments_of("john") for caller in callers]
