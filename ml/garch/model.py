"""The GARCH family as volatility models: a coin tries the members of a chain in turn, its status says which one it got.

In: return_d (and rv_d and exogenous columns) of features.daily on the days that were complete. Out: forecasts and, per coin,
every attempt with its verdict. Never: a forecast from parameters whose verdict is not 'converged'; when no member of the chain
converges the coin is forecast by EWMA. Quantiles come from in-sample residuals: not calibrated.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml.baselines.ewma import (
    DECAY,
    LOOKBACK_DAYS,
    MAX_AGE_DAYS,
    daily_values,
    days_since_value,
    ewma_variance,
)
from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.garch.coins import CoinData, joined, own_terms, term_scales, windows_of
from ml.garch.forecasting import (
    GRID,
    Conditional,
    Outlook,
    conditional,
    mean_variance,
    outlook,
    sample_backcast,
)
from ml.garch.specification import Specification
from ml.garch.verdicts import CONVERGED, Judged, fit_and_judge
from ml.panel import Panel

MIN_OBSERVATIONS = 300
PERCENT = 100.0
"""Returns are fitted in percent, as arch advises: at their natural size the likelihood is badly scaled."""
EWMA = -1.0
"""Place in the chain of a coin that no member fits."""
DAYS = max(HORIZONS)
TERM_CENTRES = {"fear_greed": 0.5}
"""A term is a column's absolute distance from its centre (0 where none is named here), over its mean in the window."""


