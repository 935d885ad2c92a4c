"""`ask`, `models` and `pools`: commands that speak with a running endpoint, through the OpenAI SDK and plain HTTP."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import openai


def _client(url: str) -> openai.OpenAI:
    # The endpoint asks for no key unless it is configured to; the SDK insists on one.
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def _fail(url: str, error: Exception) -> int:
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        print(body.get("message") or error.message, file=sys.stderr)
        return 2 if error.status_code in (400, 403, 404) else 1
    print(f"{url} cannot be reached: is `orchestrator serve` running there?", file=sys.stderr)
    return 1


def ask(url: str, selector: str, prompt: str, *, stream: bool, as_json: bool) -> int:
    """Asks one question and prints the answer."""
    try:
        with _client(url) as client:
            messages: Any = [{"role": "user", "content": prompt}]
            if not stream:
                reply = client.chat.completions.create(model=selector, messages=messages)
                print(reply.model_dump_json() if as_json else reply.choices[0].message.content)
                return 0
            for chunk in client.chat.completions.create(model=selector, messages=messages, stream=True):
                if as_json:
                    print(chunk.model_dump_json(), flush=True)
                elif chunk.choices:
                    print(chunk.choices[0].delta.content or "", end="", flush=True)
            if not as_json:
                print()
    except openai.OpenAIError as error:
        return _fail(url, error)
    return 0


def models(url: str, *, as_json: bool) -> int:
    """Prints what the endpoint lists."""
    try:
        with _client(url) as client:
            rows = [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        return _fail(url, error)
    print(json.dumps(rows) if as_json else "\n".join(rows))
    return 0


def pools(url: str, *, as_json: bool) -> int:
    """Prints the pools: a table, or JSON."""
    try:
        answer = httpx.get(url.removesuffix("/v1") + "/admin/pools", timeout=10)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        return _fail(url, error)
    rows: list[dict[str, Any]] = answer.json()["pools"]
    if as_json:
        print(json.dumps(rows))
        return 0
    print(f"{'provider':<16}{'in flight':>10}{'queued':>8}{'sessions':>10}  state")
    for row in rows:
        state = row.get("left_out") or row.get("problem") or _state(row)
        print(
            f"{row['provider']:<16}{row.get('in_flight', '-'):>10}{row.get('queued', '-'):>8}"
            f"{row.get('sessions', '-'):>10}  {state}"
        )
    return 0


def _state(row: dict[str, Any]) -> str:
    troubles = [account["misconfigured"] for account in row["accounts"] if account["misconfigured"]]
    for account in row["accounts"]:
        troubles += [f"{name}: {m['breaker']}" for name, m in account["models"].items() if m["breaker"] != "closed"]
    return "; ".join(troubles) or "ok"
