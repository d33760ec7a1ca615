"""The tables that orchestration itself writes: columns, types, keys and what each means, in one place.

In: nothing. Out: ``OUTPUT_TABLES``, from which the warehouse makes DDL and SQL comments, Dagster its column schemas and
the docs their reference. The raw tables are in ``sources/schema.py``, the feature tables in ``transforms/``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputTable:
    """One table: ``name`` is its SQL address; ``key`` is unique; ``columns`` maps a name to (type, description)."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: dict[str, tuple[str, str]]

    @property
    def ddl(self) -> str:
        columns = ", ".join(
            f'"{name}" {kind}{" NOT NULL" if name in self.key else ""}'
            for name, (kind, _) in self.columns.items()
        )
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({columns})"


_SOURCE = {"source": ("VARCHAR", "where the data came from: simulated, archive or live")}
_FORECAST_KEY = {
    "asset": ("VARCHAR", "coin by its ticker"),
    "as_of": ("DATE", "UTC day D: the information set ends at D 24:00 UTC"),
    "horizon": ("INTEGER", "days h: the forecast covers D+1 .. D+h"),
    "model": ("VARCHAR", "model by name"),
    "model_version": ("VARCHAR", "version in models.registry"),
}
_RUN = {
    "run_id": ("VARCHAR", "Dagster run that wrote the row"),
    "created_at": ("TIMESTAMPTZ", "when the row was written"),
}
QUANTILE_COLUMNS = {
    f"q{label}": level
    for label, level in (
        ("01", 0.01),
        ("025", 0.025),
        ("05", 0.05),
        ("10", 0.10),
        ("25", 0.25),
        ("50", 0.50),
        ("75", 0.75),
        ("90", 0.90),
        ("95", 0.95),
        ("975", 0.975),
        ("99", 0.99),
    )
}
_LEVELS = ("95", "975", "99")

REGISTRY = OutputTable(
    "models.registry",
    "Every trained model version: what it saw, how it was made and whether it is the champion.",
    ("model", "model_version"),
    {
        "model": ("VARCHAR", "model by name"),
        "model_version": (
            "VARCHAR",
            "training date and a hash of data, configuration, seed and code",
        ),
        **_SOURCE,
        "trained_as_of": ("DATE", "last day of information that training used"),
        "train_start": ("DATE", "first day of the training window"),
        "train_end": ("DATE", "last day of the training window"),
        "snapshot_hash": ("VARCHAR", "content hash of the snapshot that the worker read"),
        "data_hash": ("VARCHAR", "content hash of the panel, cut at trained_as_of"),
        "artifact_hash": ("VARCHAR", "sha256 of the artefact; checked before use"),
        "artifact_uri": (
            "VARCHAR",
            "folder of model.safetensors and model.json, relative to the artefact store",
        ),
        "code_version": ("VARCHAR", "hash of the ml sources that trained it"),
        "config": ("JSON", "model configuration"),
        "seed": ("BIGINT", "random seed"),
        "device": ("VARCHAR", "cpu or the CUDA device's name"),
        "metrics": ("JSON", "training metrics"),
        "status": ("VARCHAR", "champion, candidate or retired"),
        "status_reason": ("VARCHAR", "why the status"),
        "gate_verdicts": ("JSON", "the gate verdicts that let training start"),
        **_RUN,
    },
)

