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

VERDICT = {
    "verdict": ("VARCHAR", "valid, weak or invalid; an invalid map is not an explanation"),
    "verdict_reason": ("VARCHAR", "the figures behind the verdict, each with its threshold"),
}
ANCHOR_NOTE = (
    "the anchor stays: what it reads itself (price, the market among it, and calendar) is not in it"
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
            "share of attention, rolled out over the layers (Abnar and Zuidema 2020); the forecast token's own group holds what it keeps of itself",
        ),
        "integrated_gradients": (
            "DOUBLE",
            f"attribution to the log variance (Sundararajan et al. 2017); {ANCHOR_NOTE}",
        ),
        "ablation_effect": (
            "DOUBLE",
            "change of the log variance when the group is taken away: for a context group, which only attention reads, of the whole forecast; "
            f"for price, calendar (both set to their training mean) and other coins of the correction alone ({ANCHOR_NOTE})",
        ),
        "completeness_error": (
            "DOUBLE",
            "|sum of attributions less the change of output that they should explain|, relative",
        ),
        **VERDICT,
    },
)

TOKEN_ATTRIBUTIONS = OutputTable(
    "forecasts.token_attributions",
    "What each token gave to an attention forecast, at the horizons where the forecast uses its tokens; sums over a group are in forecasts.explanations.",
    ("asset", "as_of", "horizon", "model_version", "token"),
    {
        **SOURCE,
        **FORECAST_KEY,
        "token": ("INTEGER", "position in the token sequence, as in forecasts.attention_weights"),
        "feature_group": EXPLANATIONS.columns["feature_group"],
        "attention_rollout": EXPLANATIONS.columns["attention_rollout"],
        "integrated_gradients": EXPLANATIONS.columns["integrated_gradients"],
    },
)

CHECK_RESULT = "pass, fail or not judged; the figures are in models.explanation_checks"
AREA = "mean |change of log variance| over the curve, groups"

ATTENTION_AUDITS = OutputTable(
    "forecasts.attention_audits",
    "The faithfulness audit of each attention forecast: every figure behind the verdict, and the thresholds (docs/explanations.md).",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
        "residual_weight": (
            "DOUBLE",
            "share of the tokens' correction that the forecast uses; 0: it is its anchor, figures are null",
        ),
        "feature_groups": (
            "INTEGER",
            "groups that attention ranks: those that are there, less the forecast token's own",
        ),
        "completeness_error": EXPLANATIONS.columns["completeness_error"],
        "gradient_agreement": (
            "DOUBLE",
            "Spearman correlation of attention with |integrated gradients| over those groups",
        ),
        "ablation_agreement": (
            "DOUBLE",
            "Spearman correlation of attention with |ablation effects|",
        ),
        "largest_effect": ("DOUBLE", "largest |ablation effect| among them, log variance"),
        "deletion_area": ("DOUBLE", f"{AREA} taken away in attention's order: large is faithful"),
        "deletion_area_random": ("DOUBLE", "the same, mean over random orders"),
        "deletion_p": ("DOUBLE", "share of random orders with as large an area"),
        "insertion_area": ("DOUBLE", f"{AREA} put back in attention's order: small is faithful"),
        "insertion_area_random": ("DOUBLE", "the same, mean over random orders"),
        "insertion_p": ("DOUBLE", "share of random orders with as small an area"),
        "order_p": (
            "DOUBLE",
            "share of random orders with as large a gap between deletion and insertion area: what is judged",
        ),
        "token_deletion_area": ("DOUBLE", "deletion area of single tokens"),
        "token_deletion_area_random": ("DOUBLE", "the same, mean over random orders"),
        "token_insertion_area": ("DOUBLE", "insertion area of single tokens"),
        "token_insertion_area_random": ("DOUBLE", "the same, mean over random orders"),
        "token_order_p": ("DOUBLE", "order_p of single tokens; shown, not judged"),
        "infidelity": (
            "DOUBLE",
            "of integrated gradients under removal of random groups, log variance squared (Yeh et al. 2019)",
        ),
        "infidelity_share": (
            "DOUBLE",
            "the same, over the mean squared change: 0 accounts for all of it",
        ),
        "attention_infidelity_share": (
            "DOUBLE",
            "that of the best multiple of attention; attention has no sign, so 0 is out of its reach; shown, not judged",
        ),
        "attention_sensitivity": (
            "DOUBLE",
            "largest relative change of attention by group when inputs move by up to a tenth of a training sd (Yeh et al. 2019)",
        ),
        "gradient_sensitivity": ("DOUBLE", "that of integrated gradients by group"),
        "weight_randomisation": ("VARCHAR", CHECK_RESULT),
        "data_randomisation": ("VARCHAR", CHECK_RESULT),
        "seed_stability": ("VARCHAR", CHECK_RESULT),
        "thresholds": ("JSON", "what the figures were held against"),
        **VERDICT,
    },
)

EXPLANATION_CHECKS = OutputTable(
    "models.explanation_checks",
    "Checks of each attention version's explanations: whether they depend on what was learnt (Adebayo et al. 2018), and would come out again.",
    ("model", "model_version", "check_name", "subject", "stage"),
    {
        **SOURCE,
        "model": FORECAST_KEY["model"],
        "model_version": FORECAST_KEY["model_version"],
        "check_name": ("VARCHAR", "weight_randomisation, data_randomisation or seed_stability"),
        "subject": ("VARCHAR", "what was compared: attention, integrated_gradients or ablation"),
        "stage": (
            "VARCHAR",
            "'' for what is judged; else up to which layer from the output weights were random",
        ),
        "statistic": (
            "DOUBLE",
            "mean rank correlation, over groups, with the maps of the other network; null where there is none",
        ),
        "threshold": (
            "DOUBLE",
            "most that randomisation may leave, least that another seed must give",
        ),
        "verdict": ("VARCHAR", "pass, fail or not judged"),
        "reason": ("VARCHAR", "the figure, or why there is none"),
    },
)

TABLES = (
    ATTENTION_WEIGHTS,
    EXPLANATIONS,
    TOKEN_ATTRIBUTIONS,
    ATTENTION_AUDITS,
    EXPLANATION_CHECKS,
)
