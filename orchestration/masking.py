"""Keeps secrets out of every log line and traceback of this process.

In: nothing. Out: a log-record factory and an exception hook that mask before any handler, formatter or terminal sees the text. What Dagster
stores goes through ``dagster_storage``. Never: a record lost, or a level changed.
"""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from orchestration.secrets import mask

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


def mask_tracebacks() -> None:
    """Mask what Python prints about an exception that nobody caught."""
    sys.excepthook = _print_masked


def _print_masked(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(mask("".join(traceback.format_exception(kind, error, trace))))
