r"""Backtests of VaR and ES as traffic lights: the zones of the Basel Committee for every method, side, level, horizon and coin.

In: forecasts of VaR and ES beside what followed. Out: one row per cell, with a light, p-values and a verdict in words.
Never: a light from too few periods (the row says 'not judged'), or from forecasts whose horizons overlap.

With x breaches in n periods and :math:`\alpha` = 1 - level the light is green while :math:`P(X \le x)` is below 95 %, red from 99.99 % on
and yellow between, X binomial: for 250 days at 99 % these are 0-4, 5-9 and 10 breaches. Source: Basel Committee (1996), "Supervisory
framework for the use of 'backtesting' in conjunction with the internal models approach", section III, table 2.

A cell is judged from 2.5 expected breaches on, what Basel's 250 days at 99 % give: 50 periods at 95 %, 100 at 97.5 %, 250 at 99 %. With
fewer, one breach more or less would change the light.

Coins fall on the same days, so the breaches of all coins are no binomial. For ALL both x and n are divided by the design effect, the
variance of the share of breaches between days over that of independent ones (Rao and Scott 1992, "A simple method for the analysis of clustered
binary data", Biometrics 48). That of 95 % serves all levels: it has the most breaches to measure it by, and deeper in the tail they are no
more joint. Tests that need an order of periods have no p-value there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, xlogy
from scipy.stats import chi2

from ml.evaluation.tails import acerbi_szekely, christoffersen, dynamic_quantile, kupiec
from ml.evaluation.verdicts import ALL, SIGNIFICANCE, non_overlapping

Floats = NDArray[np.float64]

GREEN_BELOW, RED_FROM = 0.95, 0.9999
FEWEST_EXPECTED = 2.5
"""Expected breaches from which a cell is judged: 250 days at 99 %."""
LEVELS: dict[str, float] = {"95": 0.95, "975": 0.975, "99": 0.99}
METHODS: dict[str, str] = {"fhs": "", "mixture": "mixture_"}
"""Method -> prefix of its columns."""
LONG, SHORT, PORTFOLIO = "long", "short", "portfolio"
SIDES: dict[str, str] = {LONG: "", SHORT: "short_"}
COLUMNS: tuple[str, ...] = (
    "model", "method", "side", "level", "horizon", "asset", "periods", "breaches", "expected_breaches", "effective_periods",
    "light", "kupiec_p", "christoffersen_p", "dq_p", "acerbi_szekely_z", "acerbi_szekely_p", "verdict",
)  # fmt: skip
KEYS: tuple[str, ...] = ("model", "asset", "as_of", "horizon")
_ENOUGH = 1e-9
ROUNDING = 1e-9
"""Of the VaR, by which an ES may be below it."""


def light(breaches: float, periods: float, level: float) -> str:
    """'green', 'yellow' or 'red' for x breaches in n periods, which need not be whole numbers.

    The binomial P(X <= x) is the regularised incomplete beta function I(n - x, x + 1) at `level`, which has a value between whole
    numbers too. Raises ValueError for breaches outside 0 .. n or a level outside 0.5 .. 1.
    """
    if not 0 <= breaches <= periods or periods <= 0:
        raise ValueError(
            f"{breaches} breaches in {periods} periods: expected from 0 to all of them"
        )
    if not 0.5 < level < 1:
        raise ValueError(f"level {level}: expected above 0.5 and below 1, as 0.99")
    if breaches == periods:
        return "red"
    cumulative = float(betainc(periods - breaches, breaches + 1.0, level))
    if cumulative < GREEN_BELOW:
        return "green"
    return "yellow" if cumulative < RED_FROM else "red"


def design_effect(breaches: ArrayLike, clusters: ArrayLike) -> float:
    r"""How much wider the share of breaches scatters than if all (n,) of them were independent; at least 1.

    .. math:: \frac{m}{m-1} \frac{\sum_d (x_d - n_d \hat p)^2}{n\, \hat p (1 - \hat p)}

    over m clusters (days) with x_d breaches in n_d periods (Rao and Scott 1992). Without a breach, or with one cluster, nothing measures it,
    and it is that of periods which breach all together on a day: the sum of n_d^2 over n.
    """
    hits = np.asarray(breaches, dtype=np.float64)
    names, day = np.unique(np.asarray(clusters), return_inverse=True)
    share, sizes = float(hits.mean()), np.bincount(day)
    if len(names) < 2 or not 0 < share < 1:
        return float((sizes**2).sum()) / len(hits)
    excess = np.bincount(day, hits) - sizes * share
    spread = float((excess**2).sum()) / (len(hits) * share * (1.0 - share))
    return max(1.0, spread * len(names) / (len(names) - 1))


def traffic_lights(outcomes: pd.DataFrame, portfolio: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of evaluation.traffic_lights, columns `COLUMNS`, by model, method, side, level, horizon and asset.

    outcomes: model, asset, as_of, horizon, horizon_return (log) and the VaR and ES columns of forecasts.risk; a missing figure is left out.
    portfolio: the same with `simple_return` of the portfolio in place of horizon_return, asset 'portfolio:<name>' and no short side.
    Of each model every h-th day counts, from its first on. Raises ValueError on a repeated key, or an ES below its VaR by more than rounding.
    """
    found: list[dict[str, Any]] = []
    for frame, sides in ((outcomes, SIDES), (portfolio, {PORTFOLIO: ""})):
        if frame is None or frame.empty:
            continue
        repeated = frame.duplicated(list(KEYS))
        if repeated.any():
            raise ValueError(
                f"two outcomes for {tuple(frame.loc[repeated, list(KEYS)].iloc[0])}: expected one"
            )
        _require_shortfall_beyond_var(frame, sides)
        for key, group in frame.sort_values(["as_of", "asset"]).groupby(["model", "horizon"]):
            horizon = int(str(key[1]))
            thinned = group[non_overlapping(group["as_of"], horizon)]
            for row in _cells(thinned, sides):
                found.append({"model": str(key[0]), "horizon": horizon, **row})
    rows = pd.DataFrame(found, columns=list(COLUMNS))
    return rows.sort_values(["model", "method", "side", "level", "horizon", "asset"], ignore_index=True)  # fmt: skip


