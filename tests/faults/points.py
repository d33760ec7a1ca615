"""Points at which a process may be killed: every write that it makes, counted.

In: a number, and how long after that point. Out: SIGKILL, from inside. What is counted: statements that write to the warehouse and the closing of
its connection (a checkpoint), files that are opened to be written, renamed or removed, folders that are made, processes that are started.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_STATEMENTS = ("COMMIT", "INSERT", "DELETE", "UPDATE", "CREATE", "ATTACH", "DETACH", "ALTER")
_EVENTS = {
    "os.rename": 1,  # the place that is written to, among the event's arguments
    "os.remove": 0,
    "os.mkdir": 0,
    "shutil.rmtree": 0,
}


class Points:
    """Counts; at point ``at`` it kills the process, or its whole group, at once or ``delay`` seconds later."""

    def __init__(
        self, home: Path, at: int | None = None, delay: float = 0.0, group: bool = True
    ) -> None:
        self.count = 0
        self.last = ""
        self._home, self._at, self._delay, self._group = str(home), at, delay, group

    def install(self) -> None:
        from orchestration.warehouse import Warehouse

        sys.addaudithook(self._audit)
        opened, passed = Warehouse._open, self.passed
        Warehouse._open = lambda own, **options: _Watched(opened(own, **options), passed)  # type: ignore[method-assign,assignment]

    def passed(self, what: str) -> None:
        self.count += 1
        self.last = what
        if self.count != self._at:
            return
        if not self._delay:
            self._kill()
        threading.Thread(target=self._kill_later, daemon=True).start()

    def _kill_later(self) -> None:
        time.sleep(self._delay)
        self._kill()

    def _kill(self) -> None:
        if self._group:
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str) and path.startswith(self._home):
                self.passed(f"open {path}")
        elif event in _EVENTS:
            place = os.fspath(arguments[_EVENTS[event]])
            if isinstance(place, str) and place.startswith(self._home):
                self.passed(f"{event} {place}")
        elif event == "subprocess.Popen":
            self.passed("start of a process")


class _Watched:
    """A DuckDB connection whose writes are points."""

    def __init__(self, connection: Any, passed: Any) -> None:
        self._connection, self._passed = connection, passed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *arguments: Any, **options: Any) -> Any:
        if statement.lstrip().upper().startswith(_STATEMENTS):
            self._passed(statement.strip()[:60])
        return self._connection.execute(statement, *arguments, **options)

    def close(self) -> None:
        self._passed("close of the warehouse")
        self._connection.close()
