"""Which days had a jump: the ratio test on realised and bipower variation, and the two parts of a day's variance.

In: measures of days down, assets across. Out: a z statistic, a continuous part and a jump part.
Never: a measure of a later day than the row's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIGNIFICANCE = 0.999
RATIO_DAYS = 22
"""Days over which the ratio of quarticity to squared bipower variation is typical."""
_RATIO_VARIANCE = float(np.pi**2 / 4.0 + np.pi - 5.0)


def jump_statistic(variance: Floats, bipower: Floats, quarticity: Floats, bars: Floats) -> Floats:
    r"""(T, N) z of the ratio test, standard normal on a day without a jump; NaN where a measure is missing.

    .. math:: z = \frac{(RV - BV) / RV}{\sqrt{(\pi^2/4 + \pi - 5) \frac1M \max(1, \tilde q)}}

    M bars a day. The sources take for q the day's own tripower quarticity over BV^2; features.daily has realised
    quarticity, which a jump itself inflates until the test is blind, so q is the median of RQ / BV^2 over the last 22
    days that have one. Sources: Huang and Tauchen (2005), Journal of Financial Econometrics 3, eq. 13; Barndorff-Nielsen
    and Shephard (2006), Journal of Financial Econometrics 4.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        typical = _trailing_median(quarticity / bipower**2, RATIO_DAYS)
        spread = np.sqrt(_RATIO_VARIANCE / bars * np.fmax(1.0, typical))
        return np.asarray((variance - bipower) / variance / spread)


def is_jump(statistic: Floats, significance: float = SIGNIFICANCE) -> NDArray[np.bool_]:
    """Whether the day had a jump at this significance (0.999, as Andersen, Bollerslev and Diebold 2007)."""
    from scipy.special import ndtri  # scipy.stats takes half a second to import

    return np.asarray(statistic > ndtri(significance))


def split_variance(variance: Floats, bipower: Floats, statistic: Floats) -> tuple[Floats, Floats]:
    """(T, N) continuous and jump part; they add up to the variance, and the jump part is 0 without a significant jump.

    Source: Andersen, Bollerslev and Diebold (2007), Review of Economics and Statistics 89, eq. 12 and 13.
    """
    jump = np.where(is_jump(statistic), np.maximum(variance - bipower, 0.0), 0.0)
    jump = np.where(np.isfinite(statistic), jump, np.nan)
    return np.asarray(variance - jump), np.asarray(jump)


def _trailing_median(values: Floats, days: int) -> Floats:
    """(T, N) median of the finite ones of the last `days` rows, the row itself included; NaN without any."""
    finite = np.where(np.isfinite(values), values, np.nan)
    padded = np.concatenate([np.full((days - 1, values.shape[1]), np.nan), finite])
    windows = np.lib.stride_tricks.sliding_window_view(padded, days, axis=0)  # (T, N, days)
    ordered = np.sort(windows, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, days - 1)
    pair = [np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0] for at in (low, high)]
    return np.asarray(0.5 * (pair[0] + pair[1]))
