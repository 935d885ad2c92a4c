"""`make faults`: every way in which an upstream misbehaves, through the real endpoint, and what the caller got.

Each row is asked as a whole answer and as a stream, of two candidates of which the second is healthy unless the row says
otherwise. The verdict is `rescued` (the whole answer, to the byte), `clean error` (its status or event, in bounded time), or
FAILED: a hang, half an answer with a clean end, hammering, or an account of the attempts that is not what the upstream saw.
Exits with 1 if anything FAILED, or came out otherwise than it has to.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from bench.serving import Served
from tests.upstream import ENCODED, Upstream

BOUND_S = 8.0
"""Longer than any time-out of the configuration below, and a second more."""
TRIES = 3
DOWN_S, COOLDOWN_S, FAILURES = 4.0, 1.0, 3
"""Of the outage: how long it lasts, and the breaker of who has it."""
NEVER_SENT = ("unreachable", "breaker_open", "paused")
"""Outcomes of attempts that no upstream can have seen."""
CONFIG = """
providers:
  bad: &up
    base_url: http://127.0.0.1:{port}/v1
    models: []
    retry: {{attempts: 3, backoff_s: 0.1, backoff_max_s: 0.4, honour_retry_after_s: 3}}
    timeouts: {{connect_s: 1, first_token_s: 0.6, idle_s: 0.6, answer_s: 0.8, total_s: 6}}
    breaker: {{failures: 1000}}
  good: {{<<: *up, timeouts: {{answer_s: 5, first_token_s: 5}}}}
  continues: {{<<: *up, model_options: {{"*": {{prefill: true}}}}}}
  locked: *up
  barred: *up
  ill: {{<<: *up, breaker: {{failures: 3, window_s: 10, cooldown_s: 1}}}}
  nowhere: {{base_url: "http://127.0.0.1:1/v1", models: [], retry: {{attempts: 2, backoff_s: 0.05}}}}
"""


@dataclass(frozen=True)
class Row:
    """A fault and what has to come of it."""

    what: str
    models: tuple[str, ...]
    expected: str = "rescued"
    """`rescued` or `clean error`."""
    code: str | None = None
    """The error's code, where there is one."""
    tries: int = 1
    """How often the first candidate may be asked."""
    kinds: tuple[str, ...] = ("whole", "streamed")
    text: str = "alpha beta gamma"
    gap_s: float = 0.0
    """At least this long between two tries."""


