"""The command `orchestrator`. Bad input exits with 2 and one line of what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from orchestrator.cli.arguments import parser
from orchestrator.cli.batch import batch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code. Ctrl-C is no error: 130, as shells have it."""
    args = parser().parse_args(argv)
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
        code: int = import_module("actors.launch").serve(
            config, args.host, args.port, args.replicas, insecure=args.insecure
        )
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
    if args.command == "key":
        from orchestrator.cli.key import new

        names = ("name", "models", "user", "admin", "budget_usd", "requests_per_minute", "tokens_per_minute", "expires")
        return new({name: getattr(args, name) for name in names}, as_json=args.json)
    if args.command == "spend":
        from orchestrator.cli.spend import Question, spend

        question = Question(args.url, args.key_env, args.ledger, args.by, args.since, args.until)
        return spend(question, as_json=args.json, csv=args.csv)
    from orchestrator.cli import client

    there = client.Endpoint(args.url, args.key_env)
    if args.command == "ask":
        return client.ask(there, args.selector, args.prompt, stream=args.stream, as_json=args.json)
    if args.command == "models":
        return client.models(there, as_json=args.json)
    return client.pools(there, as_json=args.json)
