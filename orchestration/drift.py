"""Stored features, errors and attention of a model -> the measures of ml/monitoring.

In: a read connection, the version that serves a decision day, the scored forecasts. Out: one `Measured` for each kind of drift. Reads only
what was known on the day, so that a backfill measures what daily runs do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.model import fitted_lookback_days
from ml.monitoring.attention import SUBJECT as TOKEN_GROUPS
from ml.monitoring.attention import attention_drift
from ml.monitoring.errors import error_drift
from ml.monitoring.features import drifted_features, feature_drift
from ml.monitoring.measures import DRIFT, Drift, DriftPolicy, not_judged
from ml.panel import Panel
from orchestration.panels import read_features
from orchestration.settings import Settings
from orchestration.versions import ServedDays

NOT_COMPARED = ("_age_days", "_missing", "_venues", "_revised")
CALENDAR = ("target_", "bars_")
"""Columns that are no signal: ages and flags, which the gates watch, and the calendar."""
GROUP = ["scale", "modality"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ServingVersion:
    """The version of a model that serves a day, and what it was trained on."""

    block: ServedDays
    trained_as_of: date
    train_start: date
    train_end: date

    @property
    def model(self) -> str:
        return self.block.model


@dataclass(frozen=True)
class Measured:
    """The measures of one kind, and the days that they compare."""

    kind: str  # features | errors | attention
    measures: list[Drift]
    reference: tuple[date, date] | None
    monitored: tuple[date, date] | None

    @property
    def drifted(self) -> list[str]:
        """What has drifted, in words; empty where nothing has. A feature counts when all its measures say so."""
        if self.kind == "features":
            names = drifted_features(self.measures)
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            return [f"features {shown}"] if names else []
        return [item.reason for item in self.measures if item.verdict == DRIFT]

    @property
    def leading(self) -> Drift | None:
        """The measure furthest above its threshold, of those that are judged."""
        known = [item for item in self.measures if item.threshold > 0]
        return max(known, key=lambda item: item.statistic / item.threshold, default=None)


def measure_features(
    read_panel: Callable[[], Panel], version: ServingVersion, day: date, policy: DriftPolicy
) -> Measured:
    """Features of the training window against those of the days since, at most the policy's. Reads only when it is to judge."""
    age = (day - version.trained_as_of).days
    if age < policy.least_feature_days:
        why = f"{age} days since training: at least {policy.least_feature_days} are compared"
        few = not_judged("kolmogorov_smirnov", "all features", 0, age, why)
        return Measured("features", [few], None, None)
    panel = read_panel()
    first = max(
        version.trained_as_of + timedelta(days=1),
        day - timedelta(days=policy.most_feature_days - 1),
    )
    names = [
        name
        for name in panel.features
        if not name.endswith(NOT_COMPARED) and not name.startswith(CALENDAR)
    ]
    window, newest = (
        {name: panel.features[name][rows] for name in names}
        for rows in (
            _rows(panel, version.train_start, version.trained_as_of),
            _rows(panel, first, day),
        )
    )
    return Measured(
        "features",
        feature_drift(window, newest, policy),
        (version.train_start, version.trained_as_of),
        (first, day),
    )


def _rows(panel: Panel, first: date, last: date) -> NDArray[np.bool_]:
    return np.asarray((panel.days >= np.datetime64(first)) & (panel.days <= np.datetime64(last)))


def measure_errors(
    scored: pd.DataFrame,
    version: ServingVersion,
    day: date,
    policy: DriftPolicy,
    *,
    since_training: bool,
) -> Measured:
    """One-day errors of the model known on ``day``: the newest against those before.

    The newest are those of the version itself (``since_training``), so that a retrain is judged by its own; of a model that is
    refitted every week, the last weeks'.
    """
    floor = day - timedelta(days=policy.most_error_days)
    start = max(version.trained_as_of, floor) if since_training else floor
    own = scored[
        (scored["model"] == version.model)
        & (scored["horizon"] == 1)
        & (scored["known_on"] <= pd.Timestamp(day))
        & (scored["as_of"] <= pd.Timestamp(day))
        & (scored["as_of"] > pd.Timestamp(start - timedelta(days=policy.error_reference_days)))
    ]
    if (
        since_training
    ):  # days that another version forecast, because this one came late, say nothing about it
        ours = own["model_version"] == version.block.model_version
        own = own[ours | (own["as_of"] <= pd.Timestamp(start))]
    daily = own.groupby("as_of")[["qlike", "log_error"]].mean().sort_index()
    split = daily.index <= pd.Timestamp(start)
    old, new = daily[split], daily[~split]
    measures = error_drift(old["qlike"], new["qlike"], old["log_error"], new["log_error"], policy)
    return Measured("errors", measures, _span(old), _span(new))


