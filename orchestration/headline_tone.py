"""Headlines -> one tone and one count per day, of the market and of each coin, scored offline.

In: rows of raw.headlines. Out: rows of raw.sentiment_metrics. A day's figure covers the headlines that became known between its decision
time and the one before, so it is known exactly at its decision time. Scored by VADER (Hutto and Gilbert 2014) with words of this market added
to its lexicon (provider ``vader``), or by a text classifier of the extra ``tone`` (provider ``transformers/<model>``); -1 is most negative,
+1 most positive. Never asks the network: a classifier is read from a folder or from what was downloaded before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from orchestration.headline_coins import coins_in
from orchestration.settings import Settings, SettingsError
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
BATCH, TOKENS = 32, 64
"""Shape of what a classifier is given, always the same, so that a title's tone does not depend on its neighbours."""
SIGN = {"positive": 1.0, "bullish": 1.0, "neutral": 0.0, "negative": -1.0, "bearish": -1.0}


@dataclass(frozen=True)
class Scorer:
    """Who scores: ``provider`` is what the rows carry; ``score`` gives the tone of each title in [-1, 1], shape (len(titles),)."""

    provider: str
    score: Callable[[Sequence[str]], np.ndarray]


def scorer_of(tone_model: str) -> Scorer:
    """The scorer that the setting names. Raises ``SettingsError`` for a classifier that cannot be read."""
    if tone_model == PROVIDER:
        return Scorer(PROVIDER, tone)
    return _classifier(tone_model.removeprefix("transformers:"))


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


@cache
def _classifier(model_name: str) -> Scorer:
    """Probability of the positive labels less that of the negative ones, on the CPU."""
    setting = f"VOLCAST_TONE_MODEL=transformers:{model_name}"
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise SettingsError(f"{setting}: install the extra: pip install 'volcast[tone]'") from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model_name, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            model_name, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{setting}: neither a folder with a model nor one that was downloaded before"
        ) from error
    labels = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    unknown = [label for label in labels if label.lower() not in SIGN]
    if unknown:
        raise SettingsError(f"{setting}: labels {unknown}: expected {', '.join(SIGN)}")
    signs = torch.tensor([SIGN[label.lower()] for label in labels])
    model = model.to("cpu", dtype=torch.float32).eval()

    def score(titles: Sequence[str]) -> np.ndarray:
        tones = np.empty(len(titles))
        for start in range(0, len(titles), BATCH):
            batch = list(titles[start : start + BATCH])
            given = tokenizer(
                batch + [""] * (BATCH - len(batch)),
                padding="max_length",
                truncation=True,
                max_length=TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                probabilities = model(**given).logits.softmax(dim=-1)  # (BATCH, label)
            tones[start : start + len(batch)] = (probabilities @ signs)[: len(batch)].numpy()
        return tones.clip(-1, 1).round(6)

    return Scorer(f"transformers/{model_name.rstrip('/').rsplit('/', 1)[-1]}", score)


def daily_tone(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    source: str,
    from_as_of: date,
    to_as_of: date,
    assets: Collection[str] = (),
) -> pa.Table:
    """Tone and count of each as_of in the range that has headlines, as a batch for raw.sentiment_metrics: the market's, then those of the
    coins of ``assets`` that are named in a title.
    """
    schema = TABLES["sentiment_metrics"].arrow
    scorer = scorer_of(settings.tone_model)
    start = settings.decision_time(from_as_of - timedelta(days=1))
    frame = connection.execute(
        "SELECT title, CAST(known_at - to_minutes(?) - INTERVAL 1 microsecond AS DATE) AS as_of FROM raw.headlines "
        "WHERE known_at > ? AND known_at <= ? AND title IS NOT NULL "
        "QUALIFY row_number() OVER (PARTITION BY publisher, id ORDER BY known_at) = 1",
        [settings.decision_offset_minutes, start, settings.decision_time(to_as_of)],
    ).df()
    if frame.empty:
        return schema.empty_table()
    titles = frame["title"].tolist()
    frame["tone"] = scorer.score(titles)
    rows = [
        row | {"provider": scorer.provider, "label": None, "source": source}
        for row in _rows(frame, MARKET_ASSET, settings)
    ]
    named = [coins_in(title, assets) for title in titles]
    for asset in sorted(assets):
        of_coin = frame[[asset in coins for coins in named]]
        rows += [
            row | {"provider": scorer.provider, "label": None, "source": source}
            for row in _rows(of_coin, asset, settings)
        ]
    return pa.Table.from_pylist(rows, schema=schema)


def _rows(frame: pd.DataFrame, asset: str, settings: Settings) -> Iterator[dict[str, Any]]:
    by_day = frame.groupby("as_of")["tone"].agg(["mean", "size"]).sort_index()
    for day, mean, size in by_day.itertuples():
        as_of = pd.Timestamp(day).date()
        for metric, value in (("headline_tone", float(mean)), ("headline_count", float(size))):
            yield {
                "asset": asset,
                "metric": metric,
                "ts": datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC),
                "value": value,
                "known_at": settings.decision_time(as_of),
            }
