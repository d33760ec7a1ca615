"""Metrics of runs, files and the machine: what is known without opening the warehouse.

In: settings. Out: samples. Never opens Dagster or DuckDB.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestration.lock_notes import lock_waits
from orchestration.metrics.samples import Sample
from orchestration.run_history import FAILED, RUNNING, SUCCEEDED, PastRun, past_runs, stage_seconds
from orchestration.settings import Settings

TRAINING_STAGE = "models.registry"
MOST_RUNS = 2_000


def runs(settings: Settings) -> Iterator[Sample]:
    found = past_runs(settings, most=MOST_RUNS)
    for (job, status), count in sorted(Counter((run.job, run.status) for run in found).items()):
        yield Sample("volcast_runs", count, {"job": job, "status": status.lower()})
    for job in sorted({run.job for run in found}):
        yield from _of_job(settings, job, [run for run in found if run.job == job])
    trained = next((r for r in found if r.job in ("daily", "retrain") and r.ended_at), None)
    if trained is not None:
        seconds = _stages(settings, trained).get(TRAINING_STAGE)
        if seconds is not None:
            yield Sample("volcast_training_duration_seconds", seconds)
    waits, seconds = lock_waits(settings)
    yield Sample("volcast_lock_waits_total", waits)
    yield Sample("volcast_lock_wait_seconds_total", seconds)


def _of_job(settings: Settings, job: str, own: list[PastRun]) -> Iterator[Sample]:
    """``own``: the job's runs, newest first."""
    labels = {"job": job}
    ended = next((run for run in own if run.status in (*FAILED, SUCCEEDED)), None)
    if ended is not None:
        yield Sample("volcast_run_success", float(ended.status == SUCCEEDED), labels)
        if ended.ended_at is not None:
            yield Sample("volcast_run_end_timestamp_seconds", ended.ended_at.timestamp(), labels)
        if ended.seconds is not None:
            yield Sample("volcast_run_duration_seconds", ended.seconds, labels)
        for stage, seconds in _stages(settings, ended).items():
            yield Sample("volcast_stage_duration_seconds", seconds, {**labels, "stage": stage})
    good = next((run.ended_at for run in own if run.status == SUCCEEDED and run.ended_at), None)
    if good is not None:
        yield Sample("volcast_run_last_success_timestamp_seconds", good.timestamp(), labels)
    starts = [run.started_at or run.created_at for run in own if run.status in RUNNING]
    if starts:
        oldest = min(starts).timestamp()
        yield Sample("volcast_run_oldest_start_timestamp_seconds", oldest, labels)


def _stages(settings: Settings, run: PastRun) -> dict[str, float]:
    return {
        step.replace("__", "."): seconds
        for step, seconds in stage_seconds(settings, run.run_id).items()
    }


def files(settings: Settings) -> Iterator[Sample]:
    parts = {
        "warehouse": warehouse_files(settings),
        "published": settings.published_path.parent,
        "artifacts": settings.artifacts_dir,
        "reports": settings.reports_dir,
        "dagster": settings.dagster_home,
        "logs": settings.home / "logs",
    }
    for part, path in parts.items():
        yield Sample("volcast_size_bytes", size_of(path), {"part": part})
    if settings.published_path.exists():
        yield Sample("volcast_published_timestamp_seconds", settings.published_path.stat().st_mtime)
    space = shutil.disk_usage(settings.home)
    yield Sample("volcast_disk_free_bytes", space.free)
    yield Sample("volcast_disk_size_bytes", space.total)
    backup = settings.home / "metrics" / "last_backup"
    if backup.exists():
        yield Sample("volcast_last_backup_timestamp_seconds", backup.stat().st_mtime)


def warehouse_files(settings: Settings) -> Path:
    """The DuckDB file, or the folder of a lake's Parquet files; where they lie elsewhere, a path of this home that is not there."""
    if not settings.warehouse:
        return settings.warehouse_path
    shared = settings.lake_data and not settings.lake_data.startswith("s3://")
    return Path(settings.lake_data) if shared else settings.home / "lake"


def note_backup(settings: Settings) -> None:
    """Keep that a backup of this home was finished just now. A home that cannot be written to does not undo the backup."""
    path = settings.home / "metrics" / "last_backup"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def size_of(path: Path) -> int:
    """Bytes of a file or of everything in a folder; a file that goes away meanwhile counts nothing."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total


COLLECTORS = (runs, files)
