"""A PostgreSQL of the tests' own: the machine's programs, a temporary folder, a free port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from glob import glob
from pathlib import Path
from uuid import uuid4

import psycopg

PASSWORD = "not-so-secret"
UP_S = 30.0


def programs() -> str | None:
    """The folder with `initdb` and `postgres`; None: this machine has none."""
    if found := shutil.which("initdb"):
        return os.path.dirname(found)
    # Debian keeps them out of the path, by version.
    folders = sorted(glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    return folders[-1] if folders else None


class Postgres:
    """A server. It syncs to disk, as in production."""

    def __init__(self, folder: str) -> None:
        """`folder`: where its programs are."""
        # Short, for the socket's path; not below pytest's, which another user cannot enter.
        self._root = Path(tempfile.mkdtemp(prefix="orch-pg-", dir="/tmp"))
        self._programs = folder
        # It refuses to run as root.
        self._user = None if os.getuid() else ("postgres" if _exists("postgres") else "nobody")
        self._group = None if self._user is None else pwd.getpwnam(self._user).pw_gid
        if self._user is not None:
            shutil.chown(self._root, self._user)
        self._environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        (secret := self._root / "password").write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", "data", "-U", "orchestrator", "-A", "scram-sha-256", "--pwfile", "password", "-E", "UTF8"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _run(self, *command: str) -> None:
        program = [f"{self._programs}/{command[0]}", *command[1:]]
        subprocess.run(
            program,
            cwd=self._root,
            check=True,
            capture_output=True,
            env=self._environment,
            user=self._user,
            group=self._group,
        )

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._root}",
            "fsync=on",
        ]
        command = [f"{self._programs}/postgres", "-D", "data", *(word for one in settings for word in ("-c", one))]
        with open(self._root / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._root,
                stdout=log,
                stderr=log,
                env=self._environment,
                user=self._user,
                group=self._group,
            )
        deadline = time.monotonic() + UP_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self._root / "log").read_text()) from None
                time.sleep(0.05)

    def url(self, database: str) -> str:
        """Of a database."""
        return f"postgresql://orchestrator:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The URL of a fresh database."""
        name = f"db{uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def stop(self) -> None:
        """Stops it: whoever is connected is thrown out."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(UP_S) == 0

    def remove(self) -> None:
        """Stops it for good, at once: nobody will ask for its data again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(UP_S)
        shutil.rmtree(self._root)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