STUDIES = OutputTable(
    "models.studies",
    "Hyper-parameter studies of the attention model, a row per trial: what was tried, and how well it did on validation blocks.",
    ("study", "trial"),
    {
        "study": ("VARCHAR", "study by name: a hash of data, origins, configuration and code"),
        "trial": ("INTEGER", "trial by number; 0 is the configuration of the day"),
        **_SOURCE,
        "origins": ("VARCHAR", "training days at which the trial was judged, comma separated"),
        "parameters": ("VARCHAR", "what was tried, JSON"),
        "value": (
            "DOUBLE",
            "QLIKE of the network over the anchor's, mean over origins; null unless complete",
        ),
        "origin_values": ("VARCHAR", "the same by origin, as far as the trial came, JSON"),
        "state": ("VARCHAR", "complete, pruned or failed"),
        "detail": ("VARCHAR", "why it was pruned or failed"),
        "seconds": ("DOUBLE", "wall time"),
        "proposed": (
            "BOOLEAN",
            "whether the study proposes it; VOLCAST_ATTENTION_CONFIG adopts it",
        ),
        "reason": ("VARCHAR", "why the study proposes it, or why it proposes nothing"),
        "seed": ("BIGINT", "seed of sampler and fits"),
        "code_version": ("VARCHAR", "hash of the sources of ml/"),
        "snapshot_hash": ("VARCHAR", "content hash of the data"),
        **_RUN,
    },
)

VOLATILITY = OutputTable(
    "forecasts.volatility",
    "One forecast per coin, day, horizon and model version.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **_SOURCE,
        **_FORECAST_KEY,
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
        **_RUN,
    },
)

REFUSALS = OutputTable(
    "forecasts.refusals",
    "Forecasts that a model declined to make, with the reason: nothing is dropped silently.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **_SOURCE,
        **_FORECAST_KEY,
        "reason": ("VARCHAR", "why there is no forecast"),
        **_RUN,
    },
)

ATTENTION_WEIGHTS = OutputTable(
    "forecasts.attention_weights",
    "Exact attention of the forecast token, per layer and head; the weights of a layer and head sum to 1.",
    ("asset", "as_of", "model_version", "layer", "head", "token"),
    {
        **_SOURCE,
        "asset": _FORECAST_KEY["asset"],
        "as_of": _FORECAST_KEY["as_of"],
        "model": _FORECAST_KEY["model"],
        "model_version": _FORECAST_KEY["model_version"],
        "layer": ("INTEGER", "layer, from 0"),
        "head": ("INTEGER", "head, from 0"),
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
        **_SOURCE,
        **_FORECAST_KEY,
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

MODEL_QUANTILES = OutputTable(
    "forecasts.model_quantiles",
    "Quantiles as each model gave them, before outcomes corrected them: what the correction starts from.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **_SOURCE,
        **_FORECAST_KEY,
        **{
            name: ("DOUBLE", f"{level:g} quantile of the realised annualised volatility")
            for name, level in QUANTILE_COLUMNS.items()
        },
        **_RUN,
    },
)

RISK = OutputTable(
    "forecasts.risk",
    "VaR and ES by filtered historical simulation, the uncertainty score and the advised leverage.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **_SOURCE,
        **_FORECAST_KEY,
        **{
            f"{prefix}{measure}_{level}": (
                "DOUBLE",
                f"{measure.upper()} {level[:2]}{'.' + level[2:] if level[2:] else ''} % of a {side} position, "
                "a positive fraction",
            )
            for prefix, side in (("", "long"), ("short_", "short"))
            for measure in ("var", "es")
            for level in _LEVELS
        },
        "uncertainty": (
            "DOUBLE",
            "0 (certain) to 1: model disagreement, interval width and age of the price data",
        ),
        "advised_leverage": (
            "DOUBLE",
            "target volatility over forecast, cut by uncertainty and by tail risk",
        ),
        "reason": ("VARCHAR", "the term that set the leverage"),
    },
)

