"""Keys of the endpoint: who gets in, how others are refused, what a key may ask for, and whose requests they are."""

from __future__ import annotations

from datetime import date
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from orchestrator.accounting import Asked
from orchestrator.coordinator import Coordinator
from orchestrator.keys import hash_of
from orchestrator.lasting import Lasting
from orchestrator.wire.access import Access
from orchestrator.wire.app import App
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

ADMIN, JOHN, CI, OLD, NARROW, FEW, MANY = "sk-admin", "sk-john", "sk-ci", "sk-old", "sk-narrow", "sk-few", "sk-many"
SHAPES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"model": "up/ok", "input": "hi"},
    "/v1/completions": {"model": "up/ok", "prompt": "hi"},
    "/v1/embeddings": {"model": "up/ok", "input": "hi"},
    "/v1/messages": {"model": "up/ok", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages/count_tokens": {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}]},
}


def config(upstream: Upstream) -> dict[str, Any]:
    address = f"http://127.0.0.1:{upstream.port}/v1"

    def key(text: str, name: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "key_sha256": hash_of(text), **fields}

    return {
        "providers": {"up": {"base_url": address, "models": ["ok"]}, "other": {"base_url": address, "models": ["ok"]}},
        "aliases": {"plain": "up/ok", "there-*": "other/*", "*-any": "up/*"},
        "tiers": {"both": ["up/ok", "other/ok"], "mine": ["other/ok"]},
        "users": {"john": {"experiments": {"one": ["up/ok"]}}, "eve": {"experiments": {"one": ["up/ok"]}}},
        "server": {
            "keys": [
                key(ADMIN, "root", admin=True),
                key(JOHN, "john", user="john"),
                key(CI, "ci"),
                key(OLD, "old", expires=date(2020, 1, 1)),
                key(FEW, "few", requests_per_minute=3),
                key(MANY, "many", requests_per_minute=1000, tokens_per_minute=100),
                key(NARROW, "narrow", models=["tier:b*", "up/*", "there-*", "user:*"], user="john"),
            ]
        },
    }


@pytest.fixture
async def stack(upstream: Upstream, serve: Serve) -> Stack:
    return await serve(config(upstream))


async def chat(stack: Stack, key: str, model: str = "up/ok", **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    return await stack.http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})


def said(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"].get("code") if answer.status_code >= 400 else None


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}], ids=str)
async def test_who_has_no_key(stack: Stack, upstream: Upstream, path: str, headers: dict[str, str]) -> None:
    """401 in the shape of the endpoint, saying how to send one, before anything of the request is looked at."""
    for body in (SHAPES[path], {}):
        answer = await stack.http.post(path, json=body, headers=headers)
        error = answer.json()["error"]
        assert (401, "invalid_api_key", "authentication_error") == (answer.status_code, error["code"], error["type"])
        assert path.startswith("/v1/messages") == (answer.json().get("type") == "error")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="orchestrator"')
        assert bool(headers) == ('error="invalid_token"' in answer.headers["www-authenticate"])
        assert "sk-wrong" not in answer.text
    assert [] == upstream.log


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {CI}"},
        {"authorization": f"bearer  {CI} "},
        {"x-api-key": CI},
        {"api-key": CI},
        {"authorization": "Bearer none", "x-api-key": CI},
        {"authorization": "Basic eDp5", "api-key": CI},
    ],
    ids=str,
)
async def test_where_a_key_may_stand(stack: Stack, path: str, headers: dict[str, str]) -> None:
    """In OpenAI's header, Anthropic's or Azure's; one that is right is enough."""
    answer = await stack.http.post(path, json=SHAPES[path], headers=headers)
    assert 401 != answer.status_code, answer.text


