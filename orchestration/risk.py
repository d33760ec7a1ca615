"""Forecasts -> rows of forecasts.risk, by the functions of ml/risk.

In: stored forecasts of the days, the tails kept in each version's artefact, the age of the price data, the drift of the Sunday before, the audit of
each explanation, the advice of the days before. Out: VaR, ES, uncertainty with its parts, and advised leverage, in order of days: an advice follows
on from the one before it. The score takes no gate warnings: their number depends on how days were grouped into runs, and a backfill must equal
daily runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd

from ml.forecasts import QUANTILE_COLUMNS
from ml.risk.leverage import LeveragePolicy, target_leverage
from ml.risk.leverage_path import LONGEST_GAP_DAYS, LastAdvice, LeverageAdvice, follow
from ml.risk.mixture import mixture_var_es
from ml.risk.tails import TailFit
from ml.risk.uncertainty import disagreement, interval_width, uncertainty
from ml.risk.var_es import var_es
from orchestration.doubts import audit_doubts, drift_kinds
from orchestration.settings import Settings
from orchestration.versions import ServedDays, served_days

LONGEST_AGE_DAYS = 4.0
"""Age that a forecast is given when no complete price day is near."""
FORECAST = ["as_of", "asset", "horizon"]
PathKey = tuple[str, int, str]
"""asset, horizon, model: an advice follows on from the last of the same, whatever the version."""
Advices = dict[PathKey, LastAdvice]


def leverage_policy(settings: Settings) -> LeveragePolicy:
    """What the settings allow."""
    return LeveragePolicy(
        target_volatility=settings.target_volatility,
        max_leverage=settings.max_leverage,
        es_budget=settings.es_budget,
        band=settings.leverage_band,
        max_change=settings.leverage_max_change,
    )


def risk_rows(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    blocks: Sequence[ServedDays],
    first: date,
    last: date,
    *,
    audited: tuple[str, ...] = (),
) -> pd.DataFrame:
    """One row per stored forecast of ``blocks``. A forecast whose version has no tail for its coin is left out; it has no VaR.

    ``audited``: models that explain themselves, whose uncertainty has a part for the audit's verdict.
    """
    if not blocks:
        return pd.DataFrame()
    forecasts = _forecasts(connection, settings, first, last, audited)
    parts = []
    for block in blocks:
        state = block.state(settings)
        tails = {
            (asset, int(horizon)): TailFit.from_dict(tail)
            for asset, by_horizon in state.meta["tail"].items()
            for horizon, tail in by_horizon.items()
            if tail
        }
        mine = forecasts[
            (forecasts["model_version"] == block.model_version)
            & (forecasts["model"] == block.model)
            & forecasts["as_of"].isin(pd.to_datetime(list(block.days)))
        ]
        for key, rows in mine.groupby(["asset", "horizon"], sort=True):
            asset, horizon = str(key[0]), int(str(key[1]))
            tail = tails.get((asset, horizon))
            if tail is not None:
                parts.append(rows.assign(**var_es(rows["variance"].to_numpy(), horizon, tail)))
    if not parts:
        return pd.DataFrame()
    rows = pd.concat(parts, ignore_index=True).sort_values("as_of", kind="stable")
    rows = rows.reset_index(drop=True)
    rows = rows.assign(**mixture_var_es(rows[list(QUANTILE_COLUMNS)].to_numpy(), rows["horizon"]))
    return with_leverage(
        rows,
        stored_advice(connection, first, last),
        leverage_policy(settings),
    )


def with_leverage(rows: pd.DataFrame, stored: pd.DataFrame, policy: LeveragePolicy) -> pd.DataFrame:
    """``rows`` in order of days, with the advice of each following on from the last one of its asset, horizon and model.

    ``stored``: asset, as_of, horizon, model, advised_leverage of earlier runs, one row a day; a day that ``rows`` has too is taken from ``rows``.
    """
    given: dict[date, Advices] = {}
    for key, day, leverage in zip(
        _path_keys(stored), _dates(stored), stored["advised_leverage"].tolist(), strict=True
    ):
        given.setdefault(day, {})[key] = LastAdvice(day, leverage)
    days = _dates(rows)
    passing = iter(sorted({*given, *days}))
    known: Advices = {}
    advices: list[LeverageAdvice] = []
    figures = (rows[name].tolist() for name in ("volatility", "uncertainty", "es_975"))
    reached = next(passing, None)
    for key, day, volatility, doubt, shortfall in zip(
        _path_keys(rows), days, *figures, strict=True
    ):
        while reached is not None and reached < day:
            known |= given.get(reached, {})
            reached = next(passing, None)
        target = target_leverage(volatility, doubt, shortfall, policy)
        advice = follow(target, day, known.get(key), policy)
        given.setdefault(day, {})[key] = LastAdvice(day, advice.leverage)
        advices.append(advice)
    before = [item.previous for item in advices]
    return rows.assign(
        target_leverage=[item.target for item in advices],
        leverage_limit=[item.limit for item in advices],
        advised_leverage=[item.leverage for item in advices],
        binding=[item.binding for item in advices],
        previous_leverage=[np.nan if item is None else item.leverage for item in before],
        previous_as_of=pd.Series(
            [pd.NaT if item is None else pd.Timestamp(item.as_of) for item in before],
            index=rows.index,
            dtype="datetime64[s]",
        ),
        reason=[item.reason for item in advices],
    )


def _path_keys(rows: pd.DataFrame) -> Iterator[PathKey]:
    return zip(
        rows["asset"].tolist(), rows["horizon"].tolist(), rows["model"].tolist(), strict=True
    )


def _dates(rows: pd.DataFrame) -> list[date]:
    return [stamp.date() for stamp in rows["as_of"].tolist()]


def stored_advice(connection: duckdb.DuckDBPyConnection, first: date, last: date) -> pd.DataFrame:
    """Advice that first .. last may follow on from; of several versions that gave one for a day, the newest's."""
    rows = connection.execute(
        """
        SELECT r.asset, r.as_of, r.horizon, r.model, r.advised_leverage
        FROM forecasts.risk r LEFT JOIN models.registry m USING (model, model_version)
        WHERE r.as_of BETWEEN ? AND ? AND r.advised_leverage IS NOT NULL
        QUALIFY row_number() OVER (
            PARTITION BY r.asset, r.as_of, r.horizon, r.model ORDER BY m.created_at DESC NULLS LAST, r.model_version
        ) = 1
        ORDER BY r.as_of, r.asset, r.horizon, r.model
        """,
        [first - timedelta(days=LONGEST_GAP_DAYS), last],
    ).df()
    return rows.assign(as_of=pd.to_datetime(rows["as_of"]))


