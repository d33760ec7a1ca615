"""Nothing calls out that the user did not ask for: no telemetry, no update check, no download of an extension or a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import SMALL_MARKET, Home
from tests.security.outbound import namespace, python, run_watched

MARKET = {**SMALL_MARKET, "VOLCAST_EXPLANATION_CHECKS": "false", "VOLCAST_ATTENTION_EPOCHS": "1"}

IMPORT_ALL = """
import importlib, pkgutil
for name in ("ml", "quality", "orchestration"):
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
import ccxt, coinmetrics.api_client, dagster_dbt, dagster_webserver, dbt.cli.main, great_expectations, optuna
from ml.attention.runtime import runtime
runtime()
from orchestration.dbt import ensure_manifest
from orchestration.settings import Settings
ensure_manifest(Settings.from_env())
"""


def test_an_attempt_would_be_seen(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "try: socket.create_connection(('telemetry.example', 443), timeout=1)\n"
        "except OSError: pass\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "try: s.sendto(b'x', ('192.0.2.1', 53))\n"
        "except OSError: pass\n"
    ).replace("\\\n", "\n")
    done, attempts, watched = run_watched(
        tmp_path / "watch", python("-c", program), dict(os.environ), PROJECT_ROOT, 60
    )
    assert done.returncode == 0, done.stderr
    assert "socket.getaddrinfo telemetry.example" in attempts
    assert "socket.sendto 192.0.2.1" in attempts
    assert len(watched) == 1


@pytest.mark.slow
def test_importing_everything_and_parsing_dbt_calls_nobody(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", dict(MARKET))
    done, attempts, watched = run_watched(
        tmp_path / "watch", python("-c", IMPORT_ALL), home.variables, PROJECT_ROOT, 300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert attempts == ""
    assert any("dbt.cli.main" in line for line in watched), watched


@pytest.mark.slow
def test_the_whole_line_calls_nobody(tmp_path: Path) -> None:
    """Ingest, gates, dbt, training in the worker, forecasts, report, then the UI's code: with loopback only, where namespaces are allowed."""
    home = Home(tmp_path / "home", dict(MARKET))
    kept = {name: value for name, value in home.variables.items() if "TELEMETRY" not in name}
    for number, command in enumerate(
        (
            ["run", "--as-of", "2024-03-20"],
            ["status"],
            ["nowcast"],
            ["card", "attention"],
            ["sql", "SELECT count(*) FROM forecasts.volatility"],
        )
    ):
        done, attempts, watched = run_watched(
            tmp_path / f"watch-{number}",
            python("-m", "orchestration.cli", *command),
            kept,
            PROJECT_ROOT,
            800,
        )
        assert attempts == "", f"volcast {' '.join(command)} tried to reach:\n{attempts}"
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        if command[0] == "run":
            for child in ("dbt.cli.main", "ml.worker"):
                assert any(child in line for line in watched), watched
    if not namespace():
        pytest.skip("no network namespaces here: only the audit hook has looked")
