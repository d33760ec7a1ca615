"""Spot bars of every coin, from the first venue that has the coin and answers.

In: ``LiveConfig.price_venues`` in order, any ccxt venues. Out: one stream for each coin and interval, pages of ``raw.ohlcv``. Never: takes
another venue's bars without a note, or leaves a hole without one.

The overlap is longer than a day, and a change of venue in the middle of a read goes back to midnight, so that one venue has the whole of
each UTC day, also after an outage. A coin that the venue does not list, or a venue that refuses, leaves the whole read to the next venue. A
venue that does not answer is stood in for only where little is missing (``STAND_IN``): years of history are not handed to another venue
because of a bad hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.sources.live.bars import (
    DELAY,
    ENDPOINT,
    LENGTHS,
    SpotVenue,
    Stretch,
    VenueBars,
)
from orchestration.sources.live.binance_files import POLICY as FILE_POLICY
from orchestration.sources.live.binance_files import PROVIDER as FILES
from orchestration.sources.live.binance_files import BinanceFiles
from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import (
    NotListed,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.rows import PAGE_ROWS, midnight, paged, unknown_field_notes
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.protocol import Page

OVERLAP = timedelta(hours=26)
"""The UTC day in which the last read ended, whole, and two hours for late corrections."""
STAND_IN = timedelta(days=31)
"""At most so much is read from another venue because the one before did not answer."""
BULK_FROM = timedelta(days=2)
"""A read of less than this does not ask for archive files."""
SILENT_FOR = timedelta(days=1)
"""A listed market without a bar for this long counts as not listed."""
CLOCK_OFF = timedelta(hours=2)
"""A venue whose clock is further behind ours is not believed to have given the newest bars."""
STALE = timedelta(hours=2)
"""A last bar older than this is worth a note."""
NEWEST_ONLY = {"kraken": 720}
"""Venues that give no bar but the newest so many, whatever they are asked."""
FILE_VENUE = "binance"


class Prices:
    """See the module. ``files``: whether the bars of whole months and days come from Binance's archive."""

    provider = "prices"

    def __init__(self, providers: Providers, *, files: bool = True) -> None:
        self.providers, self.files = providers, files
        unknown = [bars for bars in providers.config.bars if bars not in LENGTHS]
        if unknown or not providers.config.price_venues:
            raise ValueError(
                f"bars {unknown}: expected {', '.join(LENGTHS)}"
                if unknown
                else "price_venues: expected at least one ccxt venue"
            )
        self.venues = [SpotVenue(name, providers) for name in providers.config.price_venues]
        self._transports = [venue.transport for venue in self.venues]
        if files and FILE_VENUE in providers.config.price_venues:
            self._transports.append(providers.transport(FILES, FILE_POLICY))
        self._notes: dict[str, list[str]] = {}

    def streams(self) -> Sequence[LiveStream]:
        """One for each coin and interval."""
        return [
            self._stream(coin, interval)
            for interval in self.providers.config.bars
            for coin in self.providers.config.coins
        ]

    def probe(self) -> str:
        """The newest bar of the first coin at the first venue."""
        venue, config = self.venues[0], self.providers.config
        symbol, interval = venue.spot(config.coins[0]), config.bars[0]
        now, bars = self.providers.clock(), VenueBars(venue, interval)
        since = _grid(now, bars.length) - 4 * bars.length
        found = [stretch.rows for stretch in bars.stretches(symbol, since, now)]
        rows = pa.concat_tables(found).to_pylist() if found else []
        if not rows:
            raise ShapeChanged(
                venue.id, ENDPOINT, f"{symbol}: no {interval} bar since {since:%Y-%m-%d %H:%M}"
            )
        return f"{symbol} {interval} bar of {rows[-1]['ts']:%Y-%m-%d %H:%M}, close {rows[-1]['close']:,}"

    def _stream(self, coin: str, interval: str) -> LiveStream:
        name = f"prices/{interval}/{coin}"

        def read(known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
            notes: list[str] = []
            self._notes[name] = notes
            return paged(
                self._pages(coin, interval, known_after, known_until, notes), size=PAGE_ROWS
            )

        def noted() -> Sequence[str]:
            new = [note for each in self._transports for note in unknown_field_notes(each)]
            mine = (note for note in new if ENDPOINT in note or FILES in note)
            return (*self._notes.get(name, ()), *mine)

        return LiveStream(
            name,
            "ohlcv",
            self.venues[0].id,
            read,
            assets=(coin,),
            overlap=OVERLAP,
            punctual=True,
            noted=noted,
        )

    def _pages(
        self,
        coin: str,
        interval: str,
        known_after: datetime | None,
        known_until: datetime,
        notes: list[str],
    ) -> Iterator[Page]:
        start = self._start(interval, known_after)
        position, failed = start, list[ProviderError]()
        for venue in self.venues:
            since = max(start, midnight(position))
            gaps = Gaps(venue.id, since, LENGTHS[interval])
            try:
                for stretch in self._stretches(venue, coin, interval, since, known_until, notes):
                    gaps.look_at(stretch.rows)
                    if gaps.last is not None:
                        position = max(position, stretch.until)
                    yield Page(stretch.rows, min(position + DELAY, known_until))
                _must_be_whole(venue, coin, gaps, known_until)
            except ProviderError as error:
                if not _may_be_replaced(error, position == start, known_until - position):
                    raise
                failed.append(error)
                continue
            notes.extend(
                f"{_failure(coin, error.provider, error)}, read from {venue.id} from {since:%Y-%m-%d} on"
                for error in failed
            )
            notes.extend(gaps.notes(coin, known_until))
            return
        raise _all_failed(coin, failed)

    def _start(self, interval: str, known_after: datetime | None) -> datetime:
        """The open time from which a read begins."""
        first = self.providers.config.start_time
        if known_after is None:
            return first
        length = LENGTHS[interval]
        return max(first, _grid(known_after - DELAY, length))

    def _stretches(
        self,
        venue: SpotVenue,
        coin: str,
        interval: str,
        since: datetime,
        known_until: datetime,
        notes: list[str],
    ) -> Iterator[Stretch]:
        """Bars of one venue: archive files where there are some, the API for the rest."""
        symbol, bars = venue.spot(coin), VenueBars(venue, interval)
        files = None
        if self.files and venue.id == FILE_VENUE and known_until - since > BULK_FROM:
            files = BinanceFiles(
                self.providers, venue.market_id(symbol), symbol, interval, known_until
            )
        try:
            while True:
                period = files.period(since) if files else None
                table = files.read(period) if files and period else None
                if period and table is not None:
                    kept = table.filter(pc.greater_equal(table["ts"], pa.scalar(since)))
                    since = period.end
                    yield Stretch(kept, since)
                    continue
                for stretch in bars.stretches(
                    symbol, since, known_until, before=period.end if period else None
                ):
                    since = stretch.until
                    yield stretch
                if period is None or since < period.end:
                    return
        finally:
            if files:
                notes.extend(files.all_notes())
                files.close()


class Gaps:
    """What is missing in the bars of one read, as lines for people."""

    def __init__(self, venue: str, since: datetime, length: timedelta) -> None:
        self.venue, self.since, self.length = venue, since, length
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._missing = self._holes = 0
        self._longest = (timedelta(0), since)

    def look_at(self, rows: pa.Table) -> None:
        """The next bars, in order."""
        if not rows.num_rows:
            return
        ts = rows["ts"].to_numpy().astype("datetime64[us]")
        if self.last is not None:
            ts = np.insert(ts, 0, np.datetime64(self.last.replace(tzinfo=None), "us"))
        missing = np.diff(ts) // np.timedelta64(self.length) - 1
        self._holes += int((missing > 0).sum())
        self._missing += int(missing.clip(min=0).sum())
        if missing.size and missing.max() > 0:
            after = ts[missing.argmax()].item().replace(tzinfo=UTC) + self.length
            self._longest = max(self._longest, (int(missing.max()) * self.length, after))
        self.first = self.first or rows["ts"][0].as_py()
        self.last = rows["ts"][-1].as_py()

    def notes(self, coin: str, known_until: datetime) -> list[str]:
        """A late first bar, holes, an old last bar."""
        if self.first is None or self.last is None:
            return []
        found = []
        if self.first > self.since:
            newest = NEWEST_ONLY.get(self.venue)
            found.append(
                f"{coin}: {self.venue} has no bar before {self.first:%Y-%m-%d %H:%M}, asked from {self.since:%Y-%m-%d %H:%M}"
                + (f"; it gives only the newest {newest} bars" if newest else "")
            )
        if self._holes:
            lasting, start = self._longest
            found.append(
                f"{coin}: {self._missing} bars missing at {self.venue} in {self._holes} holes, the longest {lasting} from {start:%Y-%m-%d %H:%M}"
            )
        if known_until - self.last > STALE + self.length:
            found.append(f"{coin}: the last bar at {self.venue} is of {self.last:%Y-%m-%d %H:%M}")
        return found


def _must_be_whole(venue: SpotVenue, coin: str, gaps: Gaps, known_until: datetime) -> None:
    """Raises where the venue's clock, or its silence, says that the bars up to now were not given."""
    behind = -venue.transport.seen.clock_difference
    if behind > CLOCK_OFF:
        raise ProviderUnavailable(
            venue.id, "Date", f"its clock is {behind} behind ours: newer bars are not believed"
        )
    if gaps.last is None and known_until - gaps.since > SILENT_FOR:
        raise NotListed(
            venue.id, ENDPOINT, f"{coin} is listed, but has no bar since {gaps.since:%Y-%m-%d}"
        )


def _may_be_replaced(error: ProviderError, nothing_read: bool, missing: timedelta) -> bool:
    """Whether the next venue may stand in; ``missing`` is what this one has not given."""
    if error.provider == FILES:
        return False  # a bad archive file says nothing about the venue
    if nothing_read and isinstance(error, NotListed | ProviderRefused):
        return True
    return missing <= STAND_IN


def _failure(coin: str, venue: str, error: ProviderError) -> str:
    if isinstance(error, NotListed):
        word = "delisted" if "delisted" in error.detail else "not listed"
        return f"{coin}: {word} at {venue}"
    return f"{coin}: {venue} {error.status} ({error})"


def _all_failed(coin: str, failed: Sequence[ProviderError]) -> ProviderError:
    """What the failures of every venue amount to; one that may pass counts most."""
    if len(failed) == 1:
        return failed[0]
    detail = "; ".join(_failure(coin, error.provider, error) for error in failed)
    for kind in (ProviderUnavailable, ShapeChanged, ProviderRefused):
        if any(isinstance(error, kind) for error in failed):
            return kind("prices", coin, detail)
    return NotListed("prices", coin, detail)


def _grid(moment: datetime, length: timedelta) -> datetime:
    """The open time of the bar around ``moment``."""
    start = midnight(moment)
    return start + (moment - start) // length * length
