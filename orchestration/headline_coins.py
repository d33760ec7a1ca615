"""Which coins a headline is about.

In: a title and the coins asked for. Out: the coins whose name, or whose ticker in capitals or after a ``$``, is in it as a word. Never
guesses: a ticker that is also a word (LINK, NEAR, DASH) counts neither in small letters nor in a title written in capitals throughout, and
one that mostly means something else (DOT, OP, APT) only after a ``$``. A name within a longer one (Bitcoin Cash) is the longer one's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

NAMES: dict[str, tuple[str, ...]] = {
    "AAVE": ("aave",),
    "ADA": ("cardano",),
    "ALGO": ("algorand",),
    "APT": ("aptos",),
    "ARB": ("arbitrum",),
    "ATOM": ("cosmos hub", "cosmos network"),
    "AVAX": ("avalanche network", "avalanche blockchain", "ava labs"),
    "AXS": ("axie infinity",),
    "BCH": ("bitcoin cash",),
    "BNB": ("binance coin", "bnb chain"),
    "BSV": ("bitcoin sv",),
    "BTC": ("bitcoin", "bitcoins"),
    "CRV": ("curve finance", "curve dao"),
    "DOGE": ("dogecoin",),
    "DOT": ("polkadot",),
    "EGLD": ("multiversx", "elrond"),
    "EOS": (),
    "ETC": ("ethereum classic",),
    "ETH": ("ethereum", "ether"),
    "FIL": ("filecoin",),
    "FTM": ("fantom",),
    "GRT": ("the graph protocol",),
    "HBAR": ("hedera",),
    "HYPE": ("hyperliquid",),
    "ICP": ("internet computer",),
    "INJ": ("injective protocol",),
    "KAS": ("kaspa",),
    "LDO": ("lido dao", "lido finance"),
    "LINK": ("chainlink",),
    "LTC": ("litecoin",),
    "MANA": ("decentraland",),
    "MATIC": ("polygon network", "polygon labs"),
    "MKR": ("makerdao",),
    "NEAR": ("near protocol",),
    "NEO": (),
    "OP": ("optimism network", "op mainnet"),
    "PEPE": ("pepecoin",),
    "POL": ("polygon network", "polygon labs"),
    "RENDER": ("render network",),
    "SAND": ("the sandbox",),
    "SEI": ("sei network",),
    "SHIB": ("shiba inu",),
    "SOL": ("solana",),
    "STX": ("stacks network",),
    "SUI": ("sui network",),
    "TAO": ("bittensor",),
    "TIA": ("celestia",),
    "TON": ("toncoin",),
    "TRX": ("tron network", "justin sun's tron"),
    "UNI": ("uniswap",),
    "VET": ("vechain",),
    "WLD": ("worldcoin",),
    "XLM": ("stellar lumens", "stellar network"),
    "XMR": ("monero",),
    "XRP": ("ripple",),
    "XTZ": ("tezos",),
    "ZEC": ("zcash",),
    "DASH": (),
}
"""Names in small letters; they count in any letters."""
WORDS = frozenset({
    "ADA", "ALGO", "ARB", "ATOM", "COMP", "DASH", "DOGE", "EOS", "ETC", "FIL", "ICP", "LINK", "MANA", "NEAR", "NEO", "PEPE", "POL",
    "RENDER", "SAND", "SEI", "SOL", "SUI", "TAO", "TIA", "TON", "UNI", "VET",
})  # fmt: skip
"""Tickers that are words or abbreviations of something else, so that a title in capitals says nothing."""
ONLY_WITH_DOLLAR = frozenset({"APT", "DOT", "GAS", "HYPE", "ONE"})
"""Beside those of one or two letters."""
IN_ANY_LETTERS = frozenset(
    {"BTC", "ETH", "XRP", "BNB", "LTC", "BCH", "TRX", "XLM", "XMR", "XTZ", "HBAR"}
)
"""Tickers that are no word in any language that we know of."""


def coins_in(title: str, assets: Collection[str]) -> set[str]:
    """The coins of ``assets`` that ``title`` names."""
    found = set()
    shouting = title.upper() == title
    for match in _pattern(frozenset(assets)).finditer(title):
        dollar, ticker, name = match.group("dollar", "ticker", "name")
        if dollar:
            found.add(dollar.upper())
        elif ticker and not (shouting and ticker in WORDS):
            found.add(ticker.upper())
        elif name:
            found |= _coins_of_name()[" ".join(name.lower().split())]
    return found & set(assets)


@cache
def _coins_of_name() -> dict[str, frozenset[str]]:
    names = {name for known in NAMES.values() for name in known}
    return {
        name: frozenset(coin for coin, known in NAMES.items() if name in known) for name in names
    }


@cache
def _pattern(assets: frozenset[str]) -> re.Pattern[str]:
    """Every known name, longest first, so that a longer one is not read as the shorter; and the tickers of ``assets``."""
    names = sorted(_coins_of_name(), key=lambda name: (-len(name), name))
    spelled = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in names)
    tickers = sorted(assets, key=lambda ticker: (-len(ticker), ticker))
    plain = [t for t in tickers if len(t) > 2 and t not in ONLY_WITH_DOLLAR | IN_ANY_LETTERS]
    free = [ticker for ticker in tickers if ticker in IN_ANY_LETTERS]
    return re.compile(
        rf"\$(?P<dollar>(?i:{_any_of(tickers)}))(?!\w)"
        rf"|(?<![\w$])(?P<ticker>{_any_of(plain)}|(?i:{_any_of(free)}))(?!\w)"
        rf"|(?<!\w)(?P<name>(?i:{spelled}))(?!\w|\s+(?i:effect))"
    )


def _any_of(words: Collection[str]) -> str:
    return "|".join(map(re.escape, words)) or r"(?!)"
