"""Structured logs: one JSON object a line, under ``logs/`` of the home and, by setting, on standard error.

In: what modules log, and every message and event of a Dagster run (dagster.yaml names ``HomeLog`` as its handler, so that runs of the daemon write here
too). Out: ``logs/volcast.jsonl`` and the files that it was before (docs/monitoring.md lists the fields). Each line carries the run, job, step and days that it belongs to.
Never: loses a line for its text, lets a secret through, grows without bound, or stops a run because the disk is full.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestration.run_history import DAY_TAG, FIRST_TAG, LAST_TAG
from orchestration.secrets import mask
from orchestration.settings import Settings

PACKAGES = ("orchestration", "ml", "quality")
FILE_NAME = "volcast.jsonl"
MOST_BYTES = 10 * 2**20
KEPT_FILES = 9
MOST_TEXT = 8_000
"""Characters of one text of a line; the end of a longer one is kept too, since that is where an error says what it is."""
EVENTS = frozenset(
    {
        "RUN_START", "RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED", "STEP_START", "STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY",
        "STEP_SKIPPED", "ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "ASSET_CHECK_EVALUATION",
    }
)  # fmt: skip
"""Dagster's events that are written at level info; the rest are debug."""
_RUN: dict[str, str] = {}
"""Run, job, step and days of this process at the moment: what a module logs belongs to them."""


class LogFile:
    """A file that several processes append to, a line at a time, and that is renamed when it is full."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES, kept: int = KEPT_FILES) -> None:
        self.path, self.most_bytes, self.kept = path, most_bytes, kept
        self._descriptor: int | None = None
        self._torn = False

    def write(self, line: bytes) -> None:
        """Append ``line``, which ends with a newline. Raises OSError where the disk is full."""
        descriptor = self._open()
        if os.fstat(descriptor).st_size + len(line) > self.most_bytes:
            self._rotate()
            descriptor = self._open()
        if self._torn:  # a line that a full disk cut must not spoil the next
            line = b"\n" + line
        written = 0
        try:
            while written < len(line):  # a disk that fills up takes a part, then none
                written += os.write(descriptor, line[written:])
        finally:
            if written:
                self._torn = written < len(line)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is not None:
            try:
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                    return self._descriptor
            except FileNotFoundError:
                pass
            self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return self._descriptor

    def _rotate(self) -> None:
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists() and self.path.stat().st_size > self.most_bytes // 2:
                for number in range(self.kept - 1, 0, -1):
                    older = self._numbered(number)
                    if older.exists():
                        os.replace(older, self._numbered(number + 1))
                os.replace(self.path, self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class HomeLog(logging.Handler):
    """Writes records as JSON lines into the home that the environment or ``settings`` name."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(logging.DEBUG)  # what is wanted is decided by line: events are debug
        settings = settings or Settings.from_env()
        self.settings = settings
        self.file = LogFile(settings.home / "logs" / FILE_NAME)
        self.least = logging.getLevelName(settings.log_level.upper())
        self.form = settings.log_format

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = line_of(record)
            if fields is not None and fields["event"] in ("run_start", "step_start"):
                start(self.settings)  # a run that the daemon started in a process of its own
            if fields is None or logging.getLevelName(fields["level"].upper()) < self.least:
                return
            text = json.dumps(fields, ensure_ascii=True, default=str)
            shown = hasattr(record, "dagster_meta") or hasattr(record, "shown")
            if self.form:
                print(text if self.form == "json" else text_line(fields), file=sys.stderr)
            elif record.levelno >= logging.WARNING and not shown:
                print(fields["message"], file=sys.stderr)  # as Python does by itself
            self.file.write(text.encode() + b"\n")
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """One line on standard error: a log that cannot be written must not stop the run."""
        print(
            mask(f"cannot write {self.file.path}: {sys.exc_info()[1]}; lost: {record.msg!s:.200}"),
            file=sys.stderr,
        )

    def close(self) -> None:
        self.file.close()
        super().close()


def start(settings: Settings) -> None:
    """Let this process's own loggers write into the home; a second call for another home moves them there."""
    handler = HomeLog(settings)
    wanted = (handler.file.path, handler.least, handler.form)
    held = [item for item in logging.getLogger(PACKAGES[0]).handlers if isinstance(item, HomeLog)]
    if any((item.file.path, item.least, item.form) == wanted for item in held):
        return
    for name in PACKAGES:
        logger = logging.getLogger(name)
        for old in [held for held in logger.handlers if isinstance(held, HomeLog)]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        logger.setLevel(min(handler.least, logging.INFO))
        logger.propagate = True


