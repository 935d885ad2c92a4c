"""A cluster of two nodes on this machine, and the application on it, as a process of its own.

Its first argument is the configuration. It prints a line of JSON when it can answer, and one after each line that it reads:
`lose` takes the second node away at once, as when its machine dies; `deploy REPLICAS` deploys the application anew with so
many, or with the bounds of them, as JSON.
At the end of its input it stops everything.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from typing import Any

from actors.launch import flags, free_port
from actors.watchdog import sweep


def main(config: str) -> None:
    folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
    mark = os.path.basename(folder)
    os.environ.update(flags(folder, mark))
    # A replica that is replaced still answers until HAProxy has heard of it.
    os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "5"
    # Serve would let a lost node's replica be for half a minute before it starts another.
    os.environ.update(RAY_health_check_failure_threshold="2", RAY_health_check_period_ms="500")
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from actors.app import NAME, build

    stdout, sys.stdout = sys.stdout, sys.stderr
    cluster: Any = Cluster()
    try:
        options = {"object_store_memory": 80_000_000, "include_dashboard": False}
        own = {"temp_dir": f"{folder}/r", "gcs_server_port": free_port(), "dashboard_agent_listen_port": 0}
        cluster.add_node(num_cpus=4, **own, **options)
        second = cluster.add_node(num_cpus=4, **options)
        ray.init(address=cluster.address, namespace="orchestrator", log_to_driver=False, logging_level="warning")
        port = free_port()
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        serve.run(build({"config": config, "replicas": 2}), name=NAME, route_prefix="/")

        def where() -> dict[str, list[str]]:
            """The pools, and on which node they are."""
            found: dict[str, list[str]] = {"first": [], "second": []}
            for actor in ray._private.state.actors(actor_state_name="ALIVE").values():
                node = "second" if actor["Address"]["NodeID"] == second.node_id else "first"
                found[node].append(actor["Name"] or actor["ActorClassName"])
            return found

        def tell() -> None:
            print(json.dumps({"port": port, **where()}), file=stdout, flush=True)

        tell()
        for line in sys.stdin:
            command, _, value = line.strip().partition(" ")
            if command == "lose":
                cluster.remove_node(second, allow_graceful=False)
            if command == "deploy":
                serve.run(build({"config": config, "replicas": json.loads(value)}), name=NAME, route_prefix="/")
            tell()
    finally:
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
        cluster.shutdown()
        sweep(mark, grace_s=1.0)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
