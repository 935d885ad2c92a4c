"""A Ray cluster with its dashboard, and so with a job server, as a process of its own; with the application, if it is given
one.

Its arguments are a configuration, or none. It prints a line of JSON when it can take jobs, and ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from actors.fresh import begin
from actors.launch import flags, free_port
from actors.watchdog import marked, sweep


def main(config: str | None) -> None:
    folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
    mark = os.path.basename(folder)
    os.environ.update(flags(folder, mark))
    import ray

    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        context = begin(
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=free_port(),
            num_cpus=8,
            namespace="orchestrator",
            logging_level="warning",
            _temp_dir=f"{folder}/r",
        )
        # As `ray start` leaves it: of several clusters on a machine, a job finds the one that its folder names, else any.
        Path(f"{folder}/r/ray_current_cluster").write_text(context.address_info["gcs_address"])
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
        self._token = secrets.token_hex(32)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self._authentication()},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.communicate(timeout=60)
            raise AssertionError(f"no cluster: python -m bench.jobs ended with {self.process.returncode}")
        said: dict[str, Any] = json.loads(line)
        self.dashboard: str = said["dashboard"]
        self.address: str = said["address"]
        self.mark: str = said["mark"]
        self.url = f"http://127.0.0.1:{said['port']}/v1"

    def _authentication(self) -> dict[str, str]:
        # A token of its own: a user's is nobody's business here, and may not be there.
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}

    def environment(self) -> dict[str, str]:
        """Of whoever speaks with it."""
        return {**os.environ, **self._authentication(), "RAY_API_SERVER_ADDRESS": self.dashboard}

    def submit(self, spec: Path | str, *arguments: str) -> str:
        """`orchestrator batch submit`; the job's id."""
        command = [sys.executable, "-m", "orchestrator.cli", "batch", "submit", str(spec), "--python", sys.executable]
        ran = subprocess.run(
            [*command, *arguments], env=self.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip().splitlines()[-1]

    def again(self, job: str, instead: Mapping[str, str] | None = None) -> str:
        """Submits a job once more, with some texts of its command replaced; the new id.

        By the interface that `ray job submit` uses, which takes seconds to start.
        """
        before = self.ask(job)
        command = before["entrypoint"]
        for text, other in (instead or {}).items():
            command = command.replace(text, other)
        said = self.ask("", "POST", {"entrypoint": command, "runtime_env": before["runtime_env"]})
        submitted: str = said["submission_id"]
        return submitted

    def ask(self, what: str, method: str = "GET", body: Any = None) -> Any:
        """The job server's own interface: `/api/jobs/ID`."""
        headers = {"authorization": f"Bearer {self._token}"}
        answer = httpx.request(method, f"{self.dashboard}/api/jobs/{what}", headers=headers, json=body, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def wait(self, job: str, timeout_s: float = 200) -> Any:
        """The job once it has ended: its `status` and `driver_exit_code`, and what it has said, as `logs`."""
        deadline_s = time.monotonic() + timeout_s
        while (said := self.ask(job))["status"] in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline_s, self.ask(f"{job}/logs")
            time.sleep(0.2)
        return {**said, **self.ask(f"{job}/logs")}

    def processes(self, title: str) -> list[psutil.Process]:
        """Its processes whose command holds `title`."""
        found = []
        for process in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

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