SCORES = OutputTable(
    "evaluation.scores",
    "Losses of each forecast once the realised value is known.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **_SOURCE,
        **_FORECAST_KEY,
        "variance": ("DOUBLE", "forecast mean daily variance"),
        "realized_variance": ("DOUBLE", "realised mean daily variance over the horizon"),
        "qlike": ("DOUBLE", "RV/F - log(RV/F) - 1; 0 is perfect"),
        "squared_error": ("DOUBLE", "(F - RV)^2"),
        "absolute_error": ("DOUBLE", "|F - RV|"),
        "log_error": ("DOUBLE", "(log RV - log F)^2"),
        "pinball": ("DOUBLE", "mean pinball loss over the quantiles, on the log-variance scale"),
        "covered_80": ("BOOLEAN", "realised value inside [q10, q90]"),
        "covered_98": ("BOOLEAN", "realised value inside [q01, q99]"),
        "horizon_return": ("DOUBLE", "log return over D+1 .. D+h"),
        **{
            f"var_{level}": ("DOUBLE", "forecast VaR of a long position at that level")
            for level in _LEVELS
        },
        "var_95_breach": ("BOOLEAN", "loss of a long position beyond VaR 95 %"),
        "var_975_breach": ("BOOLEAN", "loss of a long position beyond VaR 97.5 %"),
        "var_99_breach": ("BOOLEAN", "loss of a long position beyond VaR 99 %"),
        "es_975": ("DOUBLE", "forecast ES 97.5 % of a long position"),
        "crps": (
            "DOUBLE",
            "continuous ranked probability score of the quantiles, log-variance scale",
        ),
        "width_80": ("DOUBLE", "width of [q10, q90], log-variance scale"),
        "width_98": ("DOUBLE", "width of [q01, q99], log-variance scale"),
        "pit": (
            "DOUBLE",
            "probability integral transform: the forecast's own probability of no more than came",
        ),
        "fz_975": ("DOUBLE", "Fissler-Ziegel loss (FZ0) of VaR and ES 97.5 %"),
    },
)

_SEGMENT = {
    "segment_kind": ("VARCHAR", "all, coin_group, year, target_day, regime or jump"),
    "segment": ("VARCHAR", "which of them, such as turbulent"),
}
_BOARD_DETAIL = {
    "log_bias_squared": (
        "DOUBLE",
        "squared mean of the log error; with the next it adds up to log_mse",
    ),
    "log_error_variance": ("DOUBLE", "variance of the log error"),
    "r2": ("DOUBLE", "1 - MSE over the variance of realised variance; no fitted line"),
    "r2_log": ("DOUBLE", "the same on the log scale"),
    "pinball": ("DOUBLE", "mean pinball loss, log-variance scale"),
    "crps": ("DOUBLE", "mean continuous ranked probability score, log-variance scale"),
    "width_80": ("DOUBLE", "mean width of the 80 % interval, log-variance scale"),
    "fz_975": ("DOUBLE", "mean Fissler-Ziegel loss of VaR and ES 97.5 %"),
    "model_versions": ("INTEGER", "versions that made the forecasts"),
    "code_version": ("VARCHAR", "code that fitted them"),
    "data_version": ("VARCHAR", "hash of the forecasts and outcomes behind the row"),
}

LEADERBOARD = OutputTable(
    "evaluation.leaderboard",
    "Models by horizon on the forecasts that every model made, as at the last day of a run.",
    ("as_of", "horizon", "model", "segment_kind", "segment"),
    {
        **_SOURCE,
        "as_of": ("DATE", "scores known by this day"),
        "horizon": _FORECAST_KEY["horizon"],
        "model": _FORECAST_KEY["model"],
        **_SEGMENT,
        "forecasts": ("INTEGER", "number of forecasts scored"),
        "assets": ("INTEGER", "number of coins"),
        "first_as_of": ("DATE", "first forecast day"),
        "last_as_of": ("DATE", "last forecast day"),
        "qlike": ("DOUBLE", "mean over coins of the mean QLIKE"),
        "mse": ("DOUBLE", "mean squared error of variance"),
        "mae": ("DOUBLE", "mean absolute error of variance"),
        "log_mse": ("DOUBLE", "mean squared log error"),
        "coverage_80": ("DOUBLE", "share inside the 80 % interval"),
        "coverage_98": ("DOUBLE", "share inside the 98 % interval"),
        "qlike_ratio_harx_cal": ("DOUBLE", "QLIKE over HARX-cal's; below 1 is better"),
        "dm_statistic": (
            "DOUBLE",
            "Diebold-Mariano against HARX-cal, clustered by date; negative is better",
        ),
        "dm_p_value": ("DOUBLE", "two-sided p-value of it"),
        "in_mcs_90": ("BOOLEAN", "in the 90 % model confidence set"),
        **_BOARD_DETAIL,
    },
)

