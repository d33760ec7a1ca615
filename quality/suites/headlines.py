"""Suite of raw.headlines: news titles. Out: ``SUITE``."""

from __future__ import annotations

from quality.conditions import text_is_clean
from quality.measures import age_hours
from quality.suite import Expectation, Suite, complete, holds, measured
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("publisher", "id")

# fmt: off
SUITE = Suite(
    name="raw.headlines",
    about="Titles are scored for tone: a bad one costs a little, so only what cannot be a title is critical.",
    key=KEY,
    columns={
        "publisher": "text", "id": "text", "ts": "time", "title": "text", "url": "text",
        "known_at": "time", "source": "text",
    },
    optional=frozenset({"url"}),
    empty=WARNING,
    empty_message="there should be headlines: forecasts go on without them, flagged as missing",
    expectations=(
        *raw_rows(KEY),
        complete("ts", CRITICAL, "the time of publication is there: quarantine the row"),
        complete("title", WARNING, "title is there: it cannot be scored and is left out of the tone"),
        Expectation("title_is_a_title", "expect_column_value_lengths_to_be_between", "title", CRITICAL,
                    "a title has at most 1000 characters: a page where a title belongs? Quarantine the row",
                    {"column": "title", "max_value": 1000}, needs=("title",)),
        Expectation("title_has_a_usual_length", "expect_column_value_lengths_to_be_between", "title", WARNING,
                    "a title has 10 to 300 characters: look at the connector",
                    {"column": "title", "min_value": 10, "max_value": 300}, needs=("title",)),
        holds("title_is_clean", text_is_clean("title"), ("title",), WARNING,
              "no mojibake, markup or control characters: mend the encoding; words in it are scored wrongly",
              column="title"),
        Expectation("url_is_a_web_address", "expect_column_values_to_match_regex", "url", WARNING,
                    "url begins with http:// or https://: it is shown as text only, never as a link",
                    {"column": "url", "regex": r"^https?://\S+$"}, needs=("url",)),
        measured("headlines_are_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest headline is under 48 h old: see whether the feed is down",
                 high=48, unit=" h", column="ts"),
    ),
)
# fmt: on
