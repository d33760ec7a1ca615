"""The UI stays on loopback unless somebody says otherwise, and shows the text of others as text."""

from __future__ import annotations

import os
import sys

import pytest
from typer.testing import CliRunner

from orchestration.assets.ingest import _listing
from orchestration.cli import app
from orchestration.cli.operating import _is_loopback

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)> [x](javascript:alert(1)) ![x](http://evil.example/x) | `x`\n# h"


def test_text_of_a_provider_is_text_in_dagsters_markdown() -> None:
    shown = _listing([ATTACK])
    assert "\n" not in shown
    assert "<" not in shown
    assert r"\[x\](javascript:alert(1))" in shown
    assert r"\!\[x\]" in shown
    assert r"\|" in shown


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("", False), ("192.0.2.7", False)],
)  # fmt: skip
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert _is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("read_only", [False, True])
def test_dev_warns_plainly_off_loopback(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, host: str, read_only: bool
) -> None:
    monkeypatch.setenv("VOLCAST_HOME", f"{tmp_path}/home")
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: started.append(command))
    arguments = ["dev", "--host", host, "--port", "38917", *(["--read-only"] if read_only else [])]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert ("Dagster has no authentication" in done.output) == (host == "0.0.0.0")
    command = started[0]
    assert command[:2] == [sys.executable, "-m"]
    assert command[command.index("-h") + 1] == host
    assert ("--read-only" in command) == read_only
