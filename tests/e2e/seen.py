"""Run beside a cluster: prints what Ray tells whoever may ask, which is what its dashboard shows."""

from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")  # Ray's own, at import

import ray  # noqa: E402
from ray import serve  # noqa: E402


def main() -> None:
    """Actors with their names and arguments, jobs, nodes, and Serve's applications with their settings."""
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error", namespace="orchestrator")
    from ray._private.state import actors, jobs, state

    print(actors(), jobs(), state.node_table(), state.cluster_metadata() if hasattr(state, "cluster_metadata") else "")
    print(ray.util.list_named_actors(all_namespaces=True), serve.status())
    client = serve.context._get_global_client()
    print(client.get_serve_details())


main()
