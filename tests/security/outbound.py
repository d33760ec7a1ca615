"""Runs a command without any network but loopback, and lists what it tried to reach.

Two fences: a network namespace that has only ``lo``, so that nothing gets out, and an audit hook in every Python process (this file's text as
``sitecustomize`` on PYTHONPATH), so that an attempt whose failure is swallowed is found too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

WATCH = """
import os, sys

_LOG = os.environ.get("VOLCAST_TEST_OUTBOUND")
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return  # a Unix socket
        host = address[0]
    elif event == "urllib.Request":
        host = arguments[0]
        if "://127." in host or "://localhost" in host:
            return
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("utf-8", "replace")
    if host is None or host == "" or str(host).startswith(_LOCAL):
        return
    line = f"{event} {host} by {' '.join(sys.orig_argv[:6])[:200]}\\n"
    frame, depth = sys._getframe(1), 0
    while frame is not None and depth < 12:
        line += f"    {frame.f_code.co_filename}:{frame.f_lineno}\\n"
        frame, depth = frame.f_back, depth + 1
    descriptor = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


if _LOG:
    sys.addaudithook(_watch)
    descriptor = os.open(_LOG + ".watched", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, (" ".join(sys.orig_argv)[:200].replace("\\n", " ") + "\\n").encode())
    os.close(descriptor)
"""


def namespace() -> list[str]:
    """The start of a command that runs in a network namespace of its own with loopback up; empty where that is not allowed."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return []
    start = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tried = subprocess.run([*start, "true"], capture_output=True, check=False)
    return start if tried.returncode == 0 else []


def run_watched(
    folder: Path, command: Sequence[str], environment: Mapping[str, str], cwd: Path, timeout: float
) -> tuple[subprocess.CompletedProcess[str], str, list[str]]:
    """Run ``command``: how it ended, the attempts to leave loopback, and the Python processes that were watched."""
    hook = folder / "hook"
    hook.mkdir(parents=True)
    (hook / "sitecustomize.py").write_text(WATCH)
    log = folder / "attempts"
    done = subprocess.run(
        [*namespace(), *command],
        env={
            **environment,
            "VOLCAST_TEST_OUTBOUND": str(log),
            "PYTHONPATH": os.pathsep.join([str(hook), str(cwd)]),
        },
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    watched = Path(f"{log}.watched")
    return (
        done,
        log.read_text() if log.exists() else "",
        watched.read_text().splitlines() if watched.exists() else [],
    )


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
