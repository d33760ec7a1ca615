"""The torch path against the CPU engine. No CUDA device was at hand: on one, the same test runs there too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ml.garch.device import fit_on_device
from ml.garch.estimation import fit
from ml.garch.specification import Specification
from ml.garch.windows import Windows
from tests.ml.garch.samples import jumpy_returns

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "specification",
    [Specification("garch", "t"), Specification("gjr", "t"), Specification("gjr", "t", "zero")],
    ids=lambda one: one.name,
)
def test_a_torch_device_finds_what_the_lanes_find(
    specification: Specification, device: str
) -> None:
    coins = [
        series[: 300 + 40 * number] for number, series in enumerate(jumpy_returns(500, coins=5))
    ]
    windows = Windows.separate(coins)
    ours = fit_on_device(specification, windows, device)
    lanes = fit(specification, windows)
    np.testing.assert_array_equal(ours.endings, lanes.endings)
    np.testing.assert_allclose(ours.log_likelihood, lanes.log_likelihood, atol=1e-6)
    np.testing.assert_allclose(ours.parameters, lanes.parameters, rtol=1e-5, atol=1e-7)


def test_other_members_are_refused() -> None:
    with pytest.raises(ValueError, match="egarch_t on 'cpu': expected GARCH-t"):
        fit_on_device(Specification("egarch", "t"), Windows.separate(jumpy_returns(400)), "cpu")
