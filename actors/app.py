"""The application: a configuration becomes a Ray Serve application of coordinators over pools.

`build` is what `serve run actors.app:build config=…` and `serve deploy configs/serve.yaml` call.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve

from actors.pools import RayPools
from orchestrator.config.load import default_config, load
from orchestrator.coordinator import Coordinator
from orchestrator.wire.app import App

NAME = "orchestrator"
POOLS_UP_S = 20.0
"""How long a new coordinator waits for its pools before it begins to serve without those that do not come up."""


class CoordinatorReplica:
    """A Serve replica around `orchestrator.coordinator`, with a raw ASGI application."""

    async def __init__(self, config: str) -> None:  # type: ignore[misc]  # Serve awaits it
        self._config = load(config)
        self._pools = RayPools(self._config)
        self._coordinator = Coordinator(self._config, self._pools.calls, self._pools)
        await self._pools.up(POOLS_UP_S)

    def __serve_build_asgi_app__(self) -> App:
        # Serve sends its own x-request-id and cancels a request whose caller has left.
        return App(self._coordinator, self._config.server, own_request_id=False, watch=False)

    async def models(self) -> list[dict[str, Any]]:
        """What /v1/models lists, by handle."""
        return await self._coordinator.models()


def build(args: dict[str, Any]) -> Any:
    """The Serve application. `args`: `config` (a path that every node can read), `replicas` (default 1)."""
    unknown = set(args) - {"config", "replicas"}
    if unknown:
        raise ValueError(f"unknown arguments {', '.join(sorted(unknown))}; there is config, replicas")
    config = os.path.abspath(args.get("config") or default_config())
    load(config)  # what is wrong is said here, before anything is started
    deployment = serve.deployment(
        name="coordinator",
        num_replicas=int(args.get("replicas", 1)),
        max_ongoing_requests=10_000,
        graceful_shutdown_timeout_s=5,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": 0},
        # A line for each request costs 0.03 ms; who wants one has HAProxy's or the records of requests.
        logging_config={"enable_access_log": False},
    )(serve.ingress()(CoordinatorReplica))
    return deployment.bind(config)
