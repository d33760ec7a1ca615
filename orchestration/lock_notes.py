"""Who holds the warehouse lock, and how long others have waited for it.

In: the lock file's handle, or a wait. Out: a note in the lock file for whoever waits, a line of the log and running sums in ``metrics/lock_waits.json``.
Never: a lock by itself; what the note says of a process that is gone is not believed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from orchestration.settings import Settings

LONG_WAIT_SECONDS = 5.0
"""A longer wait is worth a line of the log at level info, a shorter one at debug."""
logger = logging.getLogger(__name__)


def note_holder(handle: TextIO) -> None:
    """Write into the lock file, which this process holds alone, who it is. A full disk does not matter."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    note = {
        "pid": os.getpid(),
        "command": command,
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    try:  # by the descriptor: what a buffer held would be written, and fail, when the lock is released
        os.ftruncate(handle.fileno(), 0)
        os.write(handle.fileno(), f"{json.dumps(note)}\n".encode())
    except OSError:
        logger.debug("no note in the lock file: the disk is full")


def holder(lock_path: Path) -> str:
    """Who wrote last into the lock file, if it still lives: ``process 4711 (volcast run ..., since ...)``; else ``another process``."""
    try:
        note = json.loads(lock_path.read_text())
        os.kill(int(note["pid"]), 0)
    except PermissionError:
        pass  # it lives, and is someone else's
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"process {note['pid']} ({note['command']}, since {note['since']})"


def note_wait(settings: Settings, seconds: float) -> None:
    """Count a wait for the lock."""
    level = logging.INFO if seconds >= LONG_WAIT_SECONDS else logging.DEBUG
    extra = {"event": "lock_wait", "duration_seconds": round(seconds, 3)}
    logger.log(level, "waited %.1f s for the warehouse lock", seconds, extra=extra)
    path = settings.home / "metrics" / "lock_waits.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.seek(0)
            waits, total = _sums(handle.read())
            handle.truncate(0)
            handle.write(json.dumps({"waits": waits + 1, "seconds": round(total + seconds, 3)}))
    except OSError as error:
        logger.debug("a wait of %.1f s is not counted: %s", seconds, error)


def lock_waits(settings: Settings) -> tuple[int, float]:
    """How often runs waited for the warehouse lock so far, and for how many seconds in all."""
    try:
        return _sums((settings.home / "metrics" / "lock_waits.json").read_text())
    except OSError:
        return 0, 0.0


def _sums(text: str) -> tuple[int, float]:
    try:
        held = json.loads(text)
        return int(held["waits"]), float(held["seconds"])
    except (ValueError, KeyError, TypeError):  # empty at first, or cut by a crash
        return 0, 0.0
