"""GARCH-t, GJR-t and EGARCH-t as volatility models, with a fallback for coins whose fit does not converge.

In: return_d of features.daily on the days that were complete. Out: forecasts and, per coin, how the fit ended.
Never: a forecast from parameters that did not converge. Quantiles come from in-sample residuals: not calibrated.
"""

from __future__ import annotations

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
from ml.garch import recursions
from ml.garch.estimation import CONVERGED, GarchFit, Specification, fit_garch
from ml.panel import Panel

MIN_OBSERVATIONS = 300
PERCENT = 100.0
"""Returns are fitted in percent: at their natural size the likelihood is badly scaled."""


class GarchModel(PointForecastModel):
    """Constant mean, Student t innovations, one fit a coin on the window's daily returns.

    A coin tries the specifications of `fallbacks` in turn and, when none converges, is forecast by EWMA; its status
    then says 'fallback: ...' with the verdicts. The horizon's variance is the mean of its days' variances.
    """

    fallbacks: ClassVar[tuple[Specification, ...]]
    out_of_sample_residuals = False
    lookback_days = LOOKBACK_DAYS  # of the EWMA that a coin may fall back to

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        count = len(panel.assets)
        returns = daily_values(panel, "return_d")[first:] * PERCENT
        tensors: dict[str, NDArray[Any]] = {
            "parameters": np.full((count, len(recursions.PARAMETERS)), np.nan),
            "first_variance": np.full(count, np.nan),
            "shock_factors": np.full((count, max(HORIZONS)), np.nan),
            "ewma": np.zeros(count),
        }
        status: dict[str, str] = {}
        verdicts: dict[str, list[dict[str, Any]]] = {}
        for index, asset in enumerate(panel.assets):
            series = returns[np.isfinite(returns[:, index]), index]
            if len(series) < MIN_OBSERVATIONS:
                status[asset] = f"needs {MIN_OBSERVATIONS} daily returns, has {len(series)}"
                continue
            attempts = [fit_garch(series, self.fallbacks[0])]
            for specification in self.fallbacks[1:]:
                if attempts[-1].verdict == CONVERGED:
                    break
                attempts.append(fit_garch(series, specification))
            verdicts[asset] = [_summary(attempt) for attempt in attempts]
            if attempts[-1].verdict == CONVERGED:
                _store(tensors, index, attempts[-1], series)
            else:
                tensors["ewma"][index] = 1.0
            if attempts[0].verdict != CONVERGED:
                status[asset] = _fallback_text(attempts)
        exponential = _exponential(tensors)
        variance = _filter(returns, tensors, tensors["first_variance"], exponential)
        tensors["next_variance"] = variance[-1]
        window_variance = np.full((len(panel.days), count, len(HORIZONS)), np.nan)
        window_variance[first:] = _ahead(variance[1:], tensors, exponential)
        window_variance = _with_ewma(panel, np.arange(len(panel.days)), window_variance, tensors)[0]
        return PointFit(window_variance, tensors, {"fits": verdicts}, status)

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        tensors = {name: self._aligned(panel, name) for name in self.state().tensors}
        exponential = _exponential(tensors)
        returns = daily_values(panel, "return_d") * PERCENT
        following = self._following(panel, rows, returns, tensors, exponential)
        variance, reason = _with_ewma(panel, rows, _ahead(following, tensors, exponential), tensors)
        stale = days_since_value(returns)[rows] > MAX_AGE_DAYS
        reason[stale] = f"no complete price day within {MAX_AGE_DAYS} days"
        return np.where(stale[..., None], np.nan, variance), reason

    def _following(
        self,
        panel: Panel,
        rows: NDArray[np.int64],
        returns: Floats,
        tensors: Mapping[str, NDArray[Any]],
        exponential: NDArray[np.bool_],
    ) -> Floats:
        """(D, N) percent variance of the day after each row.

        From the stored state for days since the training day, so that a panel need not reach back; from the start of
        the window for days within it.
        """
        meta = self.state().meta
        trained = _offset(panel, meta["train_end"])
        following = np.full((len(rows), returns.shape[1]), np.nan)
        for start, initial, wanted in (
            (trained + 1, tensors["next_variance"], rows >= trained),
            (_offset(panel, meta["train_start"]), tensors["first_variance"], rows < trained),
        ):
            if not wanted.any():
                continue
            if start < 0 or start > int(rows[wanted].min()) + 1:
                raise ValueError(
                    f"{self.name} trained on {meta['train_start']} to {meta['train_end']} cannot forecast "
                    f"{panel.days[rows[wanted].min()]} from a panel that starts {panel.days[0]}"
                )
            stop = int(rows[wanted].max()) + 1
            path = _filter(returns[start:stop], tensors, initial, exponential)
            following[wanted] = path[rows[wanted] + 1 - start]
        return following


