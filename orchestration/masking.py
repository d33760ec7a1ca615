"""Keeps secrets out of every log line and traceback of this process.

In: nothing. Out: a log-record factory, and hooks for exceptions and warnings, that mask before any handler, formatter or terminal sees the text.
What Dagster stores goes through ``dagster_storage``. Never: a record lost, a level changed, or somebody else's hook taken away.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

from orchestration.secrets import mask

_INSTANCE = Path(__file__).resolve().parent.parent / "dagster.yaml"
_FORMATTER = logging.Formatter()


def mask_logs() -> None:
    """Mask the message and the traceback of every log record of this process, whoever logs; asking twice changes nothing."""
    previous = logging.getLogRecordFactory()
    if isinstance(previous, _MaskedRecords):
        return
    logging.setLogRecordFactory(_MaskedRecords(previous))


class _MaskedRecords:
    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._previous(*arguments, **named)
        try:
            text = record.getMessage()
        except Exception:  # arguments that do not fit their format: logging itself reports them, so they are masked one by one
            record.msg, record.args = mask(f"{record.msg} {record.args}"), ()
            return record
        shown = mask(text)
        if shown != text:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = mask(
                _FORMATTER.formatException(record.exc_info)
            )  # formatters take it
        if record.stack_info:
            record.stack_info = mask(record.stack_info)
        return record


def check_storage() -> None:
    """Say so where what Dagster stores is not masked: DAGSTER_HOME has no ``dagster.yaml``, or one that stores and logs otherwise than the project's."""
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        return
    held = Path(home) / "dagster.yaml"
    if not held.is_file() or not (held.read_bytes() == _INSTANCE.read_bytes() or _like_ours(held)):
        logging.getLogger(__name__).warning(
            "%s is not the project's dagster.yaml: secrets in events and errors are stored as they come, and logs and limits may be missing; "
            "run `volcast prepare` and start this process again",
            held,
        )


def _like_ours(held: Path) -> bool:
    """Whether another ``dagster.yaml``, such as Dagster's Helm chart writes, has the project's storages, logs and limits."""
    import yaml

    try:
        found, wanted = (yaml.safe_load(path.read_text()) for path in (held, _INSTANCE))
        parts = ("event_log_storage", "run_storage", "schedule_storage", "concurrency")
        return all(found.get(part) == wanted[part] for part in parts) and (
            found["python_logs"]["dagster_handler_config"]
            == wanted["python_logs"]["dagster_handler_config"]
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, UnicodeDecodeError):
        return False


def mask_tracebacks() -> None:
    """Mask what Python prints about warnings, and about exceptions that nobody caught: in this thread, in others, and in finalisers."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda kind, error, trace: print_masked(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _of_a_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _of_a_finaliser
    if warnings.formatwarning is not _masked_warning:
        warnings.formatwarning = _masked_warning


def print_masked(error: BaseException) -> None:
    """The traceback of ``error`` on standard error, without secrets."""
    if sys.stderr is not None:
        sys.stderr.write(mask("".join(traceback.format_exception(error))))


def _of_a_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None and caught.exc_type is not SystemExit:
        print_masked(caught.exc_value)


def _of_a_finaliser(caught: sys.UnraisableHookArgs) -> None:
    if caught.exc_value is not None:
        print_masked(caught.exc_value)


_format_warning = warnings.formatwarning


def _masked_warning(*arguments: Any, **named: Any) -> str:
    return mask(_format_warning(*arguments, **named))
