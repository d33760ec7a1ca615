"""Hours of order books: the SQL gives what plain Python reads from the same snapshots."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.transforms.conftest import Built
from tests.transforms.warehouse import table

MEASURES = ("mid_price", "spread_bps", "microprice_offset_bps", "imbalance_10", "imbalance_50bp")
DEPTHS = {"depth_bid_10bp_usd", "depth_ask_10bp_usd", "depth_bid_50bp_usd", "depth_ask_50bp_usd"}


def _measures(row: pd.Series) -> pd.Series:
    bids, asks = np.array(json.loads(row["bids"])), np.array(json.loads(row["asks"]))
    mid = (bids[0, 0] + asks[0, 0]) / 2
    reach = min(mid - bids[-1, 0], asks[-1, 0] - mid)
    touch = bids[0, 1] + asks[0, 1]

    def depth(side: np.ndarray, distance: float) -> float:
        return float(np.prod(side[np.abs(side[:, 0] - mid) <= distance], axis=1).sum())

    def imbalance(bid: float, ask: float) -> float:
        return (bid - ask) / (bid + ask)

    near = min(reach, mid * 0.005)
    return pd.Series(
        {
            "mid_price": mid,
            "spread_bps": 1e4 * (asks[0, 0] - bids[0, 0]) / mid,
            "microprice_offset_bps": 1e4
            * ((bids[0, 0] * asks[0, 1] + asks[0, 0] * bids[0, 1]) / touch / mid - 1),
            "imbalance_10": imbalance(np.prod(bids[:10], 1).sum(), np.prod(asks[:10], 1).sum()),
            "imbalance_50bp": imbalance(depth(bids, near), depth(asks, near)),
            "depth_bid_10bp_usd": depth(bids, mid * 0.001),
            "depth_ask_10bp_usd": depth(asks, mid * 0.001),
            "depth_bid_50bp_usd": depth(bids, mid * 0.005),
            "depth_ask_50bp_usd": depth(asks, mid * 0.005),
            "reach_bps": 1e4 * reach / mid,
        }
    )


def _hours(snapshots: pd.DataFrame) -> pd.DataFrame:
    """Hours as first known: per market the mean, over markets the mean, depth the sum."""
    books = snapshots.copy()
    day = books["ts"].dt.floor("D")
    known = (books["known_at"] - pd.Timedelta(minutes=30, microseconds=1)).dt.floor("D")
    books["known_on"] = np.maximum(known, day)
    books["hour"] = books["ts"].dt.floor("h")
    first = books.groupby(["asset", "hour"])["known_on"].transform("min")
    books = books[books["known_on"] == first]
    books = pd.concat([books, books.apply(_measures, axis=1)], axis=1)
    markets = books.groupby(["asset", "hour", "known_on", "venue"])
    means = markets[[*MEASURES, *DEPTHS]].mean()
    grain = ["asset", "hour", "known_on"]
    hours = means.groupby(grain).agg(
        {column: "sum" if column in DEPTHS else "mean" for column in means}
    )
    by_hour = books.groupby(grain)
    hours["spread_bps_max"] = by_hour["spread_bps"].max()
    hours["reach_bps"] = by_hour["reach_bps"].min()
    hours["venues"] = by_hour["venue"].nunique()
    hours["snapshots"] = by_hour.size()
    return hours


@pytest.fixture(scope="module")
def hours(built: Built) -> pd.DataFrame:
    found = table(built.path, "features.order_book").rename(columns={"ts": "hour"})
    found["known_on"] = pd.to_datetime(found["known_on"]).dt.tz_localize("UTC")
    return found.set_index(["asset", "hour", "known_on"])


def test_hours_equal_a_plain_reading_of_the_snapshots(built: Built, hours: pd.DataFrame) -> None:
    expected = _hours(built.frames["order_books"])
    assert len(hours) == len(expected) > 300
    for column in expected:
        np.testing.assert_allclose(
            hours[column].reindex(expected.index),
            expected[column],
            rtol=1e-9,
            atol=1e-9,
            err_msg=column,
        )


def test_the_market_has_what_the_hours_must_survive(built: Built, hours: pd.DataFrame) -> None:
    days_late = hours.reset_index()
    days_late = (days_late["known_on"] - days_late["hour"].dt.floor("D")).dt.days
    assert days_late.value_counts().drop(0).to_dict() == {1: 2}  # LATE_BOOKS of two coins
    assert set(hours["venues"]) == {1, 2}
    assert hours["reach_bps"].min() < 50 < hours["reach_bps"].max()
    assert hours["snapshots"].sum() < len(built.frames["order_books"]) * 0.97  # late, revised
    assert (hours["spread_bps"] < 20).all()  # no revised snapshot, whose spread is 952 bp
