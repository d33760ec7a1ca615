"""Attention as data, and the explanations of forecasts with their audit."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, SOURCE, OutputTable

ATTENTION_WEIGHTS = OutputTable(
    "forecasts.attention_weights",
    "Exact attention of the forecast token, per layer and head; the weights of a layer and head sum to 1.",
    ("asset", "as_of", "model_version", "layer", "head", "token"),
    {
        **SOURCE,
        "asset": FORECAST_KEY["asset"],
        "as_of": FORECAST_KEY["as_of"],
        "model": FORECAST_KEY["model"],
        "model_version": FORECAST_KEY["model_version"],
        "layer": ("INTEGER", "layer, from 0"),
        "head": ("INTEGER", "head, from 0"),
        "head_scale": (
            "VARCHAR",
            "what the head may read beside the forecast token: intraday, daily, macro, context, assets or all",
        ),
        "token": ("INTEGER", "position in the token sequence"),
        "scale": ("VARCHAR", "forecast, hourly, daily, weekly, context or asset"),
        "modality": (
            "VARCHAR",
            "calendar, price, funding, open_interest, implied_volatility, onchain, stablecoin, sentiment, order_book, asset",
        ),
        "provider": (
            "VARCHAR",
            "who gave a context token, several joined by +; the venue of a funding token; the coin of an asset token; '' for price",
        ),
        "token_time": ("TIMESTAMPTZ", "event time of the token; null for the forecast token"),
        "lag_days": ("DOUBLE", "age of the token at the end of as_of, in days"),
        "weight": ("DOUBLE", "attention weight"),
    },
)

EXPLANATIONS = OutputTable(
    "forecasts.explanations",
    "What moved each attention forecast, by feature group, with the verdict of the faithfulness audit.",
    ("asset", "as_of", "horizon", "model_version", "feature_group"),
    {
        **SOURCE,
        **FORECAST_KEY,
        "feature_group": ("VARCHAR", "group of inputs, such as onchain or price_hourly"),
        "attention_rollout": (
            "DOUBLE",
            "share of attention, rolled out over the layers (Abnar and Zuidema 2020)",
        ),
        "integrated_gradients": (
            "DOUBLE",
            "attribution to the log variance (Sundararajan et al. 2017)",
        ),
        "ablation_effect": ("DOUBLE", "change of the log variance when the group is masked"),
        "completeness_error": (
            "DOUBLE",
            "sum of attributions less the change of output that they should explain",
        ),
        "verdict": ("VARCHAR", "valid, weak or invalid; an invalid map is not an explanation"),
        "verdict_reason": ("VARCHAR", "the figures behind the verdict"),
    },
)

TABLES = (
    ATTENTION_WEIGHTS,
    EXPLANATIONS,
)