def _require_shortfall_beyond_var(frame: pd.DataFrame, sides: dict[str, str]) -> None:
    """Raise ValueError that names the row: an ES that was lifted to its VaR would be tested as another forecast than was made."""
    for prefix, mark, suffix in itertools.product(METHODS.values(), sides.values(), LEVELS):
        names = [f"{prefix}{mark}{measure}_{suffix}" for measure in ("var", "es")]
        risk, shortfall = (frame[name].to_numpy(np.float64) for name in names)
        wrong = np.flatnonzero(risk - shortfall > ROUNDING * np.abs(risk))
        if len(wrong):
            row = frame.iloc[int(wrong[0])]
            raise ValueError(
                f"{names[1]} {row[names[1]]} below {names[0]} {row[names[0]]} of {', '.join(str(row[key]) for key in KEYS)}: "
                "expected a shortfall of at least the VaR"
            )


def _cells(group: pd.DataFrame, sides: dict[str, str]) -> Iterator[dict[str, Any]]:
    """One model and horizon."""
    returns = (
        group["simple_return"] if "simple_return" in group else np.expm1(group["horizon_return"])
    ).to_numpy(np.float64)
    names, coin = np.unique(group["asset"].astype(str).to_numpy(dtype=object), return_inverse=True)
    days = group["as_of"].to_numpy()
    for method, prefix in METHODS.items():
        for side, mark in sides.items():
            earned = -returns if side == SHORT else returns
            effect = 1.0
            for suffix, level in LEVELS.items():
                risk, shortfall = (
                    group[f"{prefix}{mark}{measure}_{suffix}"].to_numpy(np.float64)
                    for measure in ("var", "es")
                )
                known = np.isfinite(earned) & np.isfinite(risk) & np.isfinite(shortfall)
                head = {"method": method, "side": side, "level": level}
                for place, name in enumerate(names.tolist()):
                    mine = known & (coin == place)
                    if mine.any():
                        one = _one_coin(earned[mine], risk[mine], shortfall[mine], level)
                        yield {**head, "asset": name, **one}
                if side != PORTFOLIO and known.any():
                    hits = (earned < -risk)[known]
                    if level == min(LEVELS.values()):
                        effect = design_effect(hits, days[known])
                    yield {**head, "asset": ALL, **_all_coins(hits, effect, level)}


