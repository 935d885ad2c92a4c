"""The commands that need no cluster: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.config.load import default_config, load
from orchestrator.config.operations import CallerKey
from orchestrator.keys import hash_of
from tests.upstream import completion, delta

POOLS = {
    "pools": [
        {"provider": "openai", "left_out": "OPENAI_API_KEY is not set"},
        {"provider": "gone", "problem": "TimeoutError"},
        {"provider": "fine", "in_flight": 1, "queued": 2, "sessions": 3, "accounts": [{"misconfigured": None, "models": {}}]},
        {"provider": "ill", "accounts": [{"misconfigured": "HTTP 401", "models": {
            "m": {"breaker": "open"}, "n": {"breaker": "closed"}}}]},
        {"provider": "gpu", "accounts": [], "replicas": [], "absent": "the model is being started"},
    ]
}  # fmt: skip


class Endpoint(BaseHTTPRequestHandler):
    """Just enough of an endpoint."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ("tier:fast", "a/b")]
        self._json(200, {"object": "list", "data": rows} if self.path == "/v1/models" else POOLS)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body["model"] == "tier:x":
            self._json(
                404, {"error": {"message": "unknown model 'tier:x'", "type": "x", "param": "model", "code": "x"}}
            )
        elif body["model"] == "down":
            self._json(502, {"error": {"message": "all candidates failed", "type": "x", "param": None, "code": "x"}})
        elif body.get("stream"):
            chunks = [delta("m", {"content": word}) for word in ("one ", "two")] + [{**delta("m", {}), "choices": []}]
            self._send(
                200, "text/event-stream", "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
            )
        else:
            self._json(200, completion("m"))

    def _json(self, status: int, body: Any) -> None:
        self._send(status, "application/json", json.dumps(body))

    def _send(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


Run = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def one(*arguments: str) -> Run:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return one


def test_ask(run: Any, url: str) -> None:
    """The answer's text, or all of it as JSON; streamed too."""
    assert (0, "alpha beta gamma\n", "") == run("ask", "m", "hi", "--url", url)
    assert (0, "one two\n", "") == run("ask", "m", "hi", "--stream", "--url", url)
    code, out, _ = run("ask", "m", "hi", "--json", "--url", url)
    assert (0, "up-1") == (code, json.loads(out)["id"])
    code, out, _ = run("ask", "m", "hi", "--json", "--stream", "--url", url)
    assert (0, 3) == (code, len([json.loads(line) for line in out.splitlines()]))


def test_ask_in_vain(run: Any, url: str) -> None:
    """2 where the question is wrong, 1 where nobody can answer."""
    assert (2, "", "unknown model 'tier:x'\n") == run("ask", "tier:x", "hi", "--url", url)
    assert (1, "", "all candidates failed\n") == run("ask", "down", "hi", "--url", url)
    nowhere = "http://127.0.0.1:1/v1"
    away = f"{nowhere} cannot be reached: is `orchestrator serve` running there?\n"
    for command in (("ask", "m", "hi"), ("models",), ("pools",)):
        assert (1, "", away) == run(*command, "--url", nowhere)


def test_models(run: Any, url: str) -> None:
    """One a line."""
    assert (0, "tier:fast\na/b\n", "") == run("models", "--url", url)
    assert ["tier:fast", "a/b"] == json.loads(run("models", "--json", "--url", url)[1])


def test_pools(run: Any, url: str) -> None:
    """A table, with what ails each."""
    code, out, _ = run("pools", "--url", url)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert [
        "provider in flight queued sessions state",
        "openai - - - OPENAI_API_KEY is not set",
        "gone - - - TimeoutError",
        "fine 1 2 3 ok",
        "ill - - - HTTP 401; m: open",
        "gpu - - - the model is being started",
    ] == lines
    assert POOLS["pools"] == json.loads(run("pools", "--json", "--url", url)[1])


def test_check(run: Any, tmp_path: Path) -> None:
    """What is there and what was left out; or each problem, and 2."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yml"
    good.write_text("providers: {sim: {simulate: {}}, openai: {optional: true, api_key: '${NOT_SET_ANYWHERE}'}}")
    bad.write_text("providers: {sim: {}}")
    (tmp_path / "notes.txt").write_text("{")
    said = f"{good}: providers sim; tiers none\nleft out: openai: NOT_SET_ANYWHERE is not set\n"
    kinds = "base_url, simulate, replay, vllm, command"
    wrong = f"{bad}:1: providers.sim: needs exactly one of {kinds}, or a known provider's preset\n"
    assert (0, said, "") == run("check", str(good))
    assert (2, "", wrong) == run("check", str(bad))
    assert (2, said, wrong) == run("check", str(tmp_path))
    assert (2, "", f"{tmp_path}/no:1: document: cannot be read: No such file or directory\n") == run(
        "check", f"{tmp_path}/no"
    )


def test_check_says_what_is_wrong_with_users_files(run: Any, tmp_path: Path) -> None:
    """A researcher's mistake is a mistake, though it would keep nobody else from being served."""
    config = tmp_path / "c.yaml"
    config.write_text("providers: {sim: {simulate: {}}}\nusers: users")
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "ada.yaml").write_text("experiments: {one: [sim/a]}")
    assert (0, f"{config}: providers sim; tiers none; experiments ada:one\n", "") == run("check", str(config))
    (tmp_path / "users" / "john.yaml").write_text("experiments: {two: [so/what]}")
    code, out, err = run("check", str(config))
    expected = f"{tmp_path}/users/john.yaml:1: experiments.two[0]: 'so/what' names no provider that is configured"
    assert (2, f"{expected}\n") == (code, err)
    assert f"experiments ada:one\nleft out: user:john: {expected}\n" in out
    code, out, err = run("check", "--json", str(config))
    found = json.loads(out)
    assert (2, False, [expected]) == (code, found["ok"], found["problems"])
    assert (False, [expected], ["ada:one"]) == tuple(
        found["files"][str(config)][key] for key in ("ok", "problems", "experiments")
    )


