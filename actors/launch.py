"""`orchestrator serve`: a Ray cluster of its own on this machine, the application on it, and a clean end.

Ray and Serve read their flags when they are imported, in every process: so all of them are set here first, and Ray is
imported after.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TextIO

from actors.edge import IMPORT_PATH
from actors.fresh import begin
from actors.names import NAMESPACE, RELAY_HOST
from actors.terminal import Terminal
from actors.watchdog import MARK, sweep
from orchestrator.config.load import load
from orchestrator.errors import ConfigError
from orchestrator.logs import SOCKET

READY_S = 120.0
PORTS = range(20_000, 30_000)
BLOCK = 20
"""How many of them a process looks at first."""
DRAIN_S = 5.0
"""How long requests that are in flight may take when it is told to stop."""
STOP_S = 4.0
"""How long Serve may take to stop; then its processes are ended."""

EVERYWHERE = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": IMPORT_PATH,
    # Ray's workers run at nice 15 unless told otherwise.
    "RAY_worker_niceness": "0",
    # glibc gives threads arenas of their own, and what one allocates and another frees stays: a coordinator grew by 55
    # bytes a request over 115,000 requests, by 1 byte with two arenas.
    "MALLOC_ARENA_MAX": "2",
    # Whenever coordinators come or go HAProxy is started anew, on every node, and the one before ends what it still carries
    # after so many seconds. With Ray's 120, of ten streams of 170 s the five on another coordinator were cut 125 s after one
    # had been killed; with 600 none was. As long as a call may take (`timeouts.total_s`).
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "600",
}
"""The environment in which Ray starts on every node of any cluster; and RAY_SERVE_HAPROXY_NBTHREAD, its number of cores.
Measured: 5.0 ms of CPU a request without, 0.39 ms with. HAProxy needs Linux; elsewhere Serve's own proxy serves.

cluster.yaml, configs/kuberay.yaml, Dockerfile and README.md say the same: tests/unit/test_cluster_files.py compares them."""

INSECURE = (
    "WARNING: --insecure: {} can be reached by other machines, and no key is asked for: whoever reaches it may use every "
    "provider here, read /admin, and reload the configuration"
)

_given: set[int] = set()
"""Ports that this process has given to somebody."""

_log = logging.getLogger("orchestrator.serve")


def free_port() -> int:
    """A port that nobody listens on now, and that the system gives to nobody of itself.

    Ray's own services take whatever port they are given while a cluster starts: one of those (32768 and above on Linux)
    may be gone by the time it is used.
    """
    return next(_free_ports())


def _free_ports(but: int | None = None) -> Iterator[int]:
    """All of them, each once; `but`: one that somebody will want."""
    # Between this look and its use a port is nobody's: processes that start in the same moment look in different places
    # first, since their numbers are near each other, and none gives a port twice.
    first = PORTS.start + os.getpid() * BLOCK % len(PORTS)
    own = range(first, first + BLOCK)
    others = [port for port in PORTS if port not in own]
    for port in [*random.sample(own, BLOCK), *random.sample(others, len(others))]:
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != but:
            _given.add(port)
            yield port
    raise OSError(f"no port between {PORTS.start} and {PORTS.stop - 1} is free")


def flags(folder: str, mark: str, port: int | None = None) -> dict[str, str]:
    """The environment of every process of a cluster on this machine: `EVERYWHERE`, and what keeps it apart from others.

    `port` is where the endpoint will be: it is left to that.
    """
    ports = map(str, _free_ports(but=port))
    env = EVERYWHERE | {
        MARK: mark,
        SOCKET: f"{folder}/l",
        RELAY_HOST: "127.0.0.1",
        # A port that every request of a second cluster would otherwise reach for.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": next(ports),
        # Serve waits at least this long before it stops a replica; it has nobody to wait for here.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if sys.platform == "linux":
        env |= {
            "RAY_SERVE_HAPROXY_NBTHREAD": str(os.cpu_count() or 1),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/a",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/s",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/m",
            "RAY_SERVE_HAPROXY_STATS_PORT": next(ports),
            "RAY_SERVE_HAPROXY_METRICS_PORT": next(ports),
        }
    else:
        del env["RAY_SERVE_ENABLE_HA_PROXY"], env["RAY_SERVE_HAPROXY_METRICS_ENABLED"]
        _log.warning("HAProxy needs Linux: Serve's own proxy is used, which costs about ten times the CPU a request")
    return env


def _fail(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - a command's one line of what is wrong
    return 2


class Address(NamedTuple):
    """Where the endpoint is bound."""

    host: str
    """An address, not a name."""
    port: int

    @property
    def local(self) -> bool:
        """Whether it is this machine's alone."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def bind(self) -> str:
        """As Serve takes it. It makes `*` of `::` for HAProxy, which is IPv4's alone."""
        return "::0" if self.host == "::" else self.host

    @property
    def url(self) -> str:
        """Where it can be asked from this machine, without a path."""
        near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{near}]:{self.port}" if ":" in near else f"http://{near}:{self.port}"


