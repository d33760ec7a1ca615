"""What a name from outside may look like, and how old data may be: shared by the suites and by sources that list coins.

In: nothing. Out: patterns and a date. Never: judges a row by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

EARLIEST = datetime(2009, 1, 3, tzinfo=UTC)
"""The first block of Bitcoin: an event before it is a time in another unit."""
DOLLAR_PAIR = (
    r"^[A-Z0-9]{1,15}/(USDT|USDC|USD|BUSD|TUSD|FDUSD|USDP|PAX|PYUSD|DAI|GUSD|HUSD|RLUSD|USD1|USDE|USDG|USDS)"
    r"(:[A-Z0-9]{1,15})?$"
)
"""A coin by its ASCII ticker against a dollar: features take every close for dollars. UST is none: it was a dollar until May 2022."""
PAIR = r"^[A-Z0-9]{1,15}/[A-Z0-9]{1,15}(:[A-Z0-9]{1,15}(-[A-Z0-9]{1,12}){0,3})?$"
"""A market as venues name them, against anything, and dated futures and options too."""
PLAIN_NAME = r"^[A-Za-z0-9/][A-Za-z0-9 ._:/()+@%~-]{0,119}$"
"""A venue, symbol, provider, coin or metric: no quotes, semicolons, control characters or look-alikes of letters."""