TESTS = OutputTable(
    "evaluation.tests",
    "Forecast-comparison and VaR/ES backtests, as at the last day of a run.",
    ("as_of", "test", "horizon", "asset", "model", "benchmark"),
    {
        **_SOURCE,
        "as_of": ("DATE", "scores known by this day"),
        "test": ("VARCHAR", "name of the test"),
        "horizon": _FORECAST_KEY["horizon"],
        "asset": ("VARCHAR", "coin, or ALL"),
        "model": _FORECAST_KEY["model"],
        "benchmark": ("VARCHAR", "model compared with; empty where there is none"),
        "statistic": ("DOUBLE", "test statistic"),
        "p_value": ("DOUBLE", "p-value"),
        "forecasts": ("INTEGER", "number of forecasts"),
        "verdict": ("VARCHAR", "what the test says in words"),
    },
)

DECISIONS = OutputTable(
    "models.decisions",
    "Every decision of the learning loop, with its reason: who leads, and which model is trained again. Made of as_of D, it holds from D+1 on.",
    ("as_of", "kind", "model", "horizon"),
    {
        **_SOURCE,
        "as_of": ("DATE", "decision day: what was known at its decision time decided"),
        "kind": (
            "VARCHAR",
            "promote, keep (the champion), refuse (a challenger); retrain, drift (without a retrain), steady",
        ),
        "model": _FORECAST_KEY["model"],
        "horizon": ("INTEGER", "days h of the figures that decided; 0: all horizons"),
        "model_version": ("VARCHAR", "version that served the day; null where none did"),
        "statistic": ("DOUBLE", "figure that decided; the reason says which"),
        "threshold": ("DOUBLE", "what it was held against"),
        "reason": ("VARCHAR", "why, with the figures"),
        "evidence_from": ("DATE", "first as_of of the evidence"),
        "evidence_to": ("DATE", "last as_of of the evidence"),
        **_RUN,
    },
)

DRIFT = OutputTable(
    "models.drift",
    "Drift of features, errors and attention of each model, every Sunday: what was measured, and against what.",
    ("as_of", "model", "kind", "measure", "subject"),
    {
        **_SOURCE,
        "as_of": ("DATE", "decision day"),
        "model": _FORECAST_KEY["model"],
        "model_version": ("VARCHAR", "version that served the day"),
        "kind": ("VARCHAR", "features, errors or attention"),
        "measure": (
            "VARCHAR",
            "kolmogorov_smirnov, psi, page_hinkley, log_bias or jensen_shannon",
        ),
        "subject": ("VARCHAR", "feature, or what the series is"),
        "statistic": ("DOUBLE", "the measure; null where it is not judged"),
        "threshold": ("DOUBLE", "above it the verdict is drift"),
        "verdict": ("VARCHAR", "drift, steady or not judged"),
        "reason": ("VARCHAR", "the figures, or what is missing"),
        "reference_from": ("DATE", "first day of what it is held against"),
        "reference_to": ("DATE", "last day of it"),
        "reference_days": ("INTEGER", "days with values"),
        "monitored_from": ("DATE", "first of the newest days"),
        "monitored_to": ("DATE", "last of them"),
        "monitored_days": ("INTEGER", "days with values"),
        **_RUN,
    },
)

