"""The learning loop: on fixed Sundays, who leads from the next day on, and which model is trained again.

In: a read connection, the days of a run. Out: rows of ``models.decisions``, ``models.drift`` and ``models.attention_profiles``. A Sunday is judged
once, in order, on what was known at its decision time. A retrain changes the forecasts of the days after it, so the judging stops there until they
are made again: `volcast backfill` does so at once, other runs through the sensor ``retrain_on_drift``. So a backfill decides what daily runs do.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ml.evaluation import losses
from ml.evaluation.outcomes import first_known_outcomes
from ml.evaluation.promotion import (
    KEEP,
    PROMOTE,
    REFUSE,
    AuditRecord,
    PromotionPolicy,
    Verdict,
    decide,
)
from ml.forecasts import HORIZONS
from ml.monitoring.measures import NOT_JUDGED, DriftPolicy
from ml.panel import Panel
from orchestration.champion import champion_on
from orchestration.decisions import Learnt
from orchestration.drift import (
    Measured,
    ServingVersion,
    measure_attention,
    measure_errors,
    measure_features,
)
from orchestration.panels import read_features
from orchestration.settings import Settings
from orchestration.versions import ServedDays, read_retrains, trained_on

SUNDAY = 6
EVIDENCE_DAYS = 400
"""Days of forecasts that are read before a decision day: the longest window of promotion and of drift fits in."""


def is_promotion_day(day: date) -> bool:
    """The first Sunday of a month."""
    return day.weekday() == SUNDAY and day.day <= 7


def learn(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    days: list[date],
    *,
    audited: tuple[str, ...],
    promotion: PromotionPolicy | None = None,
    drift: DriftPolicy | None = None,
) -> Learnt:
    """Judge ``days`` in order, up to the first that asks for a retrain. ``audited``: models that explain themselves."""
    promotion, drift = promotion or PromotionPolicy(), drift or DriftPolicy()
    evidence = _Evidence(connection, settings, days)
    found = Learnt()
    for day in days:
        _judge_champion(evidence, day, audited, promotion, found)
        for version in evidence.serving(day):
            _judge_drift(evidence, version, day, audited, drift, found)
        found.judged.append(day)
        if found.retrains:
            break
    return found


class _Evidence:
    """What the days of one run have in common, read once and only when it is asked for."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, settings: Settings, days: list[date]
    ) -> None:
        self.connection, self.settings, self._days = connection, settings, days

    @cached_property
    def panel(self) -> Panel:
        return read_features(self.connection, self._days[-1], hourly=False).panel

    @cached_property
    def scored(self) -> pd.DataFrame:
        """asset, as_of, horizon, model, model_version, known_on, qlike and log_error (log RV - log F) against outcomes as first known."""
        first = self._days[0] - timedelta(days=EVIDENCE_DAYS)
        forecasts = self.connection.execute(
            """
            SELECT f.asset, f.as_of, f.horizon, f.model, f.model_version, f.variance
            FROM forecasts.volatility f LEFT JOIN models.registry m USING (model, model_version)
            WHERE f.as_of BETWEEN ? AND ? AND list_contains(?, f.model)
            QUALIFY row_number() OVER (
                PARTITION BY f.model, f.asset, f.as_of, f.horizon ORDER BY m.created_at DESC NULLS LAST, f.model_version
            ) = 1
            """,
            [first, self._days[-1], list(self.settings.models)],
        ).df()
        realized = self.connection.execute(
            "SELECT * FROM features.realized WHERE known_on <= ? AND day >= ?",
            [self._days[-1], first],
        ).df()
        outcomes = first_known_outcomes(realized, HORIZONS)
        keys = ["asset", "as_of", "horizon"]
        dated = {"as_of": "datetime64[s]", "horizon": "int64", "asset": "str"}
        both = forecasts.astype(dated).merge(outcomes.astype(dated), on=keys, how="inner")
        # In one order always: sums of the same numbers in another order differ in the last digit.
        both = both.sort_values(["model", "horizon", "as_of", "asset"], ignore_index=True)
        y, f = (both[name].to_numpy(np.float64) for name in ("realized_variance", "variance"))
        return both.assign(qlike=losses.qlike(y, f), log_error=np.log(y) - np.log(f))

    def serving(self, day: date) -> list[ServingVersion]:
        """The versions that serve ``day``, in the order of the settings."""
        retrains = read_retrains(self.connection)
        found = []
        for model in self.settings.models:
            trained = trained_on(self.settings, retrains, model, day)
            row = self.connection.execute(
                "SELECT model_version, artifact_uri, artifact_hash, train_start, train_end FROM models.registry "
                "WHERE model = ? AND trained_as_of = ? ORDER BY created_at DESC, model_version LIMIT 1",
                [model, trained],
            ).fetchone()
            if row is not None:
                block = ServedDays(model, str(row[0]), str(row[1]), str(row[2]), (day,))
                found.append(ServingVersion(block, trained, row[3], row[4]))
        return found

    def audits(
        self, day: date, audited: tuple[str, ...], window_days: int
    ) -> dict[str, AuditRecord]:
        """The record of every audited model up to ``day``; one without explanations has an empty one."""
        names = [name for name in audited if name in self.settings.models]
        verdicts = self.connection.execute(
            """
            SELECT model, any_value(verdict) AS verdict, max(abs(ablation_effect)) > 0 AS residual_used
            FROM forecasts.explanations WHERE as_of > ? AND as_of <= ? AND list_contains(?, model)
            GROUP BY asset, as_of, horizon, model, model_version
            """,
            [day - timedelta(days=window_days), day, names],
        ).df()
        return {name: AuditRecord.of(verdicts[verdicts["model"] == name]) for name in names}


