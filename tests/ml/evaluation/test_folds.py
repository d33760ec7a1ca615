"""Walk-forward folds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.evaluation.folds import WalkForward, fits, purge


def test_rolling_folds_by_hand() -> None:
    folds = list(WalkForward(steps=3, initial_train_size=4, gap=1).split(11))
    assert [(f.train, f.test) for f in folds] == [
        (range(4), range(5, 8)),
        (range(3, 7), range(8, 11)),
    ]
    assert all(fold.refit for fold in folds)


def test_expanding_folds_refit_every_second_one() -> None:
    folds = list(
        WalkForward(steps=2, initial_train_size=4, refit=2, fixed_train_size=False).split(11)
    )
    assert [fold.refit for fold in folds] == [True, False, True, False]
    assert [fold.train for fold in folds] == [range(4), range(4), range(8), range(8)]
    assert folds[-1].test == range(10, 11)
    assert [f.refit for f in WalkForward(2, 4, refit=False).split(11)] == [
        True,
        False,
        False,
        False,
    ]


def test_coins_join_when_they_have_enough_rows() -> None:
    first, second = WalkForward(steps=5, initial_train_size=10).split(20)
    assert first.assets({"BTC": 0, "NEW": 6}, minimum=5) == ("BTC",)
    assert second.assets({"BTC": 0, "NEW": 6}, minimum=5) == ("BTC", "NEW")


def test_a_fit_reads_the_day_after_its_last_training_row_and_no_later_one() -> None:
    without_gap, *_ = WalkForward(steps=3, initial_train_size=4).split(11)
    assert without_gap.fit_row == without_gap.test.start == 4
    with_gap, *_ = WalkForward(steps=3, initial_train_size=4, gap=2).split(11)
    assert (with_gap.fit_row, with_gap.test.start) == (4, 6)


def test_a_walk_may_start_before_the_first_full_window() -> None:
    folds = list(WalkForward(steps=5, initial_train_size=10).split(20, first_test=6))
    assert [fold.train for fold in folds] == [range(6), range(1, 11), range(6, 16)]
    assert [fold.test for fold in folds] == [range(6, 11), range(11, 16), range(16, 20)]
    with pytest.raises(ValueError, match="first_test 2: expected more than the gap of 2 rows"):
        list(WalkForward(steps=5, initial_train_size=10, gap=2).split(20, first_test=2))


def test_folds_that_share_a_fit_are_one_with_all_their_test_rows() -> None:
    folds = list(WalkForward(steps=2, initial_train_size=4, refit=2).split(11))
    assert [(f.train, f.test) for f in fits(folds)] == [
        (range(4), range(4, 8)),
        (range(4, 8), range(8, 11)),
    ]
    once = fits(WalkForward(steps=2, initial_train_size=4, refit=False).split(11))
    assert [fold.test for fold in once] == [range(4, 11)]


@given(
    st.integers(1, 30), st.integers(1, 200), st.integers(1, 22), st.booleans(), st.integers(1, 300)
)
def test_tests_follow_each_other_and_no_target_reaches_into_them(
    steps: int, size: int, horizon: int, fixed: bool, extra: int
) -> None:
    rows = size + purge(horizon) + extra
    folds = list(WalkForward(steps, size, fixed_train_size=fixed, gap=purge(horizon)).split(rows))
    assert [row for fold in folds for row in fold.test] == list(range(size + purge(horizon), rows))
    for fold in folds:
        assert fold.train[-1] + horizon <= fold.test[0]
        assert len(fold.train) == size or not fixed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0, "initial_train_size": 5}, "steps 0: expected a whole number of at least 1"),
        ({"steps": 1, "initial_train_size": 5, "gap": -1}, "gap -1: expected"),
        ({"steps": 1, "initial_train_size": 5, "refit": -2}, "refit -2: expected True, False"),
    ],
)
def test_wrong_arguments_are_quoted(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WalkForward(**arguments)


def test_too_few_rows_are_quoted() -> None:
    with pytest.raises(ValueError, match="6 rows: expected more than 6"):
        list(WalkForward(steps=1, initial_train_size=5, gap=1).split(6))
    with pytest.raises(ValueError, match="horizon 0"):
        purge(0)
