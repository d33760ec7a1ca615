r"""Does a model look elsewhere than it did at the end of its training?

In: the share of attention of each token group, by day: of the last days of the training window (R, G) and of the newest
(n, G); rows sum to 1. Out: one measure. Never: a claim that a shift is bad; the inputs may have moved, not the model.

.. math:: JS(p, q) = H(\tfrac{p + q}{2}) - \tfrac12 H(p) - \tfrac12 H(q)

in bits, between 0 and 1, of the mean shares (Lin 1991, IEEE Transactions on Information Theory 37). Threshold: the same
on stationary-bootstrap paths of the reference, and never below the policy's least divergence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.monitoring.measures import Drift, DriftPolicy, judged, not_judged
from ml.monitoring.resampling import mean_block, stationary_paths

SUBJECT = "token groups"
Floats = NDArray[np.float64]


def attention_drift(
    reference: ArrayLike, newest: ArrayLike, policy: DriftPolicy | None = None
) -> Drift:
    """Jensen-Shannon divergence of the newest mean attention from the reference's. Raises ValueError on unequal groups."""
    policy = policy or DriftPolicy()
    old, new = np.asarray(reference, np.float64), np.asarray(newest, np.float64)
    if old.ndim != 2 or new.ndim != 2 or old.shape[1] != new.shape[1]:
        raise ValueError(f"attention of shapes {old.shape} and {new.shape}: expected equal groups")
    m, n = len(old), len(new)
    if n < policy.least_attention_days or m < 2 * n:
        return not_judged("jensen_shannon", SUBJECT, m, n,
            f"{n} days of attention against {m}: expected at least {policy.least_attention_days}, and twice as many to judge against")  # fmt: skip
    found = float(jensen_shannon(new.mean(axis=0), old.mean(axis=0)))
    rows = stationary_paths(m, m + n, mean_block(old, n), policy.bootstrap_repetitions, policy.seed)
    usual = jensen_shannon(old[rows[:, m:]].mean(axis=1), old[rows[:, :m]].mean(axis=1))
    limit = max(float(np.quantile(usual, 1 - policy.attention_level)), policy.least_divergence)
    return judged("jensen_shannon", SUBJECT, found, limit, m, n)


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """(..., G), (..., G) shares -> (...,) divergence in bits: 0 = equal, 1 = nothing in common."""
    middle = (p + q) / 2
    return np.maximum(_entropy(middle) - _entropy(p) / 2 - _entropy(q) / 2, 0.0)


def _entropy(share: Floats) -> Floats:
    safe = np.where(share > 0, share, 1.0)
    return np.asarray(-(share * np.log2(safe)).sum(axis=-1))
