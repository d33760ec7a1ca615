"""Combinations: the mean of several models' variances, with equal weights or with those that did best so far.

In: a panel, which the members read. Out: forecasts. Never: a weight or a residual from a forecast whose target its
member was fitted on: members are first fitted on the older part of the window and judged on the newer one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.model import ModelState, VolatilityModel, window_days
from ml.models import create, from_state, model_class
from ml.panel import Panel

MEMBERS: tuple[str, ...] = ("har_pooled", "har_panel")
HELD_OUT_DAYS = 365
LARGEST_SHARE = 1.0 / 3.0
"""Of the window that may be held out, when the window is short."""
FEWEST_PAIRS = 60
"""Coin-days from which weights are fitted; with fewer they are equal."""


class Combination(PointForecastModel):
    r"""A weighted mean of members' variance forecasts, one set of weights a horizon for all coins.

    .. math:: \hat\sigma^2 = \sum_k w_k \hat\sigma^2_k, \quad w_k \ge 0, \; \sum_k w_k = 1

    A fit makes each member twice: on the window without its last 365 days (a third of it at most), to forecast those
    days as they would have been forecast then, and on all of the window, to serve. Weights come from the first alone;
    residual quantiles from the members' own held-out forecasts of all of the window where each has such, else from the
    same days as the weights. Where a member refuses a coin or a day, the others share its weight.

    Config: `members`, names of models. Source: Timmermann (2006), "Forecast combinations", Handbook of Economic
    Forecasting 1.
    """

    lookback_days = 500  # of the member that reads furthest back, EWMA
    out_of_sample_residuals = True
    config_keys = ("members",)
    equal: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self._members: list[VolatilityModel] | None = None

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        names = _checked(config.get("members", MEMBERS), self.lookback_days)
        days = window_days(config, self.config_keys)
        last = panel.days[-1].item()
        held_out = min(HELD_OUT_DAYS, int(LARGEST_SHARE * min(days, len(panel.days) - first)))
        earlier = last - timedelta(days=held_out)
        tested = [earlier + timedelta(days=k) for k in range(held_out)]
        shape = (len(panel.days), len(panel.assets), len(HORIZONS))
        past = np.full((len(names), *shape), np.nan)
        for place, name in enumerate(names):
            trial = create(name)
            trial.fit(panel, earlier, {"window_days": max(1, days - held_out)}, seed)
            past[place, panel.rows(tested)] = trial.forecast(panel, tested).variance
        weights = np.full((len(HORIZONS), len(names)), 1.0 / len(names))
        for column, horizon in enumerate(HORIZONS if not self.equal else ()):
            target = panel.target(horizon)
            weights[column] = qlike_weights(past[..., column], target)
        members = [create(name) for name in names]
        for member in members:
            member.fit(panel, last, {"window_days": days}, seed)
        self._members = members
        states = [member.state() for member in members]
        return PointFit(
            window_variance=combined(_cross_fitted(panel, members, past), weights),
            tensors={
                "weights": weights,
                **{
                    f"members.{name}.{key}": value
                    for name, state in zip(names, states, strict=True)
                    for key, value in state.tensors.items()
                },
            },
            meta={
                "members": [state.meta for state in states],
                "held_out_days": held_out,
                "weights": {
                    str(h): dict(zip(names, row.round(6).tolist(), strict=True))
                    for h, row in zip(HORIZONS, weights, strict=True)
                },
            },
            status=_refused([state.meta["status"] for state in states]),
        )

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        as_of = [panel.days[row].item() for row in rows]
        forecasts = [member.forecast(panel, as_of) for member in self._loaded()]
        variance = combined(
            np.stack([each.variance for each in forecasts]), self.state().tensors["weights"]
        )
        reason = np.where(forecasts[-1].status == "ok", "", forecasts[-1].status).astype(object)
        return variance, reason

    def _loaded(self) -> list[VolatilityModel]:
        """The fitted members, from the state when this model was loaded."""
        if self._members is None:
            state = self.state()
            self._members = []
            for meta in state.meta["members"]:
                prefix = f"members.{meta['model']}."
                own = {
                    key.removeprefix(prefix): value
                    for key, value in state.tensors.items()
                    if key.startswith(prefix)
                }
                self._members.append(from_state(ModelState(own, meta)))
        return self._members


class EqualCombination(Combination):
    """Every member weighs the same: hard to beat, as nothing is estimated (Smith and Wallis 2009, OBES 71)."""

    name = "combination_equal"
    equal = True


class QlikeCombination(Combination):
    """Weights that had the least QLIKE on the held-out days, all coins together (see `qlike_weights`)."""

    name = "combination_qlike"
    equal = False


def combined(variance: Floats, weights: Floats) -> Floats:
    """(K, ..., H) members' variances and (H, K) weights -> (..., H); NaN where no member of any weight has one."""
    share = np.zeros(variance.shape[1:])
    total = np.zeros(variance.shape[1:])
    for own, weight in zip(variance, weights.T, strict=True):  # elementwise: alike in any block
        known = np.isfinite(own)
        share = share + np.where(known, weight, 0.0)
        total = total + np.where(known, weight * np.nan_to_num(own), 0.0)
    return np.where(share > 1e-9, total / np.where(share > 1e-9, share, 1.0), np.nan)


