"""The totals as Ray's own exporter shows them, on a real node, without the dashboard."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.counters import Counters


class Counting:
    """An actor that has counted something, as the control actor has."""

    def __init__(self) -> None:
        from actors.export import RayExport

        self._export = RayExport()
        self._counters = Counters()

    def count(self, number: int) -> None:
        for _ in range(number):
            self._counters.request("tier:exported", "race", "ok")
            self._counters.request_s.observe(0.5)
        self._counters.count("orchestrator_cache_total", {"outcome": "hit"}, number)
        self._export.update(self._counters)


def exported(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("ray_orchestrator_"):
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


async def test_ray_exports_the_same_totals(cluster: Any) -> None:
    """Each time what is new is added; named as in /metrics, after Ray's prefix."""
    actor = cluster.remote(num_cpus=0)(Counting).remote()
    for number in (3, 4):
        await actor.count.remote(number)
    (node,) = cluster.nodes()
    deadline_s = time.monotonic() + 60
    found: dict[str, float] = {}
    while time.monotonic() < deadline_s and found.get("ray_orchestrator_requests_total") != 7:
        await asyncio.sleep(1)
        found = await asyncio.to_thread(exported, node["MetricsExportPort"])
    cluster.kill(actor)
    assert 7 == found["ray_orchestrator_requests_total"]
    assert 7 == found["ray_orchestrator_cache_total"]
    assert 7 == found["ray_orchestrator_request_seconds_count_total"]
    assert 3.5 == found["ray_orchestrator_request_seconds_sum_total"]
