"""funding_squeeze: one side of the perpetual market is crowded and the price begins to move against it.

Signals, all against the coin's own past 365 days: how far funding over 7 days is from its median, to either side (crowding); how much venues disagree
on it (dispersion); growth of open interest over 7 days; and the return of the last 5 days against the crowd (down where funding is high, up where it is
low). The score is the mean of those known: crowding and the move must be known, and one of the other two.

Source: crowded leverage and forced closing: Brunnermeier and Pedersen (2009), Review of Financial Studies 22; perpetual funding as its price:
He, Manela, Ross and von Wachter (2022), "Fundamentals of perpetual futures".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ml.events.detector import Detector, Floats, Past, mean_of


def _signals(past: Past) -> dict[str, Floats]:
    funding = past.z(past.value("funding_rate_7d"))
    dispersion = past.value("funding_dispersion_d")
    return {
        "crowding": np.abs(funding),
        "dispersion": past.z(np.log(np.where(dispersion > 0, dispersion, np.nan))),
        "open_interest_growth": past.z(past.value("open_interest_change_7d")),
        "move_against_crowd": -np.sign(funding) * past.z(past.value("return_5d")),
    }


def _score(signals: Mapping[str, Floats]) -> Floats:
    needed = np.isfinite(signals["crowding"]) & np.isfinite(signals["move_against_crowd"])
    return np.where(needed, mean_of(fewest=3)(signals), np.nan)


FUNDING_SQUEEZE = Detector(
    name="funding_squeeze",
    meaning="a crowded side of the perpetual market with the price moving against it",
    needs=("funding_rate_7d", "funding_dispersion_d", "open_interest_change_7d", "return_5d"),
    signals=_signals,
    score=_score,
    threshold=1.5,
    release=0.75,
)