def measure_attention(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    version: ServingVersion,
    day: date,
    policy: DriftPolicy,
    made: dict[str, pd.DataFrame],
) -> Measured:
    """Attention of the version since its training against that on the last days of its training window.

    ``made``: rows of models.attention_profiles by version, made in this run; a profile that had to be made is added.
    """
    newest = _daily_shares(
        connection.execute(
            """
            SELECT as_of, scale, modality, sum(weight ORDER BY asset, layer, head, token) / any_value(n.maps) AS share
            FROM forecasts.attention_weights JOIN (
                SELECT as_of, count(DISTINCT (asset, layer, head)) AS maps FROM forecasts.attention_weights
                WHERE model = $model AND model_version = $version GROUP BY as_of
            ) AS n USING (as_of)
            WHERE model = $model AND model_version = $version AND as_of > $trained AND as_of <= $day
            GROUP BY as_of, scale, modality
            """,
            {
                "model": version.model,
                "version": version.block.model_version,
                "trained": version.trained_as_of,
                "day": day,
            },
        ).df()
    )
    newest = newest.iloc[-policy.most_feature_days :]
    if len(newest) < policy.least_attention_days:
        why = f"{len(newest)} days of attention since training: at least {policy.least_attention_days} are compared"
        few = not_judged("jensen_shannon", TOKEN_GROUPS, 0, len(newest), why)
        return Measured("attention", [few], None, _span(newest))
    profile = made.get(version.block.model_version)
    if profile is None:
        profile = connection.execute(
            "SELECT as_of, scale, modality, share FROM models.attention_profiles WHERE model = ? AND model_version = ?",
            [version.model, version.block.model_version],
        ).df()
    if profile.empty:
        profile = attention_profile(connection, settings, version, policy)
        made[version.block.model_version] = profile
    usual = _daily_shares(profile)
    usual, newest = usual.align(newest, join="outer", axis=1, fill_value=0.0)
    found = attention_drift(usual.fillna(0.0), newest.fillna(0.0), policy)
    return Measured("attention", [found], _span(usual), _span(newest))


def attention_profile(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    version: ServingVersion,
    policy: DriftPolicy,
) -> pd.DataFrame:
    """Rows of models.attention_profiles of a version: its attention on the last days that it was trained on."""
    model = version.block.load(settings)
    days = policy.attention_reference_days
    frames = read_features(connection, version.trained_as_of, days + fitted_lookback_days(model))
    panel = frames.panel
    last = len(panel.days)
    chosen = [day.astype(date) for day in panel.days[max(0, last - days) : last]]
    weights = model.attention(panel, chosen).to_frame()  # type: ignore[attr-defined]
    maps = weights[["as_of", "asset", "layer", "head"]].drop_duplicates().groupby("as_of").size()
    shares = weights.groupby(["as_of", *GROUP], observed=True)["weight"].sum()
    shares = shares.div(maps, level="as_of").rename("share").reset_index()
    return shares.assign(
        source=frames.source, model=version.model, model_version=version.block.model_version
    )


def _daily_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Days down, token groups across; a group that a day lacks has no attention."""
    keyed = rows.assign(group=rows["scale"].astype(str) + "/" + rows["modality"].astype(str))
    wide = keyed.pivot(index="as_of", columns="group", values="share").sort_index()
    return wide.reindex(columns=sorted(wide.columns)).fillna(0.0)


def _span(daily: pd.DataFrame) -> tuple[date, date] | None:
    if daily.empty:
        return None
    return pd.Timestamp(daily.index[0]).date(), pd.Timestamp(daily.index[-1]).date()