async def test_a_key_has_its_days(upstream: Upstream) -> None:
    """Taken to the end of its last day in UTC, and refused by name from then on."""
    settings = config(upstream)
    stack = Stack(settings)
    now = [1577923199.0]  # 2020-01-01T23:59:59Z
    app: Any = App(lambda: stack.coordinator, stack.above, Access(now=lambda: now[0]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        bearer = {"authorization": f"Bearer {OLD}"}
        assert 200 == (await http.get("/v1/models", headers=bearer)).status_code
        now[0] += 1
        late = await http.get("/v1/models", headers=bearer)
    assert (401, "invalid_api_key") == said(late)
    assert "the key 'old' has expired: its last day was 2020-01-01" == late.json()["error"]["message"]
    await stack.aclose()


async def test_what_is_open(stack: Stack) -> None:
    """Whether it is well and what it serves needs no key; all else does, what there is not too; preflights bear none."""
    for path in ("/", "/health", "/ready", "/openapi.json"):
        assert 200 == (await stack.http.get(path)).status_code
    for path in (
        "/v1/models",
        "/admin/pools",
        "/admin/config",
        "/metrics",
        "/nowhere",
        "/admin//config",
        "/v1/models/up/ok",
    ):
        assert 401 == (await stack.http.get(path)).status_code, path
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    preflight = await stack.http.options("/v1/chat/completions", headers=asked)
    assert (204, "https://a.example") == (preflight.status_code, preflight.headers["access-control-allow-origin"])
    assert 401 == (await stack.http.options("/v1/chat/completions")).status_code


async def test_administration_is_for_admins(stack: Stack) -> None:
    """Others get 403; metrics, where costs by user stand, are part of it."""
    for path in ("/admin/pools", "/admin/config", "/admin/rollout?user=a", "/metrics", "/admin//config/"):
        refused = await stack.http.get(path, headers={"x-api-key": JOHN})
        assert (403, "admin_only") == said(refused), path
        assert (await stack.http.get(path, headers={"x-api-key": ADMIN})).status_code in (200, 404)
    assert (403, "admin_only") == said(await stack.http.post("/admin/reload", headers={"x-api-key": CI}))


async def test_pages_bring_a_key_or_are_refused(upstream: Upstream, serve: Serve, stack: Stack) -> None:
    """With keys any page may ask that has one, and by whatever name; a list of pages in the configuration still counts."""
    headers = {"origin": "https://chat.example", "host": "orchestrator.example", "authorization": f"Bearer {CI}"}
    answer = await stack.http.post("/v1/chat/completions", json=SHAPES["/v1/chat/completions"], headers=headers)
    assert (200, "https://chat.example") == (answer.status_code, answer.headers["access-control-allow-origin"])
    refused = await stack.http.get("/v1/models", headers={"origin": "https://chat.example"})
    assert (401, "https://chat.example") == (refused.status_code, refused.headers["access-control-allow-origin"])
    settings = config(upstream)
    settings["server"]["origins"] = ["https://mine.example"]
    listed = await serve(settings)
    assert (403, "origin_not_allowed") == said(await listed.http.get("/v1/models", headers=headers))


@pytest.mark.parametrize(
    ("key", "model", "fields", "status"),
    [
        (NARROW, "up/ok", {}, 200),
        (NARROW, "up/ok", {"stream": True}, 200),
        (NARROW, "tier:both", {}, 200),  # its members need not be named
        (NARROW, "tier:mine", {}, 403),
        (NARROW, "tier:nowhere", {}, 403),  # whether it exists is nobody's business
        (NARROW, "tier:b", {}, 404),
        (NARROW, "other/ok", {}, 403),
        (NARROW, "plain", {}, 200),  # an alias, by what it stands for
        (NARROW, "there-ok", {}, 200),  # and by its own name
        (NARROW, "other/x-any", {}, 403),  # a model, although an alias of one that is allowed has that shape
        (NARROW, "tier:x-any", {}, 403),
        (NARROW, "x-any", {}, 200),
        (NARROW, "up/ok", {"orchestrator": {"models": ["up/ok", "other/ok"]}}, 403),
        (NARROW, "other/ok", {"orchestrator": {"models": ["up/ok"]}}, 403),
        (NARROW, "up/ok", {"orchestrator": {"models": ["up/ok", "plain", "tier:both"]}}, 200),
        (NARROW, "up/ok", {"models": ["other/ok"]}, 403),
        (NARROW, "up/ok", {"models": ["up/x"]}, 200),
        (
            NARROW,
            "up/ok",
            {"orchestrator": {"strategy": "consensus", "models": ["up/ok"], "escalate": "other/ok"}},
            403,
        ),
        (
            NARROW,
            "up/ok",
            {
                "orchestrator": {
                    "strategy": "consensus",
                    "method": "judge",
                    "models": ["up/ok", "up/b"],
                    "judge": "other/ok",
                }
            },
            403,
        ),
        (NARROW, "up/ok", {"orchestrator": {"models": ["user:eve:one"]}}, 403),
        (NARROW, "user:john:one", {}, 200),
        (NARROW, "user:eve:one", {}, 403),
        (JOHN, "user:john:one", {"user": "eve"}, 200),
        (JOHN, "user:john:two", {}, 404),
        (JOHN, "user:eve:one", {"user": "eve"}, 403),
        (CI, "user:john:one", {}, 403),
        (CI, "user:john:one", {"user": "john"}, 403),  # what a request says gives no right
        (CI, "tier:mine", {}, 200),
        (ADMIN, "user:john:one", {}, 200),
        (ADMIN, "user:eve:one", {"user": "john"}, 200),
    ],
)
async def test_what_a_key_may_ask_for(stack: Stack, key: str, model: str, fields: dict[str, Any], status: int) -> None:
    """Its patterns hold for the selector and for all that a request chooses by itself; experiments go by whose key it is."""
    answer = await chat(stack, key, model, **fields)
    code = {200: None, 403: "model_not_allowed", 404: "model_not_found"}[status]
    if status == 200:
        assert 200 == answer.status_code, answer.text
    else:
        assert (status, code) == said(answer)


async def test_a_refusal_says_what_may_be_asked_for(stack: Stack) -> None:
    """And whose experiment it is; names that are spelled alike are those that the key may use."""
    message = (await chat(stack, NARROW, "other/ok")).json()["error"]["message"]
    assert "the key 'narrow' may not use 'other/ok'; it may use tier:b*, up/*, there-*, user:*" == message
    message = (await chat(stack, CI, "user:john:one")).json()["error"]["message"]
    assert "'user:john:one' needs a key of 'john', or an admin's; the key 'ci' is a key of nobody" == message
    message = (await chat(stack, JOHN, "user:eve:one")).json()["error"]["message"]
    assert "'user:eve:one' needs a key of 'eve', or an admin's; the key 'john' is a key of 'john'" == message
    message = (await chat(stack, JOHN, "user:john:on")).json()["error"]["message"]
    assert ("user:john:one" in message, "eve" in message) == (True, False)
    message = (await chat(stack, NARROW, "tier:bot")).json()["error"]["message"]
    assert ("tier:both" in message, "tier:mine" in message) == (True, False)


async def test_models_are_those_that_a_key_may_use(stack: Stack) -> None:
    """Listed, and one by one: what it may not use is not there. In Anthropic's shape, too."""

    async def listed(key: str, **headers: str) -> list[str]:
        answer = await stack.http.get("/v1/models", headers={"x-api-key": key, **headers})
        return [row["id"] for row in answer.json()["data"]]

    narrow = ["tier:both", "user:john:one", "there-ok", "ok-any", "plain", "up/ok"]
    assert sorted(narrow) == sorted(await listed(NARROW))
    assert sorted(narrow) == sorted(await listed(NARROW, **{"anthropic-version": "2023-06-01"}))
    everything = [*narrow, "tier:mine", "user:eve:one", "other/ok"]
    assert sorted(everything) == sorted(await listed(ADMIN))
    assert sorted({*everything} - {"user:eve:one"}) == sorted(await listed(JOHN))
    assert sorted({*everything} - {"user:eve:one", "user:john:one"}) == sorted(await listed(CI))
    for name, status in (
        ("up/ok", 200),
        ("up/unlisted", 200),
        ("other/ok", 404),
        ("user:eve:one", 404),
        ("other/x", 404),
    ):
        assert status == (await stack.http.get(f"/v1/models/{name}", headers={"x-api-key": NARROW})).status_code, name


async def test_whose_request_it_is(upstream: Upstream, serve: Serve) -> None:
    """The key's user is who counts, and a request's own where the key has none; upstream gets what the request said."""
    asked: list[Asked] = []

    class Book:
        async def allow(self, one: Asked) -> None:
            asked.append(one)

    stack = await serve(config(upstream))
    stack.coordinator = Coordinator(stack.config, stack.runtime, stack.pools, lasting=Lasting(allowing=(Book(),)))
    await chat(stack, JOHN, user="eve")
    await chat(stack, JOHN)
    await chat(stack, CI, user="eve")
    await chat(stack, CI)
    assert ["john", "john", "eve", None] == [one.ask.user for one in asked]
    assert ["john", "john", "ci", "ci"] == [one.ask.caller.name for one in asked if one.ask.caller is not None]
    assert ["eve", None, "eve", None] == [attempt.body.get("user") for attempt in upstream.log]


async def test_keys_are_those_of_the_configuration_in_use(upstream: Upstream, serve: Serve) -> None:
    """A new configuration brings new keys; the ones before are gone with it."""
    stack = await serve(config(upstream))
    settings = config(upstream)
    settings["server"]["keys"] = [{"name": "new", "key_sha256": hash_of("sk-new")}]
    assert (200, 401) == ((await chat(stack, CI)).status_code, (await chat(stack, "sk-new")).status_code)
    other = await serve(settings)
    stack.coordinator = other.coordinator
    assert (401, 200) == ((await chat(stack, CI)).status_code, (await chat(stack, "sk-new")).status_code)
    shown = other.config.callers
    assert ["new"] == [key.name for key in shown]


@pytest.mark.parametrize("streamed", [False, True])
async def test_official_clients(stack: Stack, streamed: bool) -> None:
    """OpenAI's and Anthropic's get in with a right key, each by its own header, and raise what they have for a wrong one."""
    http: Any = httpx2.AsyncClient(transport=httpx2.ASGITransport(stack.app), base_url="http://test")
    asked: Any = {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}
    for key in (CI, "sk-wrong"):
        one = openai.AsyncOpenAI(base_url="http://test/v1", api_key=key, http_client=http, max_retries=0)
        two = anthropic.AsyncAnthropic(base_url="http://test", api_key=key, http_client=http, max_retries=0)
        if key == CI:
            assert await one.chat.completions.create(**asked)
            assert await two.messages.create(**asked, max_tokens=9)
            continue
        with pytest.raises(openai.AuthenticationError, match="not known here"):
            await one.chat.completions.create(**asked)
        with pytest.raises(anthropic.AuthenticationError, match="not known here"):
            await two.messages.create(**asked, max_tokens=9)
    narrow = openai.AsyncOpenAI(base_url="http://test/v1", api_key=NARROW, http_client=http, max_retries=0)
    with pytest.raises(openai.PermissionDeniedError, match="may not use 'other/ok'"):
        await narrow.chat.completions.create(**{**asked, "model": "other/ok"})
    await http.aclose()


@pytest.mark.parametrize("path", [path for path in SHAPES if "count" not in path and "embed" not in path])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_of_requests(stack: Stack, path: str, stream: bool) -> None:
    """So many are answered, each saying how many are left; then 429 in the shape of the endpoint, with when to come back."""
    left: list[str] = []
    for _ in range(3):
        answer = await stack.http.post(path, json={**SHAPES[path], "stream": stream}, headers={"api-key": FEW})
        assert 200 == answer.status_code
        assert ("3", "1m0s") == tuple(answer.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "reset"))
        assert "x-ratelimit-limit-tokens" not in answer.headers
        left.append(answer.headers["x-ratelimit-remaining-requests"])
    assert ["2", "1", "0"] == left
    refused = await stack.http.post(path, json={**SHAPES[path], "stream": stream}, headers={"api-key": FEW})
    error = refused.json()["error"]
    assert (429, "rate_limit_exceeded", "rate_limit_error") == (refused.status_code, error["code"], error["type"])
    assert "the key 'few' may use 3 requests in a minute, and has; try again in " in error["message"]
    assert 58 <= int(refused.headers["retry-after"]) <= 61
    assert ("3", "0") == tuple(refused.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining"))
    assert 200 == (await stack.http.get("/v1/models", headers={"api-key": FEW})).status_code  # reading costs nothing
    assert "x-ratelimit-limit-requests" not in (await chat(stack, CI)).headers


async def test_a_limit_of_tokens(stack: Stack) -> None:
    """The estimate is reserved; what the answer used is what counts in the end."""
    answer = await chat(stack, MANY, max_tokens=80)
    assert ("1000", "999") == tuple(answer.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining"))
    assert "100" == answer.headers["x-ratelimit-limit-tokens"]
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 100
    assert 200 == (await chat(stack, MANY, max_tokens=80)).status_code  # 4 were used, not 83
    refused = await chat(stack, MANY, max_tokens=95)
    assert (429, "rate_limit_exceeded") == said(refused)
    assert "100 tokens" in refused.json()["error"]["message"]
    assert 200 == (await chat(stack, MANY, max_tokens=10)).status_code


async def test_official_clients_are_told_of_limits(stack: Stack) -> None:
    """Their classes for it, with the header that they wait by."""
    http: Any = httpx2.AsyncClient(transport=httpx2.ASGITransport(stack.app), base_url="http://test")
    one = openai.AsyncOpenAI(base_url="http://test/v1", api_key=FEW, http_client=http, max_retries=0)
    two = anthropic.AsyncAnthropic(base_url="http://test", api_key=FEW, http_client=http, max_retries=0)
    asked: Any = {"model": "up/ok", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(3):
        await one.chat.completions.create(**asked)
    with pytest.raises(openai.RateLimitError) as refused:
        await one.chat.completions.create(**asked)
    assert int(refused.value.response.headers["retry-after"]) > 50
    with pytest.raises(anthropic.RateLimitError):
        await two.messages.create(**asked, max_tokens=9)
    await http.aclose()


async def test_what_is_said_to_a_provider_alone_gets_round_no_key(upstream: Upstream, serve: Serve) -> None:
    """A key for some models may not have others asked within a provider's own part of a request, nor by its presets."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    keys = [{"name": "some", "key_sha256": hash_of(CI), "models": ["openrouter/ok*"]}]
    router = {"base_url": address, "api_key": "k", "models": []}
    stack = await serve({"providers": {"openrouter": router}, "server": {"keys": keys}})
    for own in ({"openrouter": {"models": ["gpt-9"]}}, {"openrouter": {"preset": "x"}}, {"preset": "x"}):
        assert (403, "model_not_allowed") == said(await chat(stack, CI, "openrouter/ok", **own))
    assert 200 == (await chat(stack, CI, "openrouter/ok", openrouter={"models": ["ok-2"]})).status_code
