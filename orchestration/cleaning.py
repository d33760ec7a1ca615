"""What runs that were killed leave behind, and its removal by the run that follows.

In: a home and its Dagster instance. Out: dead runs told to Dagster as failed, their pool slots free, files that nobody will finish gone.
Whether a run is alive the kernel says: a run holds a lock file of its own, which is free as soon as its process is gone, however it went, so
that no run is held for dead by a process id. Never: touches what a live run or a live worker writes, or stops a run because cleaning failed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestration.artifact_store import CACHE
from orchestration.settings import Settings
from orchestration.workers import ABANDONED

logger = logging.getLogger(__name__)

FOLDER = "runs"
WRITING = "writing"
"""The lock that every run shares, and its workers with it: they may outlive the run. Who has it alone knows that nobody writes files."""
JOBS = frozenset({"daily", "retrain", "study", "capture", "__ASSET_JOB"})
"""Jobs of definitions.py, whose steps run in the process of their run. Of a run with a process a step the lock says nothing."""
UNKNOWN_DAYS = 30
"""For so long the lock of a run is kept that this Dagster instance does not know: another one may."""
_ENDED: dict[Path, IO[str]] = {}
"""Locks of runs of this process that are over, but may not have told Dagster."""
_NUMBERED = re.compile(r"\.(\d+)$")
_INTERRUPTED = (
    "its process is gone: killed, or the machine stopped. The same run again goes on where it was"
)


@dataclass(frozen=True)
class Cleaned:
    """What was found and removed; ``alone`` is False where another run was alive, and files were left to it."""

    runs: tuple[str, ...] = ()
    slots: int = 0
    files: int = 0
    alone: bool = True
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"cleaned up after {len(self.runs)} runs that died: {self.slots} pool slots freed, {self.files} unfinished files removed"
            f" in {self.seconds:.2f} s"
        )


@contextmanager
def running(settings: Settings, instance: Any, run_id: str, job_name: str) -> Iterator[Cleaned]:
    """Clean up after dead runs, then hold this run's locks while it lives.

    Its own lock outlives the block, until this process ends or begins another run: Dagster stores the end of a run after it, and where that fails, as on a
    full disk, the next run must find that this one is dead.
    """
    settle(instance)
    found = clean(settings, instance)
    folder = settings.home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / WRITING).open("a") as writing:
        fcntl.flock(writing, fcntl.LOCK_SH)
        os.set_inheritable(writing.fileno(), True)
        if job_name not in JOBS:
            yield found
            return
        path, fresh = folder / f"{run_id}.lock", folder / f"{run_id}{ABANDONED}"
        own = fresh.open("a")
        fcntl.flock(own, fcntl.LOCK_EX)
        os.replace(fresh, path)  # it is locked before anyone can find it
        try:
            yield found
        finally:
            _ENDED[path] = own


def settle(instance: Any) -> None:
    """Let go of the locks of runs of this process that are over; of one whose end Dagster does not have, the file stays for the next run's cleaning."""
    while _ENDED:
        path, own = _ENDED.popitem()
        with own:
            try:
                run = instance.get_run_by_id(path.stem)
                if run is not None and run.is_finished:
                    path.unlink(missing_ok=True)
            except Exception as error:  # a full disk: why the run failed is what is told
                logger.warning("%s stays: %s: %s", path, type(error).__name__, error)


def clean(settings: Settings, instance: Any) -> Cleaned:
    """Tell Dagster of runs that died, free the slots of runs that have ended, and remove files that nobody will finish.

    Costs some milliseconds where there is nothing to do. A fault of its own is a warning in the log.
    """
    started = time.perf_counter()
    runs: tuple[str, ...] = ()
    slots = files = 0
    alone = False
    try:
        runs = tuple(_report_dead_runs(settings, instance))
        slots = _free_slots(instance)
        with _alone(settings) as alone:
            if alone:
                files = sum(map(_remove, leftovers(settings)))
                with warehouse_free(settings) as free:
                    if free:
                        files += sum(map(_remove, of_writers(settings)))
    except Exception as error:
        logger.warning("cleaning %s stopped: %s: %s", settings.home, type(error).__name__, error)
    found = Cleaned(runs, slots, files, alone, time.perf_counter() - started)
    if runs or slots or files:
        logger.warning("%s", found)
    return found


