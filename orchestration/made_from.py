"""What a page was made from, as one hash: whether it would come out the same if it were made again.

In: a connection to the published copy, and what else the page hangs on. Out: a hash of the copy's revision, of this program's files (code, templates
and styles) and of the libraries that draw. Never: a time or a count in place of what a page is made of.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import duckdb

from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse import get_state

PACKAGES = ("orchestration", "ml", "quality")
LIBRARIES = ("duckdb", "jinja2", "numpy", "pandas", "plotly", "scipy")


def evidence(connection: duckdb.DuckDBPyConnection, *more: object) -> str:
    """Equal only for pages of the same data by the same program; ``more`` is what a caller adds, such as the day."""
    revision = get_state(connection, "revision", catalog=None)
    parts = [revision, program(), [str(part) for part in more]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@cache
def program() -> str:
    """Hash of every file of this program, of Python and of the libraries whose output shows on a page."""
    digest = hashlib.sha256(sys.version.encode())
    for name in LIBRARIES:
        digest.update(f"\0{name} {version(name)}".encode())
    for package in PACKAGES:
        for file in sorted(_files(PROJECT_ROOT / package)):
            digest.update(b"\0" + file.relative_to(PROJECT_ROOT).as_posix().encode() + b"\0")
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return [
        file for file in folder.rglob("*") if file.suffix not in (".pyc", "") and file.is_file()
    ]
