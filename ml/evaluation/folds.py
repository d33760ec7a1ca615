"""Walk-forward folds, in the words of skforecast: steps, refit, gap, fixed_train_size.

In: a number of rows (days). Out: `Fold` objects of row ranges. Never: a training row at or after its test rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Fold:
    """One step of a walk forward; rows are as_of days."""

    train: range
    test: range
    refit: bool  # False: forecast with the model of an earlier fold, whose training rows `train` still names

    @property
    def fit_row(self) -> int:
        """The day whose information set the fit may read: the one after the last training row.

        By then the one-day target of that row has ended; targets of a longer horizon that have not are left out by
        `Panel.target`. With no gap it is the first test row itself, whose forecast is made when that day is over.
        """
        return self.train.stop

    def assets(self, first_rows: Mapping[str, int], minimum: int) -> tuple[str, ...]:
        """The coins that have at least `minimum` training rows, given the row at which each one's data starts."""
        if minimum < 1:
            raise ValueError(f"minimum {minimum}: expected a positive number of training rows")
        return tuple(
            asset
            for asset, first in first_rows.items()
            if self.train.stop - max(self.train.start, first) >= minimum
        )


def purge(horizon: int) -> int:
    """The gap that keeps targets of training rows from ending after the first test row: horizon - 1.

    A row t has its target on days t+1 .. t+horizon; the forecast of the first test row s is made when day s is over.
    """
    if horizon < 1:
        raise ValueError(f"horizon {horizon}: expected a positive number of days")
    return horizon - 1


def fits(folds: Iterable[Fold]) -> list[Fold]:
    """One fold for each fit: successive folds that share a model become one with all their test rows."""
    merged: list[Fold] = []
    for fold in folds:
        if merged and not fold.refit:
            merged[-1] = replace(merged[-1], test=range(merged[-1].test.start, fold.test.stop))
        else:
            merged.append(fold)
    return merged


@dataclass(frozen=True)
class WalkForward:
    """Test blocks of `steps` rows one after the other, each forecast from the rows before it."""

    steps: int
    """Rows of each test block; the last may be shorter."""
    initial_train_size: int
    """Rows of the first training range, the gap not counted."""
    refit: int | bool = True
    """True: every fold fits. k: every k-th fold fits. False: only the first."""
    fixed_train_size: bool = True
    """True: a rolling window of `initial_train_size` rows. False: an expanding one."""
    gap: int = 0
    """Rows left out between training and test; `purge(horizon)` for a target of that horizon."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("initial_train_size", 1), ("gap", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} {value!r}: expected a whole number of at least {least}")
        if not isinstance(self.refit, int) or (not isinstance(self.refit, bool) and self.refit < 1):
            raise ValueError(
                f"refit {self.refit!r}: expected True, False or a positive number of folds"
            )

    def split(self, rows: int, first_test: int | None = None) -> Iterator[Fold]:
        """The folds of `rows` rows; ValueError when not even one test row is left.

        `first_test`: the first test row, by default the first that leaves a full training range before it. An earlier one
        starts with fewer training rows.
        """
        first = self.initial_train_size + self.gap if first_test is None else first_test
        if rows <= first:
            raise ValueError(
                f"{rows} rows: expected more than {first} (initial_train_size {self.initial_train_size} and gap "
                f"{self.gap})"
            )
        if first <= self.gap:
            raise ValueError(f"first_test {first}: expected more than the gap of {self.gap} rows")
        train = range(0)
        for number, start in enumerate(range(first, rows, self.steps)):
            refit = number == 0 or (bool(self.refit) and number % int(self.refit) == 0)
            if refit:
                stop = start - self.gap
                oldest = max(0, stop - self.initial_train_size) if self.fixed_train_size else 0
                train = range(oldest, stop)
            yield Fold(train, range(start, min(start + self.steps, rows)), refit)
