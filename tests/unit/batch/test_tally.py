"""How a run is told, on a terminal and in a log."""

from __future__ import annotations

import io

from orchestrator.batch.tally import Progress, Rate, Tally, told


def tally() -> Tally:
    one = Tally(100)
    for _ in range(24):
        one.add("a", "ok", 0.01, here=True)
    one.add("b", "timeout", None, here=False)
    return one


def test_one_line() -> None:
    """What is done, how fast, what failed, what it cost, how long it still takes."""
    one = tally()
    assert "n 25/100 25%, 2.5/s, 1 failed, 0.24 USD and 1 of unknown cost, 0:30 left" == told("n", one, 2.5)
    assert (24, {("b", "timeout"): 1}) == (one.here, dict(one.failures))
    assert "n 25/100 25%, 0.0/s, 1 failed, 0.24 USD and 1 of unknown cost, ? left" == told("n", one, 0)
    assert "n 0/7200 0%, 1.0/s, 0 failed, 0 USD, 2:00:00 left" == told("n", Tally(7200), 1.0)
    unpriced = Tally(1)
    unpriced.add("a", "ok", None, here=True)
    assert "n 1/1 100%, 1.0/s, 0 failed" == told("n", unpriced, 1.0)
    assert "n 0/0 100%, 0.0/s, 0 failed, 0 USD" == told("n", Tally(0), 0)


def test_the_rate_is_that_of_late() -> None:
    """What was long ago counts for little."""
    rate = Rate(0.0)
    rate.update(0.0, 5)
    for now_s in range(1, 61):
        rate.update(now_s, now_s * 10)
    assert round(rate.per_s) == 10
    for now_s in range(61, 181):
        rate.update(now_s, 600)
    assert rate.per_s < 0.2


def test_a_log_has_a_line_a_minute() -> None:
    """And a last one."""
    now = [0.0]
    out = io.StringIO()
    progress = Progress("n", Tally(4), out, lambda: now[0])
    for second in range(130):
        now[0] = float(second)
        progress.look()
    progress.tally.add("a", "ok", 0.0, here=True)
    progress.end()
    lines = out.getvalue().splitlines()
    assert ["n 0/4 0%, 0.0/s", "n 0/4 0%, 0.0/s", "n 1/4 25%, 0.0/s"] == [line.partition(", 0 f")[0] for line in lines]


def test_a_terminal_has_a_bar() -> None:
    """In one line that is drawn over."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    out = Terminal()
    one = Tally(2)
    progress = Progress("n", one, out, lambda: now[0])
    progress.look()
    one.add("a", "ok", 0.0, here=True)
    now[0] = 1.0
    progress.look()
    progress.end()
    assert f"\x1b[2K[{'█' * 12}{' ' * 12}] n 1/2 50%, 1.0/s, 0 failed, 0 USD, 0:01 left\r" in out.getvalue()
    assert out.getvalue().endswith("left\n")
    assert "[" + " " * 24 not in out.getvalue()
    nothing = Terminal()
    Progress("n", Tally(0), nothing, lambda: now[0]).end()
    assert f"[{'█' * 24}] n 0/0 100%" in nothing.getvalue()
