"""Headlines -> one tone and one count per day, scored offline.

In: rows of raw.headlines. Out: rows of raw.sentiment_metrics (provider ``vader``). A day's figure covers the headlines that became known
between its decision time and the one before, so it is known exactly at its decision time. Scored by VADER (Hutto and Gilbert 2014) with
words of this market added to its lexicon; -1 is most negative, +1 most positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from orchestration.settings import Settings
from orchestration.sources.schema import MARKET_ASSET, TABLES

PROVIDER = "vader"
CRYPTO_LEXICON: dict[str, float] = {
    "bullish": 2.5, "bearish": -2.5, "rally": 2.0, "rallies": 2.0, "surge": 2.0, "surges": 2.0, "soar": 2.2, "soars": 2.2,
    "plunge": -2.5, "plunges": -2.5, "crash": -3.0, "crashes": -3.0, "dump": -2.0, "selloff": -2.3, "liquidation": -2.0,
    "liquidations": -2.0, "liquidated": -2.0, "hack": -2.8, "hacked": -3.0, "exploit": -2.5, "exploited": -2.8, "rug": -2.5,
    "scam": -3.0, "insolvent": -3.0, "insolvency": -3.0, "bankruptcy": -3.0, "depeg": -3.0, "depegs": -3.0, "halts": -1.8,
    "lawsuit": -1.8, "sues": -1.8, "ban": -2.0, "bans": -2.0, "crackdown": -2.0, "adoption": 1.5, "approval": 1.8, "approves": 1.8,
    "inflows": 1.2, "outflows": -1.2, "capitulation": -2.4, "fud": -1.5, "ath": 2.0, "moon": 1.5, "hodl": 0.8, "airdrop": 0.8,
}  # fmt: skip


@cache
def _analyzer() -> object:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon.update(CRYPTO_LEXICON)
    return analyzer


def tone(titles: Sequence[str]) -> np.ndarray:
    """Compound VADER score of each title, in [-1, 1]; shape (len(titles),)."""
    analyzer = _analyzer()
    return np.array([analyzer.polarity_scores(title)["compound"] for title in titles], dtype=float)  # type: ignore[attr-defined]


def daily_tone(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    source: str,
    from_as_of: date,
    to_as_of: date,
) -> pa.Table:
    """Tone and count of each as_of in the range that has headlines, as a batch for raw.sentiment_metrics."""
    schema = TABLES["sentiment_metrics"].arrow
    start = settings.decision_time(from_as_of - timedelta(days=1))
    frame = connection.execute(
        "SELECT title, CAST(known_at - to_minutes(?) - INTERVAL 1 microsecond AS DATE) AS as_of FROM raw.headlines "
        "WHERE known_at > ? AND known_at <= ? AND title IS NOT NULL "
        "QUALIFY row_number() OVER (PARTITION BY publisher, id ORDER BY known_at) = 1",
        [settings.decision_offset_minutes, start, settings.decision_time(to_as_of)],
    ).df()
    if frame.empty:
        return schema.empty_table()
    frame["tone"] = tone(frame["title"].tolist())
    by_day = frame.groupby("as_of")["tone"].agg(["mean", "size"]).sort_index()
    rows = []
    for day, mean, size in by_day.itertuples():
        as_of = pd.Timestamp(day).date()
        for metric, value in (("headline_tone", float(mean)), ("headline_count", float(size))):
            rows.append(
                {
                    "provider": PROVIDER,
                    "asset": MARKET_ASSET,
                    "metric": metric,
                    "ts": datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC),
                    "value": value,
                    "label": None,
                    "known_at": settings.decision_time(as_of),
                    "source": source,
                }
            )
    return pa.Table.from_pylist(rows, schema=schema)
