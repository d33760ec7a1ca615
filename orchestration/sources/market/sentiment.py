"""Sentiment of the simulated market: it follows returns, as sentiment does, and one series follows
nothing.

In: the latent market. Out: batches of ``raw.sentiment_metrics``. Never: leads volatility; whoever
finds that it does has found noise. The metric ``MarketTruth.spurious_metric`` is persistent and
unrelated to everything, to catch just that.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.sources.market.emit import (
    DAY,
    HOUR,
    Calendar,
    Column,
    IntArray,
    KnownWindow,
    Labels,
    table_of,
)
from orchestration.sources.market.latent import DailyStates, LatentMarket, weekday_of
from orchestration.sources.market.law import MARKET_KEY
from orchestration.sources.market.randomness import FloatArray
from orchestration.sources.schema import MARKET_ASSET, SENTIMENT_METRICS

SENTIMENT_COIN = "BTC"
"""The coin whose returns and variance the market's mood follows."""

FEAR_GREED_LABELS = ("Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed")
_FEAR_GREED_BOUNDS = (25.0, 46.0, 55.0, 76.0)
_FEAR_GREED_MISSING = 0.004
LONGEST_DELAY_DAYS = 9
"""A week's tone is known eight days after its Monday."""


def mood(market: LatentMarket, states: DailyStates, rows: IntArray) -> FloatArray:
    """The tone of a day's news, about standard normal: (days,)."""
    position = market.position(SENTIMENT_COIN)
    return np.asarray(
        2.2 * states.return_ema[rows, position] + states.shared_noise("news_tone")[rows]
    )


class SimulatedSentiment:
    """``raw.sentiment_metrics`` of the simulated market."""

    def __init__(self, market: LatentMarket, calendar: Calendar) -> None:
        self.market = market
        self.calendar = calendar

    @property
    def table(self) -> Literal["sentiment_metrics"]:
        """The raw table."""
        return "sentiment_metrics"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, LONGEST_DELAY_DAYS)
        return self._tables(window, days)

    def _tables(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        if not days:
            return
        number = np.arange(days.start, days.stop)
        states = self.market.through(days.stop + 5)  # a week that began on the last day
        yield self._fear_greed(states, number, window)
        yield from self._news(states, number, window)
        yield from self._weekly(states, number, window)
        yield from self._attention(states, number, window)
        rows = number - self.market.first
        chatter = 100.0 * np.exp(0.4 * states.shared_noise("spurious")[rows])
        yield _metric(
            "almanac", self.market.truth.spurious_metric, number, np.round(chatter, 3), 36, window
        )

    def _fear_greed(self, states: DailyStates, number: IntArray, window: KnownWindow) -> pa.Table:
        position = self.market.position(SENTIMENT_COIN)
        rows = number - self.market.first - self.market.truth.fear_greed_lag_days
        drawn = self.market.draws.uniform(
            "fear_greed", MARKET_KEY, int(number[0]), int(number[-1]), 1
        )
        there = (rows >= 0) & (drawn[:, 0] >= _FEAR_GREED_MISSING)
        rows = np.maximum(rows, 0)
        excess = states.log_variance[rows, position] - self.market.law.base[position]
        value = 50.0 + 45.0 * states.return_ema[rows, position] - 5.0 * excess
        value = np.clip(np.round(value + states.shared_noise("fear_greed")[rows]), 3.0, 97.0)
        labels = Labels(FEAR_GREED_LABELS, np.digitize(value, _FEAR_GREED_BOUNDS))
        return _metric(
            "alternative.me", "fear_greed", number, value, 1, window, label=labels, there=there
        )

    def _news(
        self, states: DailyStates, number: IntArray, window: KnownWindow
    ) -> Iterator[pa.Table]:
        rows = number - self.market.first
        tone = mood(self.market, states, rows)
        total = 32.0 * np.exp(states.shared_noise("news_volume")[rows])
        first, last = int(number[0]), int(number[-1])
        jitter = 0.1 * self.market.draws.normal("news", MARKET_KEY, first, last, 3)
        weight = np.exp(np.stack([0.5 * tone, -0.5 * tone, np.zeros_like(tone) - 0.4], axis=1))
        counts = total[:, None] * weight / weight.sum(axis=1, keepdims=True) * np.exp(jitter)
        for column, name in enumerate(("positive", "negative", "neutral")):
            yield _metric(
                "news_counts",
                f"market_news_{name}_count",
                number,
                np.round(counts[:, column]),
                25,
                window,
            )

    def _weekly(
        self, states: DailyStates, number: IntArray, window: KnownWindow
    ) -> Iterator[pa.Table]:
        monday = weekday_of(number) == 0
        if self.calendar.last is not None:
            monday &= number + 6 <= self.calendar.last
        monday &= number >= self.calendar.first
        days = number[monday]
        if days.size == 0:
            return
        week = (days - self.market.first)[:, None] + np.arange(7)  # (week, day)
        tone = mood(self.market, states, week.ravel()).reshape(week.shape).mean(axis=1)
        volume = states.shared_noise("news_volume")[week].mean(axis=1)
        articles = np.round(60.0 * np.exp(volume))
        for metric, value in (
            ("gdelt_S_gdelt_raw", np.round(-2.0 + 1.5 * tone, 4)),
            ("gdelt_total_articles", articles),
            ("gdelt_total_mentions", np.round(5.2 * articles)),
        ):
            yield _metric("gdelt_weekly", metric, days, value, 8 * 24, window)

    def _attention(
        self, states: DailyStates, number: IntArray, window: KnownWindow
    ) -> Iterator[pa.Table]:
        position = self.market.position(SENTIMENT_COIN)
        rows = number - self.market.first
        excess = states.log_variance[rows, position] - self.market.law.base[position]
        first, last = int(number[0]), int(number[-1])
        noise = 0.08 * self.market.draws.normal("attention", SENTIMENT_COIN, first, last, 3)
        level = states.shared_noise("social")[rows] + 0.3 * excess
        for column, (provider, metric, usual, delay_hours) in enumerate(
            (
                ("social_counts", "social_posts_created", 550.0, 36),
                ("social_counts", "social_contributors_active", 4400.0, 36),
                ("wikipedia_pageviews", "wikipedia_pageviews", 3400.0, 48),
            )
        ):
            value = np.round(usual * np.exp(level + noise[:, column]))
            yield _metric(
                provider, metric, number, value, delay_hours, window, asset=SENTIMENT_COIN
            )


def _metric(
    provider: str,
    metric: str,
    days: IntArray,
    value: FloatArray,
    delay_hours: int,
    window: KnownWindow,
    *,
    asset: str = MARKET_ASSET,
    label: Labels | None = None,
    there: NDArray[np.bool_] | None = None,
) -> pa.Table:
    known_at = days * DAY + delay_hours * HOUR
    keep = window.holds(known_at)
    columns: dict[str, Column] = {
        "provider": provider,
        "asset": asset,
        "metric": metric,
        "ts": days * DAY,
        "value": value,
        "known_at": known_at,
    }
    if label is not None:
        columns["label"] = label
    return table_of(SENTIMENT_METRICS, columns, keep if there is None else keep & there)
