"""The arguments of the command `orchestrator`."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from orchestrator.cli.batch import add_batch

URL = "http://127.0.0.1:8000/v1"
KEY_ENV = "ORCHESTRATOR_API_KEY"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """What there is to say to it."""
    root = argparse.ArgumentParser(prog="orchestrator", description="One endpoint over many model providers.")
    commands = root.add_subparsers(dest="command", required=True)
    for add in (_serve, _ask, add_batch, _key, _pricing, _spend, _simulate):
        add(commands)
    return root


def _serve(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="serve a configuration on this machine")
    serve.add_argument("--config", help="a YAML file; default: the one that comes along, which needs no key")
    serve.add_argument("--host", default="127.0.0.1", help="any address but loopback needs keys in the configuration")
    serve.add_argument(
        "--insecure", action="store_true", help="any address without keys: whoever reaches it may use it"
    )
    serve.add_argument("--port", type=_port, default=8000)
    serve.add_argument("--replicas", type=int, default=1, help="coordinators (default 1)")

    check = commands.add_parser("check", help="validate a configuration without starting anything")
    check.add_argument("config")
    check.add_argument("--json", action="store_true")


def _ask(commands: Commands) -> None:
    ask = commands.add_parser("ask", help="ask a running endpoint")
    ask.add_argument("selector")
    ask.add_argument("prompt")
    ask.add_argument("--stream", action="store_true")
    models = commands.add_parser("models", help="what a running endpoint lists")
    pools = commands.add_parser("pools", help="the pools of a running endpoint")
    for command in (ask, models, pools):
        _endpoint(command)
        command.add_argument("--json", action="store_true")


def _endpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", default=URL, help=f"default {URL}")
    # Not the key itself: the list of processes shows arguments to everybody on the machine.
    command.add_argument(
        "--key-env", default=KEY_ENV, metavar="NAME", help=f"the environment variable that has the key ({KEY_ENV})"
    )


def _key(commands: Commands) -> None:
    key = commands.add_parser("key", help="keys for callers of the endpoint")
    new = key.add_subparsers(dest="what", required=True).add_parser(
        "new", help="make a key: shown once, with what to write into the configuration"
    )
    new.add_argument("--name", required=True, help="what its limits, budget and spend go by")
    new.add_argument("--user", help="whose key it is: whose experiments it may use")
    new.add_argument(
        "--models", nargs="+", default=["*"], metavar="SELECTOR", help="what it may ask for, such as 'tier:*'"
    )
    new.add_argument("--admin", action="store_true", help="may use /admin and /metrics")
    new.add_argument("--budget-usd", type=float)
    new.add_argument("--requests-per-minute", type=float)
    new.add_argument("--tokens-per-minute", type=float)
    new.add_argument("--expires", metavar="YYYY-MM-DD", help="the last day on which it is taken")
    new.add_argument("--json", action="store_true")


def _pricing(commands: Commands) -> None:
    pricing = commands.add_parser("pricing", help="what models cost").add_subparsers(dest="what", required=True)
    fetch = pricing.add_parser("fetch", help="ask OpenRouter, and keep what it says with the table that comes along")
    fetch.add_argument("--offline", action="store_true", help="keep the table alone; nobody is asked")
    show = pricing.add_parser("show", help="what is known, from where, and since when")
    show.add_argument("models", nargs="*", metavar="MODEL", help="such as openai/gpt-4o; default: all")
    for command in (fetch, show):
        command.add_argument("--config", help="a YAML file; default: the one that comes along")
        command.add_argument("--json", action="store_true")


def _spend(commands: Commands) -> None:
    spend = commands.add_parser(
        "spend", help="what was spent, by a running endpoint's ledger, or read from its database"
    )
    spend.add_argument("--by", default="user", help="user (default), key, selector, model, provider, arm or day")
    spend.add_argument(
        "--since", metavar="WHEN", help="2026-11-01, 2026-11-01T12:30 (UTC), or so long ago: 7d, 24h, 30m"
    )
    spend.add_argument("--until", metavar="WHEN", help="the same")
    _endpoint(spend)
    spend.add_argument(
        "--ledger", metavar="URL", help="read this database instead: a file, sqlite:///… or postgresql://…"
    )
    spend.add_argument("--json", action="store_true")
    spend.add_argument("--csv", action="store_true")


def _simulate(commands: Commands) -> None:
    simulate = commands.add_parser("simulate", help="run the simulated provider alone")
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=_port, default=0)
    simulate.add_argument("--seed", type=int, default=7)
    simulate.add_argument("--median", type=_seconds, default=0.4, help="seconds to the first token, in the median")
    simulate.add_argument("--p99", type=_seconds, default=3.0, help="the same at the 99th percentile")


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