class GarchT(GarchModel):
    """GARCH(1,1). Source: Bollerslev (1987), Review of Economics and Statistics 69."""

    name = "garch_t"
    fallbacks = ("garch_t",)


class GjrT(GarchModel):
    """GJR-GARCH(1,1,1). Source: Glosten, Jagannathan and Runkle (1993), Journal of Finance 48."""

    name = "gjr_t"
    fallbacks = ("gjr_t", "garch_t")


class EgarchT(GarchModel):
    """EGARCH(1,1,1). Source: Nelson (1991), Econometrica 59."""

    name = "egarch_t"
    fallbacks = ("egarch_t", "garch_t")


def _offset(panel: Panel, day: str) -> int:
    """Row that a day has, or would have, in the panel."""
    return int((np.datetime64(day, "D") - panel.days[0]) / np.timedelta64(1, "D"))


def _store(tensors: Mapping[str, NDArray[Any]], index: int, fit: GarchFit, series: Floats) -> None:
    exponential = fit.specification == "egarch_t"
    tensors["parameters"][index] = fit.parameters
    lane = fit.parameters[:, None]
    first = recursions.first_variance(lane, np.array([fit.backcast]), exponential)
    tensors["first_variance"][index] = first[0]
    if exponential:
        variance = recursions.filter_variance(series[:, None], lane, first, exponential)[:-1, 0]
        innovations = (series - fit.parameters[0]) / np.sqrt(variance)
        tensors["shock_factors"][index] = recursions.shock_factors(
            fit.parameters, innovations, max(HORIZONS)
        )


def _exponential(tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """(N,): coins whose fit is an EGARCH, the only one with shock factors."""
    return np.asarray(np.isfinite(tensors["shock_factors"][:, 0]))


def _filter(
    returns: Floats,
    tensors: Mapping[str, NDArray[Any]],
    initial: Floats,
    exponential: NDArray[np.bool_],
) -> Floats:
    """(T, N) -> (T+1, N), each coin by its own specification."""
    variance = np.full((len(returns) + 1, returns.shape[1]), np.nan)
    for kind, lanes in ((False, ~exponential), (True, exponential)):
        if lanes.any():
            variance[:, lanes] = recursions.filter_variance(
                returns[:, lanes], tensors["parameters"][lanes].T, initial[lanes], kind
            )
    return variance


def _ahead(
    following: Floats, tensors: Mapping[str, NDArray[Any]], exponential: NDArray[np.bool_]
) -> Floats:
    """(D, N) percent variance of the next day -> (D, N, H) mean daily variance in natural units."""
    variance = np.full((*following.shape, len(HORIZONS)), np.nan)
    parameters = tensors["parameters"].T
    if (~exponential).any():
        lanes = ~exponential
        variance[:, lanes] = recursions.mean_variance(
            following[:, lanes], parameters[:, lanes], HORIZONS
        )
    if exponential.any():
        variance[:, exponential] = recursions.mean_variance_exponential(
            following[:, exponential],
            parameters[:, exponential],
            tensors["shock_factors"][exponential],
            HORIZONS,
        )
    return variance / PERCENT**2


def _with_ewma(
    panel: Panel,
    rows: NDArray[np.int64],
    variance: Floats,
    tensors: Mapping[str, NDArray[Any]],
) -> tuple[Floats, NDArray[Any]]:
    """Coins without a converged fit get the EWMA of their realised variance."""
    reason = np.full(variance.shape[:2], "", dtype=object)
    fallen = tensors["ewma"] == 1.0
    if fallen.any():
        ewma, reasons = ewma_variance(panel, rows, DECAY)
        variance[:, fallen] = ewma[:, fallen, None]
        reason[:, fallen] = reasons[:, fallen]
    return variance, reason


def _summary(fit: GarchFit) -> dict[str, Any]:
    """JSON facts of a fit; numbers that are not finite as text."""

    def plain(value: float) -> float | str:
        return float(value) if np.isfinite(value) else str(value)

    return {
        "specification": fit.specification,
        "verdict": fit.verdict,
        "attempts": fit.attempts,
        "log_likelihood": plain(fit.log_likelihood),
        "expected_gain": plain(fit.expected_gain),
        "parameters": {
            name: plain(value)
            for name, value in zip(recursions.PARAMETERS, fit.parameters, strict=True)
        },
    }


def _fallback_text(attempts: list[GarchFit]) -> str:
    used = attempts[-1].specification if attempts[-1].verdict == CONVERGED else "ewma"
    failed = "; ".join(
        f"{fit.specification}: {fit.verdict}" for fit in attempts if fit.verdict != CONVERGED
    )
    return f"fallback: {used} (no convergence: {failed})"
