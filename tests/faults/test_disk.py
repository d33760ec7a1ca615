"""A disk that fills up in the middle of a stage: a clear error that names the place, nothing lost, and the next run completes once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration.disk_space import advice
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse import Warehouse
from tests.faults.homes import Boundaries, artefacts, copy_home, fingerprint
from tests.faults.invariants import broken_invariants
from tests.faults.kills import same, unfinished

MIB = 2**20
STAGES = {"prices": 0, "dbt": 4 * MIB, "training": 16 * 1024, "forecasting": 0, "publishing": 2 * MIB, "report": 64 * 1024}  # fmt: skip
"""Bytes that are left free: some for Dagster's own files, less than the stage writes."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """small_disk(bytes): a tmpfs of that size, or of another when it is called again; skips where nobody may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def resize(size: int) -> Path:
        nonlocal mounted
        options = f"{'remount,' if mounted else ''}size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
        mounted = True
        return place

    yield resize
    if mounted:
        subprocess.run(["umount", str(place)], check=False)


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_fills_the_disk_says_so_and_completes_once_there_is_room(
    boundaries: Boundaries, small_disk: Callable[[int], Path], stage: str
) -> None:
    finished = boundaries.home(boundaries.finished(stage))
    disk = small_disk(1024 * MIB)
    path = copy_home(boundaries.before(stage), disk / "home")
    full = disk / "full"
    free = shutil.disk_usage(disk).free
    with full.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free - STAGES[stage])
    failed = boundaries.run(path, stage)
    assert failed.status != 0, f"{stage} had room enough"
    told = "\n".join(failed.errors)
    if failed.status == 2:  # where Dagster could still write what happened
        assert advice(told, path), told
        assert str(path) in advice(told, path)
    full.unlink()
    assert broken_invariants(boundaries.home(path)) == []
    again = boundaries.run(path, stage)
    assert again.status == 0, again.errors
    home = boundaries.home(path)
    same(fingerprint(home), boundaries.after[stage], "tables")
    same(artefacts(home), artefacts(finished), "artefacts")
    assert unfinished(path) == []
    assert broken_invariants(home) == []


LIMITED = textwrap.dedent(
    """
    import resource, signal, sys
    from pathlib import Path
    from orchestration.cli.app import guard
    from orchestration.settings import Settings
    from orchestration.warehouse import Warehouse

    settings = Settings(home=Path(sys.argv[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))

    def write():
        with Warehouse(settings).write() as connection:
            connection.execute("CREATE TABLE raw.much AS SELECT random() AS a FROM range(2000000)")

    guard(write)
    """
)


def test_a_file_that_may_not_grow_is_named_and_the_warehouse_stays_whole(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with Warehouse(settings).write() as connection:
        connection.execute("INSERT INTO meta.state VALUES ('mine', 'kept')")
    size = settings.warehouse_path.stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(settings.home), str(size + 65536)],
        env={**os.environ, "VOLCAST_HOME": str(settings.home), "COLUMNS": "400"},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert str(settings.warehouse_path) in done.stderr
    assert f"no space for {settings.home}" in done.stderr
    assert "run the same command again" in done.stderr
    with Warehouse(settings).write() as connection:
        assert connection.execute("SELECT value FROM meta.state WHERE key = 'mine'").fetchall() == [
            ("kept",)
        ]
        connection.execute("CREATE TABLE raw.much AS SELECT 1 AS a")  # nothing of it is there


def test_other_errors_get_no_advice_about_space(tmp_path: Path) -> None:
    assert advice("Permission denied: /srv/volcast", tmp_path) == ""
    assert "MiB are free" in advice("[Errno 28] No space left on device: 'x'", tmp_path)
    assert "cannot be seen" in advice("No space left on device", tmp_path / "none")
