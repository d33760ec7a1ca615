"""Regimes, rare days, extreme quantiles and events: their parameters, their daily values and their effects."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, RUN, SOURCE, OutputTable

_COIN = {"asset": ("VARCHAR", "coin by its ticker; MARKET for all coins together")}
_FITTED = {"fitted_as_of": ("DATE", "first Sunday of a month that it was fitted on")}
_SERVED = {"fitted_as_of": ("DATE", "fit that was used: the first Sunday of a month, before as_of")}

REGIME_PARAMETERS = OutputTable(
    "models.regime_parameters",
    "Monthly fits of the Markov-switching model of log realised variance, refused ones with the reason.",
    ("asset", "fitted_as_of"),
    {
        **SOURCE,
        **_COIN,
        **_FITTED,
        "parameters": (
            "JSON",
            "means, deviations, transition, weekday effects; null where refused",
        ),
        "members": ("JSON", "of MARKET: its coins and their mean log variance"),
        "log_likelihood": ("DOUBLE", "by statsmodels, at the maximum"),
        "converged": ("BOOLEAN", "whether its optimiser found one"),
        "days": ("INTEGER", "known days of the window"),
        "reason": ("VARCHAR", "why the fit is refused; empty where it is not"),
        **RUN,
    },
)

REGIMES = OutputTable(
    "forecasts.regimes",
    "Filtered probabilities of calm, normal and turbulent days per coin and for the market: what was known on the day, never smoothed.",
    ("asset", "as_of"),
    {
        **SOURCE,
        **_COIN,
        "as_of": FORECAST_KEY["as_of"],
        "p_calm": ("DOUBLE", "probability of the calm regime"),
        "p_normal": ("DOUBLE", "probability of the normal regime"),
        "p_turbulent": ("DOUBLE", "probability of the turbulent regime"),
        "regime": ("VARCHAR", "the most likely of them"),
        "expected_days_left": ("DOUBLE", "1 / (1 - p_ii) of it: days that it goes on, on average"),
        "carried_days": (
            "INTEGER",
            "days since the last known variance, over which the transition matrix carried the probabilities; 0: as_of is known",
        ),
        **_SERVED,
        "status": ("VARCHAR", "ok, carried and why, or why there are no probabilities"),
        **RUN,
    },
)

JUMP_PARAMETERS = OutputTable(
    "models.jump_parameters",
    "Monthly fits of the probability of rare days, with their skill on days that they had not seen.",
    ("kind", "horizon", "fitted_as_of"),
    {
        **SOURCE,
        "kind": ("VARCHAR", "jump or crash"),
        "horizon": FORECAST_KEY["horizon"],
        **_FITTED,
        "rule": ("VARCHAR", "which days count"),
        "parameters": ("JSON", "coefficients, covariates, base rates by coin; null where refused"),
        "coin_days": ("INTEGER", "coin-days fitted on"),
        "events": ("INTEGER", "of them followed by such a day within the horizon"),
        "brier": ("DOUBLE", "mean (p - y)^2 on the last quarter of the window, fitted before it"),
        "brier_base": ("DOUBLE", "the same of the base rate"),
        "skill": ("DOUBLE", "1 - brier / brier_base; not above 0: the base rate is published"),
        "skill_low_95": ("DOUBLE", "its 95 % interval, by resampled blocks of days"),
        "skill_high_95": ("DOUBLE", "upper end of it"),
        "held_out_days": ("INTEGER", "days of the last quarter"),
        "reason": ("VARCHAR", "why there is no fit; empty where there is one"),
        **RUN,
    },
)

JUMPS = OutputTable(
    "forecasts.jumps",
    "Probability of at least one jump day, and of at least one crash day, in D+1 .. D+h.",
    ("asset", "as_of", "horizon"),
    {
        **SOURCE,
        "asset": FORECAST_KEY["asset"],
        "as_of": FORECAST_KEY["as_of"],
        "horizon": FORECAST_KEY["horizon"],
        **{
            f"{kind}_{part}": (sql, text.format(kind=kind))
            for kind in ("jump", "crash")
            for part, (sql, text) in {
                "probability": ("DOUBLE", "probability of at least one {kind} day"),
                "base_rate": ("DOUBLE", "the coin's share of such horizons in the training window"),
                "skill": ("DOUBLE", "Brier skill of the probability, as in models.jump_parameters"),
                "today": ("BOOLEAN", "whether as_of itself was a {kind} day; null: not known"),
            }.items()
        },
        **_SERVED,
        "status": ("VARCHAR", "ok, or where the base rate or nothing stands for it and why"),
        **RUN,
    },
)

_SIDE = {
    "model": FORECAST_KEY["model"],
    "model_version": FORECAST_KEY["model_version"],
    "asset": FORECAST_KEY["asset"],
    "horizon": FORECAST_KEY["horizon"],
    "side": ("VARCHAR", "lower or upper tail of the return"),
}

TAIL_PARAMETERS = OutputTable(
    "models.tail_parameters",
    "Generalised Pareto tails of each version's standardised returns r / sqrt(h F), beyond its largest 5 %.",
    tuple(_SIDE),
    {
        **SOURCE,
        **_SIDE,
        "observations": ("INTEGER", "standardised returns of the training window"),
        "threshold": ("DOUBLE", "distance from 0 that 5 % of them pass"),
        "exceedances": ("INTEGER", "how many pass it"),
        "independent_exceedances": ("DOUBLE", "exceedances / h"),
        "shape": ("DOUBLE", "xi; its inverse is the tail index"),
        "scale": ("DOUBLE", "beta"),
        **{
            f"z_{label}{end}": ("DOUBLE", f"standardised quantile at {text}{meaning}")
            for label, text in (("001", "0.1 %"), ("005", "0.5 %"), ("01", "1 %"))
            for end, meaning in (
                ("", ""),
                ("_low", ", least of 95 %"),
                ("_high", ", largest of 95 %"),
            )
        },
        "reason": ("VARCHAR", "why there is no tail; empty where there is one"),
        **RUN,
    },
)

RETURN_LEVELS: dict[str, str] = {
    "q001": "0.1 %",
    "q005": "0.5 %",
    "q01": "1 %",
    "q99": "99 %",
    "q995": "99.5 %",
    "q999": "99.9 %",
}

TAILS = OutputTable(
    "forecasts.tails",
    "Extreme quantiles of the log return over D+1 .. D+h, by peaks over threshold around each stored variance forecast.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
        **{
            f"return_{name}{end}": ("DOUBLE", f"{text} quantile of the return{meaning}")
            for name, text in RETURN_LEVELS.items()
            for end, meaning in (
                ("", ""),
                ("_low", ", low end of 95 %"),
                ("_high", ", high end of 95 %"),
            )
        },
        "shape_lower": ("DOUBLE", "shape of the lower tail; 1 / shape is its tail index"),
        "shape_upper": ("DOUBLE", "shape of the upper tail"),
        "exceedances": ("INTEGER", "exceedances that each tail rests on"),
        "independent_exceedances": ("DOUBLE", "exceedances / h: those that do not overlap"),
        "status": ("VARCHAR", "ok, weak and why, or why there are no quantiles"),
        **RUN,
    },
)

EVENTS = OutputTable(
    "forecasts.events",
    "Named precursors by coin and day: score against the coin's own past year, and whether the event is active.",
    ("asset", "as_of", "event"),
    {
        **SOURCE,
        "asset": FORECAST_KEY["asset"],
        "as_of": FORECAST_KEY["as_of"],
        "event": ("VARCHAR", "liquidity_dry_up, large_transfers or funding_squeeze"),
        "score": ("DOUBLE", "robust deviations; null: not judged"),
        "threshold": ("DOUBLE", "score at which it begins"),
        "release": ("DOUBLE", "score below which it ends"),
        "active": ("BOOLEAN", "whether it is on; null: not judged"),
        "running_days": ("INTEGER", "days since it began, at most 30; null where it is not on"),
        "inputs": ("JSON", "each signal's robust score; null for one that is missing"),
        "status": ("VARCHAR", "ok, missing inputs, or not judged and which inputs are missing"),
        **RUN,
    },
)

EVENT_EFFECTS = OutputTable(
    "evaluation.event_effects",
    "Effect of each event on a model's forecasts and on what they missed, on Sundays, from what was known then.",
    ("as_of", "event", "horizon", "model", "measure"),
    {
        **SOURCE,
        "as_of": ("DATE", "Sunday: outcomes and events known by then"),
        "event": ("VARCHAR", "event by name"),
        "horizon": FORECAST_KEY["horizon"],
        "model": FORECAST_KEY["model"],
        "measure": (
            "VARCHAR",
            "outcome_beyond_forecast: log(RV/F) on active less quiet days; forecast_move: log F less that of the day before, on days on which it begins less others",
        ),
        "estimate": ("DOUBLE", "the difference, log variance"),
        "low_95": ("DOUBLE", "95 % interval, clustered by date; null with too few episodes"),
        "high_95": ("DOUBLE", "upper end of it"),
        "episodes": ("INTEGER", "runs of active days on any coin, more than h days apart"),
        "active_coin_days": ("INTEGER", "coin-days with it"),
        "quiet_coin_days": ("INTEGER", "coin-days without it"),
        "first_as_of": ("DATE", "first forecast day of the evidence"),
        "last_as_of": ("DATE", "last forecast day of the evidence"),
        "verdict": ("VARCHAR", "in words"),
        **RUN,
    },
)

TABLES = (
    REGIME_PARAMETERS,
    REGIMES,
    JUMP_PARAMETERS,
    JUMPS,
    TAIL_PARAMETERS,
    TAILS,
    EVENTS,
    EVENT_EFFECTS,
)