def _judge_champion(
    evidence: _Evidence,
    day: date,
    audited: tuple[str, ...],
    policy: PromotionPolicy,
    found: Learnt,
) -> None:
    if not is_promotion_day(day):
        return
    settings = evidence.settings
    leading, since = _leading(evidence, day, found)
    verdicts = decide(
        evidence.scored,
        leading,
        day,
        reigning_since=since,
        audits=evidence.audits(day, audited, policy.window_days),
        policy=policy,
    )
    if settings.pinned_champion:
        verdicts = [_pinned(verdict, leading) for verdict in verdicts]
        if verdicts[0].kind != KEEP:
            verdicts.insert(
                0, Verdict(KEEP, leading, 0, np.nan, np.nan, "pinned by VOLCAST_CHAMPION")
            )
    versions = {version.model: version.block.model_version for version in evidence.serving(day)}
    for verdict in verdicts:
        found.decisions.append(
            {
                "as_of": day,
                "kind": verdict.kind,
                "model": verdict.model,
                "horizon": verdict.horizon,
                "model_version": versions.get(verdict.model),
                "statistic": verdict.statistic,
                "threshold": verdict.threshold,
                "reason": verdict.reason,
                "evidence_from": verdict.evidence_from,
                "evidence_to": verdict.evidence_to,
            }
        )


def _leading(evidence: _Evidence, day: date, found: Learnt) -> tuple[str, date | None]:
    """The champion of ``day`` and the day of its promotion, those of this run included."""
    stored = champion_on(evidence.connection, day)
    if evidence.settings.pinned_champion:
        return evidence.settings.pinned_champion, None
    own = [row for row in found.decisions if row["kind"] == PROMOTE]
    return (own[-1]["model"], own[-1]["as_of"]) if own else (stored.model, stored.decided_on)


def _pinned(verdict: Verdict, champion: str) -> Verdict:
    """A promotion that the pin forbids is a refusal."""
    if verdict.kind != PROMOTE:
        return verdict
    return Verdict(
        REFUSE,
        verdict.model,
        verdict.horizon,
        verdict.statistic,
        verdict.threshold,
        f"VOLCAST_CHAMPION pins {champion}; else promoted: {verdict.reason}",
        verdict.evidence_from,
        verdict.evidence_to,
    )


def _judge_drift(
    evidence: _Evidence,
    version: ServingVersion,
    day: date,
    audited: tuple[str, ...],
    policy: DriftPolicy,
    found: Learnt,
) -> None:
    settings = evidence.settings
    rare = settings.refit_weeks_of(version.model) > 1
    measured = []
    if rare:  # one that is fitted every week has seen what there is
        measured.append(measure_features(lambda: evidence.panel, version, day, policy))
    measured.append(measure_errors(evidence.scored, version, day, policy, since_training=rare))
    if version.model in audited:
        measured.append(
            measure_attention(evidence.connection, settings, version, day, policy, found.profiles)
        )
    found.drift += [row for item in measured for row in _drift_rows(item, version, day)]
    found.decisions.append(_drift_decision(settings, measured, version, day))


def _drift_decision(
    settings: Settings, measured: list[Measured], version: ServingVersion, day: date
) -> dict[str, Any]:
    moved = [text for item in measured for text in item.drifted]
    deciding = [item for item in measured if item.drifted] or measured
    leading = max(
        (item.leading for item in deciding if item.leading is not None),
        key=lambda item: item.statistic / item.threshold,
        default=None,
    )
    refits = settings.trained_as_of(version.model, day + timedelta(days=1)) == day
    if not moved:
        kind, reason = "steady", _steady(measured)
    elif refits:
        kind, reason = "drift", f"{'; '.join(moved)}; it is trained again on this day anyway"
    elif not settings.retrain_on_drift:
        kind, reason = "drift", f"{'; '.join(moved)}; VOLCAST_RETRAIN_ON_DRIFT is off"
    else:
        kind, reason = "retrain", f"{'; '.join(moved)}; trained {version.trained_as_of}"
    spans = [item.monitored for item in deciding if item.monitored is not None]
    return {
        "as_of": day,
        "kind": kind,
        "model": version.model,
        "horizon": 1 if [item.kind for item in deciding] == ["errors"] else 0,
        "model_version": version.block.model_version,
        "statistic": leading.statistic if leading else np.nan,
        "threshold": leading.threshold if leading else np.nan,
        "reason": reason,
        "evidence_from": min((span[0] for span in spans), default=None),
        "evidence_to": max((span[1] for span in spans), default=None),
    }


def _steady(measured: list[Measured]) -> str:
    """Each kind of drift in a few words."""
    parts = []
    for item in measured:
        known = [one for one in item.measures if one.verdict != NOT_JUDGED]
        parts.append(
            f"{item.kind}: {len(known)} measures within their thresholds"
            if known
            else f"{item.kind} not judged: {item.measures[0].reason}"
        )
    return "; ".join(parts)


def _drift_rows(item: Measured, version: ServingVersion, day: date) -> list[dict[str, Any]]:
    spans = {
        f"{name}_{end}": span[place] if span else None
        for name, span in (("reference", item.reference), ("monitored", item.monitored))
        for place, end in enumerate(("from", "to"))
    }
    return [
        {
            "as_of": day,
            "model": version.model,
            "model_version": version.block.model_version,
            "kind": item.kind,
            "measure": one.measure,
            "subject": one.subject,
            "statistic": one.statistic,
            "threshold": one.threshold,
            "verdict": one.verdict,
            "reason": one.reason,
            "reference_days": one.reference_days,
            "monitored_days": one.monitored_days,
            **spans,
        }
        for one in item.measures
    ]
