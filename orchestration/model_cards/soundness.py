"""Sections on whether the version does what it says: attention and anchor, the audit, spurious checks, drift, decisions, approvals.

In: ``Facts``. Out: sections. A section whose tables are not there yet, or hold nothing of this version, says so.
"""

from __future__ import annotations

from orchestration.model_cards.sections import Column, Facts, Section, table

HORIZON = Column("horizon, days", "horizon")
SHOWN = 25


def conceptual(facts: Facts) -> Section:
    section = Section(
        "Conceptual soundness",
        "For a model that corrects an anchor by attention: what each group of inputs is attended to, and what the forecast moves without it.",
    )
    section.tables = table(
        "Attention (rollout) and ablation effect, mean over this version's forecasts",
        facts.some(
            """
            SELECT feature_group, horizon, avg(attention_rollout) AS attention, avg(abs(ablation_effect)) AS effect,
                avg(abs(integrated_gradients)) AS gradients, count(DISTINCT (asset, as_of)) AS forecasts
            FROM forecasts.explanations WHERE model = $model AND model_version = $version
            GROUP BY feature_group, horizon ORDER BY horizon, round(attention, 9) DESC, feature_group
            """
        ),
        (
            HORIZON,
            Column("group", "feature_group", "words"),
            Column("attention", "attention", "percent"),
            Column("|effect| on log variance", "effect", "short"),
            Column("|integrated gradients|", "gradients", "short"),
            Column("forecasts", "forecasts", "count"),
        ),
    )
    if not section.tables:
        section.notes.append("The model has no attention: its inputs and formula are stated under model and assumptions.")  # fmt: skip
    for row in residual_use(facts):
        if not row["used"]:
            section.notes.append(f"Horizon {row['horizon']}: the correction has weight 0, the forecast is its anchor.")  # fmt: skip
    return section


def residual_use(facts: Facts) -> list[dict[str, object]]:
    """horizon, used: whether any group moves any forecast of the version; nothing for a model without explanations."""
    return facts.some(
        """
        SELECT horizon, max(abs(ablation_effect)) > 0 AS used FROM forecasts.explanations
        WHERE model = $model AND model_version = $version GROUP BY horizon ORDER BY horizon
        """
    )


def audit(facts: Facts) -> Section:
    section = Section(
        "Explanation audit",
        "Whether attention may be called an explanation of the forecast: valid, weak or invalid. Invalid maps are not to be used as one.",
    )
    section.tables = table(
        "Verdicts by forecast",
        facts.some(
            """
            SELECT horizon, verdict, count(*) AS forecasts, any_value(verdict_reason ORDER BY as_of DESC, asset) AS newest
            FROM (SELECT DISTINCT asset, as_of, horizon, verdict, verdict_reason FROM forecasts.explanations WHERE model = $model AND model_version = $version)
            GROUP BY horizon, verdict ORDER BY horizon, verdict
            """
        ),
        (
            HORIZON,
            Column("verdict", "verdict"),
            Column("forecasts", "forecasts", "count"),
            Column("the newest one's figures", "newest"),
        ),
    )
    section.tables += table(
        "Audits at both levels (forecasts.attention_audits)",
        facts.some(
            """
            SELECT horizon, verdict, count(*) AS forecasts, min(as_of) AS first, max(as_of) AS last FROM forecasts.attention_audits
            WHERE model = $model AND model_version = $version GROUP BY horizon, verdict ORDER BY horizon, verdict
            """
        ),
        (
            HORIZON,
            Column("verdict", "verdict"),
            Column("forecasts", "forecasts", "count"),
            Column("first as_of", "first", "day"),
            Column("last as_of", "last", "day"),
        ),
    )
    if not section.tables:
        section.notes.append("The version publishes no attention: there is nothing to audit.")
    return section


_NEWEST_CHECKS = """
    SELECT * FROM models.spurious_checks WHERE model = $model AND model_version = $version
        AND as_of = (SELECT max(as_of) FROM models.spurious_checks WHERE model = $model AND model_version = $version AND as_of <= $as_of)
"""


