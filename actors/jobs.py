"""`orchestrator batch submit`: `ray job submit` with a working directory that holds what the spec needs, and nothing else."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from orchestrator.batch.package import LARGE_BYTES, pack
from orchestrator.batch.spec import load_spec
from orchestrator.errors import ConfigError

AGENT_S = 40.0
"""How long a cluster's agent may take to be there after its dashboard: with a loaded machine it took 20 s."""
AGAIN_S = 0.5


def submit(args: argparse.Namespace) -> int:
    """Submits a batch; returns the exit code: 2 for bad input, 1 where the cluster is not to be reached."""
    try:
        # The results are to outlive the job's copy of the folder: where they are is said in full.
        spec = load_spec(args.spec, output=args.output)
    except ConfigError as error:
        return _fail(str(error), 2)
    with tempfile.TemporaryDirectory(prefix="orch-job-") as folder:
        try:
            packed = pack(args.spec, folder)
        except ConfigError as error:
            return _fail(str(error), 2)
        if packed.size_bytes > LARGE_BYTES:
            what = f"{packed.size_bytes / 1e6:.0f} MB are uploaded: put the input where the cluster can read it"
            print(f"warning: {what}, and give an absolute path", file=sys.stderr)
        command = [args.python, "-m", "actors.batch", packed.spec, "--output", spec.output, *_passed_on(args)]
        try:
            client = JobSubmissionClient(args.address)
            job = _submitted(client, shlex.join(command), folder)
        except (ConnectionError, RuntimeError, AuthenticationError) as error:
            reason = str(error).strip().splitlines()[0]
            return _fail(
                f"no job can be submitted: {reason} (--address, or RAY_API_SERVER_ADDRESS, names the cluster)", 1
            )
    address = "" if args.address is None else f" --address {args.address}"
    print(job)
    print(f"results will be in {spec.output}, on the node that runs the job", file=sys.stderr)
    print(f"ray job logs {job} --follow{address}\nray job stop {job}{address}", file=sys.stderr)
    return 0


def _submitted(client: JobSubmissionClient, entrypoint: str, folder: str) -> str:
    """The job's id. A cluster that has just begun answers before it can take a job. Raises what the client raises."""
    deadline_s = time.monotonic() + AGENT_S
    while True:
        try:
            job: str = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": folder})
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline_s:
                raise
            time.sleep(AGAIN_S)
        else:
            return job


def _passed_on(args: argparse.Namespace) -> list[str]:
    """The options of `batch run` that the job is given."""
    said: list[str] = []
    for name in ("limit", "sample", "seed", "connect"):
        if (value := getattr(args, name)) is not None:
            said += [f"--{name}", str(value)]
    return said + [f"--{name.replace('_', '-')}" for name in ("retry_failed", "force") if getattr(args, name)]


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
