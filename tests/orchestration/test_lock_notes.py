"""Who holds the warehouse lock is told where there is room for it; a full disk stands in nobody's way."""

from __future__ import annotations

import subprocess
import sys

from orchestration.lock_notes import holder, note_holder
from orchestration.settings import PROJECT_ROOT


def test_the_holder_is_told(tmp_path):
    with (tmp_path / "warehouse.lock").open("a+") as handle:
        handle.write("what was there before, and longer than the note that comes now" * 9)
        handle.flush()
        note_holder(handle)
        assert holder(tmp_path / "warehouse.lock").startswith("process ")


NO_ROOM = """
import resource, sys
from orchestration.lock_notes import note_holder

resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
with open(sys.argv[1], "a+") as handle:
    note_holder(handle)
"""


def test_a_full_disk_fails_neither_the_lock_nor_its_release(tmp_path):
    """A write that was committed would be told as failed."""
    command = [sys.executable, "-c", NO_ROOM, str(tmp_path / "warehouse.lock")]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "warehouse.lock").read_text() == ""
