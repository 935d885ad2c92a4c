"""A stand-in for vLLM's server, run by `command:`: the simulated provider, which asks for its key and says how busy it is by
vLLM's names. As a program of its own; it imports nothing of the tests.

    python tests/engine.py --port PORT [--host HOST] [--slow S] [--fail REASON] [--log FILE] [--children N] [--rate R] …

Its key is in the variable ENGINE_KEY. A chat request may carry `"engine": "crash" | "hang" | "memory"`: that is what it then
does. `POST /gauges` sets what it says beside its own count: `{"running": 3, "waiting": 1, "cache": 0.5}`. Each call is
written to FILE as a line: pid, its last message, whether its caller went away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

from aiohttp import web

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from orchestrator.config.settings import Latency, Simulate
from orchestrator.simulate.answers import Simulated
from orchestrator.simulate.server import Server


class Engine(Server):
    """The simulated provider with vLLM's other paths around it."""

    def __init__(self, args: argparse.Namespace) -> None:
        settings = Simulate(Latency(args.first, args.first), tokens_per_s=args.rate)
        super().__init__(Simulated(settings, "engine"), "engine")
        self._args = args
        self._beside = {"running": 0.0, "waiting": 0.0, "cache": 0.0}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/health":
            return web.Response()
        if request.path == "/metrics":
            return web.Response(text=self._metrics())
        if request.path == "/gauges":
            self._beside |= json.loads(await request.read())
            return web.Response()
        if request.headers.get("authorization") != f"Bearer {os.environ['ENGINE_KEY']}":
            return web.json_response({"error": {"message": "a wrong key"}}, status=401)
        if request.path != "/v1/chat/completions":
            return await super()._handle(request)
        body = json.loads(await request.read())
        self._does(body.get("engine"))
        gone = True
        try:
            answer = await super()._handle(request)
            gone = False
            return answer
        finally:
            self._note(body["messages"][-1]["content"], gone)

    def _does(self, what: str | None) -> None:
        if what == "crash":
            print("ValueError: it was told to", flush=True)
            os._exit(3)
        if what == "memory":
            print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", flush=True)
            os._exit(1)
        if what == "hang":
            time.sleep(3600)  # the loop stands still: its health is silent, too

    def _note(self, text: object, gone: bool) -> None:
        if self._args.log:
            with open(self._args.log, "a") as file:
                file.write(json.dumps({"pid": os.getpid(), "port": self.port, "text": text, "gone": gone}) + "\n")

    def _metrics(self) -> str:
        said = self._beside
        values = {
            "vllm:num_requests_running": self.in_flight + said["running"],
            "vllm:num_requests_waiting": said["waiting"],
            "vllm:kv_cache_usage_perc": said["cache"],
        }
        labels = '{engine="0",model_name="a name"}'
        return "".join(f"# TYPE {name} gauge\n{name}{labels} {value}\n" for name, value in values.items())


async def run(args: argparse.Namespace) -> None:
    """Serves until it is ended."""
    server = Engine(args)
    await server.start(args.host, args.port)
    print(f"listening on {args.port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    options: dict[str, Any] = {"--port": 0, "--host": "127.0.0.1", "--slow": 0.0, "--fail": "", "--log": ""}
    for name, default in (options | {"--children": 0, "--first": 0.01, "--rate": 500.0}).items():
        parser.add_argument(name, default=default, type=type(default))
    args = parser.parse_args()
    for _ in range(args.children):
        # As vLLM's engine is: a process of its own, here even in a session of its own.
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    time.sleep(args.slow)
    if args.fail:
        raise SystemExit(f"RuntimeError: {args.fail}")
    asyncio.run(run(args))


if __name__ == "__main__":
    main()
