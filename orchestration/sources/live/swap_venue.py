"""A ccxt exchange of which only perpetual swaps are wanted.

In: a ccxt id. Out: a ``SwapVenue``: swap markets only, asked as often as the venue's history endpoints allow, with its last answer as it was
sent. Never: loads spot, option or dated-future markets, which are most of what a venue lists.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from orchestration.sources.live.config import Providers
from orchestration.sources.live.rows import parse
from orchestration.sources.live.transport import Policy
from orchestration.sources.live.venue import VENUE_POLICY, Venue

POLICIES = {
    "binanceusdm": Policy(requests=480, per=300.0),  # fundingRate and fundingInfo: 500 in 5 minutes
    "hyperliquid": Policy(requests=25, per=60.0),  # 1,200 a minute; a page of funding weighs 45
}
"""Limits that are tighter than ``VENUE_POLICY``."""
INVERSE_FIRST = frozenset({"deribit"})
"""Venues whose coin-settled swap is the older and larger one."""
_UNWANTED = frozenset({"spot", "margin", "option", "future", "hip3", "prediction"})


class SwapVenue(Venue):
    """See the module."""

    def __init__(self, ccxt_id: str, providers: Providers) -> None:
        providers.transport(ccxt_id, POLICIES.get(ccxt_id, VENUE_POLICY))
        super().__init__(ccxt_id, providers)

    @cached_property
    def exchange(self) -> Any:
        """See ``Venue.exchange``."""
        made = super().exchange
        made.has["fetchCurrencies"] = False
        markets = made.options.get("fetchMarkets")
        kinds = markets.get("types") if isinstance(markets, dict) else None
        if isinstance(kinds, dict):
            markets["types"] = {
                kind: wanted if kind not in _UNWANTED else False for kind, wanted in kinds.items()
            }
        elif isinstance(kinds, list):
            markets["types"] = [kind for kind in kinds if kind not in _UNWANTED] or kinds
        return made

    def perpetual(self, asset: str) -> str:
        """See ``Venue.perpetual``; coin-settled first where that is the venue's main contract."""
        inverse = self.markets.get(f"{asset}/USD:{asset}") if self.id in INVERSE_FIRST else None
        if inverse is not None and inverse.get("active") is not False:
            return str(inverse["symbol"])
        return super().perpetual(asset)

    def check_answer(self, kind: Any, endpoint: str) -> Any:
        """The venue's last answer as ``kind``, whatever ccxt made of it: ccxt takes an absent list for an empty one.

        Raises ``ShapeChanged``.
        """
        return parse(kind, json.loads(self.exchange.last_http_response), self.transport, endpoint)
