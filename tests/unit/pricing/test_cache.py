"""The file of prices: merged with the table, written whole or not at all, and read with care."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from orchestrator.config.live import Live
from orchestrator.config.load import load, load_mapping
from orchestrator.config.shown import shown
from orchestrator.errors import ConfigError
from orchestrator.pricing import cache
from orchestrator.pricing.openrouter import read
from orchestrator.pricing.price import Price
from orchestrator.pricing.rows import Lists
from orchestrator.pricing.table import table
from tests.unit.pricing.listing import LISTED

TODAY = "2026-12-01"
FETCHED = read(LISTED, TODAY)
ENV = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "OPENROUTER_API_KEY": "k", "GROQ_API_KEY": "k"}
CONFIG = "providers: {openai: {}, anthropic: {}, openrouter: {}, groq: {}, sim: {simulate: {}}}\n"


def inputs(lists: Lists, *names: str) -> list[float | None]:
    found = [lists.get(name.split("/", 1)[0], {}).get(name.split("/", 1)[1]) for name in names]
    return [None if price is None else price.input_per_mtok_usd for price in found]


def test_the_table_and_what_was_fetched() -> None:
    """OpenRouter's prices are its own, and those of whom it passes on: new models, and changed prices. A row of the table
    that agrees stays, with its further parts; one of another host never comes from there."""
    lists = cache.merged(table(), FETCHED)
    assert dict(FETCHED) == lists["openrouter"]
    assert [4.0, 1.0, 0.15] == inputs(lists, "anthropic/claude-opus-7-5", "openai/gpt-4.1", "groq/openai/gpt-oss-120b")
    assert [None, None] == inputs(lists, "openai/gpt-oss-120b", "deepseek/deepseek/deepseek-flash")
    assert table()["openai"]["gpt-4o-mini"] == lists["openai"]["gpt-4o-mini"]
    assert 6.0 == lists["anthropic"]["claude-sonnet-4-5"].cache_write_1h_per_mtok_usd
    old = cache.merged(table(), read(LISTED, "2020-01-01"))
    assert table()["openai"]["gpt-4.1"] == old["openai"]["gpt-4.1"]


def test_a_newer_table_is_not_hidden() -> None:
    """Of two rows of one model the later one holds; the file's, if they are of one day."""
    row = Price(input_per_mtok_usd=1.0, output_per_mtok_usd=1.0, date="2026-11-25")
    older, later = replace(row, input_per_mtok_usd=2.0, date="2026-11-24"), replace(row, input_per_mtok_usd=3.0)
    both = cache.newer({"s": {"a": row, "b": row, "only": row}}, {"s": {"a": older, "b": later}, "t": {"c": later}})
    assert [1.0, 3.0, 1.0, 3.0] == inputs(both, "s/a", "s/b", "s/only", "t/c")


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With when, and whether anybody was asked; anybody may read it."""
    path = str(tmp_path / "prices.json")
    lists = cache.merged(table(), FETCHED)
    cache.write(path, lists, 1_000.5, fetched=True)
    found = cache.read(path)
    assert found is not None
    assert ({name: dict(rows) for name, rows in lists.items()}, 1_000.5, True) == found
    assert 0o644 == os.stat(path).st_mode & 0o777
    assert {"schema", "fetched_at", "written_at", "sellers"} == orjson.loads(Path(path).read_bytes()).keys()
    cache.write(path, {}, 2_000.0, fetched=False)
    assert cache.Cached({}, 2_000.0, False) == cache.read(path)


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and nothing beside it; it is flushed before it takes the name."""
    path = tmp_path / "prices.json"
    cache.write(str(path), {}, 1.0, fetched=True)
    before = path.read_bytes()
    done: list[str] = []
    fsync = os.fsync

    def flushed(handle: int) -> None:
        done.append("flushed")
        fsync(handle)

    def fails(*_: object) -> None:
        done.append("named")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        cache.write(str(path), {"s": {}}, 2.0, fetched=True)
    assert (["flushed", "named"], before, [path]) == (done, path.read_bytes(), [*tmp_path.iterdir()])
    monkeypatch.undo()
    with pytest.raises(OSError, match="No such file"):
        cache.write(str(tmp_path / "gone" / "prices.json"), {}, 2.0, fetched=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'{"schema": 2}', b'{"schema": 1}', b'{"schema": 1, "sellers": 3}',
     b'{"schema": 1, "written_at": 1, "fetched_at": 1, "sellers": {"a": {"b": {"input": "x", "output": 1}}}}',
     b'{"schema": 1, "written_at": "x", "fetched_at": 1, "sellers": {}}'],
)  # fmt: skip
def test_one_that_is_of_no_use_counts_as_none(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Which is logged, in one line; the table remains."""
    path = tmp_path / "prices.json"
    path.write_bytes(content)
    assert None is cache.read(str(path))
    assert ["cannot be used"] == ["cannot be used" for one in caplog.messages if "cannot be used" in one]
    assert None is cache.read(str(tmp_path / "none.json"))
    assert None is cache.read(f"{path}\0")


def test_one_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even read."""
    path = tmp_path / "prices.json"
    path.write_bytes(b" " * 100)
    monkeypatch.setattr(cache, "MOST_BYTES", 99)
    assert None is cache.read(str(path))


def test_a_configuration_has_overrides_over_the_file_over_the_table(tmp_path: Path) -> None:
    """The file beside it, without a section too, which then is never refreshed; unlisted models by a pattern, of which the
    longest wins."""
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    prices = load(config, ENV).prices
    assert (str(tmp_path / "pricing-cache.json"), None, 0.0) == (prices.cache, prices.written_s, prices.refresh_h)
    found = prices.of("openai", "gpt-4.1")
    assert found is not None
    assert 2.0 == found.input_per_mtok_usd
    cache.write(prices.cache, cache.merged(table(), FETCHED), 5.0, fetched=True)
    prices = load(config, ENV).prices
    assert (5.0, 0.0) == (prices.written_s, prices.refresh_h)
    found = prices.of("openai", "gpt-4.1")
    assert found is not None
    assert 1.0 == found.input_per_mtok_usd
    assert None is prices.of("sim", "chat")
    rows = [("openai/gpt-4.1", 7), ("sim/*", 8), ("sim/a-*", 9), ("groq/x", 0)]
    overrides = ", ".join(f'"{name}": {{input_per_mtok_usd: {usd}, output_per_mtok_usd: 1}}' for name, usd in rows)
    config.write_text(f"{CONFIG}pricing: {{overrides: {{{overrides}}}}}")
    prices = load(config, ENV).prices
    assert 24.0 == prices.refresh_h
    asked = [("openai", "gpt-4.1"), ("sim", "chat"), ("sim", "a-b"), ("groq", "x"), ("openrouter", "openai/gpt-4.1")]
    given = [price.input_per_mtok_usd for one in asked if (price := prices.of(*one)) is not None]
    assert [7.0, 8.0, 9.0, 0.0, 1.0] == given


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{overrides: {opena/x: PRICE}}", "pricing.overrides.opena/x: there is no provider 'opena'; did you mean 'openai'?"),
        ("{overrides: {gpt-4o: PRICE}}", "pricing.overrides.gpt-4o: has to be a selector such as openai/gpt-4o, or openai/*"),
        ("{overrides: {openai/*-mini: PRICE}}", "pricing.overrides.openai/*-mini: may have one '*', at its end"),
        ("{cache: ' '}", "pricing.cache: has to be a file's path"),
        ("{refresh_h: -1}", "pricing.refresh_h: has to be at least 0.0"),
        ("{overrides: {openai/x: {input_per_mtok_usd: -1, output_per_mtok_usd: 1}}}",
         "pricing.overrides.openai/x.input_per_mtok_usd: has to be at least 0.0"),
        ("{overrides: {openai/x: {input_per_mtok_usd: .nan, output_per_mtok_usd: 1}}}",
         "pricing.overrides.openai/x.input_per_mtok_usd: has to be at most 1000000.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_section(section: str, problem: str, tmp_path: Path) -> None:
    """One line, with file, line and key."""
    config = tmp_path / "c.yaml"
    price = "{input_per_mtok_usd: 1, output_per_mtok_usd: 1}"
    config.write_text(f"{CONFIG}pricing: {section.replace('PRICE', price)}")
    with pytest.raises(ConfigError) as wrong:
        load(config, ENV)
    assert (f"{config}:2: {problem}",) == wrong.value.problems


def test_new_prices_are_a_new_snapshot(tmp_path: Path) -> None:
    """By the file's time and size, as soon as it has settled; who lacks a price has it then."""
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    live = Live(str(config), lambda path: load(path, ENV))
    live.reload()
    assert live.snapshot is not None
    prices, version = live.snapshot.config.prices, live.snapshot.version
    assert None is prices.of("openrouter", "openai/gpt-4o-mini")
    assert [False, False] == [live.look(), live.look()]
    cache.write(prices.cache, cache.merged(table(), FETCHED), 5.0, fetched=True)
    assert [False, True, False] == [live.look(), live.look(), live.look()]
    assert live.snapshot.version > version
    assert None is not live.snapshot.config.prices.of("openrouter", "openai/gpt-4o-mini")
    os.unlink(prices.cache)
    assert [False, True, False] == [live.look(), live.look(), live.look()]
    assert None is live.snapshot.config.prices.of("openrouter", "openai/gpt-4o-mini")


def test_they_travel_small(tmp_path: Path) -> None:
    """A configuration holds the lists of those it buys from alone; with 500 models of OpenRouter's less than 100 kB."""
    many = {f"maker/model-{i}": FETCHED["openai/gpt-6-astra"] for i in range(500)}
    fetched = {name: replace(price, input_per_mtok_usd=float(i)) for i, (name, price) in enumerate(many.items())}
    config = tmp_path / "c.yaml"
    config.write_text("providers: {openrouter: {}}")
    cache.write(str(tmp_path / "pricing-cache.json"), cache.merged(table(), fetched), 5.0, fetched=True)
    prices = load(config, ENV).prices
    assert {"openrouter"} == prices.lists.keys()
    data = pickle.dumps(prices, 5)
    assert len(data) < 100_000
    assert prices == pickle.loads(data)


def test_what_admin_shows_of_prices() -> None:
    """How many there are, and each override."""
    override = {"input_per_mtok_usd": 1.0, "output_per_mtok_usd": 2.0}
    data = {"providers": {"openai": {"api_key": "k"}}, "pricing": {"refresh_h": 0, "overrides": {"openai/x": override}}}
    found = shown(load_mapping(data, {}))["prices"]
    assert {"openai": "openai"} == found["bought_from"]
    assert {"openai": len(table()["openai"])} == found["known"]
    assert {"openai/x": {"input": 1.0, "output": 2.0, "source": "overrides", "date": ""}} == found["overrides"]
