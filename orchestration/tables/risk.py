"""Risk figures drawn from forecasts."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, LEVELS, SOURCE, OutputTable

RISK = OutputTable(
    "forecasts.risk",
    "VaR and ES by filtered historical simulation, the uncertainty score and the advised leverage.",
    ("asset", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **FORECAST_KEY,
        **{
            f"{prefix}{measure}_{level}": (
                "DOUBLE",
                f"{measure.upper()} {level[:2]}{'.' + level[2:] if level[2:] else ''} % of a {side} position, "
                "a positive fraction",
            )
            for prefix, side in (("", "long"), ("short_", "short"))
            for measure in ("var", "es")
            for level in LEVELS
        },
        **{
            f"mixture_{prefix}{measure}_{level}": (
                "DOUBLE",
                f"{measure.upper()} {level[:2]}{'.' + level[2:] if level[2:] else ''} % of a {side} position by the "
                "model's own distribution",
            )
            for prefix, side in (("", "long"), ("short_", "short"))
            for measure in ("var", "es")
            for level in LEVELS
        },
        "uncertainty": (
            "DOUBLE",
            "0 (certain) to 1: 1 - (1 - disagreement)(1 - interval)(1 - age)(1 - drift)(1 - audit), the five columns that follow",
        ),
        "uncertainty_disagreement": ("DOUBLE", "part for the spread of the models' forecasts"),
        "uncertainty_interval": ("DOUBLE", "part for the width of the 90 % interval"),
        "uncertainty_age": ("DOUBLE", "part for the age of the price data"),
        "uncertainty_drift": (
            "DOUBLE",
            "part for the kinds of drift found on the last Sunday before as_of",
        ),
        "uncertainty_audit": (
            "DOUBLE",
            "part for the audit's verdict on the explanation; 0 for a model that explains nothing",
        ),
        "target_leverage": (
            "DOUBLE",
            "leverage of a long position by the day's figures alone: volatility target over forecast, cut by uncertainty, at most leverage_limit",
        ),
        "leverage_limit": (
            "DOUBLE",
            "hard limit: the lesser of the maximum leverage and shortfall budget over ES 97.5 %",
        ),
        "advised_leverage": (
            "DOUBLE",
            "leverage to hold until the next advice: the target behind a no-trade band and a largest change per day, never above leverage_limit",
        ),
        "binding": (
            "VARCHAR",
            "what set it: volatility_target, uncertainty, es_budget, max_leverage, max_change or band",
        ),
        "previous_leverage": (
            "DOUBLE",
            "advice that it follows on from; null where there was none in the 7 days before",
        ),
        "previous_as_of": ("DATE", "day of that advice"),
        "reason": ("VARCHAR", "why, in one sentence with the figures"),
    },
)

LEVERAGE_BACKTEST = OutputTable(
    "evaluation.leverage_backtest",
    "What following the advised leverage for up to a year would have given, beside constant and EWMA leverage; every Sunday, after costs, without funding.",
    ("as_of", "model", "horizon", "strategy", "asset"),
    {
        **SOURCE,
        "as_of": (
            "DATE",
            "Sunday: prices known by its decision time, so advice up to the Friday before it",
        ),
        "model": ("VARCHAR", "model whose advice it is, and on whose days the others are run"),
        "horizon": ("INTEGER", "days h of the advice; it is followed day by day at every horizon"),
        "strategy": (
            "VARCHAR",
            "advised; constant (fitted on the days before the first); ewma (target over EWMA volatility)",
        ),
        "asset": ("VARCHAR", "coin by its ticker, or PORTFOLIO: equal parts of all, every day"),
        "first_as_of": (
            "DATE",
            "day D of the first advice that is followed; it is traded at D+1 01:00 UTC, the first hourly close after its decision",
        ),
        "days": ("INTEGER", "days held, each from 01:00 UTC to 01:00 UTC"),
        "target_volatility": ("DOUBLE", "annualised volatility aimed at"),
        "realised_volatility": (
            "DOUBLE",
            "annualised root mean square of the daily returns of the capital",
        ),
        "worst_drawdown": ("DOUBLE", "largest loss from a peak of the capital, a fraction of it"),
        "turnover_per_year": (
            "DOUBLE",
            "multiples of the capital traded in 365 days, without the entry",
        ),
        "mean_leverage": ("DOUBLE", "mean gross exposure over capital"),
        "cost": ("DOUBLE", "cost per unit of turnover that is taken off"),
    },
)

TABLES = (RISK, LEVERAGE_BACKTEST)