def dead_runs(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Runs whose lock is free though its file is there, and that file; it is locked while the caller looks at it."""
    for path in sorted((settings.home / FOLDER).glob("*.lock")):
        try:
            handle = path.open("r")
        except FileNotFoundError:
            continue  # it ended just now
        with handle:
            if _taken(handle):
                yield path.stem, path


def _report_dead_runs(settings: Settings, instance: Any) -> Iterator[str]:
    """Tell Dagster of each dead run that it has failed, if it has not ended."""
    for run_id, path in dead_runs(settings):
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, f"run {run_id}: {_INTERRUPTED}")
            yield run_id
        if run is not None or time.time() - path.stat().st_mtime > UNKNOWN_DAYS * 86_400:
            path.unlink(missing_ok=True)


def _free_slots(instance: Any) -> int:
    """Pool slots that runs hold which have ended, or which Dagster does not know; freed."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return 0
    freed = 0
    for run_id in storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
            freed += 1
    return freed


@contextmanager
def _alone(settings: Settings) -> Iterator[bool]:
    """Whether no run and no worker of this home is alive; none begins while the caller goes on."""
    path = settings.home / FOLDER / WRITING
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        yield _taken(handle)


@contextmanager
def warehouse_free(settings: Settings) -> Iterator[bool]:
    """Whether nobody reads or writes the warehouse; nobody begins to while the caller goes on."""
    with settings.lock_path.open("a") as handle:
        yield _taken(handle)


def _taken(handle: IO[str]) -> bool:
    """Whether the lock of ``handle`` was free; it is ours then, until the handle is closed."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def somebody_writes(settings: Settings) -> bool:
    """Whether a run or a worker of this home is alive; looks without touching anything."""
    path = settings.home / FOLDER / WRITING
    if not path.exists():
        return False
    with path.open("r") as handle:
        return not _taken(handle)


def leftovers(settings: Settings) -> Iterator[Path]:
    """Files and folders that a run, a worker or a command began and did not finish; for who knows that no run and no worker is alive."""
    home, artifacts = settings.home, settings.artifacts_dir
    if not artifacts.is_relative_to(
        home
    ):  # a shared folder: whether others write there, nothing of this home says
        artifacts = home / "artifacts"
    yield from (home / FOLDER).glob(f"*{ABANDONED}")
    yield from artifacts.glob(f"*{ABANDONED}")
    for folder in (settings.dagster_home, settings.reports_dir, artifacts / "specs"):
        yield from _of_the_dead(folder.glob("*.[0-9]*"))
    yield from (artifacts / "specs").glob(f"*{ABANDONED}")
    for pattern in (".*.[0-9]*", "*/.*.[0-9]*"):
        yield from _of_the_dead((home / "model_cards").glob(pattern))
    yield from (artifacts / CACHE).glob(f"*{ABANDONED}")
    for model in (artifacts / "models").glob("*/"):
        with os.scandir(model) as entries:
            names = {entry.name for entry in entries}
        for name in sorted(names):
            version = name.removesuffix(".checkpoint")
            if name.endswith(ABANDONED) or (
                version != name and {version, f"{version}.checks.json"} <= names
            ):  # a checkpoint beside what it was kept for
                yield model / name
    yield from (artifacts / "models").glob(f"*{ABANDONED}")
    for snapshot in (artifacts / "snapshots").glob("*/"):
        if not (snapshot / "snapshot.json").exists():
            yield snapshot
        else:
            yield from snapshot.glob(f"*{ABANDONED}")


def of_writers(settings: Settings) -> Iterator[Path]:
    """What was left by who held the warehouse lock: for who holds it now, or knows that it is free."""
    yield from settings.home.glob(f"{settings.warehouse_path.name}.tmp*")  # spilled pages
    published = settings.published_path
    yield from published.parent.glob(f".{published.name}.*")
    restoring = settings.home / f".restore{ABANDONED}"
    if restoring.exists() and settings.warehouse_path.exists():
        yield restoring  # without a warehouse it is the next restore's


def _of_the_dead(paths: Iterator[Path]) -> Iterator[Path]:
    """Files named for a process that is gone; a command outside of a run may be another's, whose locks say nothing of it."""
    for path in paths:
        number = _NUMBERED.search(path.name)
        if number and (int(number[1]) == os.getpid() or not _lives(int(number[1]))):
            yield path


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> int:
    logger.info("removing %s, which nobody will finish", path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return 1
