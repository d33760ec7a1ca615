"""Messages of a worker that appends them to a file: whole lines, however the operating system cut them.

In: the file of a Pipes session. Out: its messages, for Dagster. Never: half of a message.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import dagster as dg


class WholeLineReader(dg.PipesFileMessageReader):
    """Messages of a file that another process appends to, each once its line has ended.

    Dagster's own reader takes what is there: a long message that is written in two pieces, as one with learning curves is, breaks its thread, and with it every message after.
    """

    def _reader_thread(self, handler: Any, is_resource_complete: threading.Event) -> None:
        try:
            with Path(self._path).open(encoding="utf-8") as stream:
                for line in whole_lines(stream, is_resource_complete):
                    handler.handle_message(json.loads(line))
        except Exception:
            handler.report_pipes_framework_exception(type(self).__name__, sys.exc_info())
            raise


def whole_lines(stream: TextIO, ended: threading.Event) -> Iterator[str]:
    """Lines as they end; the last one, which a killed writer may have left unfinished, only if it ended."""
    line = ""
    while True:
        stop = ended.is_set()  # before reading: what was written until then is read
        part = stream.readline()
        line += part
        if line.endswith("\n"):
            yield line
            line = ""
        elif not part:
            if stop:
                return
            time.sleep(0.01)
