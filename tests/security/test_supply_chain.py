"""What we install is known, and nothing that looks like a key is in the repository."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from orchestration.settings import PROJECT_ROOT

KEY_LIKE = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_[A-Za-z0-9]{36}|xox[baprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T[A-Z0-9]{8,}|"
    r"sk-[A-Za-z0-9]{32,}|AIza[0-9A-Za-z_-]{35}|eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\."
)


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", PROJECT_ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_key_is_in_the_repository() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = {}
    for name in listed.stdout.splitlines():
        path = PROJECT_ROOT / name
        if path.is_file() and (hit := KEY_LIKE.search(path.read_bytes().decode("latin-1"))):
            found[name] = hit[0][:12]
        assert not re.search(r"(^|/)(\.env|.*\.env|.*\.pem|.*\.key|id_rsa)$", name), name
    assert found == {}
    assert KEY_LIKE.search("AKIA" + "A" * 16)


def test_a_finding_fails_until_it_is_accepted_and_again_after_its_day(audit: ModuleType) -> None:
    finding = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}
    packages = [{"name": "x", "version": "1.0", "vulns": [finding]}, {"name": "y", "version": "1"}]
    accepted = {"CVE-2026-1": {"until": date(2026, 12, 31), "reason": "not used"}}
    assert audit.judge(packages, {}, date(2026, 1, 1)) == 1
    assert audit.judge(packages, accepted, date(2026, 12, 31)) == 0
    assert audit.judge(packages, accepted, date(2027, 1, 1)) == 1
    assert audit.judge(packages[1:], {}, date(2026, 1, 1)) == 0


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("requests.exceptions.ConnectionError: Failed to resolve 'pypi.org'", 0),
        ("pip_audit._service.interface.ServiceError: 503 Server Error", 1),
        ("requests.exceptions.HTTPError: 500", 1),
        ("PermissionError: '/root/.cache'", 1),
    ],
)
def test_want_of_a_network_passes_and_no_other_failure(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, said: str, status: int
) -> None:
    asked: list[str] = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.extend(command)
        return subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(audit.subprocess, "run", answer)
    assert audit.vulnerabilities(date(2026, 1, 1)) == status
    assert not Path(asked[asked.index("--cache-dir") + 1]).exists()  # its own, and gone


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [("MIT License", True), ("Apache-2.0", True), ("GNU Lesser General Public License v3 (LGPLv3)", True), ("MPL-2.0", True), ("GPL-2.0-only OR MIT", True),
     ("GNU General Public License v3 (GPLv3)", False), ("GPL-3.0-only", False), ("AGPL-3.0", False), ("BUSL-1.1", False), ("UNKNOWN", False)],
)  # fmt: skip
def test_the_policy_of_licences(audit: ModuleType, licence: str, allowed: bool) -> None:
    assert audit.permitted(licence) is allowed


def test_every_licence_in_the_environment_is_allowed(audit: ModuleType) -> None:
    pytest.importorskip("piplicenses")
    assert audit.licences() == 0
