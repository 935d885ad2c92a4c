"""vLLM itself behind the endpoint: one served cluster whose local model is a tiny one with random weights."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bench.serving import Served
from tests.upstream import Upstream, running

PYTHON = os.environ.get("VLLM_PYTHON", "")
"""The interpreter that has vLLM; `make test-vllm` says it."""
GPUS = int(os.environ.get("VLLM_GPUS", "0"))
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
ARGS = [
    "--max-model-len=4096",
    "--enforce-eager",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    # Random weights would write spaces between an object's fields until the end of time.
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
]


def settings(model: Path, *args: str, **more: object) -> dict[str, object]:
    """A provider's `vllm:`."""
    return {
        "vllm": {
            "model": str(model), "served_name": "tiny", "python": PYTHON, "gpus": GPUS, "args": [*ARGS, *args],
            "env": {} if GPUS else ON_CPU, "cold_start_s": 400, **more,
        }
    }  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model."""
    if not PYTHON:
        pytest.skip("VLLM_PYTHON does not say which interpreter has vLLM: run `make test-vllm`")
    folder = tmp_path_factory.mktemp("vllm") / "tiny"
    script = Path(__file__).with_name("tiny.py")
    subprocess.run(
        [PYTHON, str(script), str(folder)], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return folder


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """An upstream that cuts its streams, on a loop of its own."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def served(model: Path, upstream: Upstream) -> Iterator[Served]:
    """The endpoint. Beside the model that is always up, some that are started when somebody asks."""
    scaled = {"replicas": {"min": 0, "max": 1, "idle_s": 1}}
    providers = {
        "gpu": settings(model, "--enable-lora", f"--lora-modules=other={model / 'lora'}", "--max-lora-rank=8"),
        "vectors": settings(model, "--runner=pooling", "--convert=embed", **scaled),
        "wrong": settings(model, "--no-such-argument", **scaled),
        # Of one GPU there are no halves.
        **({} if GPUS else {"halves": settings(model, "--tensor-parallel-size=2", **scaled)}),
        "up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "models": []},
    }
    config = model.with_name("config.yaml")
    tiers = {"resumed": ["up/cut-2", "gpu/tiny"]}
    config.write_text(yaml.safe_dump({"providers": providers, "tiers": tiers}))
    endpoint = Served(config)
    yield endpoint
    endpoint.stop()
    assert [] == endpoint.left()
