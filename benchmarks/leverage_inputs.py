"""What `python -m benchmarks leverage` judges: walked forecasts with their uncertainty, shortfall and what followed.

In: the archive's hourly bars. Out: one row a coin, day, horizon and model, each number as a daily run would have had it at the
decision time, and prices at which a trade after it could be made. Never: a drift, tail or interval that learnt from later days.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from ml.conformal import adjust
from ml.evaluation.folds import WalkForward
from ml.evaluation.outcomes import first_known_outcomes
from ml.evaluation.scores import realized_outcomes
from ml.evaluation.walk_forward import walk_forward
from ml.forecasts import HORIZONS
from ml.models import create
from ml.monitoring.errors import error_drift
from ml.monitoring.measures import DRIFT, DriftPolicy
from ml.panel import Panel
from ml.risk.tails import MIN_OBSERVATIONS, fit_tail
from ml.risk.uncertainty import Uncertainty, disagreement, interval_width, uncertainty
from ml.risk.var_es import var_es
from ml.worker import code_version

KEY = ["asset", "as_of", "horizon"]
TAIL_DAYS = 1500
DAY = pd.Timedelta(days=1)


def walked(panel: Panel, names: Sequence[str], options: Any) -> pd.DataFrame:
    """Forecasts of all models from `options.burn_in` days before the first judged one on, intervals corrected by outcomes."""
    start = options.first - timedelta(days=options.burn_in)
    rule = WalkForward(steps=7 * options.refit_weeks, initial_train_size=options.window - 1)
    folds = list(rule.split(panel.row(options.last) + 1, panel.row(start)))
    result = walk_forward(
        panel,
        list(names),
        folds,
        create,
        seed=options.seed,
        code_version=code_version(),
        folder=options.folder,
        workers=options.workers,
    )
    for reason, count in result.refusals["reason"].value_counts().items():
        print(f"{count} forecasts refused: {reason}")
    forecasts = result.forecasts[result.forecasts["asset"].isin(options.coins)]
    return forecasts.drop(columns=["calibrated"]).reset_index(drop=True)


def judged(
    forecasts: pd.DataFrame,
    daily: pd.DataFrame,
    realized: pd.DataFrame,
    leads: Sequence[str],
) -> pd.DataFrame:
    """Rows of the `leads` with their uncertainty and its parts, `es_975`, and `qlike`, `log_error`, NaN where unknown."""
    known = first_known_outcomes(realized, HORIZONS).astype({"as_of": "datetime64[s]"})
    rows = adjust(forecasts, known).astype({"as_of": "datetime64[s]"})
    wide = rows.pivot(index=KEY, columns="model", values="variance")
    spread = pd.Series(disagreement(wide.to_numpy(np.float64).T), wide.index, name="spread")
    rows = rows[rows["model"].isin(leads)].join(spread, on=KEY)
    ages = daily[["asset", "as_of", "price_age_days"]].astype({"as_of": "datetime64[s]"})
    rows = rows.merge(ages, on=["asset", "as_of"], how="left", validate="many_to_one")
    rows = rows.merge(known, on=KEY, how="left", validate="many_to_one")
    returns = realized_outcomes(realized, HORIZONS)[[*KEY, "horizon_return"]]
    returns = returns.astype({"as_of": "datetime64[s]"})
    rows = rows.merge(returns, on=KEY, how="left", validate="many_to_one")
    ratio = rows["realized_variance"] / rows["variance"]
    rows = rows.assign(
        qlike=ratio - np.log(ratio) - 1,
        log_error=np.log(ratio),
        sunday=sunday_before(rows["as_of"]),
    )
    parts = [_with_shortfall(_with_drift(own)) for _, own in rows.groupby("model", sort=True)]
    return pd.concat(parts, ignore_index=True)


def doubts(rows: pd.DataFrame) -> Uncertainty:
    """The score of rows of `judged`; none of these models explains itself, so the audit's part is 0."""
    return uncertainty(
        disagreement=rows["spread"],
        interval_width=interval_width(2 * np.log(rows["q05"]), 2 * np.log(rows["q95"])),
        data_age_days=rows["price_age_days"],
        drift=rows["drifted"],
        audit=np.zeros(len(rows)),
    )


def sunday_before(days: pd.Series) -> pd.Series:
    """The last Sunday strictly before each day."""
    back = (days.dt.dayofweek + 1) % 7
    return days - pd.to_timedelta(back.where(back > 0, 7), unit="D")


def _with_drift(rows: pd.DataFrame) -> pd.DataFrame:
    """`drifted`: 1 where the model's one-day errors had drifted on the Sunday before, as the learning loop judges them."""
    policy = DriftPolicy()
    one_day = rows[(rows["horizon"] == 1) & rows["qlike"].notna()]
    found = {}
    for sunday in sorted(rows["sunday"].unique()):
        seen = one_day[(one_day["known_on"] <= sunday) & (one_day["as_of"] <= sunday)]
        daily = seen.groupby("as_of")[["qlike", "log_error"]].mean().sort_index()
        split = sunday - policy.most_error_days * DAY
        old = daily[
            (daily.index <= split) & (daily.index > split - policy.error_reference_days * DAY)
        ]
        new = daily[daily.index > split]
        measures = error_drift(
            old["qlike"], new["qlike"], old["log_error"], new["log_error"], policy
        )
        found[sunday] = float(any(item.verdict == DRIFT for item in measures))
    return rows.assign(drifted=rows["sunday"].map(found))


def _with_shortfall(rows: pd.DataFrame) -> pd.DataFrame:
    """`es_975` by the model's own past standardised returns, refitted on Sundays; NaN until there are 60 of them."""
    spread = np.sqrt(rows["horizon"] * rows["variance"])
    rows = rows.assign(standardised=rows["horizon_return"] / spread, es_975=np.nan)
    for key, own in rows.groupby(["asset", "horizon"], sort=True):
        horizon = int(str(key[1]))
        over = own["as_of"] + horizon * DAY
        for sunday in sorted(own["sunday"].unique()):
            known = (over <= sunday) & (own["as_of"] > sunday - TAIL_DAYS * DAY)
            past, week = own.loc[known, "standardised"], own[own["sunday"] == sunday]
            if past.notna().sum() >= MIN_OBSERVATIONS:
                risk = var_es(week["variance"], horizon, fit_tail(past.to_numpy()))
                rows.loc[week.index, "es_975"] = risk["es_975"]
    return rows


def trade_prices(bars: pd.DataFrame, coins: Sequence[str], first: date, last: date) -> pd.DataFrame:
    """Days first .. last down, coins across: the first hourly close after the decision of that day, at D+1 01:00."""
    closing = bars[bars["ts"].dt.hour == 0]
    day = closing["ts"].dt.tz_localize(None).dt.floor("D") - DAY
    wide = closing.assign(day=day).pivot(index="day", columns="asset", values="close")
    return wide.reindex(index=pd.date_range(first, last), columns=list(coins))
