"""Forecasts of volatility, the models' own quantiles and what was refused."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, QUANTILE_COLUMNS, RUN, SOURCE, OutputTable

VOLATILITY = OutputTable(
    "forecasts.volatility",
    "One forecast per coin, day, horizon and model version.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
        "variance": ("DOUBLE", "mean daily variance over the horizon, squared log-return units"),
        "volatility": (
            "DOUBLE",
            "annualised square root of variance (365 days), a fraction: 0.65 means 65 %",
        ),
        **{
            name: (
                "DOUBLE",
                f"{level:g} quantile of the realised annualised volatility over the horizon",
            )
            for name, level in QUANTILE_COLUMNS.items()
        },
        "calibrated": (
            "BOOLEAN",
            "quantiles were corrected by at least 60 outcomes of this model, coin and horizon (adaptive conformal)",
        ),
        "outcomes": ("INTEGER", "outcomes known by the decision time that corrected the quantiles"),
        "coverage_80": ("DOUBLE", "share of the last 250 of them inside [q10, q90] as published"),
        "coverage_98": ("DOUBLE", "share of them inside [q01, q99] as published"),
        "status": ("VARCHAR", "ok, or the fallback that was used and why"),
        "decision_time": ("TIMESTAMPTZ", "the instant that the information set ends at"),
        **RUN,
    },
)

MODEL_QUANTILES = OutputTable(
    "forecasts.model_quantiles",
    "Quantiles as each model gave them, before outcomes corrected them: what the correction starts from.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
        **{
            name: ("DOUBLE", f"{level:g} quantile of the realised annualised volatility")
            for name, level in QUANTILE_COLUMNS.items()
        },
        **RUN,
    },
)

REFUSALS = OutputTable(
    "forecasts.refusals",
    "Forecasts that a model declined to make, with the reason: nothing is dropped silently.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
        "reason": ("VARCHAR", "why there is no forecast"),
        **RUN,
    },
)

TABLES = (
    VOLATILITY,
    MODEL_QUANTILES,
    REFUSALS,
)
