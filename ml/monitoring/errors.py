r"""Have a model's forecasts become worse, or biased, against what they used to be?

In: daily series of its own out-of-sample errors, the older ones (m,) as reference and the newest (n,). Out: two measures.
Never: a threshold for independent errors; it comes from paths that the reference could as well have taken on.

With z the newest log losses in means and standard deviations of the reference, and delta an allowance,

.. math:: S_t = \sum_{i \le t} (z_i - \delta), \quad PH = \max_t (S_t - \min_{s \le t} S_s)

(Page 1954, Biometrika 41; Hinkley 1971, Biometrika 58), which grows from the day that losses rise, whenever that is;
and the bias: the mean of log RV - log F less that of the reference, in its standard deviations, either way.
Thresholds: the same statistic on stationary-bootstrap paths of m + n days of the reference, mean and spread estimated
anew on the first m of each, so that their own uncertainty counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.monitoring.measures import Drift, DriftPolicy, judged, not_judged
from ml.monitoring.resampling import mean_block, stationary_paths

LOSS, BIAS = "log qlike", "log error"
Floats = NDArray[np.float64]


def error_drift(
    losses: ArrayLike,
    newest_losses: ArrayLike,
    log_errors: ArrayLike,
    newest_log_errors: ArrayLike,
    policy: DriftPolicy | None = None,
) -> list[Drift]:
    """Page-Hinkley of the logs of daily QLIKE losses (above 0), and the bias of daily log errors; days in order."""
    policy = policy or DriftPolicy()
    with np.errstate(divide="ignore"):
        old, new = (np.log(np.asarray(side, np.float64)) for side in (losses, newest_losses))
    return [
        _judge("page_hinkley", LOSS, old, new, lambda z: page_hinkley(z, policy.allowance), policy),
        _judge(
            "log_bias",
            BIAS,
            np.asarray(log_errors, np.float64),
            np.asarray(newest_log_errors, np.float64),
            lambda z: np.abs(z.mean(axis=-1)),
            policy,
        ),
    ]


def page_hinkley(z: Floats, allowance: float) -> Floats:
    """(..., n) standardised values -> (...,) largest rise of their cumulative sum, less the allowance a day, above its minimum."""
    total = np.cumsum(z - allowance, axis=-1)
    lowest = np.minimum(np.minimum.accumulate(total, axis=-1), 0.0)  # the sum starts at 0
    return np.asarray((total - lowest).max(axis=-1))


def _judge(
    measure: str,
    subject: str,
    reference: Floats,
    newest: Floats,
    statistic: Callable[[Floats], Floats],
    policy: DriftPolicy,
) -> Drift:
    reference, newest = reference[np.isfinite(reference)], newest[np.isfinite(newest)]
    m, n = len(reference), len(newest)
    if n < policy.least_error_days:
        return not_judged(measure, subject, m, n,
            f"{n} days of known errors: at least {policy.least_error_days} are judged")  # fmt: skip
    if m < policy.least_error_reference:
        return not_judged(measure, subject, m, n,
            f"{m} earlier days of known errors: at least {policy.least_error_reference} to judge against")  # fmt: skip
    spread = float(reference.std())
    if spread == 0:
        return not_judged(measure, subject, m, n, "the earlier errors do not vary")
    found = float(statistic((newest - reference.mean()) / spread))
    block = mean_block(reference, n)
    rows = stationary_paths(m, m + n, block, policy.bootstrap_repetitions, policy.seed)
    paths = reference[rows]  # (repetition, day)
    mean = paths[:, :m].mean(axis=1, keepdims=True)
    scale = np.maximum(paths[:, :m].std(axis=1, keepdims=True), 1e-12)
    usual = statistic((paths[:, m:] - mean) / scale)
    return judged(measure, subject, found, float(np.quantile(usual, 1 - policy.error_level)), m, n)
