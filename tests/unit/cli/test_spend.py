"""`orchestrator spend`: of an endpoint, and of a database."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from orchestrator.cli import main
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.records import Batch
from orchestrator.ledger.spend import spend
from orchestrator.ledger.store import Store
from tests.unit.ledger.making import attempt, request


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with two users and a split."""
    path = tmp_path / "ledger.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        records = (
            request("1", attempt(20_000), user="ada", arms={"tier:t": "new"}),
            request("2", attempt(30_000), user="ada", arms={"tier:t": "new"}, seconds=2.0),
            request("3", attempt(1_000, estimate=True), user=None, outcome="stream_cut", arms={"tier:t": "old"}),
        )
        store.write(Batch("w", 1, records))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def one(*arguments: str) -> tuple[int, str, str]:
        code = main(("spend", *arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return one


def words(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_table(run: Any, file: Path) -> None:
    """Those who spent most first, and the total; what of it is an estimate."""
    code, out, err = run("--ledger", str(file))
    assert (0, "") == (code, err)
    assert [
        "user requests attempts errors tokens cost USD unknown mean s",
        "ada 2 2 0 60 0.00000500 0 1.500",
        "(none) 1 1 1 30 0.00000010 0 -",
        "total 3 3 1 90 0.00000510 0 1.500",
        "of which 0.00000010 USD are estimates",
    ] == words(out)


def test_arms(run: Any, file: Path) -> None:
    """With their intervals, as far as there are any."""
    _, out, _ = run("--ledger", f"sqlite:///{file}", "--by", "arm")
    _, new, old, *_ = words(out)
    assert "tier:t new 2 2 0 60 0.00000500 0 1.500 1.000 (0.342 to 1.000) 0.00000250 (0.00000152 to 0.00000348)" == new
    assert "tier:t old 1 1 1 30 0.00000010 0 - 0.000 (0.000 to 0.793) 0.00000010" == old


def test_an_arm_of_which_nothing_is_known(run: Any, file: Path) -> None:
    """Its only caller left: there is no rate. Without estimates, nothing is said of them."""
    with closing(Store(f"sqlite:///{file}")) as store:
        store.forget(2e9)
        gone = request("4", attempt(None, outcome="cancelled"), outcome="cancelled", arms={"tier:t": "new"})
        store.write(Batch("w", 2, (gone,)))
    _, new, *rest = words(run("--ledger", str(file), "--by", "arm")[1])
    assert ("tier:t new 1 1 0 30 0.00000000 1 - - -", 1) == (new, len(rest))


def test_for_a_machine(run: Any, file: Path) -> None:
    """As JSON, as CSV; since and until."""
    found = json.loads(run("--ledger", str(file), "--by", "model", "--json")[1])
    assert ["sim/chat", 3, 5.1e-6] == [found["rows"][0][name] for name in ("model", "requests", "cost_usd")]
    (row,) = csv.DictReader(io.StringIO(run("--ledger", str(file), "--by", "provider", "--csv")[1]))
    assert ("sim", "0.0000051") == (row["provider"], row["cost_usd"])
    assert 0 == json.loads(run("--ledger", str(file), "--until", "2020-01-01", "--json")[1])["total"]["requests"]


def test_many(run: Any, file: Path) -> None:
    """It is said that not all are shown."""
    with closing(Store(f"sqlite:///{file}")) as store:
        store.write(Batch("v", 1, tuple(request(f"v-{n}", user=f"u{n}") for n in range(1_000))))
    _, out, _ = run("--ledger", str(file))
    assert "only the 1000 that cost most are shown; the total is of all" == out.splitlines()[-1]


def test_wrong_questions(run: Any, file: Path) -> None:
    """2, with what is wrong."""
    by = "--by: has to be one of user, key, selector, model, provider, arm, day\n"
    assert (2, "", by) == run("--ledger", str(file), "--by", "colour")
    assert (2, "", f"--ledger: there is no file {file}x\n") == run("--ledger", f"{file}x")
    code, _, err = run("--ledger", "mysql://db/x")
    assert (2, True) == (code, err.startswith("--ledger: has to be a file"))
    code, _, err = run("--ledger", "postgresql://ada:secret@127.0.0.1:9/x")
    assert (1, True) == (code, err.startswith("postgresql://ada:***@127.0.0.1:9/x: "))


class Endpoint(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    answer: Any = None
    asked: Any = None

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        status, body = type(self).answer
        query = urlsplit(self.path)
        type(self).asked = query.path, dict(parse_qsl(query.query)), self.headers.get("authorization")
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_of_an_endpoint(run: Any, file: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked the same question, with the key that a variable holds; what was lost is said."""
    with closing(Store(f"sqlite:///{file}")) as store:
        Endpoint.answer = 200, {**spend(store, Asking("day")), "lost": 3}
    monkeypatch.delenv("ORCHESTRATOR_API_KEY", raising=False)
    code, out, err = run("--url", url, "--by", "day", "--since", "7d")
    assert (0, "3 requests are missing: the ledger took no records\n") == (code, err)
    assert "day requests attempts errors tokens cost USD unknown mean s" == words(out)[0]
    assert ("/admin/spend", {"by": "day", "since": "7d"}, None) == Endpoint.asked
    monkeypatch.setenv("OTHER_KEY", "sk-orch-x")
    assert 0 == run("--url", url, "--key-env", "OTHER_KEY", "--csv")[0]
    assert ("/admin/spend", {"by": "user"}, "Bearer sk-orch-x") == Endpoint.asked


@pytest.mark.parametrize(("status", "code"), [(400, 2), (401, 2), (404, 2), (503, 1)])
def test_an_endpoint_that_refuses(run: Any, url: str, status: int, code: int) -> None:
    """Its own words; 2 where the question is to blame."""
    Endpoint.answer = status, {"error": {"message": "no"}}
    assert (code, "", "no\n") == run("--url", url)


def test_an_endpoint_that_is_away(run: Any, url: str) -> None:
    """Nobody is there, or somebody else."""
    Endpoint.answer = 404, []
    for there in ("http://127.0.0.1:1/v1", url):
        away = f"{there} cannot be reached: is `orchestrator serve` running there?\n"
        assert (1, "", away) == run("--url", there)
