"""The container, the units and the proxies say what SECURITY.md says; they are read here, not started."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.masking import check_storage
from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import Home

DEPLOY = PROJECT_ROOT / "deploy"


def _directives() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_container_runs_as_nobody_in_particular_and_owns_nothing_but_its_data() -> None:
    found = _directives()
    stages = [number for number, (word, _) in enumerate(found) if word == "FROM"]
    assert len(stages) == 2
    final = found[stages[-1] :]
    words = [word for word, _ in final]
    assert ("USER", "10001:10001") in final
    assert words.index("USER") > words.index("COPY")
    assert all("--chown=0:0" in rest for word, rest in final if word == "COPY")
    assert "HEALTHCHECK" in words
    assert not any(word == "ADD" for word, _ in found)
    said = " ".join(rest for word, rest in found if word in ("ENV", "ARG"))
    assert not re.search(r"(?i)password|secret|token|api_key", said)
    copied = {name for word, rest in found if word == "COPY" for name in rest.split()[:-1] if not name.startswith("--")}  # fmt: skip
    for name in copied - {"/app"}:
        assert (PROJECT_ROOT / name).exists(), name


def test_the_image_is_given_a_list_and_nothing_else() -> None:
    lines = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    assert kept[0] == "*"
    assert not {"!.git", "!.volcast", "!tests", "!."} & set(kept)


@pytest.mark.parametrize(
    "unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda p: p.stem
)
def test_units_are_confined(unit: Path) -> None:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    service = dict(parser["Service"])
    for name, value in {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "CapabilityBoundingSet": "",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "RestrictSUIDSGID": "yes", "StateDirectoryMode": "0711", "UMask": "0027",
    }.items():  # fmt: skip
        assert service.get(name) == value, name
    assert "MemoryMax" in service
    writes = {name.removeprefix("-") for name in service["ReadWritePaths"].split()}
    assert writes - {"/var/lib/volcast-metrics"} == {"/var/lib/volcast"}
    assert writes == {"/var/lib/volcast"} or "daemon" in unit.name
    for name in ("EnvironmentFile", "Environment"):  # settings, secrets and the home
        assert name in service
    assert service["User"] == "volcast"
    if "alert" not in unit.name:  # it only looks: without a home it fails, and says so
        assert service["ExecStartPre"] == "/opt/volcast/.venv/bin/volcast prepare"
    if "webserver" in unit.name:
        assert "-h 127.0.0.1" in service["ExecStart"]
        assert "--read-only" in service["ExecStart"]
        assert service["IPAddressDeny"] == "any"
    if shutil.which("systemd-analyze"):
        said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False).stderr  # fmt: skip
        wrong = [
            line for line in said.splitlines() if unit.name in line and "not executable" not in line
        ]
        assert wrong == []


def test_the_watch_of_the_alerts_is_started_by_a_timer() -> None:
    timer = (DEPLOY / "systemd" / "volcast-alert.timer").read_text()
    assert "OnCalendar=*:0/15" in timer
    service = (DEPLOY / "systemd" / "volcast-alert.service").read_text()
    assert "ExecStart=/opt/volcast/.venv/bin/volcast alert\n" in service
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "calendar", "*:0/15"], capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["Caddyfile", "nginx.conf"])
def test_proxies_ask_for_a_login_and_pass_websockets_to_loopback(name: str) -> None:
    text = "\n".join(
        line
        for line in (DEPLOY / "proxy" / name).read_text().splitlines()
        if not line.strip().startswith("#")
    )
    assert text.count("{") == text.count("}")
    assert re.search(r"^\s*(basic_auth|auth_basic)\b", text, re.M)
    assert "127.0.0.1:3000" in text
    for header in ("Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "Content-Security-Policy"):  # fmt: skip
        assert header in text
    if name == "nginx.conf":
        assert re.search(r"proxy_set_header\s+Upgrade\s+\$http_upgrade", text)
        assert re.search(r"listen\s+443 ssl", text)


def test_a_new_home_is_its_owners_alone_and_files_are_nobody_elses_to_write(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", {})
    program = "import os; os.umask(0)\nfrom orchestration.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "quarantine", "list"],
        env=home.variables, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in home.path.rglob("*")}
    assert modes
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & 0o027} == {}
    home.path.chmod(0o711)  # who opens it to others keeps it open
    done = subprocess.run([sys.executable, "-c", program, "status"], env=home.variables, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o711
    assert os.access(home.path, os.R_OK)


def test_dagsters_programs_are_told_when_their_storage_is_not_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A unit starts them without ``volcast``: `volcast prepare` goes first, and whoever leaves it out is told."""
    home = Home(tmp_path / "home", {})
    monkeypatch.setenv("DAGSTER_HOME", str(home.path / "dagster"))
    check_storage()
    assert "run `volcast prepare`" in caplog.text
    caplog.clear()
    assert "is ready" in home.run("prepare")
    check_storage()
    assert caplog.text == ""
    (home.path / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    check_storage()
    assert "secrets in events and errors are stored as they come" in caplog.text
    assert "check_storage()\n" in (PROJECT_ROOT / "orchestration" / "definitions.py").read_text()
