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
            "0 (certain) to 1: model disagreement, interval width and age of the price data",
        ),
        "advised_leverage": (
            "DOUBLE",
            "target volatility over forecast, cut by uncertainty and by tail risk",
        ),
        "reason": ("VARCHAR", "the term that set the leverage"),
    },
)

TABLES = (RISK,)
