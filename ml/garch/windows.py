"""What is to be fitted: windows of return series, in chains that pass their solution on.

In: series of one or many coins. Out: one array with an offset and a length a window. Never: copying a window out of its series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHAIN_LENGTH = 64
"""Windows a chain: one cold start in 64, and enough chains to fill eight lanes and every thread."""


@dataclass(frozen=True)
class Windows:
    """P windows into `values`; window p covers values[offsets[p] : offsets[p] + lengths[p]], without gaps.

    Windows chain_first[c] .. chain_stop[c] - 1 form chain c: all but its first start from the solution before them.
    `terms` (total, x) are exogenous variance terms and `measure` (total,) realised measures (variance units), aligned with
    `values`: row t is known on day t.
    """

    values: Floats  # (total,)
    offsets: Ints  # (P,)
    lengths: Ints  # (P,)
    chain_first: Ints  # (C,)
    chain_stop: Ints  # (C,)
    terms: Floats | None = None
    measure: Floats | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            place = int(np.flatnonzero(~np.isfinite(self.values))[0])
            raise ValueError(
                f"return {self.values[place]} at {place}: expected finite numbers; leave missing days out"
            )
        for label, array in (("terms", self.terms), ("measure", self.measure)):
            if array is not None and (
                len(array) != len(self.values) or not np.isfinite(array).all()
            ):
                raise ValueError(
                    f"{label} of {len(array)} rows: expected {len(self.values)} finite ones, as returns"
                )
        ends = self.offsets + self.lengths
        if len(ends) and (
            self.offsets.min() < 0 or ends.max() > len(self.values) or self.lengths.min() < 2
        ):
            raise ValueError(
                f"windows from {self.offsets.min()} to {ends.max()}, shortest {self.lengths.min()}: "
                f"expected at least 2 days each, inside {len(self.values)} values"
            )

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def separate(
        cls,
        series: Sequence[Floats],
        terms: Sequence[Floats] | None = None,
        measure: Sequence[Floats] | None = None,
    ) -> Windows:
        """Each whole series a window of its own, started cold."""
        lengths = np.array([len(one) for one in series], dtype=np.int64)
        first = np.arange(len(series), dtype=np.int64)
        return cls(
            np.concatenate(series).astype(np.float64),
            np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64),
            lengths,
            first,
            first + 1,
            None if terms is None else np.concatenate(terms).astype(np.float64),
            None if measure is None else np.concatenate(measure).astype(np.float64),
        )

    @classmethod
    def rolling(
        cls, series: Sequence[Floats], days: int, step: int = 1, chain_length: int = CHAIN_LENGTH
    ) -> Windows:
        """Windows of `days` every `step` days over each series, oldest first; `chain_length` 1 starts every one cold."""
        if days < 2 or step < 1 or chain_length < 1:
            raise ValueError(
                f"days {days}, step {step}, chain_length {chain_length}: expected days >= 2 and positive numbers"
            )
        offsets, first, stop, base, count = [], [], [], 0, 0
        for one in series:
            starts = np.arange(0, len(one) - days + 1, step, dtype=np.int64)
            heads = np.arange(0, len(starts), chain_length, dtype=np.int64)
            offsets.append(base + starts)
            first.append(count + heads)
            stop.append(count + np.minimum(heads + chain_length, len(starts)))
            base, count = base + len(one), count + len(starts)
        return cls(
            np.concatenate(series).astype(np.float64),
            np.concatenate(offsets),
            np.full(count, days, dtype=np.int64),
            np.concatenate(first),
            np.concatenate(stop),
        )

    def subset(self, places: Ints) -> Windows:
        """Some windows, each a chain of its own."""
        first = np.arange(len(places), dtype=np.int64)
        return Windows(
            self.values,
            self.offsets[places],
            self.lengths[places],
            first,
            first + 1,
            self.terms,
            self.measure,
        )

    def heads(self) -> Ints:
        """The windows that start cold."""
        return self.chain_first[self.chain_stop > self.chain_first]

    def moments(self, places: Ints) -> tuple[Floats, Floats]:
        """Sample mean and variance of some windows."""
        mean, variance = np.empty(len(places)), np.empty(len(places))
        _moments(self.values, self.offsets[places], self.lengths[places], mean, variance)
        return mean, np.maximum(variance, 1e-300)

    def mean_log_measure(self, places: Ints) -> Floats | None:
        """Mean of the log realised measure of some windows."""
        if self.measure is None:
            return None
        mean, variance = np.empty(len(places)), np.empty(len(places))
        _moments(np.log(self.measure), self.offsets[places], self.lengths[places], mean, variance)
        return mean


@kernel
def _moments(values: Floats, offsets: Ints, lengths: Ints, mean: Floats, variance: Floats) -> None:
    for place in range(len(offsets)):
        total, squares = 0.0, 0.0
        for t in range(lengths[place]):
            total += values[offsets[place] + t]
        mean[place] = total / lengths[place]
        for t in range(lengths[place]):
            squares += (values[offsets[place] + t] - mean[place]) ** 2
        variance[place] = squares / lengths[place]
