"""Progress of an ingest on the terminal: a bar for each raw table, moving with the streams and the days that were read.

In: calls from ``ingest``. Out: rich bars. Never slows the ingest down by more than a redraw.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchestration.sources.protocol import Source, Stream


class IngestProgress:
    """Use as a context manager and pass to ``ingest``; see ``ingest.Progress``."""

    def __init__(self, console: Console, source: Source) -> None:
        self._source = source
        self._start = datetime.combine(source.first_day(), time(), tzinfo=UTC)
        self._bars = Progress(
            TextColumn("{task.fields[table]:<20}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[rows]:>12,} rows"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[at]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, float] = defaultdict(float)
        self._part: dict[str, float] = {}
        self._rows: dict[str, int] = defaultdict(int)

    def __enter__(self) -> IngestProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, stream: Stream, through: datetime | None, rows: int, ended: bool) -> None:
        """``stream`` was read up to ``through``, or it ``ended``, whether well or not."""
        table = stream.table
        if table not in self._tasks:
            total = len(self._source.streams(table))
            self._tasks[table] = self._bars.add_task("", total=total, table=table, rows=0, at="")
        self._rows[table] += rows
        if ended:
            self._done[table] += 1
            self._part.pop(table, None)
        elif through is not None:
            self._part[table] = self._share(through)
        day = f"{through:%Y-%m-%d}" if through else ""
        self._bars.update(
            self._tasks[table],
            completed=self._done[table] + self._part.get(table, 0.0),
            rows=self._rows[table],
            at=f"{stream.name} {day}",
        )

    def _share(self, through: datetime) -> float:
        end = self._source.now() or through
        whole = (end - self._start).total_seconds()
        return (
            min(1.0, max(0.0, (through - self._start).total_seconds() / whole))
            if whole > 0
            else 1.0
        )
