"""One Ray cluster for the tests of this folder, in this process, with its own ports and folder. It ends with them: an idle
one costs a tenth of a core."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="package")
def cluster() -> Iterator[Any]:
    """Ray, initialised; ended by what was started."""
    os.environ.update(RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0", ORCHESTRATOR_RELAY_HOST="127.0.0.1")
    folder = tempfile.mkdtemp(prefix="orch-test-", dir="/tmp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, at import and start
        import ray

        from actors.fresh import begin

        begin(num_cpus=4, include_dashboard=False, namespace="test", _temp_dir=folder)
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
