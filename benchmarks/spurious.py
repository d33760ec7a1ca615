"""How often the checks of the spurious-correlation report flag what is sound, and find what is not, on made-up truths.

Every share is of `--repeats` independent markets or series. Rows 'sound' sit at the edge of what is allowed: the level is the most they may show.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.explain.lead_lag import lead_lag
from ml.explain.spurious import FLAGGED, Effects, SpuriousPolicy
from ml.explain.spurious.attention import attention_without_effect
from ml.explain.spurious.calendar import calendar_share
from ml.explain.spurious.leads import leading_features
from ml.explain.spurious.survival import effect_survival
from ml.explain.surprises import prices_of
from tests.ml.attention.markets import planted_market
from tests.ml.explain.explained_days import autoregression, explained

Floats = NDArray[np.float64]
POLICY = SpuriousPolicy()
COINS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=200)


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    chance = np.random.default_rng(20240101)
    rows: list[list[Any]] = []

    def share(check: str, truth: str, sound: bool, flagged: Callable[[], bool]) -> None:
        found = float(np.mean([flagged() for _ in range(options.repeats)]))
        rows.append([check, truth, "sound" if sound else "not sound", found])

    for days in (60, 180):
        for rho in (0.25, 0.0):
            share(
                "attention_without_effect, by day",
                f"{days} days, autocorrelation 0.7, rank correlation {rho:g}",
                rho >= POLICY.agreement,
                lambda days=days, rho=rho: _attention(chance, days, rho, 0.02, "by day"),
            )
        for size in (0.005, 0.002):
            share(
                "attention_without_effect, on average",
                f"{days} days, mean effect {size:g}, all the attention",
                size >= POLICY.least_effect,
                lambda days=days, size=size: _attention(chance, days, 0.5, size, "on average"),
            )
    for lean, text in ((0.0, "neither helps nor hurts"), (0.5, "helps"), (-0.25, "hurts")):
        share(
            "effect_survival",
            f"400 days, effect of 0.2: {text}",
            lean >= 0,
            lambda lean=lean: _survival(chance, lean),
        )
    for coefficient in (0.0, 0.7, 0.97):
        share(
            "calendar_proxy",
            f"900 days, autocorrelation {coefficient:g}, no calendar",
            True,
            lambda c=coefficient: _calendar(chance, c, 0.0),
        )
    share("calendar_proxy", "900 days, weekends, half of the variance", False, lambda: _calendar(chance, 0.0, 1.0))  # fmt: skip
    for name in ("noise", "autocorrelation 0.97", "lead"):
        found = np.array([_lead(chance, n, name) for n in range(max(options.repeats // 4, 10))])
        truth = f"900 days, {name if name != 'lead' else 'a lead with 10 % of the surprise'}"
        rows.append(["lead_lag: called a lead", truth, "", float(found[:, 0].mean())])
        rows.append(
            ["lead_lag: flagged as persistent", truth, "not sound" if "0.97" in name else "sound", float(found[:, 1].mean())]
        )  # fmt: skip
    figures = {"repeats": options.repeats, "rows": rows}
    header = ["check", "truth", "the series is", "share flagged"]
    return figures, [(f"Flags on made-up truths, {options.repeats} repeats", header, rows)]


def _attention(
    chance: np.random.Generator, days: int, rho: float, size: float, segment: str
) -> bool:
    """Gaussian copula: Spearman's rho is 6/pi asin(r/2)."""
    r = 2 * np.sin(np.pi * rho / 6)
    first = autoregression(chance, days, 0.7)
    second = r * first + np.sqrt(1 - r * r) * autoregression(chance, days, 0.7)
    effect = np.exp(0.4 * second - 0.08) * size
    rows = explained({"a": effect}, {"a": 0.2 * np.exp(0.3 * first)}, np.ones((days, 1)))
    checks = attention_without_effect(Effects.of(rows), ("a",), POLICY)
    return any(c.verdict == FLAGGED for c in checks if c.asset == "ALL" and c.segment == segment)


def _survival(chance: np.random.Generator, lean: float) -> bool:
    """Outcomes at F exp((lean + 1/2) * -a + noise): half way both forecasts lose alike."""
    effect = 0.2 * chance.standard_normal((400, COINS))
    common = 0.4 * chance.standard_normal((400, 1))
    noise = common + 0.5 * chance.standard_normal((400, COINS))
    outcome = np.exp(effect * (0.5 - lean) + noise)
    rows = explained({"a": effect}, {"a": np.full(effect.shape, 0.2)}, outcome)
    checks = effect_survival(Effects.of(rows), ("a",), None, POLICY)
    return any(c.verdict == FLAGGED for c in checks if c.asset == "ALL" and c.segment == "all")


def _calendar(chance: np.random.Generator, coefficient: float, weekend: float) -> bool:
    days = np.datetime64("2022-01-03") + np.arange(900)
    values = autoregression(chance, 900, coefficient)[:, 0]
    values = values + weekend / 0.452 * (np.arange(900) % 7 >= 5)
    share, usual = calendar_share(days, values, POLICY.surrogates, int(chance.integers(2**31)))
    return share > max(float(np.quantile(usual, 1 - POLICY.level)), POLICY.calendar_share)


def _lead(chance: np.random.Generator, seed: int, name: str) -> tuple[bool, bool]:
    """(called a lead, flagged) of one series for all coins, in a market whose variance it does not move."""
    panel = planted_market(900, COINS, lead=0.0, seed=seed)
    if name == "noise":
        values = chance.standard_normal((900, 1))
    elif name == "lead":
        surprise = prices_of(panel).surprise
        values = np.sqrt(0.1) * np.nan_to_num(surprise) + np.sqrt(0.9) * chance.standard_normal(surprise.shape)  # fmt: skip
    else:
        values = autoregression(chance, 900, 0.97)
    panel.features["series"] = np.broadcast_to(values, (900, COINS)).copy()
    prices = prices_of(panel)
    profiles = lead_lag(panel, {"sentiment": ("series",)}, POLICY.leads, prices)
    (check,) = leading_features(panel, prices, profiles, POLICY)
    return bool(np.isfinite(check.lead_days)), check.verdict == FLAGGED


__all__ = ["add_arguments", "run"]
