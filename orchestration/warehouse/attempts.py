"""The same write again, when another home's came first.

In: what opens a write. Out: attempts at it, until one is stored. Never: a write that is half there: an attempt that lost has stored nothing.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType

import duckdb

from orchestration.warehouse.errors import Conflict

logger = logging.getLogger(__name__)

Opened = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 5.0


class Attempt:
    """One transaction: entered, it gives the connection; left, it commits. A race that is lost on the way is kept in ``lost``."""

    def __init__(self, opened: Opened) -> None:
        self._transaction = opened()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.lost: Conflict | None = None

    def open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._transaction.__enter__()
        return self._connection

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            return self._transaction.__exit__(kind, error, trace)
        except Conflict as lost:
            self.lost = lost
            return True


def attempts(opened: Opened, seconds: float) -> Iterator[Attempt]:
    """Attempts until one commits; waits grow, with chance in them, so that two that met do not meet again. The last conflict is raised after ``seconds``."""
    deadline = time.monotonic() + seconds
    for number in itertools.count(1):
        attempt = Attempt(opened)
        try:
            attempt.open()
        except Conflict as lost:
            attempt.lost = lost
        else:
            yield attempt
        if attempt.lost is None:
            return
        if time.monotonic() > deadline:
            raise attempt.lost
        logger.info(
            "try %d: %s", number, attempt.lost, extra={"event": "commit_conflict", "try": number}
        )
        longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(number, 8))
        time.sleep(random.uniform(0, longest))  # noqa: S311
