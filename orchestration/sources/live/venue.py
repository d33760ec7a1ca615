"""A ccxt exchange as we use it: over our transport, its errors told apart as ours.

In: a ccxt id. Out: a ``Venue``: markets by coin, and ``call``, which runs a unified method. Never: places an order, or reads a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import (
    NotListed,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.transport import Policy, Transport

QUOTES = ("USDT", "USDC", "USD")
"""Currencies that count as the dollar, the most traded first."""
VENUE_POLICY = Policy(requests=10, per=1.0)
"""ccxt weighs calls by each venue's own rules; this is only a ceiling."""

_REFUSED = re.compile(r" (GET|POST) \S+ 4\d\d ")


class Venue:
    """One ccxt exchange. Raises ``ProviderRefused`` for a name that ccxt does not know."""

    def __init__(self, ccxt_id: str, providers: Providers) -> None:
        self.id = ccxt_id
        self.transport: Transport = providers.transport(ccxt_id, VENUE_POLICY)

    @cached_property
    def exchange(self) -> Any:
        """The ccxt object; made when it is first needed, since importing ccxt takes seconds."""
        import ccxt

        if self.id not in ccxt.exchanges:
            raise ProviderRefused(self.id, "", f"ccxt {ccxt.__version__} has no venue {self.id!r}")
        return getattr(ccxt, self.id)(
            {
                "session": self.transport,
                "enableRateLimit": self.transport.base_url is None,
                "timeout": int(self.transport.policy.read_timeout * 1000),
                "options": {"warnOnFetchCurrencies": False, "fetchCurrencies": False},
            }
        )

    @cached_property
    def markets(self) -> dict[str, dict[str, Any]]:
        """Every market by its unified symbol. Raises ``ShapeChanged`` for none at all: the coins are not gone, the answer is another."""
        self.call("loadMarkets")
        if not self.exchange.markets:
            raise ShapeChanged(self.id, "loadMarkets", "field markets: none in the answer")
        return dict(self.exchange.markets)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run a unified (camelCase) or implicit method of ccxt.

        Raises ``NotListed`` for a symbol that the venue does not have, ``ProviderUnavailable`` for network faults, ``ProviderRefused`` for
        other errors that the venue reports, and ``ShapeChanged`` where ccxt could not make sense of the answer.
        """
        import ccxt

        try:
            return getattr(self.exchange, method)(*args, **kwargs)
        except ProviderError:
            raise
        except ccxt.BadSymbol as error:
            raise NotListed(self.id, method, _text(error)) from error
        except ccxt.NotSupported as error:
            raise ProviderRefused(self.id, method, _text(error)) from error
        except ccxt.BadResponse as error:
            raise ShapeChanged(self.id, method, _text(error)) from error
        except ccxt.NetworkError as error:
            # ccxt calls every 4xx a network error; those worth another try never leave our transport
            kind = ProviderRefused if _REFUSED.search(str(error)) else ProviderUnavailable
            raise kind(self.id, method, _text(error)) from error
        except ccxt.BaseError as error:
            raise ProviderRefused(self.id, method, _text(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ShapeChanged(
                self.id, method, f"ccxt cannot read the answer: {type(error).__name__}: {error}"
            ) from error

    def supports(self, method: str) -> bool:
        """Whether ccxt says that the venue has a unified method."""
        return bool(self.exchange.has.get(method))

    def spot(self, asset: str) -> str:
        """Unified symbol of the coin's spot market, ``BTC/USDT``. Raises ``NotListed``."""
        return self._market(asset, (f"{asset}/{quote}" for quote in QUOTES), "spot")

    def perpetual(self, asset: str) -> str:
        """Unified symbol of the coin's perpetual swap, linear before inverse: ``BTC/USDT:USDT``. Raises ``NotListed``."""
        linear = (f"{asset}/{quote}:{quote}" for quote in QUOTES)
        inverse = (f"{asset}/{quote}:{asset}" for quote in QUOTES)
        return self._market(asset, (*linear, *inverse), "swap")

    def _market(self, asset: str, symbols: Iterable[str], kind: str) -> str:
        found = [self.markets[symbol] for symbol in symbols if symbol in self.markets]
        active = [market for market in found if market.get("active") is not False]
        if not active:
            why = "delisted" if found else "not listed"
            raise NotListed(self.id, kind, f"{asset} is {why}")
        return str(active[0]["symbol"])


def _text(error: Exception) -> str:
    """A ccxt message without addresses; those may hold a query."""
    words = [word for word in str(error).split() if "://" not in word]
    return f"{type(error).__name__}: {' '.join(words)[:200]}"
