"""`ask`, `models` and `pools`: commands that speak with a running endpoint, through the OpenAI SDK and plain HTTP."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple

import httpx
import openai


class Endpoint(NamedTuple):
    """Where it is, and which environment variable has the key for it (never the key: arguments are everybody's to see)."""

    url: str
    key_env: str

    @property
    def key(self) -> str:
        """`none`, where the variable is not set: an endpoint without keys asks for none, but the SDK insists on one."""
        return os.environ.get(self.key_env) or "none"


def _client(there: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=there.url, api_key=there.key, max_retries=0)


def _fail(there: Endpoint, error: Exception) -> int:
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        return _refused(there, error.status_code, body.get("message") or error.message)
    print(f"{there.url} cannot be reached: is `orchestrator serve` running there?", file=sys.stderr)
    return 1


def _refused(there: Endpoint, status: int, message: str) -> int:
    hint = f" (the environment variable {there.key_env} should have one)" if status == 401 else ""
    print(message + hint, file=sys.stderr)
    return 2 if status in (400, 401, 403, 404) else 1


def ask(there: Endpoint, selector: str, prompt: str, *, stream: bool, as_json: bool) -> int:
    """Asks one question and prints the answer."""
    try:
        with _client(there) as client:
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
        return _fail(there, error)
    return 0


def models(there: Endpoint, *, as_json: bool) -> int:
    """Prints what the endpoint lists."""
    try:
        with _client(there) as client:
            rows = [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        return _fail(there, error)
    print(json.dumps(rows) if as_json else "\n".join(rows))
    return 0


def pools(there: Endpoint, *, as_json: bool) -> int:
    """Prints the pools: a table, or JSON."""
    try:
        headers = {"authorization": f"Bearer {there.key}"}
        answer = httpx.get(there.url.removesuffix("/v1") + "/admin/pools", headers=headers, timeout=10)
        if answer.is_client_error:
            return _refused(there, answer.status_code, answer.json()["error"]["message"])
        answer.raise_for_status()
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return _fail(there, error)
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
    troubles += [row["absent"]] if row.get("absent") else []
    return "; ".join(troubles) or "ok"
