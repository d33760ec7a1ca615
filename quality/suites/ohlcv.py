"""Suite of raw.ohlcv: price bars. Out: ``SUITE``."""

from __future__ import annotations

from quality.conditions import (
    bar_closed_when_known,
    closes_agree,
    high_covers,
    low_covers,
    no_fat_finger,
    no_unconfirmed_leap,
    texts_match,
)
from quality.drift import drifted_columns, off_scale_columns
from quality.measures import (
    age_hours,
    level_shift,
    missing_bars,
    repeated_share,
    thin_days,
    vanished_coins,
    zero_share,
)
from quality.names import DOLLAR_PAIR
from quality.suite import Suite, between, complete, holds, measured, one_of
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("venue", "symbol", "interval", "ts")
SERIES = ("venue", "symbol", "interval")
PRICES = ("open", "high", "low", "close")
OPTIONAL = frozenset({"quote_volume", "trades", "taker_buy_volume"})

# fmt: off
SUITE = Suite(
    name="raw.ohlcv",
    about="Price bars: nothing else can be forecast without them, so most faults here are critical.",
    key=KEY,
    columns={
        "venue": "text", "symbol": "text", "interval": "text", "ts": "time",
        "open": "number", "high": "number", "low": "number", "close": "number", "volume": "number",
        "quote_volume": "number", "trades": "number", "taker_buy_volume": "number",
        "known_at": "time", "source": "text",
    },
    optional=OPTIONAL,
    empty=CRITICAL,
    empty_message="there must be price bars: check the venue and the connector before anything is forecast",
    expectations=(
        *raw_rows(KEY),
        holds("symbol_is_a_dollar_pair", texts_match(("symbol",), DOLLAR_PAIR), ("symbol",), CRITICAL,
              "symbol is COIN/USDT or of another dollar: quarantine, features take every close for dollars",
              column="symbol"),
        one_of("interval", ("1m", "5m", "1h"), CRITICAL, "interval is 1m, 5m or 1h: quarantine, other lengths are not read"),
        *(complete(price, CRITICAL, f"{price} is there: quarantine the bar and fetch it again") for price in PRICES),
        *(
            between(price, 0, None, CRITICAL, f"{price} is above zero: quarantine the bar and fetch it again",
                    above=True)
            for price in PRICES
        ),
        complete("volume", CRITICAL, "volume is there: quarantine the bar and fetch it again"),
        between("volume", 0, None, CRITICAL, "volume is not negative: quarantine the bar and fetch it again"),
        between("quote_volume", 0, None, CRITICAL, "quote volume is not negative: quarantine the bar"),
        between("trades", 0, None, CRITICAL, "the number of trades is not negative: quarantine the bar"),
        holds("high_covers_open_and_close", high_covers, PRICES, CRITICAL,
              "high >= max(open, close): quarantine the bar and fetch it again", column="high"),
        holds("low_covers_open_and_close", low_covers, PRICES, CRITICAL,
              "low <= min(open, close): quarantine the bar and fetch it again", column="low"),
        holds("bar_is_closed_when_known", bar_closed_when_known, ("interval", "ts", "known_at"), CRITICAL,
              "known_at >= ts + interval: an unfinished bar changes later; quarantine and fetch it after its close",
              column="known_at"),
        holds("no_fat_finger", no_fat_finger, (*KEY, *PRICES), CRITICAL,
              "no 10x price that is undone within a bar: quarantine the bar, compare with another venue",
              column="close"),
        holds("no_unconfirmed_leap", no_unconfirmed_leap, (*KEY, *PRICES), WARNING,
              "a 10x move that stays: look whether the coin was redenominated or the unit changed", column="close"),
        holds("closes_agree_across_venues", closes_agree(0.02, 2), (*KEY, "close"), WARNING,
              "closes of one symbol within 2 % of the median venue: look at the venue that stands apart",
              column="close"),
        holds("no_venue_far_from_the_others", closes_agree(0.20, 3), (*KEY, "close"), CRITICAL,
              "closes of one symbol within 20 % of the median of three or more venues: quarantine the odd one",
              column="close"),
        measured("no_coin_is_gone", vanished_coins(24), ("symbol", "ts"), CRITICAL,
                 "every coin has bars in the last 24 h of the data: fetch the missing coin or take it off the list",
                 high=0, unit=" coins", column="symbol"),
        measured("no_bars_are_missing", missing_bars(SERIES, "interval"), KEY, WARNING,
                 "every bar between a series' first and last is there: fetch the gap again, an outage stays",
                 high=0, unit=" % missing", column="ts"),
        measured("days_are_filled", thin_days(0.8), KEY, WARNING,
                 "every coin-day has 80 % of its bars: thinner days are flagged in features and not used",
                 high=0, unit=" thin coin-days", column="ts"),
        measured("volume_is_alive", zero_share("volume"), ("volume",), WARNING,
                 "under 5 % of bars have no volume: more means a dead market or a broken field",
                 high=5, unit=" %", column="volume"),
        measured("bars_do_not_repeat", repeated_share((*PRICES, "volume"), SERIES), (*KEY, "volume"), WARNING,
                 "under 5 % of bars repeat the one before: more means a feed that sends its last answer again",
                 high=5, unit=" %", column="close"),
        measured("bars_are_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest bar opened within 3 h of the decision time: is the venue or the connector down?",
                 high=3, unit=" h", column="ts"),
        measured("bars_are_not_stale", age_hours("ts"), ("ts",), CRITICAL,
                 "the newest bar is under 72 h old: features stop using older days, so no forecast can be made",
                 high=72, unit=" h", column="ts"),
        measured("prices_keep_their_unit", level_shift("close", SERIES), (*SERIES, "close"), WARNING,
                 "median close within a factor of 30 of the reference: look for another unit or another pair",
                 high=30, unit="x", column="close"),
        measured("volumes_keep_their_unit", level_shift("volume", SERIES), (*SERIES, "volume"), WARNING,
                 "median volume within a factor of 30 of the reference: base, quote or contracts?",
                 high=30, unit="x", column="volume"),
        measured("bar_ranges_are_on_their_scale", off_scale_columns(("log_range",)), ("high", "low"), WARNING,
                 "median log(high/low) within 8 spreads of the reference: a crash, or a new kind of data",
                 high=0, unit=" columns off", column="high"),
        measured("bar_ranges_have_not_drifted", drifted_columns(("log_range",), "ts", 1.0, 28), ("high", "low", "ts"),
                 WARNING, "PSI of log(high/low) against the reference under 1: a new regime, or a new kind of data",
                 high=0, unit=" columns drifted", column="high"),
    ),
)
# fmt: on
