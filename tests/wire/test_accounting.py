"""What stands beside a request: who may refuse it, and who is told of it, however it ends."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.accounting import Allowance, Asked, Ended
from orchestrator.coordinator import Coordinator
from orchestrator.errors import Denied
from orchestrator.lasting import Lasting
from orchestrator.types import Finish, Reply
from orchestrator.world import outcome_of
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack


class Book:
    """An `Allowing`, its allowances, and an `Observer`: notes what it is told."""

    def __init__(self, refusal: Denied | None = None) -> None:
        self.refusal = refusal
        self.asked: list[Asked] = []
        self.settled: list[Ended | None] = []
        self.heard: list[Ended] = []

    async def allow(self, asked: Asked) -> Allowance:
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal
        return self

    def settle(self, ended: Ended | None) -> None:
        self.settled.append(ended)

    def ended(self, ended: Ended) -> None:
        self.heard.append(ended)


async def kept(upstream: Upstream, serve: Serve, *books: Book) -> Stack:
    address = f"http://127.0.0.1:{upstream.port}/v1"
    stack = await serve({"providers": {"up": {"base_url": address, "models": [], "retry": {"attempts": 1}}}})
    lasting = Lasting(allowing=books, observers=books)
    stack.coordinator = Coordinator(stack.config, stack.runtime, stack.pools, lasting=lasting)
    return stack


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_told_as_its_caller_got_it(upstream: Upstream, serve: Serve, stream: bool) -> None:
    """Settled and observed once, with the report of the answer; a stream's first token has its time."""
    book = Book()
    stack = await kept(upstream, serve, book)
    answer = await stack.chat("up/ok", stream=stream)
    (ended,) = book.heard
    assert [ended] == book.settled
    assert book.asked == [ended.asked]
    assert ended.report["request_id"] in answer.text
    assert isinstance(ended.outcome, Finish if stream else Reply)
    if stream:
        assert ended.first_token_s is not None
        assert 0 < ended.first_token_s <= ended.seconds
    else:
        assert ended.first_token_s is None


async def test_a_failure_is_told(upstream: Upstream, serve: Serve) -> None:
    """A request that nobody could answer is observed with why."""
    book = Book()
    stack = await kept(upstream, serve, book)
    assert 502 == (await stack.chat("up/unavailable")).status_code
    assert ["server_error"] == [outcome_of(ended.outcome) for ended in book.heard]


async def test_a_caller_who_leaves_is_told(upstream: Upstream, serve: Serve) -> None:
    """What had been begun for a caller who left is settled and observed, with its attempt as cancelled."""
    book = Book()
    stack = await kept(upstream, serve, book)
    task = asyncio.ensure_future(stack.chat("up/slow-5"))
    while not upstream.attempts("slow-5"):
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (ended,) = book.heard
    assert [ended] == book.settled
    assert "cancelled" == outcome_of(ended.outcome)
    assert ["cancelled"] == [attempt["outcome"] for attempt in ended.report["attempts"]]


async def test_who_is_refused_by_one_has_nothing_of_the_others(upstream: Upstream, serve: Serve) -> None:
    """A refusal is answered with its status and code; what others had allowed is given back, and nobody is called."""
    first, second = Book(), Book(Denied(429, "rate_limit_exceeded", "too many", 2.5))
    stack = await kept(upstream, serve, first, second)
    answer = await stack.chat("up/ok")
    assert (429, "3") == (answer.status_code, answer.headers["retry-after"])
    assert ("rate_limit_exceeded", "too many") == (answer.json()["error"]["code"], answer.json()["error"]["message"])
    assert ([None], [], []) == (first.settled, first.heard, upstream.attempts("ok"))
