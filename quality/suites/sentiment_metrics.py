"""Suite of raw.sentiment_metrics: Fear & Greed, news and social counts. Out: ``SUITE``."""

from __future__ import annotations

from quality.measures import age_hours, level_shift
from quality.suite import Suite, between, complete, measured
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("provider", "asset", "metric", "ts")
SERIES = ("provider", "asset", "metric")
COUNTS = (
    "market_news_positive_count", "market_news_negative_count", "market_news_neutral_count", "btc_social_posts_created",
    "btc_reddit_posts_volume", "btc_reddit_comments_volume", "btc_wikipedia_pageviews", "gdelt_total_articles",
    "gdelt_article_count", "headline_count",
)  # fmt: skip
TONES = ("gdelt_tone", "headline_tone")

# fmt: off
SUITE = Suite(
    name="raw.sentiment_metrics",
    about="Daily and weekly values in long form; the least reliable modality, so only impossible values are critical.",
    key=KEY,
    columns={
        "provider": "text", "asset": "text", "metric": "text", "ts": "time", "value": "number", "label": "text",
        "known_at": "time", "source": "text",
    },
    optional=frozenset({"label"}),
    empty=WARNING,
    empty_message="there should be sentiment: forecasts go on without it, flagged as missing",
    expectations=(
        *raw_rows(KEY),
        complete("value", CRITICAL, "value is there: quarantine the row"),
        between("value", 0, 100, CRITICAL, "Fear & Greed between 0 and 100: quarantine the row",
                name="fear_greed_in_range", where=("metric", ("fear_greed",))),
        between("value", 0, None, CRITICAL, "a count is not negative: quarantine the row",
                name="counts_are_not_negative", where=("metric", COUNTS)),
        between("value", -100, 100, CRITICAL, "GDELT's tone between -100 and 100: quarantine the row",
                name="gdelt_tone_in_range", where=("metric", ("gdelt_tone",))),
        between("value", -1, 1, CRITICAL, "tone of headlines between -1 and 1: quarantine the row, look at who scores",
                name="headline_tone_in_range", where=("metric", ("headline_tone",))),
        measured("sentiment_is_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest day began under 72 h ago: the provider is late, features carry its age",
                 high=72, unit=" h", column="ts"),
        measured("metrics_keep_their_unit", level_shift("value", SERIES, besides=TONES), (*SERIES, "value"), WARNING,
                 "every metric's median within a factor of 100 of the reference: has the provider changed its scale?",
                 high=100, unit="x", column="value"),
    ),
)
# fmt: on