def _one_coin(earned: Floats, risk: Floats, shortfall: Floats, level: float) -> dict[str, Any]:
    hits = earned < -risk
    tests = {
        "kupiec_p": kupiec(hits, level).p_value,
        "christoffersen_p": christoffersen(hits, level).p_value,
        "dq_p": dynamic_quantile(hits, risk, level).p_value,
    }
    usable = risk > 0  # a past without losses at this level has no shortfall to test
    if usable.any():
        es = acerbi_szekely(earned[usable], risk[usable], shortfall[usable], level)  # fmt: skip
        tests |= {"acerbi_szekely_z": es.statistic, "acerbi_szekely_p": es.p_value}
    return _judged(hits, level, 1.0, tests)


def _all_coins(hits: NDArray[np.bool_], effect: float, level: float) -> dict[str, Any]:
    n, x = len(hits) / effect, float(hits.sum()) / effect
    share, alpha = x / n, 1.0 - level
    statistic = 2.0 * float(
        xlogy(x, share) + xlogy(n - x, 1.0 - share) - xlogy(x, alpha) - xlogy(n - x, level)
    )
    enough = n * alpha >= FEWEST_EXPECTED - _ENOUGH
    p_value = float(chi2.sf(max(0.0, statistic), 1)) if enough else np.nan
    return _judged(hits, level, effect, {"kupiec_p": p_value})


def _judged(
    hits: NDArray[np.bool_], level: float, effect: float, tests: dict[str, float]
) -> dict[str, Any]:
    periods, breaches, alpha = len(hits), int(hits.sum()), 1.0 - level
    effective = periods / effect
    row: dict[str, Any] = {
        "periods": periods,
        "breaches": breaches,
        "expected_breaches": round(periods * alpha, 9),
        "effective_periods": effective,
        "light": None,
        **dict.fromkeys(("kupiec_p", "christoffersen_p", "dq_p", "acerbi_szekely_z", "acerbi_szekely_p"), np.nan),
        **tests,
    }  # fmt: skip
    if effective * alpha < FEWEST_EXPECTED - _ENOUGH:
        return {**row, "verdict": _not_judged(periods, effective, alpha)}
    colour = light(breaches / effect, effective, level)
    said = f"{colour}: {breaches} breaches, {periods * alpha:.1f} expected"
    rejects = [
        words
        for name, words in (
            ("kupiec_p", "too many" if breaches > periods * alpha else "too few"),
            ("christoffersen_p", "breaches follow breaches or are not as many as promised"),
            ("dq_p", "breaches can be foretold"),
            ("acerbi_szekely_p", "ES understated"),
        )
        if row[name] < SIGNIFICANCE
    ]
    return {**row, "light": colour, "verdict": "; ".join([said, *rejects])}


def _not_judged(periods: int, effective: float, alpha: float) -> str:
    needed = int(np.ceil(FEWEST_EXPECTED / alpha - _ENOUGH))
    counted = f"{periods} periods" if effective == periods else f"{periods} periods, worth {effective:.0f} independent ones"  # fmt: skip
    return f"not judged: {counted}, expected at least {needed}"
