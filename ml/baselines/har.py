"""Log-HAR and HARX-cal: linear regressions of log realised variance, per coin and horizon.

In: features.daily. Out: forecasts. Never: a regressor of one coin's row that was not known at that row's decision time.

HARX-cal is the honest opponent: the definition of every column, the window, the ridge and the smearing follow the
reference in the issue, so that its QLIKE can be checked against published figures of the archive.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml.baselines.regressors import REGRESSORS, Regressor, design
from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.model import window_days
from ml.panel import Panel

RIDGE = 1e-2
MIN_OBSERVATIONS = 180
FOLDS = 5


class LinearHar(PointForecastModel):
    r"""A ridge regression of log mean realised variance ahead on regressors known at D.

    .. math:: \\log y_{D,h} = x_D' \\beta_h + u, \\quad
        \\hat\\beta = (X'X + 0.01 I)^{-1} X'y, \\quad
        \\hat\\sigma^2_{D,h} = \\exp(x_D'\\hat\\beta) \\cdot \\frac1n \\sum_i e^{\\hat u_i}

    The last factor is the smearing estimate of the mean of exp(u) (Duan 1983, JASA 78). Residual quantiles come from
    blocked cross-validation: 5 contiguous blocks, rows whose targets overlap the held-out block's left out.
    """

    regressors: ClassVar[tuple[Regressor, ...]]
    complete_days: ClassVar[int] = 1
    """A row is fitted on only when so many days up to it all had complete bars."""
    out_of_sample_residuals = True

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        count = 1 + len(self.regressors)
        coefficients = np.full((len(panel.assets), len(HORIZONS), count), np.nan)
        smearing = np.full((len(panel.assets), len(HORIZONS)), np.nan)
        held_out = np.full((len(panel.days), len(panel.assets), len(HORIZONS)), np.nan)
        status: dict[str, str] = {}
        regressors = design(panel, self.regressors)[first:]  # (T, N, P)
        regressors[~complete_stretch(panel, self.complete_days)[first:]] = np.nan
        for column, horizon in enumerate(HORIZONS):
            target = panel.target(horizon)[first:]
            log_target = np.log(np.where(target > 0, target, np.nan))
            for index, asset in enumerate(panel.assets):
                x, y = regressors[:, index], log_target[:, index]
                rows = np.flatnonzero(np.isfinite(x).all(axis=-1) & np.isfinite(y))
                if len(rows) < MIN_OBSERVATIONS:
                    status[asset] = self._too_few(len(rows), horizon, x)
                    continue
                fitted = ridge_with_smearing(x[rows], y[rows])
                coefficients[index, column], smearing[index, column] = fitted
                predicted = cross_validated(x[rows], y[rows], rows, horizon)
                held_out[first + rows, index, column] = np.exp(predicted)
        return PointFit(
            window_variance=held_out,
            tensors={"coefficients": coefficients, "smearing": smearing},
            meta={"regressors": ["intercept", *(r.name for r in self.regressors)]},
            status=status,
        )

    def _too_few(self, rows: int, horizon: int, x: Floats) -> str:
        """Why a coin cannot be fitted, with the column that is missing most often."""
        missing = ~np.isfinite(x[:, 1:])
        worst = int(missing.sum(axis=0).argmax())
        text = f"needs {MIN_OBSERVATIONS} days with every regressor and a known target, has {rows} at {horizon} days"
        if missing[:, worst].any():
            columns = ", ".join(self.regressors[worst].columns)
            text += f" ({columns} missing on {missing[:, worst].sum()} of {len(x)} days)"
        return text

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        x = design(panel, self.regressors, rows)  # (D, N, P)
        coefficients, smearing = (
            self._aligned(panel, "coefficients"),
            self._aligned(panel, "smearing"),
        )
        # Not a matrix product: BLAS may round a block of days otherwise than a single day.
        fitted = (x[:, :, None, :] * coefficients).sum(axis=-1) + smearing  # (D, N, H)
        reason = np.full(x.shape[:2], "", dtype=object)
        for position in reversed(range(len(self.regressors))):
            absent = ~np.isfinite(x[:, :, 1 + position])
            reason[absent] = f"{' or '.join(self.regressors[position].columns)} is missing or 0"
        return np.exp(fitted), reason


class LogHar(LinearHar):
    """Log-HAR: log realised variance of the last day, 5 days and 22 days.

    Source: Corsi (2009), "A simple approximate long-memory model of realized volatility", Journal of Financial
    Econometrics 7, in logarithms.
    """

    name = "log_har"
    regressors = REGRESSORS[:3]


class HarxCal(LinearHar):
    """Log-HAR with leverage, range, market and BTC terms, volume, the last hours, and the target day's weekday."""

    name = "harx_cal"
    regressors = REGRESSORS
    complete_days = 22
    lookback_days = 22


def complete_stretch(panel: Panel, days: int) -> NDArray[np.bool_]:
    """(T, N): whether each of the last `days` days up to the row had complete bars when it ended.

    Within 22 days of an outage the volume ratio compares with a mean over a hole. The reference fits on no such row
    (its moving means are undefined there); forecasts are made on these days all the same. It matters: the rows after
    the outage of February 2020 have the crash of March in their 22-day targets.
    """
    incomplete = panel.feature("price_age_days") != 0
    last = np.maximum.accumulate(
        np.where(incomplete, np.arange(len(incomplete))[:, None], -days), axis=0
    )
    return np.asarray(np.arange(len(incomplete))[:, None] - last >= days)


def cross_fitted_variance(
    panel: Panel, trained_as_of: date, config: Mapping[str, Any]
) -> tuple[NDArray[np.datetime64], Floats]:
    """HARX-cal's held-out forecasts of its own training window: days (W,) and variance (W, N, H), NaN = not used.

    For models that learn what HARX-cal leaves over: each value was made without the target of its own day.
    """
    days = window_days(config)
    known = panel.until(trained_as_of).window(days + HarxCal.lookback_days)
    first = max(0, len(known.days) - days)
    return known.days[first:], HarxCal()._fit(known, first, config, 0).window_variance[first:]


def ridge_with_smearing(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Ridge coefficients (P,) of y (n,) on x (n, P), intercept included in both, and log mean exp of the residuals."""
    return _solve(x.T @ x, x.T @ y, x, y)


def _solve(gram: Floats, moment: Floats, x: Floats, y: Floats) -> tuple[Floats, float]:
    beta = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), moment)
    return np.asarray(beta), float(np.log(np.mean(np.exp(y - x @ beta))))


def cross_validated(x: Floats, y: Floats, rows: NDArray[np.int64], horizon: int) -> Floats:
    """(n,) held-out log forecasts, smearing included.

    Each of 5 contiguous blocks is forecast from the rows whose targets do not overlap any of its targets: two rows
    overlap when they are fewer than `horizon` days apart.
    """
    predicted = np.full(len(y), np.nan)
    gram, moment = x.T @ x, x.T @ y
    for block in np.array_split(np.arange(len(y)), FOLDS):
        near = (rows > rows[block[0]] - horizon) & (rows < rows[block[-1]] + horizon)
        removed, kept = x[near], ~near
        beta, smearing = _solve(
            gram - removed.T @ removed, moment - removed.T @ y[near], x[kept], y[kept]
        )
        predicted[block] = x[block] @ beta + smearing
    return predicted