def address_of(host: str, port: int) -> Address:
    """Raises OSError where the host is none of this machine's, or the port is taken."""
    if host == "localhost":
        host = "127.0.0.1"  # both families' loopback on many machines: one will do
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    family, where = found[0], found[4]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
    return Address(str(where[0]), port)


def serve(config: str, host: str, port: int, replicas: int = 1, *, insecure: bool = False) -> int:
    """Serves until it is told to stop. Returns the exit code: 2 for bad input, 1 where it could not start."""
    try:
        loaded = load(config)
    except ConfigError as error:
        return _fail(str(error))
    try:
        address = address_of(host, port)
    except socket.gaierror as error:
        return _fail(f"--host: {host} is no address: {error.strerror}")
    except OSError as error:
        return _fail(f"--port: {port} cannot be used: {error.strerror}; is something else being served there?")
    if not address.local and not loaded.callers:
        if not insecure:
            return _fail(
                f"--host: {host} can be reached by other machines, and the configuration asks for no keys: add some "
                "(`orchestrator key new`), bind a loopback address, or say --insecure"
            )
        print(INSECURE.format(host), file=sys.stderr)  # noqa: T201
    for name, reason in loaded.left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)  # noqa: T201
    # Short and private: HAProxy's socket lies in it, below a folder of 56 characters, and 107 is the limit.
    folder = tempfile.mkdtemp(prefix="orch-", dir="/tmp")
    mark = Path(folder).name
    watchdog = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "actors.watchdog", mark, folder], stdin=subprocess.PIPE, start_new_session=True
    )
    os.environ.update(flags(folder, mark, port))
    terminal = Terminal(os.environ[SOCKET], sys.stderr)
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(130)  # asked twice: the watchdog does the rest
        stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    code = 1
    # Standard output carries the one line that says ready; whatever Ray prints goes where its warnings go.
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        code = _serve(config, address, replicas, insecure, folder, stopping, stdout)
    finally:
        # What stopping one thing makes another one say is of no use to anybody.
        terminal.close()
        _end(mark)
        assert watchdog.stdin is not None
        watchdog.stdin.close()
        watchdog.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _serve(
    config: str, address: Address, replicas: int, insecure: bool, folder: str, stopping: threading.Event, stdout: TextIO
) -> int:
    import ray
    from ray import serve as ray_serve

    from actors.app import NAME, build

    begin(
        include_dashboard=False,
        # Nothing here asks Ray for CPUs: gates bound the load. Ray only counts them.
        num_cpus=max(4, os.cpu_count() or 1),
        namespace="orchestrator",
        logging_level="warning",
        _temp_dir=f"{folder}/r",
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if stopping.is_set():
        return 0
    ray_serve.start(http_options={"host": address.bind, "port": address.port})
    keyless = "here" if address.local else "anybody" if insecure else "nobody"
    arguments = {"config": config, "replicas": replicas, "drain_s": STOP_S, "keyless": keyless}
    ray_serve.run(build(arguments), name=NAME, route_prefix="/")
    url = address.url
    deadline = time.monotonic() + READY_S
    reason = "it did not answer"
    while not stopping.is_set():
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):  # noqa: S310 - our own address
                break
        except urllib.error.HTTPError as error:
            reason = error.read(2000).decode(errors="replace")
        except OSError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            print(f"not ready within {READY_S:g} s: {reason}", file=sys.stderr)  # noqa: T201
            return 1
        time.sleep(0.1)
    if not stopping.is_set():
        print(f"ready {url}/v1", file=stdout, flush=True)
    stopping.wait()
    _drain(ray)
    return 0


def _drain(ray: Any) -> None:
    """Lets what is in flight come to its end, for a while; what comes meanwhile is refused with 503."""
    from actors.control import NAME

    try:
        ray.get(ray.get_actor(NAME, NAMESPACE).drain.remote(DRAIN_S), timeout=DRAIN_S + 1)
    except (ray.exceptions.RayError, ValueError) as error:
        _log.warning("stopped without draining: the control actor is away (%s)", type(error).__name__)


def _end(mark: str) -> None:
    """Stops Serve, then Ray, then whatever is left."""
    if "ray" in sys.modules:
        import ray
        from ray import serve as ray_serve

        if ray.is_initialized():
            stopper = threading.Thread(target=ray_serve.shutdown, daemon=True)
            stopper.start()
            stopper.join(STOP_S)
            ray.shutdown()
    # The watchdog bears the mark of nobody: it was started before.
    sweep(mark, grace_s=1.0)
