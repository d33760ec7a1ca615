"""Schema evaluation: losses, leaderboards and tests, of daily forecasts and of walk-forward evaluations."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, LEVELS, SOURCE, OutputTable

SCORES = OutputTable(
    "evaluation.scores",
    "Losses of each forecast once the realised value is known.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
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
            for level in LEVELS
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
        **SOURCE,
        "as_of": ("DATE", "scores known by this day"),
        "horizon": FORECAST_KEY["horizon"],
        "model": FORECAST_KEY["model"],
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
        **SOURCE,
        "as_of": ("DATE", "scores known by this day"),
        "test": ("VARCHAR", "name of the test"),
        "horizon": FORECAST_KEY["horizon"],
        "asset": ("VARCHAR", "coin, or ALL"),
        "model": FORECAST_KEY["model"],
        "benchmark": ("VARCHAR", "model compared with; empty where there is none"),
        "statistic": ("DOUBLE", "test statistic"),
        "p_value": ("DOUBLE", "p-value"),
        "forecasts": ("INTEGER", "number of forecasts"),
        "verdict": ("VARCHAR", "what the test says in words"),
    },
)

TRAFFIC_LIGHTS = OutputTable(
    "evaluation.traffic_lights",
    "Backtests of VaR and ES by model, method, side, level, horizon and coin, shown as Basel's lights, as at the last day of a run; "
    "single coins only of Sundays and of the newest day, ALL and portfolios of every day.",
    ("as_of", "model", "method", "side", "level", "horizon", "asset"),
    {
        **SOURCE,
        "as_of": ("DATE", "outcomes known by this day"),
        "model": FORECAST_KEY["model"],
        "method": (
            "VARCHAR",
            "fhs (filtered historical simulation) or mixture (the model's own distribution)",
        ),
        "side": ("VARCHAR", "long or short; portfolio: the position as it is"),
        "level": ("DOUBLE", "0.95, 0.975 or 0.99"),
        "horizon": FORECAST_KEY["horizon"],
        "asset": ("VARCHAR", "coin, ALL, or portfolio:<name>"),
        "periods": ("INTEGER", "forecasts of periods that do not overlap"),
        "breaches": ("INTEGER", "losses beyond VaR"),
        "expected_breaches": ("DOUBLE", "periods times 1 - level"),
        "effective_periods": (
            "DOUBLE",
            "periods over the design effect: coins of one day breach together; equal to periods for one coin",
        ),
        "light": ("VARCHAR", "green, yellow or red; null where not judged"),
        "kupiec_p": ("DOUBLE", "p-value: as many breaches as promised"),
        "christoffersen_p": ("DOUBLE", "p-value: and none the likelier after another"),
        "dq_p": ("DOUBLE", "p-value: and none foretold by the VaR or the breaches before"),
        "acerbi_szekely_z": (
            "DOUBLE",
            "Z2 of ES: 0 is right on average, -1 twice the shortfall promised",
        ),
        "acerbi_szekely_p": ("DOUBLE", "p-value, one-sided: ES is not understated"),
        "verdict": (
            "VARCHAR",
            "in words: the light with its count, the tests that reject, or why it is not judged",
        ),
    },
)

_EVALUATION = {"evaluation_id": ("VARCHAR", "hash of models, days, settings, code and data")}

EVALUATIONS = OutputTable(
    "evaluation.walk_forward",
    "Each `volcast evaluate`: models fitted again and again on the past and judged on what followed.",
    ("evaluation_id",),
    {
        **_EVALUATION,
        **SOURCE,
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

TABLES = (
    SCORES,
    LEADERBOARD,
    TESTS,
    TRAFFIC_LIGHTS,
    EVALUATIONS,
    WALK_SCORES,
    WALK_LEADERBOARD,
    WALK_TESTS,
)
