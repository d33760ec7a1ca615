r"""Does a modality's attention rise where its effect does not?

In: attention and ablation effects by day. Out: two checks a modality, coin and horizon. Never: an effect's sign; attention has none.

`by day`: rank correlation over days of attention with the size of the effect, u and v the standardised ranks,

.. math:: \hat\rho = \overline{uv}, \quad \psi_t = u_t v_t - \hat\rho (u_t^2 + v_t^2) / 2, \quad
    t = (\hat\rho - \rho_0) / \mathrm{se}_{EWC}(\psi)

one-sided against rho >= `agreement`: flagged where attention follows the effect less than that, chance apart.
`on average`: flagged where the modality has at least an even share of the attention on the context groups, while the mean size
of its effect is below `least_effect`, chance apart (an equivalence test: a small sample does not pass for a small effect).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

from ml.explain.dependence import dependent_mean
from ml.explain.spurious.checks import ALL, NAN, Check, SpuriousPolicy, judged_by_p, not_judged
from ml.explain.spurious.effects import Effects, mean_of_known

CHECK = "attention_without_effect"
BY_DAY, ON_AVERAGE = "by day", "on average"
Floats = NDArray[np.float64]


def attention_without_effect(
    effects: Effects, modalities: tuple[str, ...], policy: SpuriousPolicy
) -> list[Check]:
    """Rows of each modality, over all coins and by coin."""
    effects = effects.newest(policy.attention_days)
    found: list[Check] = []
    places = [effects.groups.index(name) for name in modalities if name in effects.groups]
    context = np.where(np.isfinite(effects.attention[:, :, places]), effects.attention[:, :, places], 0.0)  # fmt: skip
    total = context.sum(axis=2)  # (D, N, H) attention on all modalities together
    for modality in modalities:
        if modality not in effects.groups:
            found.append(not_judged(modality, CHECK, "no forecast was explained with this group"))
            continue
        group = effects.groups.index(modality)
        for h, horizon in enumerate(effects.horizons):
            if not effects.used(h):
                found.append(not_judged(modality, CHECK, "the forecast does not use its attention: it is the anchor", horizon=horizon))  # fmt: skip
                continue
            attention = effects.attention[:, :, group, h]
            size = np.abs(effects.effect[:, :, group, h])
            with np.errstate(invalid="ignore", divide="ignore"):
                share = attention / total[:, :, h]
            for asset in (ALL, *effects.assets):
                column = slice(None) if asset == ALL else slice(effects.assets.index(asset), effects.assets.index(asset) + 1)  # fmt: skip
                series = [mean_of_known(values[:, column], 1) for values in (attention, size, share)]  # fmt: skip
                rows = _of_one(modality, asset, horizon, series, 1.0 / len(places), policy)
                found += rows
                if asset == ALL and rows[0].observations < policy.least_attention_days:
                    break  # too few days over all coins: no coin has more
    return judged_by_p(found, policy.level, lambda row: (row.modality, row.segment, row.asset == ALL))  # fmt: skip


def _of_one(
    modality: str, asset: str, horizon: int, series: list[Floats], even: float, policy: SpuriousPolicy
) -> list[Check]:  # fmt: skip
    known = np.all([np.isfinite(values) for values in series], axis=0)
    attention, size, share = (values[known] for values in series)
    n = len(size)
    if n < policy.least_attention_days:
        why = f"{n} days with the modality: at least {policy.least_attention_days} are compared"
        return [not_judged(modality, CHECK, why, asset=asset, horizon=horizon, observations=n)]
    rho, p = rank_agreement(attention, size, policy.agreement)
    rows = []
    if np.isfinite(rho):
        text = f"rank correlation of attention with the size of the effect {rho:.2f} over {n} days"
        rows.append(
            Check(
                modality,
                asset,
                CHECK,
                BY_DAY,
                horizon,
                rho,
                p,
                policy.level,
                n,
                "",
                f"{text}: below {policy.agreement:g}, attention does not follow the effect|{text}",
            )
        )
    else:
        rows.append(not_judged(modality, CHECK, "attention or effect does not vary", asset=asset, segment=BY_DAY, horizon=horizon, observations=n))  # fmt: skip
    mean, error, degrees = dependent_mean(size[:, None])
    text = f"{share.mean():.0%} of the attention on modalities (even share {even:.0%}), mean effect {mean[0]:.2g} of log variance"
    if share.mean() < even:
        p = 1.0
    else:
        distance = mean[0] - policy.least_effect
        p = float(student.cdf(distance / error[0], degrees)) if error[0] > 0 else float(distance >= 0)  # fmt: skip
    rows.append(
        Check(
            modality,
            asset,
            CHECK,
            ON_AVERAGE,
            horizon,
            float(mean[0]),
            p,
            policy.level,
            n,
            "",
            f"{text}: below {policy.least_effect:g}, it is attended to and moves nothing|{text}",
        )
    )
    return rows


def rank_agreement(attention: Floats, size: Floats, least: float) -> tuple[float, float]:
    """Spearman's rho over days (n,) and the p-value of rho >= least; NaN where one side does not vary."""
    if np.ptp(attention) == 0 or np.ptp(size) == 0:
        return NAN, NAN
    ranks = [rankdata(values) for values in (attention, size)]
    u, v = ((rank - rank.mean()) / rank.std() for rank in ranks)
    rho = float((u * v).mean())
    influence = u * v - rho * (u**2 + v**2) / 2
    _, error, degrees = dependent_mean(influence[:, None])
    if error[0] == 0:
        return rho, float(rho >= least)
    return rho, float(student.cdf((rho - least) / error[0], degrees))
