"""A Ray cluster with its dashboard, and so with a job server, as a process of its own; with the application, if it is given
one.

Its arguments are a configuration, or none. It prints a line of JSON when it can take jobs, and ends with its input.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from actors.launch import flags, free_port
from actors.watchdog import marked, sweep


def main(config: str | None) -> None:
    folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
    mark = os.path.basename(folder)
    os.environ.update(flags(folder, mark))
    import ray

    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        context = ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=free_port(),
            num_cpus=8,
            namespace="orchestrator",
            object_store_memory=200_000_000,
            log_to_driver=False,
            logging_level="warning",
            _temp_dir=f"{folder}/r",
        )
        port = None
        if config is not None:
            from ray import serve

            from actors.app import NAME, build

            port = free_port()
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(build({"config": config}), name=NAME, route_prefix="/")
        said = {"dashboard": f"http://{context.dashboard_url}", "address": context.address_info["gcs_address"]}
        print(json.dumps({**said, "port": port, "mark": mark}), file=stdout, flush=True)
        sys.stdin.read()
    finally:
        ray.shutdown()
        sweep(mark, grace_s=1.0)
        shutil.rmtree(folder, ignore_errors=True)


class Jobs:
    """The running cluster."""

    def __init__(self, config: Path | str | None = None) -> None:
        command = [sys.executable, "-m", "bench.jobs", *([] if config is None else [str(config)])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"no cluster: {self.process.communicate()[1]}")
        said: dict[str, Any] = json.loads(line)
        self.dashboard: str = said["dashboard"]
        self.address: str = said["address"]
        self.mark: str = said["mark"]
        self.url = f"http://127.0.0.1:{said['port']}/v1"

    def stop(self) -> None:
        """Ends it."""
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        """kill -9 of all of it, as when the machine dies."""
        for process in marked(self.mark):
            process.kill()
        self.process.kill()
        self.process.communicate()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
