"""`/admin/keys`: keys made and revoked while the endpoint runs, by an admin's key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.errors import LedgerFailed
from orchestrator.keys import hash_of
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

ADMIN, CI = "sk-admin", "sk-ci"


def config(upstream: Upstream, ledger: Path | None, **server: Any) -> dict[str, Any]:
    keys = [
        {"name": "root", "key_sha256": hash_of(ADMIN), "admin": True},
        {"name": "ci", "key_sha256": hash_of(CI), "expires": "2099-01-01"},
    ]
    return {
        "providers": {"up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": ["ok"]}},
        "server": {"keys": keys, **server},
        **({} if ledger is None else {"ledger": {"url": f"sqlite:///{ledger}/ledger.db"}}),
    }


@pytest.fixture
async def stack(upstream: Upstream, serve: Serve, tmp_path: Path) -> Stack:
    return await serve(config(upstream, tmp_path))


async def admin(stack: Stack, method: str, path: str = "/admin/keys", key: str = ADMIN, **more: Any) -> httpx.Response:
    return await stack.http.request(method, path, headers={"x-api-key": key}, **more)


async def chat(stack: Stack, key: str, model: str = "up/ok") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}"}
    return (await stack.http.post("/v1/chat/completions", json=body, headers=headers)).status_code


async def test_a_key_from_its_making_to_its_end(stack: Stack) -> None:
    """Shown once, taken at once, held to what it may; listed without its hash; refused when it is revoked."""
    made = await admin(
        stack, "POST", json={"name": "ada", "models": ["up/o*"], "user": "ada", "requests_per_minute": 2}
    )
    assert (200, "no-store") == (made.status_code, made.headers["cache-control"])
    key = made.json()["key"]
    assert key.startswith("sk-orch-")
    assert ("ada", ["up/o*"], "ada", False) == tuple(made.json()[name] for name in ("name", "models", "user", "admin"))
    assert [200, 403, 200, 429] == [await chat(stack, key, model) for model in ("up/ok", "up/x", "up/ok", "up/ok")]
    assert 403 == (await admin(stack, "GET", key=key)).status_code
    listed = await admin(stack, "GET")
    rows = listed.json()["keys"]
    assert [("root", "configuration"), ("ci", "configuration"), ("ada", "ledger")] == [
        (row["name"], row["source"]) for row in rows
    ]
    assert ("2099-01-01", None) == (rows[1]["expires"], rows[2]["revoked_at"])
    assert [] == [one for one in (key, hash_of(key), hash_of(CI), "sha256") if one in listed.text]
    assert 200 == (await admin(stack, "DELETE", "/admin/keys/ada")).status_code
    assert 401 == await chat(stack, key)
    assert 404 == (await admin(stack, "DELETE", "/admin/keys/ada")).status_code
    assert (await admin(stack, "GET")).json()["keys"][2]["revoked_at"] > 1e9
    again = await admin(stack, "POST", json={"name": "ada", "admin": True})
    assert (400, "there is, or was, a key of the name 'ada'; each has a name of its own") == (
        again.status_code,
        again.json()["error"]["message"],
    )
    other = await admin(stack, "POST", json={"name": "eve", "admin": True})
    assert 200 == (await admin(stack, "GET", key=other.json()["key"])).status_code


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "ci"}, "name"),
        ({"name": "x", "key_sha256": "ab" * 32}, "key_sha256"),
        ({"name": "x", "models": ["a*b"]}, "models[0]"),
        ({"name": "x", "expires": "soon"}, "expires"),
        ({"name": "x", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "x", "admin": "${HOME}"}, "admin"),
        ({"name": "x", "color": "red"}, "color"),
    ],
    ids=str,
)
async def test_a_field_that_is_wrong(stack: Stack, body: dict[str, Any], param: str) -> None:
    """400 that names it, and nothing is made."""
    answer = await admin(stack, "POST", json=body)
    assert (400, param) == (answer.status_code, answer.json()["error"]["param"])
    assert 2 == len((await admin(stack, "GET")).json()["keys"])


async def test_a_body_that_is_none(stack: Stack) -> None:
    """400, or 413."""
    assert 400 == (await admin(stack, "POST", content=b"[1]")).status_code
    assert 413 == (await admin(stack, "POST", content=b"x" * 200_000)).status_code
    many = ", ".join(f'"x{number}": "${{NO}}"' for number in range(100))
    assert 400 == (await admin(stack, "POST", content=f'{{"name": "x", {many}}}'.encode())).status_code
    deep = b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}"
    assert 400 == (await admin(stack, "POST", content=deep)).status_code


async def test_keys_of_the_configuration_stay_there(stack: Stack) -> None:
    """They cannot be revoked here; and a path takes what it takes."""
    refused = await admin(stack, "DELETE", "/admin/keys/ci")
    assert (400, True) == (refused.status_code, "stands in the configuration" in refused.json()["error"]["message"])
    assert (405, "GET, POST") == ((wrong := await admin(stack, "DELETE")).status_code, wrong.headers["allow"])
    assert (405, "DELETE") == (
        (wrong := await admin(stack, "GET", "/admin/keys/ci")).status_code,
        wrong.headers["allow"],
    )


async def test_what_it_needs(upstream: Upstream, serve: Serve, tmp_path: Path) -> None:
    """A ledger to keep keys in, and an admin's key in the configuration to begin with: each is said."""
    without = await serve(config(upstream, None))
    for method, path in (("POST", "/admin/keys"), ("DELETE", "/admin/keys/x")):
        refused = await admin(without, method, path, json={"name": "x"})
        assert (400, "no_ledger") == (refused.status_code, refused.json()["error"]["code"])
    assert ["root", "ci"] == [row["name"] for row in (await admin(without, "GET")).json()["keys"]]
    assert 401 == await chat(without, "sk-wrong")
    keyless = await serve(config(upstream, tmp_path, keys=[]))
    refused = await keyless.http.post("/admin/keys", json={"name": "x"})
    assert (400, "no_keys") == (refused.status_code, refused.json()["error"]["code"])
    assert "orchestrator key new --name admin --admin" in refused.json()["error"]["message"]


async def test_while_the_ledger_is_away(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are known are taken; of others nobody can say: 503, and when to come back."""
    key = (await admin(stack, "POST", json={"name": "ada"})).json()["key"]

    async def away() -> int:
        raise LedgerFailed("the ledger's actor is away")

    monkeypatch.setattr(stack.keeping.desk, "keys_version", away)
    assert [200, 200, 503] == [await chat(stack, one) for one in (key, CI, "sk-wrong")]
    for answer in (await admin(stack, "GET"), await admin(stack, "POST", json={"name": "x"})):
        assert (503, "ledger_unavailable", "1") == (
            answer.status_code,
            answer.json()["error"]["code"],
            answer.headers["retry-after"],
        )
