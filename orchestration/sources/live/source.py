"""The live source: every connector of the settings as streams by table.

In: settings. Out: a ``Source`` whose present moves on. Never opens a connection before a stream is read, and never puts data of one
provider in the place of another's without a note.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from orchestration.sources.live.config import LiveConfig, Providers
from orchestration.sources.live.connectors import connectors
from orchestration.sources.live.rows import SOURCE
from orchestration.sources.live.stream import Connector
from orchestration.sources.live.transport import Clock, Sleep, utc_now
from orchestration.sources.protocol import Stream
from orchestration.sources.schema import TABLES


class LiveSource:
    """See the module. ``clock`` and ``sleep`` are replaced in tests."""

    name = SOURCE

    def __init__(
        self, config: LiveConfig, *, clock: Clock = utc_now, sleep: Sleep = time.sleep
    ) -> None:
        self.config = config
        self.assets = config.assets
        self.clock = clock
        self._providers = Providers(config, clock=clock, sleep=sleep)
        self.connectors: Sequence[Connector] = connectors(self._providers)
        self._streams = [stream for made in self.connectors for stream in made.streams()]
        names = [stream.name for stream in self._streams]
        if len(set(names)) < len(names):
            raise ValueError(
                f"streams with one name: {sorted(n for n in names if names.count(n) > 1)}"
            )

    def streams(self, table: str) -> Sequence[Stream]:
        """See ``Source.streams``."""
        if table not in TABLES:
            raise KeyError(f"raw table {table!r}: expected one of {', '.join(TABLES)}")
        return [stream for stream in self._streams if stream.table == table]

    def now(self) -> datetime:
        """See ``Source.now``."""
        return self.clock()

    def settled(self, stream: Stream) -> datetime:
        """See ``protocol.SettledSource``: our clock may be ahead of the provider's."""
        return self._providers.now(stream.provider)

    def first_day(self) -> date:
        """The first day that history is asked for."""
        return self.config.start

    def last_day(self) -> date:
        """The newest day whose decision time has passed."""
        offset = timedelta(minutes=self.config.decision_offset_minutes)
        return (self.clock() - offset).date() - timedelta(days=1)

    def describe(self) -> dict[str, Any]:
        """Plain JSON values for people and for the metadata of a run."""
        return {
            "source": SOURCE,
            "assets": list(self.assets),
            "first_day": self.first_day().isoformat(),
            "providers": sorted({made.provider for made in self.connectors}),
            "streams": len(self._streams),
        }
