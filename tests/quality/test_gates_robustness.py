"""Whatever a frame holds, a gate answers: it never raises on a value, and it points only at rows that exist."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quality import SUITES, validate
from quality.drift import population_stability_index
from quality.frames import typed
from tests.quality.plausible_frames import CLEAN, NOW

JUNK = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.text(max_size=12),
    st.binary(max_size=4),
    st.just("1h"),
    st.just("2023-03-01"),
    st.just(pd.NaT),
    st.just(pd.NA),
    st.just([1, 2]),
    st.just({"a": 1}),
    st.just(1 + 2j),
    st.just(date(2023, 3, 1)),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
)


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_junk_never_raises(suite: str, data: st.DataObject) -> None:
    frame = CLEAN[suite]().iloc[: data.draw(st.integers(1, 8))].reset_index(drop=True)
    columns = data.draw(
        st.lists(st.sampled_from(sorted(frame.columns)), min_size=1, max_size=5, unique=True)
    )
    for column in columns:
        values: list[Any] = list(frame[column])
        for row in data.draw(st.sets(st.integers(0, len(frame) - 1), min_size=1)):
            values[row] = data.draw(JUNK)
        frame[column] = pd.Series(values, dtype=object)
    verdict = validate(suite, frame, reference=CLEAN[suite](), now=NOW)
    for result in verdict.results:
        assert all(0 <= row < len(frame) for row in result.failing_rows)
        assert "the check itself failed" not in result.observed, result


@pytest.mark.parametrize("suite", SUITES)
def test_frames_of_nothing_but_nulls_are_judged(suite: str) -> None:
    clean = CLEAN[suite]()
    frame = pd.DataFrame({column: [None] * 5 for column in clean.columns})
    verdict = validate(suite, frame, reference=frame, now=NOW)
    assert not verdict.passed
    assert not [r for r in verdict.results if "the check itself failed" in r.observed]


def test_numbers_in_text_are_read_and_text_is_not() -> None:
    frame = pd.DataFrame({"x": ["1.5", "nan", "inf", "one", None, 10**400]})
    found = typed(frame, {"x": "number"})
    np.testing.assert_array_equal(found.frame["x"].to_numpy()[:2], [1.5, np.nan])
    assert found.unreadable.tolist() == [False, False, True, True, False, True]


def test_times_become_utc_and_bare_numbers_do_not_become_times() -> None:
    frame = pd.DataFrame(
        {"t": [date(2023, 3, 1), "2023-03-01T02:00:00+02:00", 1_677_628_800, "soon"]}, dtype=object
    )
    found = typed(frame, {"t": "time"})
    assert found.frame["t"].iloc[0] == pd.Timestamp("2023-03-01", tz="UTC")
    assert found.frame["t"].iloc[1] == pd.Timestamp("2023-03-01", tz="UTC")
    assert found.unreadable.tolist() == [False, False, True, True]


@given(
    size=st.integers(100, 2000),
    other=st.integers(100, 2000),
    power=st.integers(-20, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_stability_index_ignores_the_unit_and_is_small_under_no_change(
    size: int, other: int, power: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sample, reference = rng.normal(size=size), rng.normal(size=other)
    index = population_stability_index(sample, reference)
    assert 0.0 <= index < 0.25 + 40 * (1 / size + 1 / other)
    scale = 2.0**power  # exact, so no value changes its side of a bin's edge
    rescaled = population_stability_index(sample * scale, reference * scale)
    np.testing.assert_allclose(rescaled, index, rtol=1e-9, atol=1e-9)
    assert population_stability_index(sample + 3.0, reference) > 0.25


def test_the_stability_index_of_too_few_values_is_unknown() -> None:
    assert np.isnan(population_stability_index(np.ones(99), np.ones(500)))
    assert population_stability_index(np.ones(200), np.ones(500)) == 0.0
