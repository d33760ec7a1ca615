"""What to do when a disk is full, said where an error is shown.

In: the text of an error and the home. Out: a line that names the place and what is free there, or nothing. Never: a word about other errors.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_FULL = re.compile(
    r"no space left|disk (is )?full|disk quota|file too large|errno 28\b", re.IGNORECASE
)


def is_full(text: str) -> bool:
    """Whether the error is one of a full disk, a quota or a limit of the size of files."""
    return _FULL.search(text) is not None


def advice(text: str, home: Path) -> str:
    """Where space is missing and what to do, if ``text`` is the error of a full disk; else ''."""
    if not is_full(text):
        return ""
    try:
        free = f"{shutil.disk_usage(home).free / 2**20:,.0f} MiB are free"
    except OSError:
        free = "what is free cannot be seen"
    return (
        f"no space for {home} ({free}): make room, or move it and set VOLCAST_HOME, then run the same command again. "
        "Nothing that was stored is lost"
    )
