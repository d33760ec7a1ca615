"""Runs a Dagster job in this process, with its progress on the terminal.

In: settings, a job name and a range of days. Out: a run in the Dagster instance under the home, which the UI shows like any other. Raises
``RunFailed`` with the messages of the steps that failed.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orchestration.cleaning import settle
from orchestration.dagster_database import check_files
from orchestration.disk_space import advice
from orchestration.settings import PROJECT_ROOT, Settings

logger = logging.getLogger(__name__)


class RunFailed(RuntimeError):
    """A run did not succeed; the message names the steps and why."""


def prepare_home(settings: Settings) -> None:
    """Make the home and its Dagster folder, and point DAGSTER_HOME at it."""
    settings.make_home()
    settings.dagster_home.mkdir(exist_ok=True)
    wanted, held = PROJECT_ROOT / "dagster.yaml", settings.dagster_home / "dagster.yaml"
    if not held.exists() or held.read_bytes() != wanted.read_bytes():
        temporary = held.with_suffix(f".{os.getpid()}")
        shutil.copyfile(wanted, temporary)
        try:
            os.replace(temporary, held)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno != errno.EBUSY:
                raise  # a mount: the deployment gives this file, and definitions.py says so where it does not mask
    check_files(settings)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    os.environ["VOLCAST_HOME"] = str(settings.home)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


def run_job(
    settings: Settings,
    job_name: str,
    first: date,
    last: date,
    console: Console,
    *,
    run_config: Mapping[str, Any] | None = None,
) -> str:
    """Run ``job_name`` for first .. last in this process and return its run id; then write the metrics, and send the alerts that are due."""
    if first > last:
        raise ValueError(f"from {first} to {last}: expected the first day not to be after the last")
    from orchestration import alerts

    try:
        prepare_home(settings)
        run_id = _execute(settings, job_name, first, last, console, run_config)
    except (RunFailed, ValueError):
        raise
    except Exception as error:
        why = error
        _attempt("alerts", lambda: alerts.start_failed(settings, job_name, f"{last}", why))
        raise
    else:
        _attempt("alerts", lambda: alerts.started(settings, job_name))
        return run_id
    finally:
        _attempt("metrics and alerts", lambda: report_state(settings))


def report_state(settings: Settings) -> None:
    """What a home tells the outside at the end of a run: the file of metrics, and alerts where a channel is configured."""
    from orchestration import alerts, metrics
    from orchestration.alerts.channels import configured

    metrics.write_metrics(settings)
    if channels := configured(settings):
        alerts.watch(settings, channels)


def _attempt(what: str, action: Callable[[], object]) -> None:
    """Do what must not change how a run ends; what stands in the way is logged."""
    try:
        action()
    except Exception as error:
        logger.warning("%s: %s", what, error, extra={"event": "report_failed"})


def _execute(
    settings: Settings,
    job_name: str,
    first: date,
    last: date,
    console: Console,
    run_config: Mapping[str, Any] | None,
) -> str:
    with console.status("loading definitions"):
        import dagster as dg

        from orchestration.definitions import defs
        from orchestration.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG

        job = defs.resolve_job_def(job_name)
        check_days(first, last)
    days = (
        {PARTITION_TAG: first.isoformat()}
        if first == last
        else {RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()}
    )
    config = {**(run_config or {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    run_id = str(uuid.uuid4())
    steps = len(job.graph.node_defs)
    with dg.DagsterInstance.get() as instance, _Watch(instance, run_id, steps, console):
        result = job.execute_in_process(
            run_config=config, instance=instance, tags=days, run_id=run_id, raise_on_error=False
        )
        settle(instance)
        if not result.success:
            reasons = _reasons(instance, run_id)
            raise RunFailed("\n".join(filter(None, (reasons, advice(reasons, settings.home)))))
    return run_id


def run_days(settings: Settings, first: date, last: date, console: Console) -> None:
    """The daily job for first .. last, and once more for the days after each retrain that drift asked for in between.

    A daily run decides on the evening of a Sunday and the next one trains; a range of days is forecast whole, so what follows
    such a Sunday is forecast anew.
    """
    run_job(settings, "daily", first, last, console)
    while (decided := _open_retrain(settings, first, last)) is not None:
        first = decided + timedelta(days=1)
        console.print(
            f"drift on {decided}: training again, and forecasting {first} to {last} anew",
            soft_wrap=True,
        )
        run_job(settings, "daily", first, last, console)


def _open_retrain(settings: Settings, first: date, last: date) -> date | None:
    """The first day of first .. last-1 whose retrain has no version yet."""
    from orchestration.decisions import open_retrains
    from orchestration.warehouse import Warehouse

    with Warehouse(settings).read() as connection:
        days = open_retrains(connection, settings)
    return next((day for day in days if first <= day < last), None)


def check_days(first: date, last: date) -> None:
    """Raise ``ValueError`` unless the source covers the days."""
    from orchestration.platform import Platform

    source = Platform(Settings.from_env()).source
    begin, end = source.first_day(), source.last_day()
    for day in (first, last):
        if day < begin or (end is not None and day > end):
            raise ValueError(
                f"{day}: source {source.name!r} covers {begin} to {end or 'any later day'}"
            )


class _Watch:
    """Shows the steps of a run as it writes them to the event log."""

    def __init__(self, instance: Any, run_id: str, steps: int, console: Console) -> None:
        self._instance, self._run_id, self._steps, self._console = instance, run_id, steps, console
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _follow(self) -> None:
        from dagster import DagsterEventType

        kinds = {
            DagsterEventType.STEP_START,
            DagsterEventType.STEP_SUCCESS,
            DagsterEventType.STEP_FAILURE,
        }
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<42}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("starting", total=self._steps)
            cursor = None
            while True:
                stopping = self._stop.is_set()
                page = self._instance.get_records_for_run(
                    self._run_id, cursor=cursor, of_type=kinds
                )
                cursor = page.cursor
                for record in page.records:
                    event = record.event_log_entry.dagster_event
                    if event.event_type == DagsterEventType.STEP_START:
                        progress.update(task, description=event.step_key.replace("__", "."))
                    else:
                        progress.advance(task)
                if stopping and not page.has_more:
                    progress.update(task, description="done")
                    return
                self._stop.wait(0.3)


def reasons_of(settings: Settings, run_id: str) -> str:
    """Why a past run failed, in the words that the command line prints."""
    import dagster as dg

    prepare_home(settings)
    with dg.DagsterInstance.get() as instance:
        return _reasons(instance, run_id)


def _reasons(instance: Any, run_id: str) -> str:
    """What failed, from the event log: step errors at their root, and the gates that closed."""
    from dagster import DagsterEventType

    lines: list[str] = []
    failures = instance.get_records_for_run(
        run_id, of_type={DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION}
    ).records
    for record in failures:
        event = record.event_log_entry.dagster_event
        if event.event_type == DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            data = event.step_failure_data
            text = (data.user_failure_data.description if data.user_failure_data else None) or (
                error.message if error else ""
            )
            lines.append(f"{event.step_key.replace('__', '.')}: {text.strip()}")
        else:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                table = ".".join(evaluation.asset_key.path)
                detail = evaluation.metadata.get("failures") or evaluation.metadata.get("message")
                lines.append(
                    f"gate of {table} closed ({evaluation.check_name}):\n{detail.value if detail else ''}"
                )
    return "\n".join(lines) or f"run {run_id} failed; look at it in the UI (`./volcast dev`)"


def report_path(settings: Settings, as_of: date) -> Path:
    return settings.reports_dir / f"{as_of}.html"
