"""Averages of losses, and nothing else.

In: the frame of `ml.evaluation.scores`. Out: means over days, then over coins; losses by day.
Never: a loss formula (they are in `losses`) or a test (they are in `comparison` and `tails`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

PAIR = ["asset", "as_of"]


def mean_by_model(scores: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Index (horizon, model): the mean over each coin's days, then over coins, so that each coin weighs the same."""
    by_coin = scores.groupby(["horizon", "model", "asset"], observed=True)[column].mean()
    return by_coin.groupby(level=["horizon", "model"]).mean()


def losses_by_day(scores: pd.DataFrame, column: str = "qlike") -> pd.DataFrame:
    """One horizon's scores -> as_of down, models across: the mean loss over coins of each day.

    Averaging over coins first makes a day one observation: coins move together, and a test that took them for
    independent would find differences where there are none. Only (coin, day) pairs that every model forecast count.
    """
    wide = scores.pivot(index=PAIR, columns="model", values=column).dropna()
    return wide.groupby(level="as_of").mean().sort_index()


def shared_with(scores: pd.DataFrame, model: str, benchmark: str) -> pd.DataFrame:
    """The scores of `model` and `benchmark` on the coins and days that both forecast, for one horizon."""
    pair = scores[scores["model"].isin([model, benchmark])]
    count = pair.groupby(PAIR, observed=True)["model"].transform("nunique")
    return pair[count == len({model, benchmark})]
