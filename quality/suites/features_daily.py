"""Suite of features.daily: the wide, aligned row that models read. Out: ``SUITE``."""

from __future__ import annotations

from quality.drift import dark_columns, drifted_columns, off_scale_columns
from quality.features_conditions import (
    MODALITIES,
    ages_not_negative,
    coins_without_a_price,
    decided_after_the_day,
    flag_tells_completeness,
    present_unless_missing,
    semivariances_add_up,
    weekday_of_the_target,
)
from quality.frames import Kind
from quality.measures import absent_assets, age_hours, missing_days
from quality.suite import (
    Suite,
    between,
    complete,
    holds,
    measured,
    not_after_decision,
    not_before,
    one_of,
)
from quality.suites.common import SOURCES, all_readable, unique
from quality.verdict import CRITICAL, WARNING

KEY = ("asset", "as_of")
AGES = tuple(f"{modality}_age_days" for modality in MODALITIES)
FLAGS = tuple(f"{modality}_missing" for modality in MODALITIES)
VARIANCES = (
    "rv_d", "bipower_d", "jump_d", "semivariance_neg_d", "semivariance_pos_d", "parkinson_d", "garman_klass_d",
    "rogers_satchell_d", "yang_zhang_22d", "rv_last_1h", "rv_last_4h", "rv_last_8h", "rv_last_12h", "rv_2d", "rv_5d",
    "rv_22d", "rv_66d", "btc_rv_d", "btc_rv_5d",
)  # fmt: skip
PRICE = (
    "return_d", "quarticity_d", "high_low_range_d", "return_5d", "return_22d", "abs_return_d", "quote_volume_d",
    "log_volume_ratio_22d", "amihud_22d", "corwin_schultz_d", "market_log_rv_d", "market_log_rv_5d", "btc_return_d",
)  # fmt: skip
CALENDAR = ("target_weekday", "target_weekend_share_5", "target_weekend_share_22")
CONTEXT = (
    "funding_rate_d", "funding_rate_7d", "funding_dispersion_d", "funding_venues",
    "open_interest", "open_interest_change_1d", "open_interest_change_7d",
    "implied_volatility", "implied_volatility_change_1d", "implied_volatility_change_5d", "implied_volatility_market",
    "active_addresses_change_7d", "transactions_change_7d", "fees_change_7d", "hash_rate_change_7d", "mvrv",
    "exchange_netflow_ratio", "exchange_flow_change_7d",
    "stablecoin_growth_1d", "stablecoin_growth_7d", "stablecoin_growth_30d",
    "fear_greed", "fear_greed_change_7d", "news_tone", "news_count_log", "headline_tone", "headline_count_log",
    "social_volume_change_7d",
    "book_imbalance_10_d", "book_imbalance_50bp_d", "book_spread_bps_d", "book_microprice_offset_bps_d",
    "book_depth_50bp_usd_d",
)  # fmt: skip
PROVIDERS = (
    "open_interest_provider", "implied_volatility_provider", "onchain_provider", "stablecoin_provider", "sentiment_provider",
    "order_book_provider",
)  # fmt: skip
# Fast and of one coin: what is slow (22-day means) or shared by all coins drifts every month by nature.
FAST = (
    "return_d", "rv_d", "bipower_d", "jump_d", "quarticity_d", "semivariance_neg_d", "semivariance_pos_d", "parkinson_d",
    "garman_klass_d", "rogers_satchell_d", "rv_last_12h", "high_low_range_d", "log_volume_ratio_22d", "funding_rate_d",
    "funding_dispersion_d", "open_interest_change_1d", "implied_volatility_change_1d", "active_addresses_change_7d",
    "transactions_change_7d", "fees_change_7d", "hash_rate_change_7d", "exchange_netflow_ratio",
)  # fmt: skip
COLUMNS: dict[str, Kind] = {
    "source": "text", "asset": "text", "as_of": "time", "decision_time": "time", "bar_interval": "text",
    "bars_expected": "number", "bars_used": "number", "bars_complete": "flag", "close": "number",
    "onchain_flows_revised": "flag",
    **dict.fromkeys((*VARIANCES, *PRICE, *CALENDAR, *CONTEXT, *AGES), "number"),
    **dict.fromkeys(FLAGS, "flag"),
    **dict.fromkeys(PROVIDERS, "text"),
}  # fmt: skip
REQUIRED = (
    "source",
    "asset",
    "as_of",
    "decision_time",
    "close",
    "rv_d",
    "rv_5d",
    "rv_22d",
    "price_missing",
)

