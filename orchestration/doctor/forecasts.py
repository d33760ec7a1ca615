"""Invariants of what is published: keys, variances, quantiles, attention and risk.

In: the output tables. Out: findings. The tolerances are those of a sum of doubles, not of a judgement.
"""

from __future__ import annotations

from itertools import pairwise

from orchestration.doctor.finding import Count, Invariant, Look
from orchestration.tables import OUTPUT_TABLES
from orchestration.tables.layout import LEVELS, QUANTILE_COLUMNS

AGAIN = "delete the rows of that day and version, and run the day again: it is forecast anew (docs/doctor.md)"


def _keys(look: Look) -> Count:
    checked = broken = 0
    example = ""
    for table in OUTPUT_TABLES.values():
        if table.name not in look.tables:
            continue
        key = ", ".join(f'"{name}"' for name in table.key)
        rows, extra = look.one(
            f"SELECT coalesce(sum(n), 0), coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {table.name} GROUP BY {key})"
        )
        checked += int(rows)
        if extra:
            broken += int(extra)
            repeated = look.one(
                f"SELECT {key} FROM {table.name} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
            )
            example = example or f"{table.name}: " + ", ".join(map(str, repeated))
    return Count(checked, broken, example)


KEYS = Invariant(
    "keys",
    "every output table, the forecasts among them, has one row per key",
    "a write was made by hand or by two writers at once: delete the days and run them again (docs/doctor.md), or restore a backup",
    by=_keys,
)

_FORECAST = "asset, as_of, horizon, model, model_version"
_BAD_VARIANCE = (
    "variance IS NULL OR NOT isfinite(variance) OR variance <= 0 OR volatility IS NULL OR "
    "abs(volatility - sqrt(365 * variance)) > 1e-9 * (1 + volatility)"
)
VARIANCES = Invariant(
    "variances",
    "every variance is positive and finite, and volatility its annualised square root",
    AGAIN,
    ("forecasts.volatility",),
    "SELECT count(*) FROM forecasts.volatility",
    f"SELECT {_FORECAST}, variance, volatility FROM forecasts.volatility WHERE {_BAD_VARIANCE}",
)

_NAMES = list(QUANTILE_COLUMNS)
_CROSSING = " OR ".join(
    [f"NOT ({_NAMES[0]} >= 0)"]
    + [f"NOT ({low} <= {high})" for low, high in pairwise(_NAMES)]
    + [f"({name} IS NULL) <> ({_NAMES[0]} IS NULL)" for name in _NAMES[1:]]
    + [f"isinf({name})" for name in _NAMES]
)
QUANTILES = Invariant(
    "quantiles",
    "quantiles of each forecast rise with their level, and none is negative",
    AGAIN,
    ("forecasts.volatility", "forecasts.model_quantiles"),
    "SELECT (SELECT count(*) FROM forecasts.volatility) + (SELECT count(*) FROM forecasts.model_quantiles)",
    " UNION ALL ".join(
        f"SELECT '{table}' AS \"table\", {_FORECAST}, {', '.join(_NAMES)} FROM {table} WHERE {_CROSSING}"
        for table in ("forecasts.volatility", "forecasts.model_quantiles")
    ),
)

ATTENTION = Invariant(
    "attention",
    "attention weights lie in [0, 1] and add up to 1 per layer and head",
    AGAIN,
    ("forecasts.attention_weights",),
    "SELECT count(DISTINCT (asset, as_of, model_version, layer, head)) FROM forecasts.attention_weights",
    """
    SELECT asset, as_of, model_version, layer, head, sum(weight) AS total
    FROM forecasts.attention_weights GROUP BY ALL
    HAVING total IS NULL OR abs(total - 1) > 1e-5 OR min(weight) < 0 OR max(weight) > 1 + 1e-9 OR count(weight) < count(*)
    """,
)


def _var_es(prefixes: tuple[str, ...]) -> str:
    """What breaks VaR <= ES, or either as the level rises; a NULL says that there is no figure."""
    rules = []
    for prefix in prefixes:
        rules += [f"{prefix}var_{level} > {prefix}es_{level} + 1e-12" for level in LEVELS]
        for measure in ("var", "es"):
            names = [f"{prefix}{measure}_{level}" for level in LEVELS]
            rules += [f"{low} > {high} + 1e-12" for low, high in pairwise(names)]
            rules += [f"isnan({name}) OR isinf({name})" for name in names]
    return " OR ".join(rules)


_SIDES = ("", "short_", "mixture_", "mixture_short_")
_NEGATIVE = " OR ".join(
    f"{prefix}{measure}_{level} < 0"
    for prefix in _SIDES
    for measure in ("var", "es")
    for level in LEVELS
)
RISK = Invariant(
    "risk",
    "VaR and ES are positive fractions, VaR <= ES, both rise with the level; uncertainty and leverage stay within their limits",
    AGAIN,
    ("forecasts.risk",),
    "SELECT count(*) FROM forecasts.risk",
    f"""
    SELECT {_FORECAST}, var_975, es_975, uncertainty, advised_leverage, leverage_limit FROM forecasts.risk
    WHERE {_var_es(_SIDES)} OR {_NEGATIVE} OR uncertainty NOT BETWEEN 0 AND 1
        OR advised_leverage < 0 OR advised_leverage > leverage_limit + 1e-12
    """,
)
PORTFOLIO = Invariant(
    "portfolio",
    "VaR of the portfolio is at most ES, and both rise with the level",
    AGAIN,
    ("forecasts.portfolio_risk",),
    "SELECT count(*) FROM forecasts.portfolio_risk",
    f"SELECT portfolio, as_of, horizon, model, model_version FROM forecasts.portfolio_risk WHERE {_var_es(('', 'mixture_'))}",
)


INVARIANTS = (KEYS, VARIANCES, QUANTILES, ATTENTION, RISK, PORTFOLIO)
