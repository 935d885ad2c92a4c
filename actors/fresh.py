"""A Ray cluster of one node that this process begins, beside whatever else of Ray's is on the machine."""

from __future__ import annotations

import functools
from typing import Any

OBJECTS_BYTES = 200_000_000
"""Of the object store: what travels here is small."""


def begin(**options: Any) -> Any:
    """`ray.init` of a fresh cluster, which ends with this process; what it returns. Blocks.

    A node's agent takes jobs on port 52365, unless it is told another, for which `ray.init` has no argument. Of two clusters
    on a machine the second has no agent then, and whoever submits a job to it hears of none for ever. So it gets a port that
    is free: `orchestrator serve` stands in the way of nobody's own cluster.
    """
    import ray  # by `orchestrator serve` once it has set Ray's flags
    from ray._private import parameter

    usual = parameter.RayParams
    parameter.RayParams = functools.partial(usual, dashboard_agent_listen_port=0)
    try:
        return ray.init(address="local", object_store_memory=OBJECTS_BYTES, log_to_driver=False, **options)
    finally:
        parameter.RayParams = usual
