"""large_transfers: unusually much of the coin moves, and towards exchanges.

Signals, all against the coin's own past 365 days: net inflow to exchanges as a share of all their flows, growth of these flows over 7 days, growth of
fees over 7 days. The score is the mean of the two largest; exchange flows must be known, fees alone are no transfer to an exchange.

Exchange flows are revised by their providers: where features.daily says that they are not as first published, the inputs say so.
Source of the idea: coins sent to exchanges are coins about to be sold or posted as margin; Hoang and Baur (2022), "Effects of bitcoin exchange
reserves on bitcoin returns and volatility", Applied Economics 54.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ml.events.detector import Detector, Floats, Past

FLOWS = ("net_inflow", "flow_growth")


def _signals(past: Past) -> dict[str, Floats]:
    return {
        "net_inflow": past.z(past.value("exchange_netflow_ratio")),
        "flow_growth": past.z(past.value("exchange_flow_change_7d")),
        "fee_growth": past.z(past.value("fees_change_7d")),
    }


def _score(signals: Mapping[str, Floats]) -> Floats:
    """The mean of the two largest; NaN unless two are known, one of them a flow."""
    stacked = np.stack([np.nan_to_num(z, nan=-np.inf) for z in signals.values()], axis=-1)
    largest = np.sort(stacked, axis=-1)
    mean = 0.5 * (largest[..., -1] + largest[..., -2])
    flows = np.logical_or(*(np.isfinite(signals[name]) for name in FLOWS))
    return np.where(flows & np.isfinite(mean), mean, np.nan)


LARGE_TRANSFERS = Detector(
    name="large_transfers",
    meaning="coins move to exchanges: net inflow, growing flows and growing fees, two of them together",
    needs=(
        "exchange_netflow_ratio", "exchange_flow_change_7d", "fees_change_7d", "onchain_flows_revised",
    ),
    signals=_signals,
    score=_score,
    threshold=2.25,
    release=1.25,
)  # fmt: skip