GOOD = "good/split"
STREAMED = ("streamed",)
ROWS = (
    Row("429 with Retry-After: 2, then healthy", ("bad/wait-2", GOOD), tries=2, gap_s=2.0),
    Row("429 always, no header", ("bad/limited", GOOD), tries=TRIES, gap_s=0.04),
    Row("500 once, then healthy", ("bad/once", GOOD), tries=2),
    Row("503 always", ("bad/unavailable", GOOD), tries=TRIES),
    Row("connection reset before any byte", ("bad/reset", GOOD), tries=TRIES),
    Row("nobody listens", ("nowhere/x", GOOD), tries=TRIES),
    Row("accepts, then silence", ("bad/silent", GOOD)),
    Row("headers at once, first token late", ("bad/headers", GOOD)),
    Row("cut after some tokens", ("bad/cut-2", GOOD)),
    Row("silent within the answer", ("bad/stall-2", GOOD)),
    Row("an event that is not JSON", ("bad/badevent-1", GOOD), kinds=STREAMED),
    Row("no finish, no [DONE]", ("bad/unfinished", GOOD), kinds=STREAMED),
    Row("complete without [DONE]", ("bad/nodone", GOOD), kinds=STREAMED),
    Row("an error as the first event", ("bad/errorevent", GOOD), tries=TRIES, kinds=STREAMED),
    Row("an error as a later event", ("bad/errorlater-2", GOOD), kinds=STREAMED),
    Row("200 with HTML", ("bad/html", GOOD)),
    Row("200 with an empty body", ("bad/empty", GOOD)),
    Row("200 without choices", ("bad/nochoices", GOOD)),
    Row("400 context length exceeded", ("bad/context", GOOD)),
    Row("400 content policy", ("bad/policy", GOOD), "clean error", "content_policy_violation"),
    Row("400 malformed request", ("bad/malformed", GOOD), "clean error", "unknown_parameter"),
    Row("401", ("locked/unauthorized", GOOD)),
    Row("403", ("barred/forbidden", GOOD)),
    Row("everything down", ("bad/unavailable", "nowhere/x"), "clean error", "server_error", tries=TRIES),
    Row("cut, and the second continues", ("bad/cut-1", "continues/prefill"), kinds=STREAMED),
    Row("cut, and the second answers otherwise", ("bad/cut-3", "good/other"), "clean error", "stream_cut", kinds=STREAMED),
    Row("cut, and the second will not continue", ("bad/cut-1", "continues/ok"), "clean error", "stream_cut", kinds=STREAMED),
    Row("an answer of 20 MB", ("good/huge", GOOD), text=ENCODED["huge"]),
    Row("an event of 1 MB", ("bad/bigevent", GOOD), kinds=STREAMED, text=ENCODED["bigevent"]),
    Row("byte by byte, UTF-8 split", ("bad/bytes", GOOD), kinds=STREAMED, text=ENCODED["bytes"]),
    Row("CRLF", ("bad/crlf", GOOD), kinds=STREAMED, text=ENCODED["crlf"]),
    Row("a BOM", ("bad/bom", GOOD), kinds=STREAMED, text=ENCODED["bom"]),
)  # fmt: skip


@dataclass
class Result:
    """What came of one row."""

    verdict: str
    seconds: float
    attempts: list[int]
    """What each candidate's upstream saw."""
    gap_s: float | None
    """The least between two tries of one candidate."""


async def ask(http: aiohttp.ClientSession, url: str, row: Row, upstream: Upstream, *, stream: bool) -> Result:
    """One row, whole or streamed."""
    upstream.log.clear()
    upstream.forget()
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "stream": stream,
            "orchestrator": {"models": list(row.models)}}  # fmt: skip
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(BOUND_S), http.post(f"{url}/chat/completions", json=body) as answer:
            text, status = await answer.text(), answer.status
    except TimeoutError:
        return Result("FAILED: hangs", time.monotonic() - began_s, [], None)
    seconds = time.monotonic() - began_s
    names = [model.partition("/")[2] for model in row.models]
    times = [[one.started_s for one in upstream.log if one.model == name] for name in names]
    gaps = [b - a for started in times for a, b in pairwise(started)]
    gap_s = min(gaps, default=None)
    said, error, report = read(text, stream=stream and status == 200)
    seen = sum(map(len, times))
    told = [one for one in report.get("attempts", []) if one["outcome"] not in NEVER_SENT]
    if len(times[0]) > row.tries:
        verdict = "FAILED: hammers"
    elif gap_s is not None and gap_s < row.gap_s * 0.98:
        verdict = f"FAILED: asks again after {gap_s:.2f} s"
    elif report and len(told) != seen:
        verdict = f"FAILED: tells of {len(told)} attempts, the upstream saw {seen}"
    elif error is not None:
        right = row.code is None or error.get("code") == row.code
        verdict = "clean error" if right else f"FAILED: code {error.get('code')}"
    elif said == row.text:
        verdict = "rescued"
    else:
        verdict = f"FAILED: {said[:60]!r} as a whole answer"
    return Result(verdict, seconds, [len(started) for started in times], gap_s)


def read(text: str, *, stream: bool) -> tuple[str, Any, Any]:
    """The text of an answer, its error, and its report. A stream without an end has an error that says so."""
    if not stream:
        body = json.loads(text)
        said = "" if "error" in body else body["choices"][0]["message"]["content"]
        return said, body.get("error"), body.get("orchestrator", {})
    events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    if "error" in chunks[-1]:
        return "", chunks[-1]["error"] if events[-1] != "[DONE]" else None, chunks[-1].get("orchestrator", {})
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    finishes = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    clean = events[-1] == "[DONE]" and len(finishes) == 1
    report: dict[str, Any] = next((chunk["orchestrator"] for chunk in chunks if "orchestrator" in chunk), {})
    return said, None if clean else {"code": "no clean end"}, report


