"""The loop that runs a plan on a runtime.

The runtime starts calls and says which of them are ready, in order; the loop tells the plan, does what it answers, and
hands the chunks of a committed stream to the caller. There are two runtimes: `actors.waiting`, whose ready list comes
from `ray.wait`, and `orchestrator.local`, without a cluster. (The third driver, in virtual time, is the tests' own.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orchestrator.dialects.resume import SoFar
from orchestrator.resilience.latency import Quantiles
from orchestrator.routes import Candidate
from orchestrator.strategies.plan import Call, Event, Plan, Step, Verdict
from orchestrator.types import Chunk, Failure, Finish, Json, Opened, Piece, Reply, Request

H = TypeVar("H")
BYTES_PER_TOKEN = 4
"""OpenAI's rule of thumb for English: help.openai.com, "What are tokens and how to count them?"."""


class Stream(Protocol):
    """An opened stream: its first token has come."""

    @property
    def opened(self) -> Opened:
        """What is known of it so far."""
        ...

    async def read(self) -> list[Piece]:
        """What is at hand, at least one piece; the last list ends with a `Finish` or a `Failure`."""
        ...

    async def aclose(self) -> None:
        """Stops it at once, upstream too. Harmless after the end."""
        ...


class Runtime(Protocol[H]):
    """Where calls run. `H` stands for a call in flight."""

    def start(self, call: Call, candidate: Candidate) -> H:
        """Begins a call; never blocks, never raises for what an upstream or a pool does."""
        ...

    async def ready(self, handles: Sequence[H], timeout_s: float) -> Sequence[H]:
        """Waits until one of `handles` is ready and returns those that are, the first to be ready first.

        Empty when `timeout_s` (may be infinite) has passed.
        """
        ...

    async def outcome(self, handle: H) -> Reply | Failure | Stream:
        """What came of a ready call; does not wait for the upstream."""
        ...

    def quantiles(self, candidate: Candidate, *, stream: bool) -> Quantiles | None:
        """How long a candidate takes to its answer or first token, as far as is known here; None: too few calls."""
        ...

    def stop(self, handle: H) -> None:
        """Cancels a call, ready or not, and closes what it opened; never blocks."""
        ...


class Sink(Protocol):
    """Where a streamed answer goes."""

    async def open(self, candidate: Candidate, opened: Opened, records: Sequence[Record]) -> None:
        """Called once, before the first chunk: the answer comes from `candidate` (and from others, if it is cut)."""
        ...

    async def send(self, chunks: Sequence[bytes]) -> None:
        """Chunks as JSON, in order; returns when the caller can take more."""
        ...


