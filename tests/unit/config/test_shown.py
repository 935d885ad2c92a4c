"""What /admin/config shows."""

from __future__ import annotations

import orjson

from orchestrator.config.load import load_mapping
from orchestrator.config.shown import shown
from orchestrator.providers import PRESETS


def test_it_is_json_without_keys() -> None:
    """Of every provider that is known by name, and of tiers and experiments of all kinds."""
    variables = {row.key_variable: "sk-secret" for row in PRESETS.values()}
    env = {**variables, "AZURE_OPENAI_ENDPOINT": "https://x.example", "AWS_REGION": "eu-west-1"}
    providers = {name: {"base_url": "http://127.0.0.1:1/v1"} if name == "vllm" else {} for name in PRESETS}
    vote = {"strategy": "consensus", "models": ["sim/a", "sim/b"], "extract": {"choice": ["A", "B"]}}
    split = {"strategy": "split", "arms": {"a": {"model": "sim/a"}}}
    config = load_mapping(
        {
            "providers": {
                **providers,
                "sim": {"simulate": {}},
                "two": {"preset": "openai", "api_key": ["k-one", "k-two"]},
                "gpu": {"vllm": {"model": "m", "env": {"HF_TOKEN": "secret"}}},
            },
            "tiers": {"vote": vote, "split": split},
            "users": {"john": {"experiments": {"e": vote}}},
            "rollout": {"percent": 5, "allow": ["ada"]},
            "ledger": {
                "url": "postgresql://ada:secret@db:5433/ledger?password=secret",
                "alerts": {"webhook": "https://bot:secret@hooks.example/T0/secret"},
            },
            "server": {"keys": [{"name": "ci", "key_sha256": "c0ffee01" * 8, "expires": "2027-01-31"}]},
        },
        env,
    )
    text = orjson.dumps(shown(config)).decode()
    assert "secret" not in text
    assert "k-one" not in text
    assert "c0ffee" not in text
    found = orjson.loads(text)
    assert (1, 2) == (found["providers"]["openai"]["accounts"], found["providers"]["two"]["accounts"])
    assert [("ci", "2027-01-31")] == [(row["name"], row["expires"]) for row in found["callers"]]
    assert ["HF_TOKEN", "VLLM_API_KEY"] == found["providers"]["gpu"]["hosted"]["env"]
    assert {"percent": 5.0, "allow": ["ada"], "deny": [], "seed": ""} == found["rollout"]
    assert "postgresql://ada:***@db:5433/ledger?***" == found["ledger"]["url"]
    assert "https://hooks.example/***" == found["ledger"]["alerts"]["webhook"]
    assert ["A", "B"] == found["experiments"]["john:e"]["strategy"]["extract"]["choice"]


def test_a_ledger_without_a_password_is_shown_as_it_is() -> None:
    """A file's path; an address without anybody's name."""
    for url in ("sqlite:////var/ledger.db", "postgresql://db/ledger", "postgresql://ada@db/ledger"):
        config = load_mapping({"providers": {"sim": {"simulate": {}}}, "ledger": {"url": url}}, {})
        assert url == shown(config)["ledger"]["url"]
        assert shown(config)["ledger"]["alerts"]["webhook"] is None