ATTENTION_PROFILES = OutputTable(
    "models.attention_profiles",
    "Mean attention by token group on the last days of each version's training window: what drift of attention is held against.",
    ("model", "model_version", "as_of", "scale", "modality"),
    {
        **_SOURCE,
        "model": _FORECAST_KEY["model"],
        "model_version": _FORECAST_KEY["model_version"],
        "as_of": _FORECAST_KEY["as_of"],
        "scale": ATTENTION_WEIGHTS.columns["scale"],
        "modality": ATTENTION_WEIGHTS.columns["modality"],
        "share": ("DOUBLE", "share of attention, mean over coins, layers and heads"),
    },
)

_EVALUATION = {"evaluation_id": ("VARCHAR", "hash of models, days, settings, code and data")}

EVALUATIONS = OutputTable(
    "evaluation.walk_forward",
    "Each `volcast evaluate`: models fitted again and again on the past and judged on what followed.",
    ("evaluation_id",),
    {
        **_EVALUATION,
        **_SOURCE,
        "first_as_of": ("DATE", "first forecast day"),
        "last_as_of": ("DATE", "last forecast day"),
        "models": ("VARCHAR", "models, comma separated"),
        "window_days": ("INTEGER", "training window"),
        "expanding": ("BOOLEAN", "whether the window grows instead of rolling"),
        "refit_weeks": ("INTEGER", "weeks between fits"),
        "seed": ("BIGINT", "seed of training"),
        "code_version": ("VARCHAR", "hash of the sources of ml/"),
        "data_version": ("VARCHAR", "hash of the feature panel"),
        "forecasts": ("BIGINT", "forecasts made"),
        "refusals": ("BIGINT", "forecasts refused"),
        "seconds": ("DOUBLE", "wall time"),
        "created_at": ("TIMESTAMPTZ", "when"),
    },
)

WALK_SCORES = OutputTable(
    "evaluation.walk_forward_scores",
    "As evaluation.scores, for the forecasts of an evaluation; intervals corrected by outcomes as in forecasts.volatility.",
    ("evaluation_id", *SCORES.key),
    {**_EVALUATION, **SCORES.columns},
)

WALK_LEADERBOARD = OutputTable(
    "evaluation.walk_forward_leaderboard",
    "As evaluation.leaderboard, for an evaluation.",
    ("evaluation_id", *LEADERBOARD.key),
    {**_EVALUATION, **LEADERBOARD.columns},
)

WALK_TESTS = OutputTable(
    "evaluation.walk_forward_tests",
    "As evaluation.tests, for an evaluation.",
    ("evaluation_id", *TESTS.key),
    {**_EVALUATION, **TESTS.columns},
)

VALIDATIONS = OutputTable(
    "quality.validations",
    "Every gate verdict, kept. Training and forecasting read it before they start.",
    ("validation_id",),
    {
        "validation_id": ("VARCHAR", "id of one expectation's verdict"),
        "suite": ("VARCHAR", "suite, named after the table that it guards"),
        "from_as_of": ("DATE", "first day that the verdict covers"),
        "as_of": ("DATE", "last day that the verdict covers"),
        "run_id": ("VARCHAR", "Dagster run"),
        "expectation": ("VARCHAR", "what was expected"),
        "column_name": ("VARCHAR", "column, where one is meant"),
        "severity": ("VARCHAR", "critical stops training and forecasting, warning is shown"),
        "success": ("BOOLEAN", "whether it held"),
        "observed": ("VARCHAR", "what was seen"),
        "message": ("VARCHAR", "what to do"),
        "checked_at": ("TIMESTAMPTZ", "when"),
        "overridden_by": ("VARCHAR", "who let it pass in spite of the failure"),
        "override_reason": ("VARCHAR", "why"),
    },
)

OVERRIDES = OutputTable(
    "quality.overrides",
    "Explicit, named permissions to go on in spite of a failed gate.",
    ("suite", "expectation", "as_of"),
    {
        "suite": ("VARCHAR", "suite"),
        "expectation": ("VARCHAR", "expectation, or * for all of the suite"),
        "as_of": ("DATE", "day for which it holds"),
        "overridden_by": ("VARCHAR", "who"),
        "reason": ("VARCHAR", "why"),
        "created_at": ("TIMESTAMPTZ", "when"),
    },
)

