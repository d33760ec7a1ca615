"""What attention may rest on by mistake: the checks of the spurious-correlation report."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, RUN, SOURCE, OutputTable

SPURIOUS_CHECKS = OutputTable(
    "models.spurious_checks",
    "Every Sunday, for each modality of an attention model: could what it attends to be chance, the calendar or a leak?",
    ("as_of", "model", "modality", "asset", "check_name", "segment", "horizon"),
    {
        **SOURCE,
        "as_of": ("DATE", "decision day: what was known at its decision time is judged"),
        "model": FORECAST_KEY["model"],
        "model_version": ("VARCHAR", "version that served the day; null where none did"),
        "modality": ("VARCHAR", "context group, as feature_group in forecasts.explanations"),
        "asset": ("VARCHAR", "coin, or ALL"),
        "check_name": (
            "VARCHAR",
            "attention_without_effect, effect_survival, calendar_proxy, leak_revised, leak_late or lead_lag",
        ),
        "segment": ("VARCHAR", "what of it: a feature, signal, year or regime, or all"),
        "horizon": ("INTEGER", "days h; 0 where the check has none"),
        "statistic": ("DOUBLE", "the check's figure; null where it is not judged"),
        "p_value": (
            "DOUBLE",
            "adjusted for its family (Holm); null where the statistic is held against the threshold",
        ),
        "threshold": ("DOUBLE", "what the p-value, else the statistic, is held against"),
        "observations": ("INTEGER", "days (values, where values are counted)"),
        "verdict": ("VARCHAR", "clear, flagged or not judged"),
        "reason": ("VARCHAR", "the figures, or what is missing"),
        "lead_days": (
            "DOUBLE",
            "days from the end of what a value describes to the variance that it tells of; null without a lead",
        ),
        **RUN,
    },
)

TABLES = (SPURIOUS_CHECKS,)