def test_check_for_a_machine(run: Any, tmp_path: Path) -> None:
    """The same as JSON, by file."""
    (tmp_path / "empty").mkdir()
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("providers: {sim: {simulate: {}}}\naliases: {gpt: sim/gpt}")
    bad.write_text("providers: {sim: {}}")
    code, out, err = run("check", "--json", str(tmp_path))
    found = json.loads(out)
    assert (2, "", False, 1) == (code, err, found["ok"], len(found["problems"]))
    row = {"ok": True, "providers": ["sim"], "tiers": [], "experiments": [], "aliases": ["gpt"], "left_out": {}}
    assert row == found["files"][str(good)]
    assert not found["files"][str(bad)]["ok"]
    code, out, _ = run("check", "--json", str(tmp_path / "empty"))
    assert (2, ["the folder has no .yaml file"]) == (code, [p.split(": ", 2)[2] for p in json.loads(out)["problems"]])


def test_the_default_configuration_needs_nothing() -> None:
    """No key, no network: the simulated provider is always there."""
    assert ["sim"] == list(load(default_config(), {}).providers)


@pytest.mark.parametrize("arguments", [(), ("serve", "--port", "x"), ("serve", "--port", "70000"), ("nothing",)])
def test_bad_arguments(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """2, and what would be right."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert 2 == ended.value.code
    assert "usage: orchestrator" in capsys.readouterr().err


def test_simulate_serves_until_it_is_told_to_stop() -> None:
    """One line with its address; Ctrl-C ends it. A port in use is refused."""
    command = [sys.executable, "-m", "orchestrator.cli", "simulate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("ready ").strip()
        port = address.split(":")[2].removesuffix("/v1")
        second = subprocess.run([*command, "--port", port], capture_output=True, text=True, timeout=30, check=False)
        began_s = time.perf_counter()
        process.send_signal(2)
        assert 0 == process.wait(10)
        assert time.perf_counter() - began_s < 5
    assert (2, True) == (second.returncode, second.stderr.startswith(f"--port: {port} cannot be used"))


def test_ctrl_c_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """130, as shells have it, without a traceback."""

    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.cli.check.run", interrupted)
    assert 130 == main(["check", "x"])


def test_a_new_key(run: Any, tmp_path: Path) -> None:
    """The key, and the line that lets it in: in a configuration, it does."""
    fields = ("--models", "tier:*", "sim/*", "--user", "ada", "--requests-per-minute", "60", "--expires", "2027-01-31")
    code, out, err = run("key", "new", "--name", "ada: 1", *fields)
    assert (2, "", "name: has to have 1 to 100 characters, and among them no space and no '/'\n") == (code, out, err)
    code, out, err = run("key", "new", "--name", "ada", *fields)
    key, line = out.splitlines()
    assert (0, True) == (code, "cannot be shown again" in err)
    file = tmp_path / "config.yaml"
    file.write_text(f"providers: {{sim: {{simulate: {{}}}}}}\nserver:\n  keys:\n{line}\n")
    (read,) = load(file, {}).callers
    expected = CallerKey("ada", hash_of(key), ("tier:*", "sim/*"), "ada", None, 60.0, expires=date(2027, 1, 31))
    assert expected == read
    code, out, _ = run("key", "new", "--name", "root", "--admin", "--budget-usd", "5", "--json")
    made = json.loads(out)
    assert {
        "name": "root",
        "key_sha256": hash_of(made["key"]),
        "models": ["*"],
        "admin": True,
        "budget_usd": 5.0,
    } == made["entry"]


def test_a_new_key_that_is_wrong(run: Any) -> None:
    """One line for each field."""
    for wrong in (("--expires", "soon"), ("--models", "a*b"), ("--requests-per-minute", "0"), ("--user", "a:b")):
        code, out, err = run("key", "new", "--name", "x", *wrong)
        assert (2, "", 1) == (code, out, len(err.splitlines()))
        assert err.startswith(wrong[0][2:].replace("-", "_"))


def test_commands_send_a_key_from_the_environment(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never from an argument; without one they say where they looked for it."""
    told: list[str | None] = []

    class Locked(Endpoint):
        def _json(self, status: int, body: Any) -> None:
            told.append(self.headers["authorization"])
            if told[-1] == "Bearer sk-right":
                super()._json(status, body)
            else:
                super()._json(401, {"error": {"message": "a key is needed", "type": "x", "param": None, "code": "x"}})

    with ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}/v1"
        for command in (("ask", "m", "hi"), ("models",), ("pools",)):
            monkeypatch.setenv("ORCHESTRATOR_API_KEY", "sk-right")
            assert 0 == run(*command, "--url", there)[0]
            said = "a key is needed (the environment variable MINE should have one)\n"
            assert (2, "", said) == run(*command, "--url", there, "--key-env", "MINE")
            monkeypatch.setenv("MINE", "sk-right")
            assert 0 == run(*command, "--url", there, "--key-env", "MINE")[0]
            monkeypatch.delenv("MINE")
        server.shutdown()
    assert {"Bearer sk-right", "Bearer none"} == set(told)