def spurious(facts: Facts) -> Section:
    section = Section(
        "Spurious correlation",
        "Newest Sunday on which the version was judged (models.spurious_checks). Flagged: to be looked at, not proven wrong.",
    )
    section.tables = table(
        "Checks",
        facts.some(
            f"""
            SELECT as_of, check_name, count(*) FILTER (verdict = 'clear') AS clear, count(*) FILTER (verdict = 'flagged') AS flagged,
                count(*) FILTER (verdict = 'not judged') AS not_judged
            FROM ({_NEWEST_CHECKS}) GROUP BY as_of, check_name ORDER BY check_name
            """
        ),
        (
            Column("as_of", "as_of", "day"),
            Column("check", "check_name", "words"),
            Column("clear", "clear", "count"),
            Column("flagged", "flagged", "count"),
            Column("not judged", "not_judged", "count"),
        ),
    )
    section.tables += table(
        f"Flagged over all coins (at most {SHOWN})",
        facts.some(
            f"""
            SELECT modality, check_name, segment, horizon, reason FROM ({_NEWEST_CHECKS})
            WHERE verdict = 'flagged' AND asset = 'ALL' ORDER BY check_name, modality, segment, horizon LIMIT {SHOWN}
            """
        ),
        (
            Column("modality", "modality", "words"),
            Column("check", "check_name", "words"),
            Column("of", "segment"),
            HORIZON,
            Column("figures", "reason"),
        ),
    )
    section.tables += table(
        "Leads found",
        facts.some(
            f"""
            SELECT modality, segment, lead_days, statistic, p_value, observations FROM ({_NEWEST_CHECKS})
            WHERE check_name = 'lead_lag' AND asset = 'ALL' AND lead_days IS NOT NULL ORDER BY abs(statistic) DESC, segment
            """
        ),
        (
            Column("modality", "modality", "words"),
            Column("feature", "segment", "words"),
            Column("lead, days", "lead_days", "number", 0),
            Column("t", "statistic", "number", 1),
            Column("p, Holm", "p_value", "p_value"),
            Column("days", "observations", "count"),
        ),
    )
    if not section.tables:
        section.notes.append("Not judged: the report is made on Sundays, for models that explain themselves.")  # fmt: skip
    return section


def drift(facts: Facts) -> Section:
    section = Section("Ongoing monitoring: drift", "The newest Sunday on which the version was judged, and what had drifted then.")  # fmt: skip
    newest = "as_of = (SELECT max(as_of) FROM models.drift WHERE model = $model AND model_version = $version AND as_of <= $as_of)"
    section.tables = table(
        "Measures",
        facts.some(
            f"""
            SELECT as_of, kind, count(*) FILTER (verdict = 'steady') AS steady, count(*) FILTER (verdict = 'drift') AS drifted,
                count(*) FILTER (verdict = 'not judged') AS not_judged, max(statistic / threshold) AS nearest
            FROM models.drift WHERE model = $model AND model_version = $version AND {newest} GROUP BY as_of, kind ORDER BY kind
            """
        ),
        (
            Column("as_of", "as_of", "day"),
            Column("of", "kind"),
            Column("steady", "steady", "count"),
            Column("drift", "drifted", "count"),
            Column("not judged", "not_judged", "count"),
            Column("largest statistic over threshold", "nearest", "number", 2),
        ),
    )
    section.tables += table(
        "Drifted",
        facts.some(
            f"""
            SELECT kind, measure, subject, statistic, threshold FROM models.drift
            WHERE model = $model AND model_version = $version AND {newest} AND verdict = 'drift'
            ORDER BY statistic / threshold DESC, subject, measure LIMIT {SHOWN}
            """
        ),
        (
            Column("of", "kind"),
            Column("measure", "measure", "words"),
            Column("subject", "subject", "words"),
            Column("statistic", "statistic", "short"),
            Column("threshold", "threshold", "short"),
        ),
    )
    if not section.tables:
        section.notes.append("No Sunday has been judged while the version served.")
    return section


def decisions(facts: Facts) -> Section:
    section = Section(
        "Decisions",
        "Of the learning loop while this version served; each holds from the day after.",
    )
    section.tables = table(
        "models.decisions",
        facts.some(
            f"""
            SELECT as_of, kind, horizon, statistic, threshold, reason FROM models.decisions
            WHERE model = $model AND model_version = $version AND as_of <= $as_of ORDER BY as_of DESC, kind, horizon LIMIT {SHOWN}
            """
        ),
        (
            Column("as_of", "as_of", "day"),
            Column("decision", "kind"),
            Column("horizon, days (0: all)", "horizon", "count"),
            Column("statistic", "statistic", "short"),
            Column("threshold", "threshold", "short"),
            Column("reason", "reason"),
        ),
    )
    if not section.tables:
        section.notes.append("None yet.")
    return section


def approvals(facts: Facts) -> Section:
    section = Section(
        "Approvals and overrides",
        "Who let a failed gate pass on a day that the version was trained on or served, by name; promotions are decided by the stated limits, not by a person, "
        "unless VOLCAST_CHAMPION pins a model.",
    )
    section.tables = table(
        "quality.overrides",
        overrides(facts),
        (
            Column("day", "day", "day"),
            Column("suite", "suite"),
            Column("expectation", "expectation"),
            Column("by", "overridden_by"),
            Column("reason", "reason"),
        ),
    )
    if not section.tables:
        section.notes.append("No override on those days.")
    return section


def overrides(facts: Facts) -> list[dict[str, object]]:
    """Overrides of the training window and of the days served."""
    return facts.some(
        """
        SELECT o.as_of AS day, o.suite, o.expectation, o.overridden_by, o.reason FROM quality.overrides o, (
            SELECT least(min(r.train_start), min(f.as_of)) AS first, greatest(max(r.trained_as_of), max(f.as_of)) AS last
            FROM models.registry r LEFT JOIN forecasts.volatility f USING (model, model_version)
            WHERE model = $model AND model_version = $version
        ) AS span WHERE o.as_of BETWEEN span.first AND span.last ORDER BY o.as_of DESC, o.suite, o.expectation
        """
    )
