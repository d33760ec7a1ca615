"""Every connector that the settings name, in the order in which they are read.

In: the providers. Out: connectors. A new provider is a module beside this one and a line here.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.sources.live.coinmetrics import CoinMetrics
from orchestration.sources.live.config import Providers
from orchestration.sources.live.defillama import DefiLlama
from orchestration.sources.live.deribit import DeribitVolatility
from orchestration.sources.live.fear_greed import FearGreed
from orchestration.sources.live.funding import Funding
from orchestration.sources.live.gdelt import Gdelt
from orchestration.sources.live.open_interest import OpenInterest
from orchestration.sources.live.order_books import OrderBooks
from orchestration.sources.live.prices import Prices
from orchestration.sources.live.rss import Rss
from orchestration.sources.live.stream import Connector


def connectors(providers: Providers) -> Sequence[Connector]:
    """All of them; opens no connection."""
    config = providers.config
    return [
        Prices(providers, files=config.bulk_files),
        *(Funding(venue, providers) for venue in config.funding_venues),
        *(OpenInterest(venue, providers) for venue in config.open_interest_venues),
        DeribitVolatility(providers),
        CoinMetrics(providers),
        DefiLlama(providers),
        FearGreed(providers),
        Gdelt(providers),
        *(Rss(publisher, url, providers) for publisher, url in config.headline_feeds.items()),
        *(OrderBooks(venue, providers) for venue in config.order_book_venues),
    ]
