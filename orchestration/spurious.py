"""Stored explanations, features and releases -> the rows of ``models.spurious_checks``.

In: a read connection, the models that explain themselves, the Sundays to judge. Out: rows. A Sunday is judged once the learning loop has judged
it, on what was known at its decision time: where a retrain makes the days after it anew, they wait for that, so a backfill judges what daily runs do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ml.evaluation.outcomes import first_known_outcomes
from ml.explain.spurious import Effects, Releases, SpuriousPolicy, spurious_checks
from ml.forecasts import HORIZONS
from ml.panel import Panel
from orchestration.panels import read_features

FLOW_SIGNALS = frozenset({"exchange_inflow", "exchange_outflow"})
"""Of int_signals: what the features of exchange flows are made from. Tokens leave out revised ones unless `use_revised_flows` is set."""
FRESH_DAYS = 7
"""Days beyond which a series is silent: the longest that transforms/ waits for a modality."""
Judged = tuple[date, str, str | None]
"""A decision day, a model and the version that served it."""


def judge(
    connection: duckdb.DuckDBPyConnection,
    pending: Sequence[Judged],
    policy: SpuriousPolicy | None = None,
) -> list[dict[str, Any]]:
    """Rows of every pending day and model, without source and run."""
    policy = policy or SpuriousPolicy()
    days = [day for day, _, _ in pending]
    evidence = _Evidence(connection, min(days), max(days), policy)
    rows: list[dict[str, Any]] = []
    from ml.attention.tokens.layout import CONTEXT_FIELDS  # torch: only where there is work

    for day, model, version in pending:
        checks = spurious_checks(
            evidence.panel_of(day),
            CONTEXT_FIELDS,
            evidence.effects(model, day),
            evidence.releases(model, version, day),
            policy,
        )
        for check in checks:
            row = asdict(check)
            row["check_name"] = row.pop("check")
            rows.append({"as_of": day, "model": model, "model_version": version, **row})
    return rows


class _Evidence:
    """What the days of one run have in common, read once."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        first: date,
        last: date,
        policy: SpuriousPolicy,
    ) -> None:
        self.connection, self.first, self.last, self.policy = connection, first, last, policy

    @cached_property
    def panel(self) -> Panel:
        return read_features(self.connection, self.last, hourly=False).panel

    def panel_of(self, day: date) -> Panel:
        """What was known on ``day``, of the coins that had prices by then: a later listing changes no sum."""
        known = self.panel.until(day).window(self.policy.leads.window_days)
        there = np.flatnonzero(np.isfinite(known.feature("rv_d")).any(axis=0))
        renumbered = np.full(len(known.assets), -1)
        renumbered[there] = np.arange(len(there))
        kept = known.realized.select(renumbered[known.realized.asset] >= 0)
        return replace(
            known,
            assets=tuple(known.assets[place] for place in there),
            features={n: np.ascontiguousarray(v[:, there]) for n, v in known.features.items()},
            hourly=known.hourly[:, :, there],
            realized=replace(kept, asset=renumbered[kept.asset]),
            funding=None,
            providers={},
        )

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """asset, as_of, horizon, realized_variance, known_on of every outcome as first known, back to what the first day looks at."""
        realized = self.connection.execute(
            "SELECT * FROM features.realized WHERE known_on <= ? AND day >= ?",
            [self.last, self.first - timedelta(days=self.policy.evidence_days + 400)],
        ).df()
        return first_known_outcomes(realized, HORIZONS)

    def effects(self, model: str, day: date) -> Effects | None:
        """Explanations of ``model`` up to ``day``, the newest version's of each forecast, with outcomes known by then."""
        explained = self.connection.execute(
            """
            SELECT e.asset, e.as_of, e.horizon, e.feature_group, e.attention_rollout, e.ablation_effect, f.variance
            FROM forecasts.explanations e
            JOIN forecasts.volatility f USING (asset, as_of, horizon, model, model_version)
            LEFT JOIN models.registry m USING (model, model_version)
            WHERE model = $model AND e.as_of > $first AND e.as_of <= $day
            QUALIFY row_number() OVER (
                PARTITION BY e.asset, e.as_of, e.horizon, e.feature_group ORDER BY m.created_at DESC NULLS LAST, model_version
            ) = 1
            ORDER BY e.as_of, e.asset, e.horizon, e.feature_group
            """,
            {
                "model": model,
                "day": day,
                "first": day - timedelta(days=self.policy.evidence_days),
            },
        ).df()
        if explained.empty:
            return None
        known = self.outcomes
        known = known[known["known_on"] <= pd.Timestamp(day)].drop(columns="known_on")
        kinds = {"asset": "str", "as_of": "datetime64[s]", "horizon": "int64"}
        rows = explained.astype(kinds).merge(known.astype(kinds), on=list(kinds), how="left")
        return Effects.of(rows)

    def releases(self, model: str, version: str | None, day: date) -> Releases:
        """Revisions known by ``day``; none in a warehouse whose features were built elsewhere."""
        if not self._has_signals:
            return Releases.none()
        span = {"day": day, "first": day - timedelta(days=self.policy.leads.window_days)}
        read = self.connection.execute(
            """
            SELECT modality, signal, asset, count(*) AS values, count(*) FILTER (revised) AS revised FROM (
                SELECT * FROM intermediate.int_signals_as_of
                WHERE as_of > $first AND as_of <= $day AND newest_day >= as_of - $fresh
                QUALIFY row_number() OVER (PARTITION BY modality, signal, asset, as_of ORDER BY preference, newest_day DESC, series) = 1
            )
            GROUP BY ALL ORDER BY ALL
            """,
            {**span, "fresh": FRESH_DAYS},
        ).df()
        changed = self.connection.execute(
            """
            WITH facts AS (
                SELECT modality, signal, series, asset, day, event_end, min(preference) AS preference, min(known_on) AS first_known_on,
                    arg_min(value, known_on) AS first, arg_max(value, known_on) AS newest
                FROM intermediate.int_signals WHERE known_on > $first AND known_on <= $day
                GROUP BY ALL HAVING count(*) > 1 AND abs(newest - first) > 1e-9 * greatest(abs(newest), abs(first))
            )
            SELECT modality, signal, asset, first_known_on, first, newest FROM facts
            QUALIFY row_number() OVER (PARTITION BY modality, signal, asset, first_known_on ORDER BY day DESC, preference, series) = 1
            ORDER BY modality, signal, asset, first_known_on
            """,
            span,
        ).df()
        return Releases(read, changed, self._guarded(model, version))

    @cached_property
    def _has_signals(self) -> bool:
        found = self.connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'intermediate' "
            "AND table_name IN ('int_signals', 'int_signals_as_of') AND database_name = current_database()"
        ).fetchone()
        return bool(found and found[0] == 2)

    def _guarded(self, model: str, version: str | None) -> frozenset[str]:
        """Signals whose revised values the version's tokens leave out."""
        row = self.connection.execute(
            "SELECT config FROM models.registry WHERE model = ? AND model_version = ?",
            [model, version],
        ).fetchone()
        config = json.loads(row[0]) if row and row[0] else {}
        return frozenset() if config.get("use_revised_flows") else FLOW_SIGNALS