def _cross_fitted(panel: Panel, members: Sequence[VolatilityModel], past: Floats) -> Floats:
    """(K, T, N, H) members' forecasts without their own targets: of all the window, else of the held-out days `past`."""
    found = np.full_like(past, np.nan)
    for place, member in enumerate(members):
        held_out = member.held_out if isinstance(member, PointForecastModel) else None
        if held_out is None:
            return past
        days, variance = held_out
        found[place, panel.rows([day.item() for day in days])] = variance
    return np.where(np.isfinite(found).all(axis=0), found, np.nan)


def qlike_weights(variance: Floats, target: Floats) -> Floats:
    r"""(K,) weights on the simplex with the least mean QLIKE of (K, T, N) past forecasts against targets (T, N).

    Only coin-days that every member forecast count, and each target as it was known when the weights were fitted. Equal
    weights with fewer than 60. The minimum is found from equal weights by sequential quadratic programming with the
    gradient mean((f - y) f_k / f^2); where that fails, the best single start stays.
    """
    count = len(variance)
    usable = np.isfinite(variance).all(axis=0) & (target > 0)
    equal = np.full(count, 1.0 / count)
    if usable.sum() < FEWEST_PAIRS:
        return equal
    members, y = variance[:, usable] / target[usable], np.ones(int(usable.sum()))

    def loss(weights: Floats) -> tuple[float, Floats]:
        f = np.maximum(weights @ members, 1e-12)
        gradient = (members * ((f - y) / f**2)).mean(axis=1)
        return float(np.mean(y / f + np.log(f)) - 1.0), gradient

    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones(count)},
        options={"maxiter": 200, "ftol": 1e-10},
    )
    weights = np.clip(found.x, 0.0, None)
    weights = weights / weights.sum()
    return np.asarray(weights if loss(weights)[0] < loss(equal)[0] else equal)


def _checked(names: Sequence[str], lookback: int) -> list[str]:
    if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"members {names!r}: expected at least two models, none twice")
    for name in names:
        if issubclass(model_class(name), Combination):
            raise ValueError(f"member {name!r}: expected a model that is no combination itself")
        if model_class(name).lookback_days > lookback:
            raise ValueError(
                f"member {name!r} reads {model_class(name).lookback_days} days: expected at most {lookback}"
            )
    return list(names)


def _refused(statuses: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The reason of the last member, the strongest, for coins that no member forecasts."""
    return {
        asset: statuses[-1][asset]
        for asset in statuses[-1]
        if not any(_forecasts(status[asset]) for status in statuses)
    }


def _forecasts(status: str) -> bool:
    return status == "ok" or status.startswith("fallback: ")