# fmt: off
SUITE = Suite(
    name="features.daily",
    about="One row a coin and day, as known at the decision time. What is wrong here goes into every model.",
    key=KEY,
    columns=COLUMNS,
    optional=frozenset(COLUMNS) - frozenset(REQUIRED),
    empty=CRITICAL,
    empty_message="there must be feature rows: build the features before anything is trained or forecast",
    expectations=(
        *(complete(column, CRITICAL, f"{column} names the row: rebuild the table")
          for column in (*KEY, "source", "decision_time")),
        unique(KEY),
        all_readable(),
        one_of("source", SOURCES, CRITICAL, "source is archive, simulated or live: rebuild the table"),
        not_after_decision("decision_time", "no row is decided after the decision time: rebuild, the future got in"),
        holds("decision_follows_the_day", decided_after_the_day, ("decision_time", "as_of"), CRITICAL,
              "decision_time is within the day after as_of: look at the decision offset", column="decision_time"),
        holds("no_negative_age", ages_not_negative(AGES), AGES, CRITICAL,
              "no modality has a negative age: a value from after the decision time got in; look at the as-of joins"),
        between("close", 0, None, CRITICAL, "close is above zero: a bad bar that the raw gate let in", above=True),
        between("rv_d", 0, 10, CRITICAL,
                "daily variance above 0 and at most 10: a frozen feed, returns in percent, or a bad bar", above=True),
        *(between(column, 0, 10, CRITICAL, f"{column} between 0 and 10 per day: a bad bar got in")
          for column in VARIANCES if column != "rv_d"),
        between("return_d", -3, 3, CRITICAL, "|log return| at most 3 per day: a bad bar that the raw gate let in"),
        between("high_low_range_d", 0, 5, CRITICAL, "log(high/low) between 0 and 5: a bad bar got in"),
        holds("semivariances_add_up", semivariances_add_up, ("semivariance_neg_d", "semivariance_pos_d", "rv_d"),
              WARNING, "negative and positive semivariance sum to rv_d: look at the intermediate model", column="rv_d"),
        not_before("bars_expected", "bars_used", CRITICAL,
                   "no more bars used than a day has: duplicates got into the features",
                   name="bars_used_at_most_expected"),
        holds("complete_means_80_percent", flag_tells_completeness("bars_complete", 0.8),
              ("bars_complete", "bars_used", "bars_expected"), CRITICAL,
              "bars_complete is true exactly from 80 % of the bars on: rebuild the table", column="bars_complete"),
        holds("target_weekday_is_right", weekday_of_the_target, ("target_weekday", "as_of"), CRITICAL,
              "target_weekday is the weekday of as_of + 1: the calendar is shifted", column="target_weekday"),
        *(between(column, 0, 1, CRITICAL, f"{column} is a share")
          for column in ("target_weekend_share_5", "target_weekend_share_22", "fear_greed")),
        between("funding_rate_d", -0.4, 0.4, CRITICAL, "|8-hour funding| at most 0.4: percent, not a decimal?"),
        between("funding_dispersion_d", 0, None, CRITICAL, "a dispersion is not negative: look at its intermediate"),
        between("open_interest", 0, None, CRITICAL, "open interest is not negative: a bad value got in"),
        between("implied_volatility", 0.01, 5, CRITICAL,
                "implied volatility is an annualised fraction between 0.01 and 5: a percent where a fraction belongs?"),
        between("news_tone", -1, 1, CRITICAL, "tone between -1 and 1: look at the intermediate model"),
        between("headline_tone", -1, 1, CRITICAL, "tone between -1 and 1: look at the scoring of headlines"),
        between("exchange_netflow_ratio", -1, 1, CRITICAL, "net flow ratio between -1 and 1: a flow has a wrong sign"),
        *(between(column, -1, 1, CRITICAL, "an imbalance is between -1 and 1: look at the intermediate model")
          for column in ("book_imbalance_10_d", "book_imbalance_50bp_d")),
        between("book_spread_bps_d", 0, None, CRITICAL, "a spread is not negative: a crossed book got in"),
        between("mvrv", 0.05, 50, WARNING, "market over realised value between 0.05 and 50: look at the provider"),
        between("stablecoin_growth_1d", -0.5, 0.5, WARNING,
                "stablecoin supply within 50 % of the day before: did a coin enter or leave the total?"),
        *(holds(f"{modality}_is_there_unless_missing", present_unless_missing(modality),
                (f"{modality}_missing", MODALITIES[modality]), WARNING,
                f"{modality} is flagged as missing where {MODALITIES[modality]} is null", column=MODALITIES[modality])
          for modality in ("price", "funding", "open_interest", "implied_volatility")),
        measured("coins_have_prices", coins_without_a_price, ("asset", "as_of", "price_missing"), WARNING,
                 "every coin has a price on the newest day: those without one get no forecast",
                 high=0, unit=" % without", column="price_missing"),
        measured("most_coins_have_prices", coins_without_a_price, ("asset", "as_of", "price_missing"), CRITICAL,
                 "half of the coins have a price on the newest day: the market terms are meaningless without",
                 high=50, unit=" % without", column="price_missing"),
        measured("no_coin_is_gone", absent_assets("as_of"), KEY, CRITICAL,
                 "every coin has a row on the newest day: build the missing coin or take it off the list",
                 high=0, unit=" coins", column="asset"),
        measured("no_days_are_missing", missing_days, KEY, WARNING,
                 "every day between a coin's first and last has a row: rebuild the gap, lags are counted in days",
                 high=0, unit=" days", column="as_of"),
        measured("features_are_fresh", age_hours("decision_time"), ("decision_time",), CRITICAL,
                 "the newest row is of the last decision time: build today's features before forecasting",
                 high=23.99, unit=" h", column="decision_time"),
        measured("no_feature_went_dark", dark_columns((*VARIANCES, *PRICE, *CONTEXT)), (), WARNING,
                 "features that the reference has are still there: see which provider stopped",
                 high=0, unit=" columns dark"),
        measured("features_are_on_their_scale", off_scale_columns((*VARIANCES, *PRICE, *CONTEXT)), (), WARNING,
                 "every feature's median within 8 spreads of the reference: a crash, another unit, or a broken join",
                 high=0, unit=" columns off"),
        measured("features_have_not_drifted", drifted_columns(FAST, "as_of", 0.5), ("as_of",), WARNING,
                 "PSI of every fast feature against the reference at most 0.5: a new regime or a new kind of data",
                 high=0, unit=" columns drifted"),
    ),
)
# fmt: on
