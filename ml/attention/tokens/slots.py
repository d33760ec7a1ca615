"""Which venue and which coin a fit gives a slot.

In: the training rows of a panel. Out: `TokenSlots`, names in a fixed order. Never: anything after the last training row.
"""

from __future__ import annotations

import numpy as np

from ml.attention.tokens.layout import TokenConfig, TokenSlots
from ml.attention.tokens.price import price_present
from ml.panel import Panel

LEADERS = ("BTC", "ETH")
"""The coins whose slots come first where the panel has them."""


def fit_slots(panel: Panel, first: int, stop: int, config: TokenConfig) -> TokenSlots:
    """Slots from rows first .. stop-1 of the panel.

    Venues: those with a rate of most days and coins, at least one, then in the order of their names. Coins: BTC and ETH, then those
    with most complete price days, then the largest mean volume, then by name.
    """
    venues: tuple[str, ...] = ()
    if panel.funding is not None:
        known = np.isfinite(panel.funding.values[first:stop, ..., 0]).sum(axis=(0, 1))  # (V,)
        ranked = sorted(zip(-known, panel.funding.venues, strict=True))
        best = [name for count, name in ranked if count < 0][: config.funding_venues]
        venues = tuple(sorted(best))
    complete = price_present(panel)[first:stop].sum(axis=0)
    volume = panel.features.get("quote_volume_d", np.full((len(panel.days), len(complete)), np.nan))
    volume = np.nan_to_num(volume[first:stop], nan=0.0).mean(axis=0)
    order = sorted(
        range(len(panel.assets)),
        key=lambda n: (
            LEADERS.index(panel.assets[n]) if panel.assets[n] in LEADERS else len(LEADERS),
            -complete[n],
            -volume[n],
            panel.assets[n],
        ),
    )
    chosen = [panel.assets[n] for n in order if complete[n] > 0][: config.asset_tokens]
    return TokenSlots(venues, tuple(chosen))


def unread_venues(panel: Panel, slots: TokenSlots) -> tuple[str, ...]:
    """Venues of the panel that have no slot, so that nothing reads them."""
    found = () if panel.funding is None else panel.funding.known().venues
    return tuple(name for name in found if name not in slots.venues)
