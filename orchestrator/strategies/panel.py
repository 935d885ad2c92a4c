"""Consensus and cascade: several models answer, the answers are put to the vote, and no call is made or awaited in vain.

Consensus asks all at once; cascade asks as many as have to agree, and one more only while they do not. Each answer that comes
is read and counted at once, and the moment the result cannot change (`orchestrator.consensus.ballot`), what still runs is
stopped. Where no agreement can come about any more, one model is asked instead (`escalate`), once.

Members of the route are the models, then the judge and the model that is escalated to, as far as there are any. All are asked
for whole answers: nothing is streamed that might be withdrawn.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from orchestrator.config.settings import Strategy
from orchestrator.consensus.ballot import Result
from orchestrator.consensus.election import Ballot, Cast, Elected, election
from orchestrator.strategies.ladder import all_failed
from orchestrator.strategies.plan import Call, Event, Plan, Step, Verdict
from orchestrator.types import Failure, FailureKind, Json, Reply, Request

SHOWN_CHARACTERS = 1_000
"""What is compared is shown up to here, of an object as JSON."""


class Panel:
    """A vote among all at once; the others change what is asked when, or who decides."""

    def __init__(self, names: Sequence[str], request: Request, strategy: Strategy) -> None:
        models = len(names) - (strategy.judge is not None) - (strategy.escalate is not None)
        self._names = names
        """The members, as messages and weights call them."""
        self._request = request._replace(stream=False)
        self._strategy = strategy
        self._judge = models
        """Its place among the members, if there is one."""
        self._voters = [member for member in range(models) for _ in range(strategy.samples)]
        """By position: the member that is asked."""
        weights = strategy.weights if strategy.method == "weighted" else {}
        self._weights = [weights.get(names[member], 1.0) for member in self._voters]
        wanted = request.body.get("response_format")
        structured = isinstance(wanted, dict) and wanted.get("type") in ("json_schema", "json_object")
        self._election = election(strategy.extract or ("fields" if structured else "text"))
        self._calls = 0
        self._now_s = 0.0
        self._began_s: dict[int, float] = {}
        self._running: dict[int, int] = {}
        """Call -> position."""
        self._replies: dict[int, tuple[int, Reply]] = {}
        """Position -> call, and its answer."""
        self._cast: dict[int, Cast] = {}
        """Position -> vote; an answer in which nothing can be compared has none."""
        self._votes: dict[int, Json] = {}
        """Position -> what the report shows of it."""
        self._failures: dict[int, Failure] = {}
        """By member."""
        self._barred: Failure | None = None
        self._around = {FailureKind.CONTENT_POLICY} if strategy.content_filter == "fallback" else set()
        """Failures after which others are asked although they forbid it."""
        self._lost: set[int] = set()

    @property
    def _quorum(self) -> float:
        """How much weight has to be for one answer: more than half, unless it is said."""
        total = math.fsum(self._weights)
        return self._strategy.quorum or math.nextafter(total / 2, math.inf)

    def run(self) -> Plan:
        """The plan."""
        if self._request.operation != "chat":
            what = f"'{self._strategy.name}' takes a vote on answers of a chat; ask one model for {self._request.operation}"
            return Verdict(Failure(FailureKind.UNSUPPORTED, what))
        start = [self._begin(position) for position in self._first()]
        result: Result | None = None
        while result is None:
            event = yield Step(tuple(start))
            start = self._hear(event)
            if not start and (result := self._result()) is None:
                start = [self._begin(position) for position in self._more()]
        return (yield from self._conclude(result))

    def _first(self) -> Sequence[int]:
        """The positions that are asked to begin with."""
        return range(len(self._voters))

    def _more(self) -> Sequence[int]:
        """The positions that have to be asked now, where nothing is settled."""
        return ()

    def _result(self) -> Result | None:
        """What it comes to, once that is certain; never a disagreement of nobody while somebody may still answer."""
        result = self._settled()
        return None if result == "disagreed" and self._running and not self._replies else result

    def _settled(self) -> Result | None:
        best = self._strategy.on_disagreement == "best"
        return self._election.result(self._ballots(), self._outstanding(), self._quorum, best=best)

    def _outstanding(self) -> dict[int, float]:
        """Who may still vote, and with what weight."""
        return {position: self._weights[position] for position in self._running.values()}

    def _ballots(self) -> list[Cast]:
        return [self._cast[position] for position in sorted(self._cast)]

    def _call(self, member: int, request: Request) -> Call:
        call = Call(self._calls, member, request)
        self._calls += 1
        self._began_s[call.id] = self._now_s
        return call

    def _begin(self, position: int) -> Call:
        call = self._call(self._voters[position], self._request)
        self._running[call.id] = position
        return call

    def _hear(self, event: Event) -> list[Call]:
        """Takes what came of a call. Returns the one that is made again, where its pool was lost."""
        assert event.call is not None
        self._now_s = event.at_s
        position = self._running.pop(event.call)
        member, outcome = self._voters[position], event.outcome
        vote: Json = {"model": self._names[member], "answer": None}
        if isinstance(outcome, Reply):
            self._replies[position] = event.call, outcome
            if (ballot := self._election.read(outcome.body)) is not None:
                self._cast[position] = Cast(position, self._weights[position], ballot)
                vote["answer"] = _shown(ballot)
        else:
            assert isinstance(outcome, Failure), "a whole answer was asked for"
            if outcome.kind is FailureKind.POOL_LOST and position not in self._lost:
                self._lost.add(position)
                return [self._begin(position)]
            self._failures[member] = outcome
            if not outcome.kind.traits.try_other and outcome.kind not in self._around:
                self._barred = outcome
            vote["outcome"] = outcome.kind.value
        if self._strategy.method == "weighted":
            vote["weight"] = self._weights[position]
        self._votes[position] = vote | {"latency_s": round(event.at_s - self._began_s[event.call], 6)}
        return []

    def _conclude(self, result: Result) -> Plan:
        """What is made of the votes; what still runs is stopped with the next call, or when the plan ends."""
        if result == "agreed":
            return self._elected(self._election.elect(self._ballots()))
        if self._barred is not None and not self._replies:
            return Verdict(self._barred)
        more: Json = {}
        if self._strategy.escalate is not None and self._strategy.on_disagreement == "escalate":
            verdict = yield from self._escalated()
            if isinstance(verdict.outcome, Reply):
                return verdict
            assert isinstance(verdict.outcome, Failure)
            more = {"escalated": True, "escalation_failed": verdict.outcome.message}
        if not self._replies:
            return Verdict(all_failed(self._names, self._failures), consensus=self._report(None, **more))
        if self._strategy.on_disagreement == "error":
            what = f"no agreement: {len(self._cast)} of {len(self._voters)} answers could be compared, and too few are alike"
            return Verdict(Failure(FailureKind.NO_CONSENSUS, what), consensus=self._report(None))
        if self._cast:
            return self._elected(self._election.elect(self._ballots()), **more)
        call, reply = self._replies[min(self._replies)]
        return Verdict(reply, call, consensus=self._report(None, **more))

    def _escalated(self) -> Plan:
        """Asks the model that is escalated to: its answer, or its failure."""
        call, outcome = yield from self._ask(len(self._names) - 1, self._request)
        if isinstance(outcome, Failure):
            return Verdict(outcome)
        return Verdict(outcome, call, consensus=self._report(self._election.read(outcome.body), escalated=True))

    def _ask(self, member: int, request: Request) -> Generator[Step, Event, tuple[int, Reply | Failure]]:
        """Asks one who has no vote; once more, where its pool was lost. What still runs is of no more use, and stopped."""
        stop = self._stopped()
        call = self._call(member, request)
        event = yield Step((call,), stop)
        self._now_s = event.at_s
        if isinstance(event.outcome, Failure) and event.outcome.kind is FailureKind.POOL_LOST:
            call = self._call(member, request)
            event = yield Step((call,))
            self._now_s = event.at_s
        outcome = event.outcome
        assert isinstance(outcome, Reply | Failure)
        if isinstance(outcome, Failure):
            self._failures[member] = outcome
        return call.id, outcome

    def _stopped(self) -> tuple[int, ...]:
        """The calls that run, which are to be stopped."""
        stop = tuple(self._running)
        self._running.clear()
        return stop

    def _elected(self, elected: Elected, **more: Any) -> Verdict:
        call, reply = self._replies[elected.position]
        if elected.content is not None:
            reply = _with_content(reply, elected.content)
        return Verdict(reply, call, consensus=self._report(elected.ballot, **more))

    def _report(self, ballot: Ballot | None, **more: Any) -> Json:
        """The `consensus` part of contract §3."""
        return {
            "method": self._strategy.method if self._strategy.name == "consensus" else self._strategy.name,
            "answer": None if ballot is None else _shown(ballot),
            "agreement": round(self._election.agreement(self._ballots(), ballot), 4),
            "votes": [self._votes[position] for position in sorted(self._votes)],
            "escalated": False,
            # Calls of the panel that nobody had to wait for, or that were never made.
            "calls_saved": len(self._voters) - len(self._votes),
            **more,
        }


def _shown(ballot: Ballot) -> Any:
    said = ballot.shown
    text = said if isinstance(said, str) else orjson.dumps(said).decode()
    return said if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _with_content(reply: Reply, content: str) -> Reply:
    """An answer with another text, and whatever else it had."""
    choice, *others = reply.body["choices"]
    message = {**choice["message"], "content": content}
    return replace(reply, body={**reply.body, "choices": [{**choice, "message": message}, *others]})


class Cascade(Panel):
    """The first models, as many as have to agree; the next ones only while they do not."""

    def __init__(self, names: Sequence[str], request: Request, strategy: Strategy) -> None:
        super().__init__(names, request, strategy)
        self._asked = 0

    def _first(self) -> Sequence[int]:
        return self._take(self._strategy.agree)

    def _take(self, count: int) -> range:
        first, self._asked = self._asked, min(len(self._voters), self._asked + count)
        return range(first, self._asked)

    def _missing(self) -> int:
        """How many more would have to agree with the leading answer, if all did that run."""
        return self._strategy.agree - round(self._election.support(self._ballots())) - len(self._running)

    def _settled(self) -> Result | None:
        if self._missing() + len(self._running) <= 0:
            return "agreed"
        if self._missing() <= len(self._voters) - self._asked:
            return None
        # Who leads matters where nobody is escalated to: then those that run are heard.
        return None if self._strategy.on_disagreement == "best" and self._running else "disagreed"

    def _more(self) -> Sequence[int]:
        return self._take(max(0, self._missing()))
