"""The seam between a forecaster that reads tokens and everything that explains it.

In: a panel and as_of days. Out: `TokenBatch` (what the network reads, one row a forecast) and the functions of it that
an explanation needs. Nothing here names a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.panel import Panel


@dataclass(frozen=True)
class TokenBatch:
    """Scaled tokens of B forecasts. In every input, 0 is the training mean."""

    inputs: dict[str, Tensor]  # feature group -> (B, tokens of the group, width)
    mask: Tensor  # (B, token) bool, True where the token is there; token order is the order of `inputs`
    anchor: Tensor  # (B, H) log variance that the tokens correct; held fixed by every explanation
    days: NDArray[np.datetime64]  # (B,) as_of
    assets: NDArray[np.int64]  # (B,) column of the panel

    def __len__(self) -> int:
        return int(self.mask.shape[0])

    @property
    def token_groups(self) -> tuple[str, ...]:
        """The feature group of every token."""
        return tuple(group for group, values in self.inputs.items() for _ in range(values.shape[1]))

    def token_slice(self, group: str) -> slice:
        """Where the group's tokens stand in the token order."""
        groups = self.token_groups
        first = groups.index(group)
        return slice(first, first + groups.count(group))

    @property
    def forecast_group(self) -> str:
        """The group of the forecast token, which stands first: what it reads of the others is what attention says."""
        return next(iter(self.inputs))

    def rows(self, start: int, stop: int) -> Self:
        """Forecasts start..stop-1 as a batch."""
        return self._part(slice(start, stop))

    def take(self, index: NDArray[np.int64]) -> Self:
        """Those forecasts, in that order; one may come more than once."""
        return self._part(index)

    def _part(self, part: slice | NDArray[np.int64]) -> Self:
        of_tensors = part if isinstance(part, slice) else torch.from_numpy(part)
        return replace(
            self,
            inputs={group: values[of_tensors] for group, values in self.inputs.items()},
            mask=self.mask[of_tensors],
            anchor=self.anchor[of_tensors],
            days=self.days[part],
            assets=self.assets[part],
        )

    def with_inputs(self, inputs: dict[str, Tensor]) -> Self:
        return replace(self, inputs=inputs)

    def with_mask(self, mask: Tensor) -> Self:
        return replace(self, mask=mask)


class TokenForecaster(Protocol):
    """A fitted forecaster whose log variance is a differentiable function of a `TokenBatch`."""

    name: str

    @property
    def horizons(self) -> tuple[int, ...]: ...

    @property
    def always_present(self) -> tuple[str, ...]:
        """Groups that a forecast cannot do without: ablation sets them to the training mean, others are masked."""
        ...

    def encode(self, panel: Panel, as_of: Sequence[date]) -> TokenBatch:
        """The forecasts of those days that are not refused, day by day in the panel's order of coins."""
        ...

    def forward_tokens(self, batch: TokenBatch) -> Tensor:
        """Log variance (B, H), differentiable in `batch.inputs`."""
        ...

    def attention_layers(self, batch: TokenBatch) -> list[Tensor]:
        """Exact weights per layer, (B, head, query, token); query 0 is the forecast token."""
        ...

    def residual_weight(self) -> NDArray[np.float64]:
        """(H,) share of the tokens' correction that the forecast uses; 0 where the forecast is the anchor alone."""
        ...
