"""Segments of a leaderboard: which coin-days belong to which group, regime, kind of target day and year.

In: scores, and rows of features.daily for what was known on each day. Out: one row per coin, day, horizon and kind of segment.
Never: a regime by what followed the forecast. Ranking forecasts on days picked by their outcome rewards those who always cry
wolf (Lerch et al. 2017, "Forecaster's dilemma", Statistical Science 32); the one such segment, 'before a jump', is a
diagnosis and says so in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

KEY = ["asset", "as_of", "horizon"]
COLUMNS: tuple[str, ...] = (*KEY, "segment_kind", "segment")
KINDS: tuple[str, ...] = ("coin_group", "year", "target_day", "regime", "jump")
ALL = "all"
COIN_GROUPS: dict[str, str] = {"BTC": "majors", "ETH": "majors"}
OTHER_COINS = "other coins"
REGIME_DAYS = 365
FEWEST_REGIME_DAYS = 90
JUMP_DAYS = 5


def segments(
    scores: pd.DataFrame,
    features: pd.DataFrame | None = None,
    coin_groups: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """asset, as_of, horizon, segment_kind, segment for every coin, day and horizon of `scores`.

    - `coin_group`: by `coin_groups` (BTC and ETH are 'majors' by default), else 'other coins';
    - `year` of as_of; `target_day`: 'weekday' or 'weekend', one-day horizon only, as a longer one has both;
    - `regime` (needs `rv_22d` in `features`: asset, as_of, ...): 'turbulent' when the coin's realised variance of the
      last 22 days lies above its median over the last 365 days, else 'calm'; no row with fewer than 90 days;
    - `jump` (needs a boolean `jump`): 'after a jump' on one of the last 5 days up to as_of, else 'before a jump' when
      one comes within the horizon (known only afterwards), else 'no jump near'.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    keys = scores[KEY].drop_duplicates().sort_values(KEY, ignore_index=True)
    keys = keys.assign(asset=keys["asset"].astype("str"), as_of=pd.to_datetime(keys["as_of"]))
    groups = dict(COIN_GROUPS if coin_groups is None else coin_groups)
    one_day = keys["horizon"] == 1
    weekend = (keys["as_of"] + pd.Timedelta(days=1)).dt.dayofweek >= 5
    labels = {
        "coin_group": keys["asset"].map(groups).fillna(OTHER_COINS),
        "year": keys["as_of"].dt.year.astype("str"),
        "target_day": weekend.map({True: "weekend", False: "weekday"}).where(one_day),
    }
    if features is not None and "rv_22d" in features:
        labels["regime"] = _regime(keys, _table(features, "rv_22d"))
    if features is not None and "jump" in features:
        labels["jump"] = _jump(keys, _table(features, "jump"))
    parts = [
        keys.assign(segment_kind=kind, segment=label)[label.notna()]
        for kind, label in labels.items()
    ]
    found: pd.DataFrame = pd.concat(parts, ignore_index=True)
    texts = {"segment": "str", "segment_kind": "str"}
    return pd.DataFrame(found.reindex(columns=list(COLUMNS)).astype(texts))


def _table(features: pd.DataFrame, column: str) -> pd.DataFrame:
    """Days down, coins across, without gaps in the days."""
    frame = features.assign(
        as_of=pd.to_datetime(features["as_of"]), asset=features["asset"].astype("str")
    )
    if frame.duplicated(["asset", "as_of"]).any():
        first = frame[frame.duplicated(["asset", "as_of"])].iloc[0]
        raise ValueError(
            f"features have two rows for {first['asset']} on {first['as_of']}: expected one"
        )
    values: pd.DataFrame = frame.pivot(index="as_of", columns="asset", values=column).astype(
        np.float64
    )
    days = pd.date_range(values.index.min(), values.index.max(), freq="D")
    return pd.DataFrame(values.reindex(days))


def _at(keys: pd.DataFrame, table: pd.DataFrame) -> pd.Series[Any]:
    """The table's value of each key's day and coin; NaN where it has none."""
    row = table.index.get_indexer(pd.DatetimeIndex(keys["as_of"]))
    column = table.columns.get_indexer(pd.Index(keys["asset"]))
    found = table.to_numpy()[row, column]
    return pd.Series(np.where((row >= 0) & (column >= 0), found, np.nan), index=keys.index)


def _regime(keys: pd.DataFrame, variance: pd.DataFrame) -> pd.Series[Any]:
    median = variance.rolling(REGIME_DAYS, min_periods=FEWEST_REGIME_DAYS).median()
    known = variance.notna() & median.notna()
    turbulent = _at(keys, (variance > median).astype(np.float64).where(known))
    return turbulent.map({1.0: "turbulent", 0.0: "calm"})


def _jump(keys: pd.DataFrame, jump: pd.DataFrame) -> pd.Series[Any]:
    flags = jump.fillna(0.0)
    after = _at(keys, flags.rolling(JUMP_DAYS, min_periods=1).max().where(jump.notna())) == 1.0
    before = pd.Series(False, index=keys.index)
    for horizon, own in keys.groupby("horizon"):
        ahead = flags[::-1].rolling(int(str(horizon)), min_periods=1).max()[::-1].shift(-1)
        before.loc[own.index] = _at(own, ahead) == 1.0
    names = np.select([after, before], ["after a jump", "before a jump"], "no jump near")
    label = pd.Series(names, index=keys.index)
    return label.where(_at(keys, jump).notna())
