"""The third driver: a plan in virtual time, with upstreams that are scripts. Hours pass in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.strategies.plan import Call, Event, Happening, Plan, Step, Verdict
from orchestrator.types import Failure, FailureKind, Finish, Opened, Reply, Sent


@dataclass(frozen=True)
class Script:
    """What one candidate does, by seconds after it was called; the last happening ends the call."""

    happenings: tuple[tuple[float, Happening], ...]


def answers(after_s: float, model: str = "m") -> Script:
    """A whole answer after `after_s`."""
    return Script(((after_s, Reply({"model": model}, model)),))


def streams(first_s: float, end_s: float, model: str = "m") -> Script:
    """A first token, then a clean end."""
    return Script(((first_s, Opened(model, first_s)), (end_s, Finish({}, model))))


def cut(first_s: float, end_s: float) -> Script:
    """A first token, then a cut."""
    return Script(((first_s, Opened("m", first_s)), (end_s, Failure(FailureKind.CUT, "cut"))))


def fails(after_s: float, kind: FailureKind = FailureKind.SERVER_ERROR, **fields: float) -> Script:
    """A failure after `after_s`."""
    return Script(((after_s, Failure(kind, kind.value, **fields)),))  # type: ignore[arg-type]


@dataclass
class Ran:
    """What a plan did."""

    verdict: Verdict
    seconds: float
    started: list[tuple[float, Call]] = field(default_factory=list)
    stopped: list[tuple[float, int]] = field(default_factory=list)
    commits: list[tuple[float, int]] = field(default_factory=list)
    left: tuple[int, ...] = ()
    """Calls that were running when the plan returned: a driver cancels these."""

    @property
    def asked(self) -> list[int]:
        """The candidates in the order they were called."""
        return [call.candidate for _, call in self.started]


SENT = Sent("begun", {"id": "c1"})


def run(plan: Plan, scripts: Sequence[Script | Sequence[Script]], sent: Sent | None = SENT) -> Ran:
    """Runs a plan to its verdict. A candidate with several scripts plays them call by call.

    `sent` is what a caller has whose stream is cut; None: nobody can go on with it.
    """
    played = [0] * len(scripts)
    agenda: list[tuple[float, int, int, Happening]] = []
    live: dict[int, Call] = {}
    ran = Ran(Verdict(Failure(FailureKind.INTERNAL, "")), 0.0)
    now_s, order = 0.0, 0

    def apply(step: Step) -> None:
        nonlocal order
        for id_ in step.stop:
            assert id_ in live, "a plan stops live calls only"
            del live[id_]
            ran.stopped.append((now_s, id_))
        for call in step.start:
            assert call.id not in live, "a call has an identity of its own"
            script = scripts[call.candidate]
            if not isinstance(script, Script):
                script = script[played[call.candidate]]
            played[call.candidate] += 1
            live[call.id] = call
            ran.started.append((now_s, call))
            for after_s, happening in script.happenings:
                order += 1
                agenda.append((now_s + after_s, order, call.id, happening))
        if step.commit is not None:
            assert set(live) == {step.commit}, "a step that commits stops all others"
            ran.commits.append((now_s, step.commit))

    try:
        step = next(plan)
        while True:
            apply(step)
            agenda[:] = sorted(item for item in agenda if item[2] in live)
            if agenda and agenda[0][0] <= step.wake_at_s:
                now_s, _, id_, happening = agenda.pop(0)
                if not isinstance(happening, Opened):
                    del live[id_]
                served = bool(ran.commits) and ran.commits[-1][1] == id_ and isinstance(happening, Failure)
                step = plan.send(Event(now_s, id_, happening, sent if served else None))
            else:
                assert step.wake_at_s < float("inf"), "the plan waits for something that never comes"
                now_s = max(now_s, step.wake_at_s)
                step = plan.send(Event(now_s))
    except StopIteration as end:
        ran.verdict, ran.seconds, ran.left = end.value, now_s, tuple(live)
    return ran