class GarchModel(PointForecastModel):
    """One fit a coin on the window's daily returns; the horizon's variance is the mean of its days' variances."""

    chain: ClassVar[tuple[Specification, ...]]
    out_of_sample_residuals = False
    lookback_days = LOOKBACK_DAYS  # of the EWMA that a coin may fall back to

    def members(self, columns: tuple[str, ...]) -> tuple[Specification, ...]:
        """The chain, given which exogenous columns there are."""
        return self.chain

    def term_columns(self, panel: Panel, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Columns of features.daily that the chain's members take as exogenous terms."""
        return ()

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        columns = self.term_columns(panel, config)
        chain = self.members(columns)
        coins = self._data(panel, columns, first)
        width = max(len(member.parameters) for member in chain)
        count, days = len(panel.assets), len(panel.days) - first
        tensors: dict[str, NDArray[Any]] = {
            "member": np.full(count, np.nan),
            "parameters": np.full((count, width), np.nan),
            "backcast": np.full(count, np.nan),
            "returns": np.stack([coin.returns for coin in coins]),
            "measure": np.stack([coin.measure for coin in coins]),
            "terms": np.stack([coin.terms for coin in coins]),
            "term_scale": np.full((count, len(columns)), np.nan),
            "negative_share": np.full(count, np.nan),
            "term_mean": np.full((count, len(columns)), np.nan),
            "term_decay": np.full((count, len(columns)), np.nan),
            "factors": np.full((count, DAYS), np.nan),
        }
        if any(member.variance == "aparch" for member in chain):
            tensors["grid"] = np.full((count, GRID), np.nan)
            tensors["grid_variance"] = np.full((count, GRID, DAYS), np.nan)
        status, verdicts = self._climb_down(chain, panel.assets, coins, tensors, columns, seed)
        window = np.full((len(panel.days), count, len(HORIZONS)), np.nan)
        for index in range(count):
            found = _filtered(chain, columns, tensors, index, coins[index])
            if found is not None:
                window[first:, index] = _over_days(*found, np.arange(days))
        window = _with_ewma(panel, np.arange(len(panel.days)), window, tensors["member"])[0]
        meta = {
            "fits": verdicts,
            "chain": [member.name for member in chain],
            "terms": list(columns),
        }
        return PointFit(window, tensors, meta, status)

    def _climb_down(
        self,
        chain: tuple[Specification, ...],
        assets: tuple[str, ...],
        coins: list[CoinData],
        tensors: Mapping[str, NDArray[Any]],
        columns: tuple[str, ...],
        seed: int,
    ) -> tuple[dict[str, str], dict[str, list[dict[str, Any]]]]:
        """Fit all coins with the first member, those that fail with the next, and so on."""
        status: dict[str, str] = {}
        verdicts: dict[str, list[dict[str, Any]]] = {}
        waiting = []
        for index, coin in enumerate(coins):
            days = int(coin.known(chain[0]).sum())
            if days < MIN_OBSERVATIONS:
                status[assets[index]] = f"needs {MIN_OBSERVATIONS} daily returns, has {days}"
            else:
                waiting.append(index)
                verdicts[assets[index]] = []
                tensors["term_scale"][index] = term_scales(coin, columns)
        for place, member in enumerate(chain):
            if not waiting:
                break
            judged = fit_and_judge(
                member,
                windows_of(member, columns, coins, tensors, waiting),
                threads=os.cpu_count() or 1,
            )
            for row, index in enumerate(waiting):
                verdicts[assets[index]].append(_summary(judged, row))
                if judged.converged[row]:
                    tensors["member"][index] = place
                    _store(
                        tensors,
                        chain,
                        columns,
                        index,
                        coins[index],
                        judged.fits.parameters[row],
                        seed,
                    )
            waiting = [index for row, index in enumerate(waiting) if not judged.converged[row]]
        tensors["member"][waiting] = EWMA
        for asset, attempts in verdicts.items():
            if attempts[0]["verdict"] != CONVERGED:
                status[asset] = _fallback_text(attempts)
        return status, verdicts

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        meta = self.state().meta
        columns = tuple(meta.get("terms", ()))
        chain = self.members(columns)
        if meta.get("chain") != [member.name for member in chain]:
            raise ValueError(
                f"{self.name}: state with members {meta.get('chain')}, expected {[one.name for one in chain]}: fit it again"
            )
        tensors = {name: self._aligned(panel, name) for name in self.state().tensors}
        trained, start = _offset(panel, meta["train_end"]), _offset(panel, meta["train_start"])
        if rows.min() < start or (rows.max() > trained and trained + 1 < 0):
            day = panel.days[rows.min()]
            raise ValueError(
                f"{self.name} trained on {meta['train_start']} to {meta['train_end']} cannot forecast {day} "
                f"from a panel that starts {panel.days[0]}"
            )
        later = self._data(panel, columns, max(trained + 1, 0))
        variance = np.full((len(rows), len(panel.assets), len(HORIZONS)), np.nan)
        for index, coin in enumerate(later):
            stored = CoinData(
                tensors["returns"][index], tensors["measure"][index], tensors["terms"][index]
            )
            until = max(int(rows.max()) - trained, 0)
            found = _filtered(chain, columns, tensors, index, joined(stored, coin, until))
            if found is not None:
                variance[:, index] = _over_days(*found, rows - start)
        variance, reason = _with_ewma(panel, rows, variance, tensors["member"])
        stale = days_since_value(daily_values(panel, "return_d"))[rows] > MAX_AGE_DAYS
        reason[stale] = f"no complete price day within {MAX_AGE_DAYS} days"
        return np.where(stale[..., None], np.nan, variance), reason

    def _data(self, panel: Panel, columns: tuple[str, ...], first: int) -> list[CoinData]:
        returns = daily_values(panel, "return_d")[first:] * PERCENT
        measure = np.full(returns.shape, np.nan)
        if any(member.variance == "realized" for member in self.members(columns)):
            measure = daily_values(panel, "rv_d")[first:] * PERCENT**2
        raw = [
            np.abs(panel.feature(name)[first:] - TERM_CENTRES.get(name, 0.0)) for name in columns
        ]
        terms = np.stack(raw, axis=-1) if raw else np.empty((*returns.shape, 0))
        return [
            CoinData(returns[:, i], measure[:, i], terms[:, i]) for i in range(returns.shape[1])
        ]


def _offset(panel: Panel, day: str) -> int:
    """Row that a day has, or would have, in the panel."""
    return int((np.datetime64(day, "D") - panel.days[0]) / np.timedelta64(1, "D"))


def _store(
    tensors: Mapping[str, NDArray[Any]],
    chain: tuple[Specification, ...],
    columns: tuple[str, ...],
    index: int,
    coin: CoinData,
    parameters: Floats,
    seed: int,
) -> None:
    """Parameters of a converged coin, and what its forecasts beyond a day need."""
    member = chain[int(tensors["member"][index])]
    tensors["parameters"][index, : len(parameters)] = parameters
    tensors["backcast"][index] = sample_backcast(member, coin.returns[coin.known(member)])
    ahead = outlook(_conditional(member, columns, tensors, index, coin), DAYS, seed)
    tensors["negative_share"][index] = ahead.negative_share
    tensors["factors"][index] = ahead.factors
    own = len(member.terms)
    tensors["term_mean"][index, :own], tensors["term_decay"][index, :own] = (
        ahead.term_mean,
        ahead.term_decay,
    )
    if len(ahead.grid):
        tensors["grid"][index], tensors["grid_variance"][index] = ahead.grid, ahead.grid_variance


def _conditional(
    member: Specification,
    columns: tuple[str, ...],
    tensors: Mapping[str, NDArray[Any]],
    index: int,
    coin: CoinData,
) -> Conditional:
    known = coin.known(member)
    return conditional(
        member,
        tensors["parameters"][index, : len(member.parameters)],
        float(tensors["backcast"][index]),
        coin.returns[known],
        own_terms(member, columns, coin, tensors["term_scale"][index], known),
        coin.measure[known] if member.variance == "realized" else None,
    )


def _filtered(
    chain: tuple[Specification, ...],
    columns: tuple[str, ...],
    tensors: Mapping[str, NDArray[Any]],
    index: int,
    coin: CoinData,
) -> tuple[Conditional, Outlook, NDArray[np.int64]] | None:
    """The filter over a coin's days, and for each day the place of the variance of the day after; None for EWMA and refused."""
    place = tensors["member"][index]
    if not place >= 0:
        return None
    member = chain[int(place)]
    own = len(member.terms)
    aparch = member.variance == "aparch"
    ahead = Outlook(
        float(tensors["negative_share"][index]),
        tensors["term_mean"][index, :own],
        tensors["term_decay"][index, :own],
        tensors["factors"][index],
        tensors["grid"][index] if aparch else np.empty(0),
        tensors["grid_variance"][index] if aparch else np.empty((0, DAYS)),
    )
    found = _conditional(member, columns, tensors, index, coin)
    return found, ahead, np.maximum(np.cumsum(coin.known(member)) - member.lags, 0)


def _over_days(
    found: Conditional, ahead: Outlook, places: NDArray[np.int64], rows: NDArray[np.int64]
) -> Floats:
    """(D, H) variance in natural units, forecast on some days of the filter; a day without a return repeats the one before."""
    return mean_variance(found, ahead, places[rows], HORIZONS) / PERCENT**2


def _with_ewma(
    panel: Panel, rows: NDArray[np.int64], variance: Floats, member: Floats
) -> tuple[Floats, NDArray[Any]]:
    """Coins without a converged fit get the EWMA of their realised variance."""
    reason = np.full(variance.shape[:2], "", dtype=object)
    fallen = member == EWMA
    if fallen.any():
        ewma, reasons = ewma_variance(panel, rows, DECAY)
        variance[:, fallen] = ewma[:, fallen, None]
        reason[:, fallen] = reasons[:, fallen]
    return variance, reason


def _summary(judged: Judged, row: int) -> dict[str, Any]:
    """JSON facts of a fit; numbers that are not finite as text."""

    def plain(value: float) -> float | str:
        return float(value) if np.isfinite(value) else str(value)

    spec, fits = judged.fits.specification, judged.fits
    return {
        "specification": spec.name,
        "verdict": str(judged.verdicts[row]),
        "attempts": int(judged.attempts[row]),
        "log_likelihood": plain(fits.log_likelihood[row]),
        "expected_gain": plain(fits.gain[row]),
        "persistence": plain(judged.persistence[row]),
        "parameters": {
            name: plain(value)
            for name, value in zip(spec.parameters, fits.parameters[row], strict=True)
        },
        "standard_errors": {
            name: plain(value)
            for name, value in zip(spec.parameters, judged.errors.robust[row], strict=True)
        },
    }


def _fallback_text(attempts: list[dict[str, Any]]) -> str:
    used = attempts[-1]["specification"] if attempts[-1]["verdict"] == CONVERGED else "ewma"
    failed = "; ".join(
        f"{fit['specification']}: {fit['verdict']}"
        for fit in attempts
        if fit["verdict"] != CONVERGED
    )
    return f"fallback: {used} (no convergence: {failed})"