def note_command_failure(error: Exception) -> None:
    """A line for a command that ended with ``error``, which the terminal shows; nothing where no settings were read."""
    if any(isinstance(handler, HomeLog) for handler in logging.getLogger(PACKAGES[0]).handlers):
        logging.getLogger("orchestration.cli").error(
            "volcast %s: %s",
            " ".join(sys.argv[1:]),
            error,
            extra={"event": "command_failed", "shown": True},
        )


def current_run() -> dict[str, str]:
    """Run, job, step and days that this process is at, for the environment of a child; empty outside of a run."""
    return dict(_RUN)


def line_of(record: logging.LogRecord) -> dict[str, Any] | None:
    """A record as the fields of a line; None for an event of Dagster's that says nothing to people."""
    meta = getattr(record, "dagster_meta", None)
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": str(getattr(record, "event", "log")),
    }
    extra = {
        name: getattr(record, name)
        for name in ("coin", "duration_seconds", "counts")
        if getattr(record, name, None) is not None
    }
    if meta is None:
        fields |= {**_RUN, "logger": record.name, **extra, "message": _message(record)}
    else:
        fields |= _of_dagster(meta, fields["level"]) | extra
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = logging.Formatter().formatException(record.exc_info)
    fields["pid"] = record.process
    return {name: _clean(value) for name, value in fields.items() if value not in (None, "", {})}


def text_line(fields: dict[str, Any]) -> str:
    """A line for people: time, level, step, what happened."""
    where = " ".join(str(fields[name]) for name in ("step", "partition", "coin") if name in fields)
    rest = " ".join(
        f"{name}={json.dumps(fields[name])}"
        for name in ("duration_seconds", "counts", "error")
        if name in fields
    )
    what = fields.get("message") or fields["event"]
    return f"{fields['time']} {fields['level']:<7} {where + ': ' if where else ''}{what} {rest}".rstrip()


def _of_dagster(meta: dict[str, Any], level: str) -> dict[str, Any]:
    """Fields of a message or event of a run; the run becomes the context of what modules log."""
    tags = meta["job_tags"] or {}
    days = tags.get(DAY_TAG) or "/".join(filter(None, (tags.get(FIRST_TAG), tags.get(LAST_TAG))))
    step = (meta["step_key"] or "").replace("__", ".")
    context = {
        "run": meta["run_id"],
        "job": meta["job_name"],
        "step": step,
        "partition": days,
    }
    _RUN.clear()
    _RUN.update({name: value for name, value in context.items() if value})
    event = meta["dagster_event"]
    if event is None:
        return {**context, "logger": "dagster", "message": meta["orig_message"]}
    kind = event.event_type.name
    if kind in ("STEP_SUCCESS", "STEP_FAILURE"):
        _RUN.pop("step", None)
    if kind in ("RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"):
        _RUN.clear()
    data = event.event_specific_data
    found: dict[str, Any] = {
        **context,
        "event": kind.lower(),
        "logger": "dagster",
        "message": meta["orig_message"],
    }
    if level == "debug" and kind in EVENTS:
        found["level"] = "info"
    if getattr(data, "duration_ms", None) is not None:
        found["duration_seconds"] = round(data.duration_ms / 1000, 3)
    counts = _counts(data)
    if counts:
        found["counts"] = counts
    table = getattr(event, "asset_key", None) if kind.startswith("ASSET_") else None
    if table is not None:
        found["table"] = ".".join(table.path)
    if kind == "ASSET_CHECK_EVALUATION":
        found["table"] = ".".join(data.asset_key.path)
        found["passed"] = data.passed
        found["level"] = level if data.passed else "error"
    error = getattr(data, "error", None)
    if error is not None:
        found["error"] = error.to_string()
    return found


def _counts(data: Any) -> dict[str, float]:
    """The numbers of a materialisation or a check, such as rows_new."""
    holder = getattr(data, "materialization", None) or getattr(data, "asset_observation", None)
    metadata: Any = getattr(holder or data, "metadata", None)
    if not isinstance(metadata, Mapping):
        return {}
    values = {name: getattr(value, "value", None) for name, value in metadata.items()}
    return {
        name.removeprefix("dagster/"): value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (
        Exception
    ) as error:  # a format that does not fit its arguments: the text counts, not the slip
        return f"{record.msg!s} {record.args!r} ({error})"


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        value = mask(value)
        if len(value) > MOST_TEXT:
            half = MOST_TEXT // 2
            value = (
                f"{value[:half]} ...{len(value) - MOST_TEXT} characters left out... {value[-half:]}"
            )
        return value
    if isinstance(value, dict):
        return {mask(str(name))[:200]: _clean(item) for name, item in list(value.items())[:100]}
    if isinstance(value, float) and value != value:
        return None
    return value
