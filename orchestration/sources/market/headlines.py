"""Headlines of the simulated market: templates whose tone follows the day's mood.

In: the latent market. Out: batches of ``raw.headlines``. Never: names a real event; every address
ends in ``.invalid``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa

from orchestration.sources.headline_id import headline_id
from orchestration.sources.market.emit import (
    DAY,
    MINUTE,
    Calendar,
    IntArray,
    KnownWindow,
    table_of,
)
from orchestration.sources.market.latent import LatentMarket
from orchestration.sources.market.law import MARKET_KEY
from orchestration.sources.market.randomness import BLOCK_DAYS, FloatArray
from orchestration.sources.market.sentiment import mood
from orchestration.sources.schema import HEADLINES

MOST_A_DAY = 9
PUBLISHERS = ("SimDesk", "SimTelegraph", "SimPotato")

POSITIVE = (
    "{coin} rallies as buyers return with strong confidence",
    "{coin} gains after record adoption, analysts optimistic",
    "Great week for {coin}: holders celebrate a solid recovery",
    "{coin} network upgrade succeeds, community is happy",
)
NEUTRAL = (
    "{coin} trades in a narrow range before the weekend",
    "What to know about {coin} this week",
    "{coin} developers publish the agenda of their next call",
    "Exchange lists a new {coin} pair",
)
NEGATIVE = (
    "{coin} plunges as fear of losses spreads",
    "{coin} crashes through support, traders panic",
    "Bad day for {coin}: heavy liquidations hurt weak hands",
    "Hack worries and lawsuits weigh on {coin}",
)


class SimulatedHeadlines:
    """``raw.headlines`` of the simulated market: three to nine a day, each known five minutes after
    its stamp.
    """

    def __init__(self, market: LatentMarket, calendar: Calendar) -> None:
        self.market = market
        self.calendar = calendar

    @property
    def table(self) -> Literal["headlines"]:
        """The raw table."""
        return "headlines"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, 2)
        return self._tables(window, days)

    def _tables(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        for first in range(days.start, days.stop, BLOCK_DAYS):
            number = np.arange(first, min(first + BLOCK_DAYS, days.stop))
            yield self._headlines(number, window)

    def _headlines(self, number: IntArray, window: KnownWindow) -> pa.Table:
        first, last = int(number[0]), int(number[-1])
        draws = self.market.draws
        uniform = draws.uniform("headlines", MARKET_KEY, first, last, 1 + 4 * MOST_A_DAY)
        noise = draws.normal("headlines", MARKET_KEY, first, last, MOST_A_DAY)
        time, who, which, about = (
            uniform[:, 1 + at * MOST_A_DAY : 1 + (at + 1) * MOST_A_DAY] for at in range(4)
        )  # (day, headline) each
        minute = 1 + np.floor(time * 1438.0).astype(np.int64)
        there = np.arange(MOST_A_DAY) < 3 + np.floor(uniform[:, :1] * (MOST_A_DAY - 2))
        tone = self._tone(number, minute / 1440.0) + 0.7 * noise
        ts = number[:, None] * DAY + minute * MINUTE
        known_at = ts + 5 * MINUTE
        rows = np.argwhere(there & window.holds(known_at))
        records = [
            self._write(
                int(ts[day, at]),
                float(tone[day, at]),
                float(who[day, at]),
                float(which[day, at]),
                float(about[day, at]),
            )
            for day, at in rows
        ]
        text = {
            name: pa.array([record[name] for record in records], pa.string())
            for name in ("publisher", "id", "title", "url")
        }
        chosen = (rows[:, 0], rows[:, 1])
        table = table_of(HEADLINES, {"ts": ts[chosen], "known_at": known_at[chosen]})
        for name, values in text.items():
            table = table.set_column(table.schema.get_field_index(name), name, values)
        return table

    def _tone(self, number: IntArray, part: FloatArray) -> FloatArray:
        """Yesterday's mood turns into today's as the day goes on: (day, headline)."""
        states = self.market.through(int(number[-1]))
        rows = number - self.market.first
        today = mood(self.market, states, rows)[:, None]
        yesterday = mood(self.market, states, np.maximum(rows - 1, 0))[:, None]
        return np.asarray((1.0 - part) * yesterday + part * today)

    def _write(
        self, ts: int, tone: float, who: float, which: float, about: float
    ) -> dict[str, str]:
        templates = POSITIVE if tone > 0.6 else NEGATIVE if tone < -0.6 else NEUTRAL
        coin = self.market.coins[int(about**2 * len(self.market.coins))].asset
        title = templates[int(which * len(templates))].format(coin=coin)
        publisher = PUBLISHERS[int(who * len(PUBLISHERS))]
        url = f"https://{publisher.lower()}.invalid/{ts // MINUTE}-{coin.lower()}"
        return {
            "publisher": publisher,
            "id": headline_id(publisher, url, title, ts),
            "title": title,
            "url": url,
        }
