"""Outcomes as they were first known, against the panel of each day."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ml.evaluation.outcomes import COLUMNS, first_known_outcomes
from ml.evaluation.scores import realized_outcomes
from ml.panel import Panel

HORIZONS = (1, 5)


def realized_rows(days: int = 40, seed: int = 0) -> pd.DataFrame:
    """Two coins; some days come late, some are revised, some never come."""
    generator = np.random.default_rng(seed)
    rows = []
    for asset in ("BTC", "ETH"):
        for day in range(days):
            stamp = pd.Timestamp("2022-01-01") + pd.Timedelta(days=day)
            kind = generator.random()
            if kind < 0.05:
                continue
            late = int(generator.integers(1, 6)) if kind < 0.25 else 0
            versions = [late, late + 3] if kind > 0.85 else [late]
            for wait in versions:
                rows.append(
                    {
                        "source": "simulated", "asset": asset, "day": stamp,
                        "known_on": stamp + pd.Timedelta(days=wait), "complete": generator.random() > 0.05,
                        "realized_variance": float(generator.lognormal(-8, 1)), "return": 0.0, "close": 1.0,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_an_outcome_is_what_the_panel_of_the_day_it_became_known_says() -> None:
    realized = realized_rows()
    days = realized[["source", "asset", "day"]].drop_duplicates().rename(columns={"day": "as_of"})
    panel = Panel.from_frames(days, realized)
    found = first_known_outcomes(realized, HORIZONS).set_index(["asset", "as_of", "horizon"])
    assert tuple(found.reset_index().columns) == COLUMNS
    seen = 0
    for horizon in HORIZONS:
        first: dict[tuple[int, int], tuple[float, np.datetime64]] = {}
        for now in range(len(panel.days)):
            target = panel.until(panel.days[now].item()).target(horizon)
            for row, asset in np.argwhere(target > 0):
                first.setdefault((row, asset), (target[row, asset], panel.days[now]))
        for (row, asset), (value, on) in first.items():
            outcome = found.loc[(panel.assets[asset], pd.Timestamp(panel.days[row]), horizon)]
            assert np.isclose(outcome["realized_variance"], value, rtol=1e-12)
            assert outcome["known_on"] == pd.Timestamp(on)
            seen += 1
    assert seen == len(found) > 100


def test_later_revisions_change_no_outcome_but_change_the_score() -> None:
    realized = realized_rows()
    outcomes = first_known_outcomes(realized, HORIZONS)
    revision = realized[realized["day"] == pd.Timestamp("2022-01-10")].copy()
    revision["known_on"] = pd.Timestamp("2022-02-08")
    revision = revision.drop_duplicates("asset").assign(realized_variance=9.0, complete=True)
    revised = pd.concat([realized, revision], ignore_index=True)
    already = outcomes[outcomes["known_on"] < pd.Timestamp("2022-02-08")]
    after = first_known_outcomes(revised, HORIZONS)
    after = after[after["known_on"] < pd.Timestamp("2022-02-08")]
    pd.testing.assert_frame_equal(after.reset_index(drop=True), already.reset_index(drop=True))
    assert (realized_outcomes(revised, HORIZONS)["realized_variance"] > 1).any()


def test_no_rows_give_no_outcomes() -> None:
    assert first_known_outcomes(realized_rows().iloc[:0], HORIZONS).empty
