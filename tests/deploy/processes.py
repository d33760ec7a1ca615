"""The services of the compose file as plain processes on loopback: same commands, environment, secrets and health checks.

In: a folder, a PostgreSQL server and an object store of tests/services. Out: processes by the names of their services, each stopped by its id. What a container gives,
addresses, ports and mounts, is put in by a list of replacements; each of them must be found, so that the file cannot change unseen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2

from orchestration.settings import PROJECT_ROOT
from tests.deploy import compose
from tests.services.object_store import ObjectStore
from tests.services.postgres import Postgres

BINARIES = Path(sys.executable).parent


@dataclass
class Deployment:
    """What stands for the containers: a folder for volumes and secrets, and what runs."""

    folder: Path
    settings: dict[str, str]
    postgres: Postgres
    objects: ObjectStore
    binaries: Path
    """Of PostgreSQL: psql and pg_dump."""
    code_port: int = field(default_factory=lambda: _free_port())
    web_port: int = field(default_factory=lambda: _free_port())
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = self.folder / "compose"
        shutil.copytree(
            compose.FOLDER, self.config, ignore=shutil.ignore_patterns("secrets", ".env")
        )
        self._script("make_secrets.sh")
        self.secrets = self.config / "secrets"
        (self.secrets / "volcast.env").chmod(0o600)  # a container mounts it read-only
        workspace = self.config / "workspace.yaml"
        text = workspace.read_text()
        assert "port: 4000\n" in text
        workspace.write_text(text.replace("port: 4000\n", f"port: {self.code_port}\n"))
        self.file = compose.loaded({"VOLCAST_TAG": "test", "VOLCAST_SITE": "test", **self.settings})
        self._replaced: set[str] = set()

    @property
    def home(self) -> Path:
        return self.folder / "data" / "volcast"

    def make_databases(self) -> None:
        """What PostgreSQL's image does with an empty volume."""
        server = self.postgres
        login = {
            "POSTGRES_USER": server.user,
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGPASSWORD": server.password,
        }
        self._script("init-databases.sh", **login)

    def dump(self, database: str) -> str:
        """Everything that a database holds, as text."""
        server = self.postgres
        command = [self.binaries / "pg_dump", "-h", server.host, "-p", str(server.port), "-U", server.user, "--inserts", database]  # fmt: skip
        done = subprocess.run(command, env={"PGPASSWORD": server.password}, capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout

    def backup(self, into: Path) -> str:
        server = self.postgres
        return self._script(
            "backup-databases.sh", str(into), PGHOST=server.host, PGPORT=str(server.port)
        )

    def _script(self, name: str, *arguments: str, **variables: str) -> str:
        done = subprocess.run(
            ["sh", str(self.config / name), *arguments],
            env={"PATH": f"{self.binaries}:{os.environ['PATH']}", "SECRETS": str(self.config / "secrets"), **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # -- services --------------------------------------------------------------------------------------------------

    def environment(self, name: str) -> dict[str, str]:
        """What the process of a service finds in its environment: the image's, .env, and what the file says."""
        service = self.file["services"][name]
        said = {**self.settings, **service["environment"]}
        here = {
            "PATH": f"{BINARIES}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(PROJECT_ROOT),  # the image has the project installed
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.folder),
            "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", "/tmp/numba"),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        return {**here, **{key: self._here(str(value)) for key, value in said.items()}}

    def start(self, name: str) -> None:
        """Start a service; what it prints goes to ``NAME.log``."""
        service = self.file["services"][name]
        command = [self._here(word) for word in (*service["entrypoint"], *service["command"])]
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.running[name] = subprocess.Popen(
                command, env=self.environment(name), cwd=PROJECT_ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def run(self, name: str) -> str:
        """A service that ends by itself: what it printed."""
        self.start(name)
        assert self.running.pop(name).wait(timeout=300) == 0, self.log(name)
        return self.log(name)

    def call(self, name: str, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """A command inside of a service, as `docker compose exec` would start it."""
        words = [self._here(word) for word in command]
        return subprocess.run(words, env=self.environment(name), cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=timeout, check=False)  # fmt: skip

    def healthy(self, name: str) -> bool:
        """Whether the service's own health check passes."""
        kind, *test = self.file["services"][name]["healthcheck"]["test"]
        command = test if kind == "CMD" else ["sh", "-c", *test]
        return self.call(name, *command).returncode == 0

    def wait_healthy(self, name: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not (self._shows_life(name) and self.healthy(name)):
            ended = self.running[name].poll() if name in self.running else None
            assert ended is None, f"{name} ended with {ended}\n{self.log(name)}"
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.5)

    def _shows_life(self, name: str) -> bool:
        """A cheap look before a health check, which starts a Python with Dagster in it."""
        if name == "daemon":
            connection = psycopg2.connect(self.postgres.url("dagster"))
            with closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM daemon_heartbeats")
                return bool(cursor.fetchone()[0])
        port = self.code_port if name == "code" else self.web_port
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """SIGKILL to a service and the processes that it started."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in list(self.running.items()):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill(name)
        self.running.clear()

    def query(self, graphql: str) -> Any:
        """What the webserver answers to a GraphQL query."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web_port}/graphql",
            json.dumps({"query": graphql}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def _here(self, text: str) -> str:
        """``text`` of the compose file as it has to read without containers."""
        server = self.postgres
        for inside, here in {
            "/run/secrets/volcast_secrets": str(self.secrets / "volcast.env"),
            "/etc/volcast/": f"{self.config}/",
            "/data/volcast": str(self.home),
            "host=postgres port=5432": f"host={server.host} port={server.port}",
            "http://objects:8333": self.objects.endpoint,
            "0.0.0.0": "127.0.0.1",
            "127.0.0.1:3000": f"127.0.0.1:{self.web_port}",
        }.items():
            if inside in text:
                self._replaced.add(inside)
                text = text.replace(inside, here)
        whole = {"4000": str(self.code_port), "3000": str(self.web_port), "code": "127.0.0.1"}
        if text in whole:
            self._replaced.add(text)
        return whole.get(text, text)

    @property
    def replaced(self) -> frozenset[str]:
        """The addresses of containers that were met so far."""
        return frozenset(self._replaced)


SWITCHED_ON_EARLIER = """
import sys
import dagster._core.scheduler.scheduler as scheduler
from dagster._cli import main
ago, now = float(sys.argv.pop(1)), scheduler.get_current_timestamp
scheduler.get_current_timestamp = lambda: now() - ago
main()
"""


@contextmanager
def deployment(deployed: Deployment, schedule: str, ago: timedelta) -> Iterator[Deployment]:
    """The deployment up to a healthy webserver and daemon, in the order that the file demands; stopped at the end.

    A schedule is switched on by an operator's command with a clock that is behind by ``ago``, before the daemon starts: it finds the ticks since then as missed.
    """
    try:
        deployed.make_databases()
        deployed.run("migrate")
        deployed.start("code")
        deployed.wait_healthy("code")
        words = ["schedule", "start", schedule, "-w", "/etc/volcast/workspace.yaml"]
        done = deployed.call("daemon", "python", "-c", SWITCHED_ON_EARLIER, str(ago.total_seconds()), *words)  # fmt: skip
        assert done.returncode == 0, done.stderr
        for name in ("daemon", "webserver"):
            deployed.start(name)
        for name in ("webserver", "daemon"):
            deployed.wait_healthy(name)
        yield deployed
    finally:
        deployed.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