QUARANTINE = OutputTable(
    "quarantine.rows",
    "Rows that a gate refused, whole, with the reason; releasable.",
    ("row_id",),
    {
        "row_id": ("VARCHAR", "hash of table, row and reason: the same refusal is kept once"),
        "table_name": ("VARCHAR", "raw table that the row was meant for"),
        "batch_id": ("VARCHAR", "batch that brought it"),
        "reason": ("VARCHAR", "why it was refused"),
        "row_json": ("JSON", "the row as it came"),
        "quarantined_at": ("TIMESTAMPTZ", "when"),
        "released_at": ("TIMESTAMPTZ", "when it was let into the raw table, else null"),
        "released_by": ("VARCHAR", "who released it"),
    },
)

BATCHES = OutputTable(
    "raw.batches",
    "Every batch that was offered: the ingest ledger.",
    ("batch_id",),
    {
        "batch_id": ("VARCHAR", "hash of source, table, window and content"),
        **_SOURCE,
        "table_name": ("VARCHAR", "raw table"),
        "known_after": (
            "TIMESTAMPTZ",
            "start of the window of known_at, exclusive; null: from the beginning",
        ),
        "known_until": ("TIMESTAMPTZ", "end of the window of known_at, inclusive"),
        "rows_offered": ("BIGINT", "rows in the batch"),
        "rows_inserted": ("BIGINT", "rows that were new"),
        "rows_duplicate": ("BIGINT", "rows that the table had already"),
        "rows_quarantined": ("BIGINT", "rows that were refused"),
        "ingested_at": ("TIMESTAMPTZ", "when"),
    },
)

STREAMS = OutputTable(
    "raw.streams",
    "What every stream of the source last gave: the cursor it resumes from, and why it is stale where it is.",
    ("stream",),
    {
        "stream": (
            "VARCHAR",
            "stream of the source, such as binance/ohlcv/5m/BTC; a whole table where nothing finer can be resumed",
        ),
        **_SOURCE,
        "table_name": ("VARCHAR", "raw table that it fills"),
        "provider": ("VARCHAR", "who is asked"),
        "assets": ("VARCHAR", "coins that it was asked for so far, comma separated"),
        "read_from": ("DATE", "first day of the source when it was last read from the beginning"),
        "known_until": (
            "TIMESTAMPTZ",
            "cursor: every row known up to here is stored; null: nothing yet",
        ),
        "status": ("VARCHAR", "ok, unavailable, refused, changed shape, not listed or failed"),
        "detail": ("VARCHAR", "the error, where the status is not ok"),
        "notes": (
            "VARCHAR",
            "what the last read noticed: fallbacks, fields that are new; a line each",
        ),
        "succeeded_at": (
            "TIMESTAMPTZ",
            "when it was last read to the end; null for a source of the past",
        ),
        "attempted_at": ("TIMESTAMPTZ", "when it was last tried; null for a source of the past"),
    },
)

STATE = OutputTable(
    "meta.state",
    "Small facts about the warehouse itself: layout version, revision, what the feature build covers.",
    ("key",),
    {"key": ("VARCHAR", "name"), "value": ("VARCHAR", "value")},
)

OUTPUT_TABLES: dict[str, OutputTable] = {
    table.name: table
    for table in (
        REGISTRY,
        STUDIES,
        VOLATILITY,
        MODEL_QUANTILES,
        REFUSALS,
        ATTENTION_WEIGHTS,
        EXPLANATIONS,
        RISK,
        SCORES,
        LEADERBOARD,
        TESTS,
        DECISIONS,
        DRIFT,
        ATTENTION_PROFILES,
        EVALUATIONS,
        WALK_SCORES,
        WALK_LEADERBOARD,
        WALK_TESTS,
        VALIDATIONS,
        OVERRIDES,
        QUARANTINE,
        BATCHES,
        STREAMS,
        STATE,
    )
}
