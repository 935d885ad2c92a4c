"""`orchestrator pricing`: what it prints, and what it leaves behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.pricing import cache
from orchestrator.pricing.openrouter import URL_VARIABLE
from tests.unit.pricing.listing import Listing, listing

CONFIG = """providers: {lab: {base_url: http://10.0.0.5/v1}, openrouter: {api_key: k}}
pricing: {overrides: {lab/llama: {input_per_mtok_usd: 0.05, output_per_mtok_usd: 0.08, request_usd: 0.001, image_usd: 0.5}}}
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listing]:
    with listing() as running:
        monkeypatch.setenv(URL_VARIABLE, running.url)
        yield running


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_fetch(server: Listing, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writes the file that the configuration names, and says how many prices are in it."""
    assert 0 == main(["pricing", "fetch", "--config", config])
    path = tmp_path / "pricing-cache.json"
    assert capsys.readouterr().out.endswith(f" prices in {path}\n")
    found = cache.read(str(path))
    assert found is not None
    assert found.fetched
    assert 0 == main(["pricing", "fetch", "--config", config, "--offline", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (str(path), True, True) == (said["cache"], said["offline"], said["prices"] > 300)
    assert 1 == server.asked
    assert 0 == main(["pricing", "fetch", "--config", config, "--offline"])
    assert "of the table alone" in capsys.readouterr().out


def test_fetch_that_fails(server: Listing, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and exit 1; the former file stays, if there was one."""
    server.answer = 500, [b""]
    assert 1 == main(["pricing", "fetch", "--config", config])
    assert f"prices were not fetched: {server.url} answered with HTTP 500\n" == capsys.readouterr().err
    main(["pricing", "fetch", "--config", config, "--offline"])
    before = (tmp_path / "pricing-cache.json").read_bytes()
    assert 1 == main(["pricing", "fetch", "--config", config])
    assert capsys.readouterr().err.endswith("HTTP 500; the former prices stay\n")
    assert before == (tmp_path / "pricing-cache.json").read_bytes()
    nowhere = tmp_path / "nowhere.yaml"
    nowhere.write_text(CONFIG.replace("pricing: {", "pricing: {cache: gone/prices.json, "))
    assert 1 == main(["pricing", "fetch", "--config", str(nowhere), "--offline"])
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fetch", "show"])
def test_a_bad_configuration(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with what is wrong."""
    assert 2 == main(["pricing", command, "--config", str(tmp_path / "none.yaml")])
    assert "cannot be read" in capsys.readouterr().err


def test_show(server: Listing, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the models named: by the configuration's providers, else by known names; and since when that is known."""
    asked = ["lab/llama", "openai/gpt-6-astra", "deepseek/deepseek-flash", "anthropic/claude-sonnet-4.5"]
    assert 0 == main(["pricing", "show", "--config", config, *asked])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert ["US", *asked] == [line.split()[0] for line in lines]
    assert lines[1].endswith("overrides; a call 0.001; an image 0.5")
    assert "above 272,000 tokens 20 and 75" in lines[2]
    assert "second hand" in lines[3]
    assert lines[3].endswith("; the highest of several")
    assert ["3", "15", "0.3", "3.75", "2026-11-25"] == lines[4].split()[1:6]
    assert said.err.startswith("not fetched yet")
    assert 1 == main(["pricing", "show", "--config", config, "openrouter/openai/gpt-4o-mini", "lab/x", "nobody/x"])
    assert 3 == capsys.readouterr().out.count("no price is known")
    main(["pricing", "fetch", "--config", config])
    assert 0 == main(["pricing", "show", "--config", config, "openrouter/openai/gpt-4o-mini"])
    said = capsys.readouterr()
    assert server.url in said.out
    assert f"{tmp_path}/pricing-cache.json: fetched 20" in said.err


def test_show_all(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every price there is, for people and for machines; an old file is said to be old."""
    assert 0 == main(["pricing", "show", "--config", config, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert {"cache": str(tmp_path / "pricing-cache.json"), "written_at": None, "fetched": False} == {
        name: said[name] for name in ("cache", "written_at", "fetched")
    }
    assert {"input": 0.05, "output": 0.08, "image": 0.5, "request": 0.001} == {
        name: said["prices"]["lab/llama"][name] for name in ("input", "output", "image", "request")
    }
    assert 2.5 == said["prices"]["openai/gpt-4o"]["input"]
    assert 1 == main(["pricing", "show", "--config", config, "--json", "lab/x"])
    assert {"lab/x": None} == json.loads(capsys.readouterr().out)["prices"]
    cache.write(said["cache"], {}, 1_000.0, fetched=False)
    assert 0 == main(["pricing", "show", "--config", config])
    said = capsys.readouterr()
    assert len(said.out.splitlines()) > 300
    assert "written without asking OpenRouter 1970-01-01" in said.err
    assert said.err.rstrip().endswith("days ago")


def test_the_default_configuration(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs no key, and names a file beside it."""
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    assert 0 == main(["pricing", "show", "openai/gpt-4o", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["cache"].endswith("configs/pricing-cache.json")
    assert 2.5 == said["prices"]["openai/gpt-4o"]["input"]
