"""What the endpoint adds to a local model: the same vLLM asked through it and directly, in turns, in one run.

    VLLM_PYTHON=.venv-vllm/bin/python python -m bench.local MODEL [--streams 8] [--tokens 128] [--rounds 8] [--gpus 0]

`MODEL` is a folder or a name; `tests/vllm/tiny.py` makes one. Load, endpoint and, without a GPU, vLLM share the cores. With a
GPU the model's arithmetic takes no core from anybody; `--apart` brings that about without one, as far as can be: vLLM's
engine has the machine's first core for itself, in both places; its HTTP server, the endpoint and the load have the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
import orjson
import psutil
import yaml

from actors.watchdog import marked
from bench.serving import Served

START_S = 900.0
ASCII = list(range(94))
"""Tokens that are a letter each, with a tokenizer of bytes: half of all others are a part of one, and nothing to read yet."""
EACH = 4
"""Streams of a caller in a turn."""
STAGGER_S = 0.13
ON_CPU_ARGS = ("--enforce-eager", "--distributed-executor-backend=uni")
"""One process for the engine and its arithmetic: else each of them waits for the other by spinning on a core."""
ON_CPU = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


class Place(NamedTuple):
    """Where the model is asked."""

    name: str
    url: str
    model: str
    key: str


class Stream(NamedTuple):
    """One stream, in seconds."""

    first_s: float
    token_s: float
    """Between its tokens, on average."""
    tokens: int
    ended_s: float


async def stream(session: aiohttp.ClientSession, place: Place, tokens: int, text: str) -> Stream:
    """One answer of exactly so many tokens."""
    body = {"model": place.model, "stream": True, "max_tokens": tokens, "ignore_eos": True, "temperature": 1.0,
            "allowed_token_ids": ASCII,
            "messages": [{"role": "user", "content": text}], "stream_options": {"include_usage": True}}  # fmt: skip
    began_s = time.perf_counter()
    first_s = last_s = 0.0
    made = 0
    headers = {"authorization": f"Bearer {place.key}"}
    async with session.post(f"{place.url}/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"data: {") and b'"choices":[{' in line.replace(b" ", b""):
                last_s = time.perf_counter()
                # vLLM says the role before there is text.
                first_s = first_s or (last_s if orjson.loads(line[6:])["choices"][0]["delta"].get("content") else 0.0)
            if b'"completion_tokens":' in line:
                made = tokens
    assert made == tokens, "the stream did not come to its end"
    return Stream(first_s - began_s, (last_s - first_s) / (tokens - 1), tokens, last_s)


async def caller(session: aiohttp.ClientSession, place: Place, tokens: int, text: str, number: int) -> list[Stream]:
    """One after the other, begun a little after the caller before: the model is at work on the others' when one begins. No
    text comes twice, so that no prefix is in the cache in one place alone."""
    await asyncio.sleep(number * STAGGER_S)
    return [await stream(session, place, tokens, f"{text} {turn}: why is the sky blue?") for turn in range(EACH)]


async def measure(places: tuple[Place, Place], count: int, tokens: int, rounds: int) -> None:
    """In turns, the first round uncounted."""
    found = [place.name for place in places]
    first_ms, usual_ms, token_ms, rates = ({name: list[float]() for name in found} for _ in range(4))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for turn in range(rounds + 1):
            for place in places if turn % 2 else places[::-1]:
                began_s = time.perf_counter()
                callers = (caller(session, place, tokens, f"{place.name:<20} {turn} {n}", n) for n in range(count))
                many = [one for mine in await asyncio.gather(*callers) for one in mine]
                if turn:
                    first_ms[place.name].append(1000 * statistics.mean(one.first_s for one in many))
                    usual_ms[place.name].append(1000 * statistics.median(one.first_s for one in many))
                    token_ms[place.name].append(1000 * statistics.mean(one.token_s for one in many))
                    rates[place.name].append(len(many) * tokens / (max(one.ended_s for one in many) - began_s))
    print("| figure of a round, in the mean | " + " | ".join(found) + " | added |\n| --- | --- | --- | --- |")
    for what, by_round in (
        ("first token, ms", first_ms),
        ("first token p50, ms", usual_ms),
        ("between tokens, ms", token_ms),
        ("tokens a second", rates),
    ):
        here, there = by_round.values()
        each = [one - other for one, other in zip(here, there, strict=True)]
        error = statistics.stdev(each) / math.sqrt(len(each))
        added = f"{statistics.mean(each):+.2f}, standard error {error:.2f}"
        mine, tmine = statistics.mean(here), statistics.mean(there)
        print(f"| {what} | {mine:.2f} | {tmine:.2f} | {added} ({mine / tmine:.3f}) |")


def directly(served: Served) -> Place:
    """Where vLLM itself listens, once it is up."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        for process in served.processes("api_server"):
            words, env = process.cmdline(), process.environ()
            if "launcher.py" not in " ".join(words) and served_by(words[words.index("--port") + 1]):
                return Place(
                    "direct", f"http://127.0.0.1:{words[words.index('--port') + 1]}/v1", "tiny", env["VLLM_API_KEY"]
                )
        time.sleep(0.5)
    raise SystemExit("vLLM did not come up")


def set_apart(served: Served) -> None:
    """Every thread that there is gets its cores; those that they begin have the same."""
    first, *others = sorted(os.sched_getaffinity(0))
    engines = {process.pid for process in served.processes("VLLM::EngineCore")}
    if not (engines and others):
        raise SystemExit("--apart: there is no engine process, or one core alone")
    for process in (*marked(served.mark), psutil.Process()):
        for thread in process.threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, {first} if process.pid in engines else set(others))


def served_by(port: str) -> bool:
    """Whether vLLM answers there."""
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name, default in (("streams", 8), ("tokens", 128), ("rounds", 8), ("gpus", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--apart", action="store_true")
    args = parser.parse_args()
    vllm = {
        "model": args.model, "served_name": "tiny", "python": os.environ["VLLM_PYTHON"], "gpus": args.gpus,
        "args": ["--max-model-len=4096", *(() if args.gpus else ON_CPU_ARGS)],
        "env": {} if args.gpus else ON_CPU, "cold_start_s": START_S,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.yaml"
        config.write_text(yaml.safe_dump({"providers": {"gpu": {"vllm": vllm, "pool": {"concurrency": 1024}}}}))
        served = Served(config)
        try:
            direct = directly(served)
            time.sleep(3)  # until its pool has heard of it
            if args.apart:
                set_apart(served)
            print(
                f"{os.cpu_count()} cores, {platform.machine()}, {args.gpus} GPUs, {args.streams} streams of {args.tokens}"
            )
            through = Place("through the endpoint", served.url, "gpu/tiny", "none")
            asyncio.run(measure((through, direct), args.streams, args.tokens, args.rounds))
        finally:
            served.stop()


if __name__ == "__main__":
    main()
