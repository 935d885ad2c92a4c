"""The command `orchestrator`. Bad input exits with 2 and one line of what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from orchestrator.cli.batch import add_batch, batch

URL = "http://127.0.0.1:8000/v1"
KEY_ENV = "ORCHESTRATOR_API_KEY"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orchestrator", description="One endpoint over many model providers.")
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="serve a configuration on this machine")
    serve.add_argument("--config", help="a YAML file; default: the one that comes along, which needs no key")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8000)
    serve.add_argument("--replicas", type=int, default=1, help="coordinators (default 1)")

    check = commands.add_parser("check", help="validate a configuration without starting anything")
    check.add_argument("config")
    check.add_argument("--json", action="store_true")

    ask = commands.add_parser("ask", help="ask a running endpoint")
    ask.add_argument("selector")
    ask.add_argument("prompt")
    ask.add_argument("--stream", action="store_true")
    models = commands.add_parser("models", help="what a running endpoint lists")
    pools = commands.add_parser("pools", help="the pools of a running endpoint")
    for command in (ask, models, pools):
        command.add_argument("--url", default=URL, help=f"default {URL}")
        command.add_argument("--json", action="store_true")

    add_batch(commands)

    pricing = commands.add_parser("pricing", help="what models cost").add_subparsers(dest="what", required=True)
    fetch = pricing.add_parser("fetch", help="ask OpenRouter, and keep what it says with the table that comes along")
    fetch.add_argument("--offline", action="store_true", help="keep the table alone; nobody is asked")
    show = pricing.add_parser("show", help="what is known, from where, and since when")
    show.add_argument("models", nargs="*", metavar="MODEL", help="such as openai/gpt-4o; default: all")
    for command in (fetch, show):
        command.add_argument("--config", help="a YAML file; default: the one that comes along")
        command.add_argument("--json", action="store_true")

    spend = commands.add_parser(
        "spend", help="what was spent, by a running endpoint's ledger, or read from its database"
    )
    spend.add_argument("--by", default="user", help="user (default), key, selector, model, provider, arm or day")
    spend.add_argument(
        "--since", metavar="WHEN", help="2026-11-01, 2026-11-01T12:30 (UTC), or so long ago: 7d, 24h, 30m"
    )
    spend.add_argument("--until", metavar="WHEN", help="the same")
    spend.add_argument("--url", default=URL, help=f"default {URL}")
    # Not the key itself: the list of processes shows arguments to everybody on the machine.
    spend.add_argument(
        "--key-env", default=KEY_ENV, metavar="NAME", help=f"the environment variable that has the key ({KEY_ENV})"
    )
    spend.add_argument(
        "--ledger", metavar="URL", help="read this database instead: a file, sqlite:///… or postgresql://…"
    )
    spend.add_argument("--json", action="store_true")
    spend.add_argument("--csv", action="store_true")

    simulate = commands.add_parser("simulate", help="run the simulated provider alone")
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=_port, default=0)
    simulate.add_argument("--seed", type=int, default=7)
    simulate.add_argument("--median", type=_seconds, default=0.4, help="seconds to the first token, in the median")
    simulate.add_argument("--p99", type=_seconds, default=3.0, help="the same at the 99th percentile")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError("has to be between 0 and 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("has to be between 0 and 3600 seconds")
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code. Ctrl-C is no error: 130, as shells have it."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    if args.command == "serve":
        # The one place that reaches over to where Ray is: at run time, by name, so that nothing here depends on it.
        from importlib import import_module

        from orchestrator.config.load import default_config

        config = args.config or default_config()
        code: int = import_module("actors.launch").serve(config, args.host, args.port, args.replicas)
        return code
    if args.command == "batch":
        return batch(args)
    if args.command == "check":
        from orchestrator.cli.check import run

        return run(args.config, args.json)
    if args.command == "pricing":
        from orchestrator.cli import pricing

        if args.what == "fetch":
            return pricing.fetch(args.config, offline=args.offline, as_json=args.json)
        return pricing.show(args.config, args.models, as_json=args.json)
    if args.command == "simulate":
        from orchestrator.cli.simulate import simulate

        return simulate(args.host, args.port, args.seed, args.median, args.p99)
    if args.command == "spend":
        from orchestrator.cli.spend import Question, spend

        question = Question(args.url, args.key_env, args.ledger, args.by, args.since, args.until)
        return spend(question, as_json=args.json, csv=args.csv)
    from orchestrator.cli import client

    if args.command == "ask":
        return client.ask(args.url, args.selector, args.prompt, stream=args.stream, as_json=args.json)
    if args.command == "models":
        return client.models(args.url, as_json=args.json)
    return client.pools(args.url, as_json=args.json)
