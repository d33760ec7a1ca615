"""The HAR family on variance itself: HAR, HAR-J, HAR-CJ, SHAR and HARQ, per coin and horizon.

In: realised measures of features.daily. Out: forecasts. Never: a forecast outside what the training window has seen
(the insanity filter), or a regressor that was not known at the row's decision time.

Regressions on variance are ruled by a few wild days. So they are weighted, and filtered; log-HAR and HARX-cal
(`ml.baselines.har`) are the stronger opponents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml.baselines.ewma import daily_values
from ml.baselines.jumps import RATIO_DAYS, jump_statistic, split_variance
from ml.baselines.regressors import Regressor, design
from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.panel import Panel

MIN_OBSERVATIONS = 180
FOLDS = 5
LONGEST_DAYS = 22
FEWEST_KNOWN: dict[int, int] = {5: 2, 22: 18}
"""Known days that a mean over 5 or 22 days needs: two are left of five when prices are three days old."""


def _identity(value: Floats) -> Floats:
    return value


DAY = Regressor("d", ("rv_d",), _identity)
WEEK = Regressor("w", ("rv_5d",), _identity)
MONTH = Regressor("m", ("rv_22d",), _identity)


class LevelHar(PointForecastModel):
    r"""A weighted regression of mean realised variance ahead on regressors known at D.

    .. math:: y_{D,h} = x_D' \beta_h + u, \quad \hat\beta = (X'WX)^{-1} X'Wy, \quad W = diag(1 / \hat y^{OLS})

    Weights: Patton and Sheppard (2015), Review of Economics and Statistics 97, section III (the inverse of the fitted
    values of a first regression without weights, which are not taken below the least target seen). A forecast outside
    the range of the targets that it was fitted on is replaced by their mean: the insanity filter of Swanson and White
    (1997), as Bollerslev, Patton and Quaedvlieg (2016) use it. Residual quantiles come from 5 blocks in turn held out,
    rows whose targets overlap theirs left out of the fit.
    """

    regressors: ClassVar[tuple[Regressor, ...]]
    out_of_sample_residuals = True

    def _design(self, panel: Panel, rows: NDArray[np.int64] | None = None) -> Floats:
        """(D, N, 1 + P): an intercept and the regressors; NaN where one cannot be computed."""
        return design(panel, self.regressors, rows)

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        x_all = self._design(panel)[first:]  # (T, N, 1 + P)
        x_all[panel.feature("price_age_days")[first:] != 0] = np.nan
        shape = (len(panel.assets), len(HORIZONS))
        coefficients = np.full((*shape, x_all.shape[-1]), np.nan)
        sane = np.full((*shape, 3), np.nan)
        held_out = np.full((len(panel.days), *shape), np.nan)
        status: dict[str, str] = {}
        for column, horizon in enumerate(HORIZONS):
            target = panel.target(horizon)[first:]
            for index, asset in enumerate(panel.assets):
                x, y = x_all[:, index], target[:, index]
                rows = np.flatnonzero(np.isfinite(x).all(axis=-1) & (y > 0))
                if len(rows) < MIN_OBSERVATIONS:
                    status[asset] = self._too_few(len(rows), horizon, x)
                    continue
                coefficients[index, column], sane[index, column] = weighted_fit(x[rows], y[rows])
                held_out[first + rows, index, column] = held_out_forecasts(
                    x[rows], y[rows], rows, horizon
                )
        return PointFit(
            window_variance=held_out,
            tensors={"coefficients": coefficients, "sane": sane},
            meta={"regressors": ["intercept", *(r.name for r in self.regressors)]},
            status=status,
        )

    def _too_few(self, rows: int, horizon: int, x: Floats) -> str:
        missing = (~np.isfinite(x[:, 1:])).sum(axis=0)
        worst = int(missing.argmax())
        text = f"needs {MIN_OBSERVATIONS} days with every regressor and a known target, has {rows} at {horizon} days"
        if missing[worst]:
            columns = ", ".join(self.regressors[worst].columns)
            text += f" ({columns} missing on {missing[worst]} of {len(x)} days)"
        return text

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        x = self._design(panel, rows)  # (D, N, P)
        coefficients, sane = self._aligned(panel, "coefficients"), self._aligned(panel, "sane")
        # Not a matrix product: BLAS may round a block of days otherwise than a single day.
        fitted = (x[:, :, None, :] * coefficients).sum(axis=-1)  # (D, N, H)
        reason = np.full(x.shape[:2], "", dtype=object)
        for position in reversed(range(len(self.regressors))):
            absent = ~np.isfinite(x[:, :, 1 + position])
            reason[absent] = f"{' or '.join(self.regressors[position].columns)} is missing"
        return filtered(fitted, sane), reason


class Har(LevelHar):
    """HAR: realised variance of the last day, 5 days and 22 days.

    Source: Corsi (2009), Journal of Financial Econometrics 7, eq. 10 (here with 5 and 22 calendar days).
    """

    name = "har"
    regressors = (DAY, WEEK, MONTH)


class HarJ(LevelHar):
    """HAR-J: HAR and the jump variation of the last day, max(RV - BV, 0).

    Source: Andersen, Bollerslev and Diebold (2007), Review of Economics and Statistics 89, eq. 11.
    """

    name = "har_j"
    regressors = (DAY, WEEK, MONTH, Regressor("j", ("jump_d",), _identity))


class Shar(LevelHar):
    """SHAR: the last day's variance in its positive and negative half, which need not last alike.

    Source: Patton and Sheppard (2015), Review of Economics and Statistics 97, eq. 15.
    """

    name = "shar"
    regressors = (
        Regressor("positive", ("semivariance_pos_d",), _identity),
        Regressor("negative", ("semivariance_neg_d",), _identity),
        WEEK,
        MONTH,
    )


class HarQ(LevelHar):
    r"""HARQ: the weight of the last day falls with the error of its measurement.

    .. math:: y = \beta_0 + (\beta_1 + \beta_{1Q} RQ_D^{1/2}) RV_D + \beta_2 RV_w + \beta_3 RV_m + u

    Source: Bollerslev, Patton and Quaedvlieg (2016), Journal of Econometrics 192, eq. 13, with their insanity filter.
    """

    name = "harq"
    regressors = (
        DAY,
        Regressor("dq", ("rv_d", "quarticity_d"), lambda rv, rq: np.sqrt(rq) * rv),
        WEEK,
        MONTH,
    )


class HarCj(LevelHar):
    """HAR-CJ: continuous and jump part of the variance of the last day, 5 and 22 days, jumps significant at 0.1 %.

    Source: Andersen, Bollerslev and Diebold (2007), Review of Economics and Statistics 89, eq. 28; the test is that of
    `ml.baselines.jumps`.
    """

    name = "har_cj"
    lookback_days = LONGEST_DAYS + RATIO_DAYS
    regressors = tuple(
        Regressor(
            f"{part}{span}", ("rv_d", "bipower_d", "quarticity_d", "bars_expected"), _identity
        )
        for part in ("c", "j")
        for span in ("d", "w", "m")
    )

    def _design(self, panel: Panel, rows: NDArray[np.int64] | None = None) -> Floats:
        wanted = np.arange(len(panel.days)) if rows is None else rows
        measures = [panel.feature(name) for name in self.regressors[0].columns]
        current = _parts(*measures)  # the newest complete day's, up to 3 days old
        daily = _parts(*(daily_values(panel, name) for name in self.regressors[0].columns))
        columns = [np.ones((len(wanted), len(panel.assets)))]
        for newest, values in zip(current, daily, strict=True):
            columns += [newest[wanted], *(_trailing_mean(values, wanted, k) for k in (5, 22))]
        return np.ascontiguousarray(np.stack(columns, axis=-1))


def _parts(rv: Floats, bipower: Floats, quarticity: Floats, bars: Floats) -> tuple[Floats, Floats]:
    return split_variance(rv, bipower, jump_statistic(rv, bipower, quarticity, bars))


def _trailing_mean(values: Floats, rows: NDArray[np.int64], days: int) -> Floats:
    """(D, N) mean of the known ones of the `days` days up to each row; NaN where too few are."""
    padded = np.concatenate([np.full((days - 1, values.shape[1]), np.nan), values])
    total, count = np.zeros((2, len(rows), values.shape[1]))
    for day in range(days):  # elementwise: a day sums alike alone and in a block
        own = padded[rows + day]
        total += np.nan_to_num(own)
        count += np.isfinite(own)
    return np.where(count >= FEWEST_KNOWN[days], total / np.maximum(count, 1.0), np.nan)


def weighted_fit(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Coefficients (P,) of y (n,) on x (n, P), and (3,) least, largest and mean target."""
    sane = np.array([y.min(), y.max(), y.mean()])
    scale = np.sqrt(np.mean(x**2, axis=0))
    scale = np.where(scale > 0, scale, 1.0)  # a coin without jumps has a column of zeros
    scaled = x / scale
    plain = np.linalg.lstsq(scaled, y / sane[2], rcond=None)[0]
    root = 1.0 / np.sqrt(np.maximum(scaled @ plain * sane[2], sane[0]) / sane[2])
    beta = np.linalg.lstsq(scaled * root[:, None], y / sane[2] * root, rcond=None)[0]
    return np.asarray(beta / scale * sane[2]), sane


def filtered(fitted: Floats, sane: Floats) -> Floats:
    """The insanity filter: (..., ) forecasts outside [least, largest] of `sane` (..., 3) become the mean; NaN stays."""
    low, high, mean = np.moveaxis(sane, -1, 0)
    outside = (fitted < low) | (fitted > high)
    return np.where(outside, mean, fitted)


def held_out_forecasts(x: Floats, y: Floats, rows: NDArray[np.int64], horizon: int) -> Floats:
    """(n,) forecasts of each of 5 contiguous blocks by a fit on the rows at least `horizon` days from it."""
    predicted = np.full(len(y), np.nan)
    for block in np.array_split(np.arange(len(y)), FOLDS):
        kept = (rows <= rows[block[0]] - horizon) | (rows >= rows[block[-1]] + horizon)
        beta, sane = weighted_fit(x[kept], y[kept])
        predicted[block] = filtered(x[block] @ beta, sane)
    return predicted
