"""Correlations between coins, and the risk of a portfolio given as a file of weights."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, LEVELS, RUN, SOURCE, OutputTable

CORRELATIONS = OutputTable(
    "forecasts.correlations",
    "Forecast correlation of hourly returns by HAR-DRD, a row per pair of coins, and per coin one with itself that says why it has none.",
    ("asset", "other_asset", "as_of", "horizon"),
    {
        **SOURCE,
        "asset": FORECAST_KEY["asset"],
        "other_asset": ("VARCHAR", "coin, not before asset in the alphabet"),
        "as_of": FORECAST_KEY["as_of"],
        "horizon": FORECAST_KEY["horizon"],
        "correlation": ("DOUBLE", "mean daily correlation over the horizon; null where refused"),
        "status": ("VARCHAR", "ok, or why the coin has no correlations"),
        "fitted_as_of": ("DATE", "Sunday whose fit serves the day"),
        "fit_days": ("INTEGER", "days with a realised matrix in the fit's window"),
        "weight_daily": ("DOUBLE", "weight of the day's realised matrix"),
        "weight_weekly": ("DOUBLE", "weight of the mean of 5 days"),
        "weight_monthly": ("DOUBLE", "weight of the mean of 22 days"),
        "weight_unconditional": (
            "DOUBLE",
            "weight of the mean of the fit's window, at least 0.05: what makes the matrix positive definite",
        ),
        **RUN,
    },
)

_KEY = {
    "portfolio": ("VARCHAR", "name of the file of weights, without its suffix"),
    "as_of": FORECAST_KEY["as_of"],
    "horizon": FORECAST_KEY["horizon"],
    "model": ("VARCHAR", "model whose variances and quantiles were taken"),
    "model_version": FORECAST_KEY["model_version"],
}

_HASH = {"weights_hash": ("VARCHAR", "hash of the weights, or of why there are none")}


def _measures(prefix: str, method: str, of: str) -> dict[str, tuple[str, str]]:
    return {
        f"{prefix}{measure}_{level}": (
            "DOUBLE",
            f"{measure.upper()} {level[:2]}{'.' + level[2:] if level[2:] else ''} % {of} {method}, a fraction of the capital",
        )
        for measure in ("var", "es")
        for level in LEVELS
    }


_HISTORY, _MIXTURE = "by filtered historical simulation", "by the model's own distribution"

PORTFOLIO_RISK = OutputTable(
    "forecasts.portfolio_risk",
    "VaR and ES of the portfolio of VOLCAST_PORTFOLIO by each model, with the weights of the day of the run.",
    ("portfolio", "as_of", "horizon", "model", "model_version"),
    {
        **SOURCE,
        **_KEY,
        **_HASH,
        "volatility": ("DOUBLE", "annualised forecast of the portfolio's linear return"),
        "gross_weight": ("DOUBLE", "sum of absolute weights"),
        "net_weight": ("DOUBLE", "sum of weights"),
        "diversification_ratio": (
            "DOUBLE",
            "weighted mean volatility of the coins over that of the portfolio",
        ),
        **_measures("", _HISTORY, "of the portfolio"),
        **_measures("mixture_", _MIXTURE, "of the portfolio"),
        "past_forecasts": (
            "INTEGER",
            "past days with forecasts of all coins and a known return, behind the simulation; it needs 60",
        ),
        "status": ("VARCHAR", "ok, what is missing, or why there is no figure"),
        **RUN,
    },
)

PORTFOLIO_COMPONENTS = OutputTable(
    "forecasts.portfolio_components",
    "Each coin's part of the portfolio's risk; the parts of a row of forecasts.portfolio_risk add up to it.",
    ("portfolio", "as_of", "horizon", "model", "model_version", "asset"),
    {
        **SOURCE,
        **_KEY,
        "asset": FORECAST_KEY["asset"],
        **_HASH,
        "weight": ("DOUBLE", "fraction of the capital, negative: short"),
        "volatility": ("DOUBLE", "annualised forecast of the coin"),
        "share": (
            "DOUBLE",
            "part of the portfolio's volatility by Euler's rule; the shares sum to 1",
        ),
        **_measures("component_", _HISTORY, "due to the coin"),
        **_measures("component_mixture_", _MIXTURE, "due to the coin"),
        **RUN,
    },
)

TABLES = (CORRELATIONS, PORTFOLIO_RISK, PORTFOLIO_COMPONENTS)
