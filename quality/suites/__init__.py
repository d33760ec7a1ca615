"""The suites, one module a table. In: nothing. Out: ``SUITES`` by table name. Never runs them."""

from __future__ import annotations

from quality.suite import Suite
from quality.suites import (
    features_daily,
    features_hourly,
    features_realized,
    funding_rates,
    headlines,
    implied_volatility,
    ohlcv,
    onchain_metrics,
    open_interest,
    order_books,
    sentiment_metrics,
)

SUITES: dict[str, Suite] = {
    module.SUITE.name: module.SUITE
    for module in (
        ohlcv,
        funding_rates,
        open_interest,
        implied_volatility,
        onchain_metrics,
        sentiment_metrics,
        headlines,
        order_books,
        features_daily,
        features_hourly,
        features_realized,
    )
}
"""Every suite by the table that it guards."""
