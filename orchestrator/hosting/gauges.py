"""How busy an engine says that it is, from its /metrics."""

from __future__ import annotations

from orchestrator.hosting.affinity import Load

RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing")
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred")
CACHE = (
    "vllm:kv_cache_usage_perc",
    # Before vLLM 0.10.
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",
)
"""docs.vllm.ai/en/latest/usage/metrics, docs.sglang.ai/references/production_metrics, and the README of llama.cpp's server:
each a share of 1, whatever its name says."""


def load_of(text: str) -> Load:
    """The load in a text of Prometheus's format; what it does not say is 0. Engines of one server (data parallel) add up;
    of their caches the fullest counts."""
    running = waiting = cache = 0.0
    for line in text.splitlines():
        if line.startswith(RUNNING):
            running += _value(line, RUNNING)
        elif line.startswith(WAITING):
            waiting += _value(line, WAITING)
        elif line.startswith(CACHE):
            cache = max(cache, _value(line, CACHE))
    return Load(running, waiting, min(1.0, cache))


def _value(line: str, names: tuple[str, ...]) -> float:
    """0 for a line of another metric whose name begins alike."""
    name, _, rest = line.replace("{", " ", 1).partition(" ")
    if name not in names:
        return 0.0
    # Labels may hold spaces; a timestamp may follow the value.
    after = rest.rpartition("}")[2].split() if "}" in rest else rest.split()
    try:
        value = float(after[0])
    except (IndexError, ValueError):
        return 0.0
    return value if 0 <= value < 1e9 else 0.0
