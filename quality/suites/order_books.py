"""Suite of raw.order_books: snapshots of both sides of a book. Out: ``SUITE``."""

from __future__ import annotations

from quality.measures import age_hours
from quality.order_book_conditions import best_first, is_a_side, not_crossed
from quality.suite import Suite, holds, measured
from quality.suites.common import raw_rows
from quality.verdict import CRITICAL, WARNING

KEY = ("venue", "symbol", "asset", "ts")

# fmt: off
SUITE = Suite(
    name="raw.order_books",
    about="Snapshots captured on a schedule. No model reads them yet, so only a row that is no book is critical.",
    key=KEY,
    columns={
        "venue": "text", "symbol": "text", "asset": "text", "ts": "time", "bids": "text", "asks": "text",
        "known_at": "time", "source": "text",
    },
    optional=frozenset(),
    empty=WARNING,
    empty_message="no order books: forecasts do without them; a live source captures them from now on, none has their past",
    expectations=(
        *raw_rows(KEY),
        *(
            holds(f"{side}_are_levels", is_a_side(side), (side,), CRITICAL,
                  f"{side} are JSON [[price, amount], ...], at least one, above zero and finite: quarantine the snapshot",
                  column=side)
            for side in ("bids", "asks")
        ),
        holds("bids_fall", best_first("bids", -1), ("bids",), CRITICAL,
              "bids fall from the best one: quarantine the snapshot and look at the connector's order", column="bids"),
        holds("asks_rise", best_first("asks", 1), ("asks",), CRITICAL,
              "asks rise from the best one: quarantine the snapshot and look at the connector's order", column="asks"),
        holds("book_is_not_crossed", not_crossed, ("bids", "asks"), CRITICAL,
              "best bid < best ask: quarantine the snapshot, its sides are of different moments", column="bids"),
        measured("order_books_are_fresh", age_hours("ts"), ("ts",), WARNING,
                 "the newest snapshot is under 2 h old: is the capture schedule running? What it misses cannot be had later",
                 high=2, unit=" h", column="ts"),
    ),
)
# fmt: on
