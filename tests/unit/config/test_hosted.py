"""Local models as they are written down: `vllm:` and `command:` come to one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.load import load
from orchestrator.config.settings import Hosted, Provider, Replicas

Reading = Callable[[str], Provider]


@pytest.fixture
def provider(tmp_path: Path) -> Reading:
    """The provider `gpu` of a configuration's text."""

    def read(text: str) -> Provider:
        file = tmp_path / "config.yaml"
        file.write_text(f"providers:\n  gpu: {text}\n")
        return load(file, {}).providers["gpu"]

    return read


def hosted(provider: Reading, text: str) -> Hosted:
    found = provider(text).hosted
    assert found is not None
    return found


def test_vllm_becomes_a_command_whose_key_no_list_of_processes_shows(provider: Reading) -> None:
    """The address is filled in on the node; the key goes by the environment."""
    found = hosted(provider, "{vllm: {model: Qwen/Qwen3-8B, served_name: qwen, args: [--max-model-len, '8192']}}")
    server = ("{python}", "-m", "vllm.entrypoints.openai.api_server", "--host", "{host}", "--port", "{port}")
    named = ("--model", "Qwen/Qwen3-8B", "--served-model-name", "qwen", "--max-model-len", "8192")
    assert (*server, *named) == found.command
    assert {"VLLM_API_KEY": "{key}"} == found.env
    assert (1.0, Replicas(1, 1), ("qwen",)) == (found.gpus, found.replicas, found.serves)


def test_its_pool_is_vllms_own(provider: Reading) -> None:
    """It continues a text, knows vLLM's own fields, and gets as many calls at once as it takes by itself."""
    found = provider("{vllm: {model: m}}")
    assert found.options_of("m").prefill is True
    assert "vllm" == found.quirks.extension
    assert 256 == found.pool.concurrency
    few = provider("{vllm: {model: m}, pool: {concurrency: 3}}")
    assert 3 == few.pool.concurrency


@pytest.mark.parametrize(
    ("section", "added"),
    [
        ("gpus: 4", ("--tensor-parallel-size", "4")),
        ("gpus: 0.5", ()),
        ("gpus: 4, args: [--pipeline-parallel-size=4]", ("--pipeline-parallel-size=4",)),
        ("gpus: 4, args: [-dp, '4']", ("-dp", "4")),
    ],
)
def test_several_gpus_are_a_tensor_parallel_model(provider: Reading, section: str, added: tuple[str, ...]) -> None:
    """Unless its arguments say how else they are used."""
    assert added == hosted(provider, f"{{vllm: {{model: m, {section}}}}}").command[11:]


def test_paths_that_begin_with_a_dot_start_at_the_file(provider: Reading, tmp_path: Path) -> None:
    """Programs and models; a bare name is looked up where it runs."""
    found = hosted(provider, "{vllm: {model: ./models/tiny, python: ../env/bin/python}}")
    assert f"{tmp_path}/../env/bin/python" == found.command[0]
    assert f"{tmp_path}/models/tiny" == found.command[8]
    assert ("llama-server", "{port}") == hosted(provider, "{command: [llama-server, '{port}']}").command
    assert f"{tmp_path}/bin/server" == hosted(provider, "{command: [./bin/server, '{port}']}").command[0]


def test_any_engine_has_the_same_keys_beside_its_command(provider: Reading) -> None:
    """`gpus`, `replicas`, `env` and times; it needs no GPU unless it says so."""
    found = hosted(
        provider,
        "{command: [sglang, --port, '{port}'], gpus: 2, replicas: {min: 0, max: 4, idle_s: 60}, env: {SGLANG_KEY: '{key}'}, "
        "cold_start_s: 30, hang_s: 5}",
    )
    assert Replicas(0, 4, idle_s=60) == found.replicas
    assert (2.0, 30.0, 5.0, {"SGLANG_KEY": "{key}"}) == (found.gpus, found.cold_start_s, found.hang_s, dict(found.env))
    assert ("sglang", "--port", "{port}") == found.command
    plain = hosted(provider, "{command: [server], env: {PORT: '{port}'}}")
    assert (0.0, Replicas(1, 1), ()) == (plain.gpus, plain.replicas, plain.serves)


def test_the_one_to_start_from_is_right() -> None:
    """configs/local.yaml, with the variables that it may be given."""
    file = Path(__file__).resolve().parents[3] / "configs" / "local.yaml"
    config = load(file, {"LOCAL_MODEL": "./tiny", "VLLM_PYTHON": "/env/bin/python", "OPENAI_API_KEY": "k"})
    found = config.providers["gpu"].hosted
    assert found is not None
    assert ("/env/bin/python", ("chat",)) == (found.command[0], found.serves)
    assert ("gpu/chat", "openai/gpt-4o-mini", "sim/chat") == config.tiers["home"].models