@dataclass(slots=True)
class Record:
    """What happened to one call: the stuff that the answer's `attempts` are made of."""

    candidate: Candidate
    start_s: float
    """Since the request began."""
    end_s: float | None = None
    outcome: Reply | Finish | Failure | None = None
    """None: still running, or, with `end_s` set, cancelled because another won."""
    input_tokens: int = 0
    """Of its request, estimated."""
    opened: bool = False
    """Whether its first token has come; streams only."""
    _chunks: int = 0
    _bytes: int = 0
    """Of the chunks after the first, which also says whose turn it is."""
    _least: int = 0
    """Of the shortest of these: what stands around every text."""

    def relay(self, chunks: Sequence[bytes]) -> None:
        """These go to the caller."""
        rest = chunks if self._chunks else chunks[1:]
        self._chunks += len(chunks)
        if rest:
            least = min(map(len, rest))
            self._least = min(self._least, least) if self._bytes else least
            self._bytes += sum(map(len, rest))

    @property
    def output_tokens(self) -> int:
        """Of what has been seen of its stream, estimated: most providers send a token a chunk; others send more text at once,
        of which four bytes count as a token."""
        around = max(0, self._chunks - 1) * self._least
        return max(self._chunks, (self._bytes - around) // BYTES_PER_TOKEN, int(self.opened))


@dataclass(frozen=True, slots=True)
class Run:
    """How a request went."""

    outcome: Reply | Finish | Failure
    winner: Candidate | None
    records: tuple[Record, ...]
    """One a call, in the order they were started."""
    seconds: float
    consensus: Json | None = None
    """Where a vote was taken: how it went."""
    call: int | None = None
    """Which of the records is the winner's."""


class _Driver(Generic[H]):
    def __init__(
        self,
        leaves: Sequence[Candidate],
        runtime: Runtime[H],
        sink: Sink | None,
        clock: Callable[[], float],
        records: list[Record],
    ) -> None:
        self._leaves = leaves
        self._runtime = runtime
        self._sink = sink
        self._clock = clock
        self._began_s = clock()
        self._waiting: dict[H, int] = {}
        """Calls of which nothing has been heard yet."""
        self._opened: dict[int, tuple[H, Stream]] = {}
        self._ready: deque[H] = deque()
        """Calls that were ready in the last look, in that order, of which the plan has not been told."""
        self._records = records
        """By the call's identity: plans number their calls from 0."""
        self._sent = SoFar() if len(leaves) > 1 else None
        """What the caller has been sent. A single candidate has nobody to go on with."""
        self._begun = False

    async def run(self, plan: Plan) -> Run:
        try:
            step = next(plan)
            while True:
                self._apply(step)
                if step.commit is None:
                    event = await self._event(step.wake_at_s)
                else:
                    event = await self._serve(step.commit)
                step = plan.send(event)
        except StopIteration as end:
            verdict: Verdict = end.value
            winner = None if verdict.call is None else self._records[verdict.call].candidate
            return Run(verdict.outcome, winner, tuple(self._records), self._now(), verdict.consensus, verdict.call)
        finally:
            # A caller that went away, a verdict, a bug: nothing that this request started runs on.
            plan.close()
            for call in (*self._waiting.values(), *self._opened):
                self._stop(call)

    def _now(self) -> float:
        return self._clock() - self._began_s

    def _apply(self, step: Step) -> None:
        for call in step.stop:
            self._stop(call)
        for new in step.start:
            candidate = self._leaves[new.candidate]
            self._records.append(Record(candidate, self._now(), input_tokens=_input_tokens(new.request)))
            self._waiting[self._runtime.start(new, candidate)] = new.id

    def _stop(self, call: int) -> None:
        opened = self._opened.pop(call, None)
        handle = next(handle for handle, id_ in self._waiting.items() if id_ == call) if opened is None else opened[0]
        self._waiting.pop(handle, None)
        self._runtime.stop(handle)
        self._records[call].end_s = self._now()

    async def _event(self, wake_at_s: float) -> Event:
        """The next thing to tell the plan."""
        while True:
            while self._ready:
                handle = self._ready.popleft()
                # A call that the plan stopped after the look is not spoken of again.
                if (call := self._waiting.pop(handle, None)) is not None:
                    return await self._heard(handle, call)
            looked = await self._runtime.ready(tuple(self._waiting), max(0.0, wake_at_s - self._now()))
            if not looked:
                return Event(self._now())
            self._ready.extend(looked)

    async def _heard(self, handle: H, call: int) -> Event:
        outcome = await self._runtime.outcome(handle)
        if isinstance(outcome, Reply | Failure):
            return self._ended(call, outcome)
        self._opened[call] = (handle, outcome)
        self._records[call].opened = True
        return Event(self._now(), call, outcome.opened)

    async def _serve(self, call: int) -> Event:
        """Hands a committed stream to the caller until it ends."""
        assert self._sink is not None, "only a request with a sink is asked for as a stream"
        _, stream = self._opened[call]
        if not self._begun:
            self._begun = True
            await self._sink.open(self._records[call].candidate, stream.opened, self._records)
        while True:
            pieces = await stream.read()
            last = pieces[-1]
            if chunks := [piece.data for piece in pieces if isinstance(piece, Chunk)]:
                if self._sent is not None:
                    self._sent.add(chunks)
                self._records[call].relay(chunks)
                await self._sink.send(chunks)
            if not isinstance(last, Chunk):
                del self._opened[call]
                event = self._ended(call, last)
                if isinstance(last, Failure) and self._sent is not None:
                    event = event._replace(sent=self._sent.sent())
                return event

    def _ended(self, call: int, outcome: Reply | Finish | Failure) -> Event:
        now_s = self._now()
        record = self._records[call]
        record.end_s, record.outcome = now_s, outcome
        return Event(now_s, call, outcome)


def _input_tokens(request: Request) -> int:
    again = 0 if request.resume is None else len(request.resume.text) // BYTES_PER_TOKEN
    return request.input_tokens + again


async def drive(
    plan: Plan,
    leaves: Sequence[Candidate],
    runtime: Runtime[H],
    *,
    sink: Sink | None = None,
    clock: Callable[[], float],
    records: list[Record] | None = None,
) -> Run:
    """Runs `plan` to its verdict. Whatever happens, cancellation included, nothing that it started runs on.

    `sink` is needed by requests that stream. `records`, an empty list, is filled with what happens to each call: also where
    there is no verdict. Raises only what the sink raises, and CancelledError.
    """
    return await _Driver(leaves, runtime, sink, clock, [] if records is None else records).run(plan)
