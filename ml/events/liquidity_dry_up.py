"""liquidity_dry_up: it has become expensive to trade the coin, by several measures at once.

Signals, all against the coin's own past 365 days: Amihud's price impact over 22 days (log), the Corwin-Schultz spread (mean of 7 days), traded volume
against its 22-day mean (mean of 7 days, falling counts), and, where order books are captured, dollars within 50 basis points of the mid price and the
quoted spread (logs, mean of 7 days). The score is the mean of those known, at least two. Weekly means, because volume has a weekly cycle and a
weekend is no event.

Sources: Amihud (2002); Corwin and Schultz (2012); illiquidity before turbulence: Brunnermeier and Pedersen (2009), "Market liquidity and funding
liquidity", Review of Financial Studies 22.
"""

from __future__ import annotations

import numpy as np

from ml.events.detector import Detector, Floats, Past, mean_of


def _signals(past: Past) -> dict[str, Floats]:
    return {
        "price_impact": past.z(_log(past.value("amihud_22d"))),
        "range_spread": past.z(past.mean(past.value("corwin_schultz_d"))),
        "thin_volume": past.z(-past.mean(past.value("log_volume_ratio_22d"))),
        "thin_book": past.z(-past.mean(_log(past.value("book_depth_50bp_usd_d")))),
        "quoted_spread": past.z(past.mean(_log(past.value("book_spread_bps_d")))),
    }


def _log(values: Floats) -> Floats:
    return np.log(np.where(values > 0, values, np.nan))


LIQUIDITY_DRY_UP = Detector(
    name="liquidity_dry_up",
    meaning="trading has become expensive: price impact, spreads and thin volume or books together",
    needs=(
        "amihud_22d", "corwin_schultz_d", "log_volume_ratio_22d", "book_depth_50bp_usd_d", "book_spread_bps_d",
    ),
    signals=_signals,
    score=mean_of(fewest=2),
    threshold=1.5,
    release=0.75,
)  # fmt: skip