def _forecasts(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    first: date,
    last: date,
    audited: tuple[str, ...],
) -> pd.DataFrame:
    """Stored forecasts of the days by the versions that serve them, each with its uncertainty and the parts of it."""
    served = pd.DataFrame(
        [
            {"as_of": pd.Timestamp(day), "model": block.model, "model_version": block.model_version}
            for block in served_days(connection, settings, first, last)
            for day in block.days
        ]
    )
    connection.register("served", served)
    rows = connection.execute(
        """
        SELECT f.source, f.asset, f.as_of, f.horizon, f.model, f.model_version, f.variance, f.volatility, f.* LIKE 'q%',
            least(coalesce(d.price_age_days, $longest), $longest) AS age
        FROM forecasts.volatility f
        JOIN served s ON s.as_of::DATE = f.as_of AND s.model = f.model AND s.model_version = f.model_version
        JOIN features.daily d ON d.asset = f.asset AND d.as_of = f.as_of
        ORDER BY f.as_of, f.asset, f.horizon, f.model
        """,
        {"longest": LONGEST_AGE_DAYS},
    ).df()
    connection.unregister("served")
    rows["as_of"] = pd.to_datetime(rows["as_of"])
    wide = rows.pivot(index=FORECAST, columns="model", values="variance")
    spread = pd.Series(disagreement(wide.to_numpy(np.float64).T), wide.index, name="spread")
    rows = rows.join(spread, on=FORECAST)
    width = interval_width(2 * np.log(rows["q05"].to_numpy()), 2 * np.log(rows["q95"].to_numpy()))
    found = uncertainty(
        disagreement=rows["spread"].to_numpy(),
        interval_width=width,
        data_age_days=rows["age"].to_numpy(),
        drift=drift_kinds(connection, rows),
        audit=audit_doubts(connection, rows, audited),
    )
    return rows.assign(
        uncertainty=found.score,
        uncertainty_disagreement=found.disagreement,
        uncertainty_interval=found.interval_width,
        uncertainty_age=found.data_age,
        uncertainty_drift=found.drift,
        uncertainty_audit=found.audit,
    )
