"""The limits of a version, written from facts: each sentence is there because a query says so.

In: ``Facts``. Out: one section. Never: a reassurance; a limit that does not hold is left out.
"""

from __future__ import annotations

from typing import Any

from orchestration.model_cards.identity import modalities
from orchestration.model_cards.sections import Facts, Section
from orchestration.model_cards.soundness import overrides, residual_use
from orchestration.report.queries import Row

FEW_DAYS = 250
"""Outcome days below which a year of evidence is not there."""
RARELY = 0.5
"""Presence below which a modality was absent more often than not."""


def limits(facts: Facts, entry: Row) -> Section:
    section = Section("Known limits", "Written from the tables; what is not listed was not found to hold.")  # fmt: skip
    section.notes = [
        *_data(facts, entry),
        *_forecasts(facts),
        *_evidence(facts),
        *_explanations(facts),
    ]
    if not section.notes:
        section.notes = ["None was found by the queries of this card."]
    return section


def _horizon(row: Row) -> str:
    return "1 day" if row["horizon"] == 1 else f"{row['horizon']} days"


def _data(facts: Facts, entry: Row) -> list[str]:
    found = []
    if entry["source"] == "simulated":
        found.append("SIMULATED MARKET: trained and judged on made-up data; nothing here says how the model does on real prices.")  # fmt: skip
    window: dict[str, Any] = {"first": entry["train_start"], "last": entry["train_end"]}
    for row in modalities(facts, window):
        if row["presence"] is not None and row["presence"] < RARELY:
            found.append(f"{str(row['modality']).replace('_', ' ')}: present on {row['presence']:.0%} of the coin-days of the training window.")  # fmt: skip
    count = len(overrides(facts))
    if count:
        found.append(f"{count} gate overrides fall on days that the version was trained on or served.")  # fmt: skip
    return found


def _forecasts(facts: Facts) -> list[str]:
    fallbacks = facts.rows(
        """
        SELECT status, count(*) AS forecasts, string_agg(DISTINCT asset, ', ' ORDER BY asset) AS coins FROM forecasts.volatility
        WHERE model = $model AND model_version = $version AND status <> 'ok' GROUP BY status ORDER BY forecasts DESC, status LIMIT 5
        """
    )
    refusals = facts.some(
        """
        SELECT reason, count(*) AS forecasts, string_agg(DISTINCT asset, ', ' ORDER BY asset) AS coins FROM forecasts.refusals
        WHERE model = $model AND model_version = $version GROUP BY reason ORDER BY forecasts DESC, reason LIMIT 5
        """
    )
    return [
        *(f"{row['forecasts']} forecasts ({row['coins']}) are by fallback: {row['status']}." for row in fallbacks),
        *(f"{row['forecasts']} forecasts ({row['coins']}) were refused: {row['reason']}." for row in refusals),
    ]  # fmt: skip


def _evidence(facts: Facts) -> list[str]:
    found = []
    days = facts.some(
        """
        SELECT f.horizon, count(DISTINCT s.as_of) AS days FROM (
            SELECT DISTINCT horizon FROM forecasts.volatility WHERE model = $model AND model_version = $version
        ) f LEFT JOIN evaluation.scores s ON s.horizon = f.horizon AND s.model = $model AND s.model_version = $version
        GROUP BY f.horizon ORDER BY f.horizon
        """
    )
    for row in days:
        if row["days"] < FEW_DAYS:
            apart = row["days"] // row["horizon"]
            found.append(
                f"{_horizon(row)}: {row['days']} days with a known outcome ({apart} that do not overlap); a year of them would be {FEW_DAYS} and more."
            )
    corrected = facts.rows(
        """
        SELECT horizon, avg(calibrated::INT) AS share FROM forecasts.volatility
        WHERE model = $model AND model_version = $version GROUP BY horizon HAVING avg(calibrated::INT) < 1 ORDER BY horizon
        """
    )
    for row in corrected:
        found.append(f"{_horizon(row)}: {row['share']:.0%} of its intervals were corrected by 60 outcomes or more; the others are as the model gave them.")  # fmt: skip
    worse = facts.some(
        """
        SELECT horizon, qlike_ratio_harx_cal AS ratio, dm_p_value, in_mcs_90 FROM evaluation.leaderboard
        WHERE model = $model AND segment_kind = 'all'
            AND as_of = (SELECT max(as_of) FROM evaluation.leaderboard WHERE as_of <= $as_of) ORDER BY horizon
        """
    )
    for row in worse:
        if row["ratio"] is not None and row["ratio"] > 1 and row["dm_p_value"] is not None and row["dm_p_value"] < 0.05:  # fmt: skip
            found.append(f"{_horizon(row)}: worse than HARX-cal, QLIKE ratio {row['ratio']:.3f}, Diebold-Mariano p {row['dm_p_value']:.3f}.")  # fmt: skip
        if row["in_mcs_90"] is False:
            found.append(f"{_horizon(row)}: outside the 90 % model confidence set.")
        if row["dm_p_value"] is None and row["ratio"] != 1:
            found.append(f"{_horizon(row)}: too few days to test it against HARX-cal.")
    return found


def _explanations(facts: Facts) -> list[str]:
    found = [
        f"{_horizon(row)}: the attention residual has weight 0; the forecast is its anchor, and attention explains nothing."
        for row in residual_use(facts)
        if not row["used"]
    ]
    invalid = facts.some(
        """
        SELECT horizon, avg((verdict = 'invalid')::INT) AS share FROM (
            SELECT asset, as_of, horizon, any_value(verdict) AS verdict, max(abs(ablation_effect)) > 0 AS used
            FROM forecasts.explanations WHERE model = $model AND model_version = $version GROUP BY asset, as_of, horizon
        ) WHERE used GROUP BY horizon HAVING avg((verdict = 'invalid')::INT) > 0 ORDER BY horizon
        """
    )
    for row in invalid:
        found.append(f"{_horizon(row)}: {row['share']:.0%} of the attention maps that the forecast uses failed the audit.")  # fmt: skip
    flagged = facts.some(
        """
        SELECT count(*) AS flags, string_agg(DISTINCT modality, ', ' ORDER BY modality) AS modalities FROM models.spurious_checks
        WHERE model = $model AND model_version = $version AND verdict = 'flagged' AND asset = 'ALL'
            AND as_of = (SELECT max(as_of) FROM models.spurious_checks WHERE model = $model AND model_version = $version AND as_of <= $as_of)
        HAVING count(*) > 0
        """
    )
    for row in flagged:
        found.append(f"{row['flags']} flags of the spurious-correlation report stand, on {row['modalities']}.")  # fmt: skip
    return found
