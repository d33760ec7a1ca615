"""Known vulnerabilities and licences of what we install: `python .ci/audit.py vulnerabilities|licences`.

In: requirements.lock and the installed packages. Out: findings, exit status 1 where one is neither fixed nor accepted in audit.toml (with a
reason and an end), or a licence is not one that docs/licences.md allows. Never fails for want of a network: it says that it could not ask. An answer that
is an error does fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
NO_NETWORK = ("ConnectionError", "Failed to establish", "Max retries", "Name or service", "timed out", "ProxyError")  # fmt: skip
PERMISSIVE = re.compile(
    r"apache|mit\b|bsd|isc|psf|python software|zlib|unlicense|0bsd|cc0|mpl|mozilla|hpnd|public domain|zpl|wtfpl|boost|lgpl|lesser",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(
    r"\b(a?gpl|affero|gnu general public|sspl|commons clause|busl)", re.IGNORECASE
)


def vulnerabilities(today: date) -> int:
    command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / "requirements.lock"), "--no-deps", "--disable-pip",
               "--format", "json", "--progress-spinner", "off", "--timeout", "20"]  # fmt: skip
    try:
        with TemporaryDirectory() as cache:  # a home may have none that can be used
            done = subprocess.run(
                [*command, "--cache-dir", cache],
                capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        print("pip-audit: no answer in 300 s; not checked")
        return 0
    try:
        found = json.loads(done.stdout)
    except ValueError:
        if any(word in done.stderr for word in NO_NETWORK):
            print("pip-audit: no network; not checked")
            return 0
        print(done.stderr[-2000:])
        return 1
    accepted = {
        entry["id"]: entry
        for entry in tomllib.loads((ROOT / ".ci" / "audit.toml").read_text())["accepted"]
    }
    return judge(found["dependencies"], accepted, today)


def judge(dependencies: list[dict], accepted: dict[str, dict], today: date) -> int:
    """1 if a finding is not accepted, or no longer."""
    failed = 0
    for package in dependencies:
        for finding in package.get("vulns", []):
            names = {finding["id"], *finding.get("aliases", [])}
            entry = next((accepted[name] for name in sorted(names) if name in accepted), None)
            state = "open"
            if entry is not None:
                state = (
                    "accepted"
                    if today <= entry["until"]
                    else f"accepted until {entry['until']} only"
                )
            failed += state != "accepted"
            fixed = ", ".join(finding.get("fix_versions", [])) or "none"
            print(
                f"{state}: {package['name']} {package['version']}: {finding['id']}, fixed in {fixed}"
            )
    print(f"pip-audit: {len(dependencies)} packages, {failed} open findings")
    return int(failed > 0)


def licences() -> int:
    done = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    locked = {
        re.sub(r"[-_.]+", "-", line.split("==")[0].strip().lower())
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.lstrip().startswith("#")
    }
    allowed = set(
        re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "licences.md").read_text(), re.M)
    )
    failed = 0
    for package in json.loads(done.stdout):
        name = re.sub(r"[-_.]+", "-", package["Name"].lower())
        if name in locked and name not in allowed and not permitted(package["License"]):
            print(
                f"{name} {package['Version']}: {package['License'][:80]!r}: allow it in docs/licences.md, with a reason, or replace it"
            )
            failed += 1
    print(f"licences: {len(locked)} packages, {failed} not allowed")
    return int(failed > 0)


def permitted(licence: str) -> bool:
    """Permissive, weak copyleft that asks nothing of who imports it, or a choice with one of them."""
    weak = re.sub(
        r"lgpl|lesser general public|gnu lesser[^;]*", "lesser", licence, flags=re.IGNORECASE
    )
    if FORBIDDEN.search(weak) and not re.search(r"\bor\b", licence, re.IGNORECASE):
        return False
    return PERMISSIVE.search(licence) is not None


if __name__ == "__main__":
    if sys.argv[1:] == ["vulnerabilities"]:
        sys.exit(vulnerabilities(datetime.now(UTC).date()))
    if sys.argv[1:] == ["licences"]:
        sys.exit(licences())
    sys.exit(__doc__)
