"""The command-line program ``volcast``.

In: arguments and ``VOLCAST_*`` variables. Out: runs, tables on the terminal, exit status 0 or 1 (2 for wrong arguments). Heavy imports happen inside
the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys

from orchestration.cli import running  # isort: skip  # the order of --help
from orchestration.cli import (
    keeping,
    lake,
    monitoring,
    operating,
    preparing,
    querying,
    reading,
    risk,
)  # isort: skip
from orchestration.cli.app import app

__all__ = [
    "app",
    "keeping",
    "lake",
    "main",
    "monitoring",
    "operating",
    "preparing",
    "querying",
    "reading",
    "risk",
    "running",
]


def main() -> None:
    """Entry point of the ``volcast`` program."""
    from orchestration.masking import mask_logs, mask_tracebacks, print_masked

    os.umask(os.umask(0o077) | 0o027)  # what is written is nobody else's to change, or to read
    mask_logs()
    mask_tracebacks()
    try:
        app()
    except Exception as error:  # ``guard`` did not expect it; Typer would print it as it is
        from orchestration.logs import note_command_failure

        note_command_failure(error)
        print_masked(error)
        sys.exit(1)