async def outage(http: aiohttp.ClientSession, url: str, upstream: Upstream) -> Result:
    """Healthy, down for a while, healthy: an answer every time, few calls into the dark, and back within a cooldown."""
    upstream.log.clear()
    upstream.forget()
    model, bad = f"outage-{DOWN_S:g}", ""
    body = {
        "model": "x",
        "messages": [{"role": "user", "content": "hi"}],
        "orchestrator": {"models": [f"ill/{model}", GOOD]},
    }
    began_s = time.monotonic()
    winners: list[tuple[float, str]] = []
    while time.monotonic() - began_s < DOWN_S + 3 * COOLDOWN_S:
        async with http.post(f"{url}/chat/completions", json=body) as answer:
            said = await answer.json()
            if answer.status != 200 or said["choices"][0]["message"]["content"] != "alpha beta gamma":
                bad = f"FAILED: {answer.status}"
            winners.append((time.monotonic() - began_s, said["orchestrator"]["winner"]))
        await asyncio.sleep(0.1)
    times = [one.started_s - began_s for one in upstream.attempts(model)]
    dark = [at_s for at_s in times[1:] if at_s - times[1] < DOWN_S]
    back_s = next((at_s for at_s, winner in winners if winner.startswith("ill") and at_s > times[1] + DOWN_S), None)
    if len(dark) > FAILURES + TRIES + DOWN_S / COOLDOWN_S + 1:
        bad = f"FAILED: {len(dark)} calls into the dark"
    if back_s is None or back_s - times[1] - DOWN_S > COOLDOWN_S + 0.5:
        bad = f"FAILED: back after {back_s} s"
    gaps = [b - a for a, b in pairwise(dark[FAILURES + 1 :])]
    return Result(bad or "rescued", time.monotonic() - began_s, [len(times), len(winners)], min(gaps, default=None))


async def run(url: str, upstream: Upstream) -> int:
    """All rows; returns how many came out otherwise than they have to."""
    wrong = 0
    print("| fault | asked | attempts | least gap | time | verdict |\n| --- | --- | --- | --- | --- | --- |")
    async with aiohttp.ClientSession() as http:
        for row in ROWS:
            for kind in row.kinds:
                result = await ask(http, url, row, upstream, stream=kind == "streamed")
                bad = result.verdict != row.expected
                wrong += bad
                gap = "" if result.gap_s is None else f"{result.gap_s:.2f} s"
                attempts = " + ".join(map(str, result.attempts))
                note = f" (has to be: {row.expected})" if bad else ""
                print(
                    f"| {row.what} | {kind} | {attempts} | {gap} | {result.seconds:.2f} s | {result.verdict}{note} |",
                    flush=True,
                )
        result = await outage(http, url, upstream)
        wrong += result.verdict != "rescued"
        seen = f"{result.attempts[0]} for {result.attempts[1]} requests"
        gap = "" if result.gap_s is None else f"{result.gap_s:.2f} s"
        print(
            f"| healthy, down {DOWN_S:g} s, healthy | whole | {seen} | {gap} | {result.seconds:.2f} s | {result.verdict} |"
        )
    print(f"\n{wrong or 'none'} of {sum(len(row.kinds) for row in ROWS) + 1} otherwise than they have to be")
    return wrong


def main(times: int = 1) -> int:
    """Serves, misbehaves, and prints the table, so many times."""
    upstream, loop = Upstream(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(10)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "faults.yaml"
        config.write_text(CONFIG.format(port=upstream.port))
        served = Served(config)
        try:
            return 1 if sum(asyncio.run(run(served.url, upstream)) for _ in range(times)) else 0
        finally:
            served.stop()
            asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
