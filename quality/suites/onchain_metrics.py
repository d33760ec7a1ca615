"""Suite of raw.onchain_metrics: chain counts, exchange flows, stablecoin supply. Out: ``SUITE``."""

from __future__ import annotations

from quality.conditions import value_not_leaping
from quality.measures import age_hours, level_shift, zero_share
from quality.suite import Suite, between, complete, holds, measured
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("provider", "asset", "metric", "ts")
SERIES = ("provider", "asset", "metric")
NOT_NEGATIVE = (
    "AdrActCnt", "TxCnt", "TxTfrCnt", "FeeTotNtv", "FeeTotUSD", "HashRate", "SplyCur", "CirculatingUSD",
    "CapMrktCurUSD", "FlowInExNtv", "FlowOutExNtv", "FlowInExUSD", "FlowOutExUSD", "IssTotNtv",
)  # fmt: skip
USED = (
    "AdrActCnt", "TxCnt", "TxGrowth", "FeeTotNtv", "HashRate", "CapMVRVCur", "FlowInExNtv", "FlowOutExNtv", "SplyCur",
    "CirculatingUSD",
)  # fmt: skip

# fmt: off
SUITE = Suite(
    name="raw.onchain_metrics",
    about="Daily values in long form. What a value may be depends on its metric.",
    key=KEY,
    columns={
        "provider": "text", "asset": "text", "metric": "text", "ts": "time", "value": "number",
        "known_at": "time", "source": "text",
    },
    optional=frozenset(),
    empty=WARNING,
    empty_message="there should be on-chain metrics: forecasts go on without them, flagged as missing",
    expectations=(
        *raw_rows(KEY),
        complete("value", CRITICAL, "value is there: quarantine the row"),
        between("value", 0, None, CRITICAL, "counts, fees, flows and supplies are not negative: quarantine the row",
                name="counts_are_not_negative", where=("metric", NOT_NEGATIVE)),
        between("value", 0.05, 50, CRITICAL, "market over realised value between 0.05 and 50: quarantine the row",
                name="CapMVRVCur_in_range", where=("metric", ("CapMVRVCur",))),
        holds("value_does_not_leap", value_not_leaping(100, "value", SERIES, USED), (*KEY, "value"), WARNING,
              "a metric that features use is within a factor of 100 of the one before: look at the provider's own chart", column="value"),
        measured("values_are_alive", zero_share("value"), ("value",), WARNING,
                 "under 20 % of values are zero: more means a field that the provider stopped filling",
                 high=20, unit=" %", column="value"),
        measured("onchain_is_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest day began under 96 h ago: the provider is late, features carry its age",
                 high=96, unit=" h", column="ts"),
        measured("metrics_keep_their_unit", level_shift("value", SERIES, USED), (*SERIES, "value"), WARNING,
                 "the median of a metric that features use is within a factor of 100 of the reference: native or USD?",
                 high=100, unit="x", column="value"),
    ),
)
# fmt: on
