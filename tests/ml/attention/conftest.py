"""One market with a planted lead and one model fitted on it, shared by the tests of the attention model."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from ml.attention.model import AttentionModel
from ml.panel import Panel
from tests.ml.attention.markets import SMALL, planted_market

TRAINED = date(2022, 1, 20)


@pytest.fixture(scope="session")
def planted() -> Panel:
    return planted_market()


@pytest.fixture(scope="session")
def trained_model(planted: Panel) -> AttentionModel:
    model = AttentionModel()
    model.fit(planted, TRAINED, SMALL, seed=3)
    assert np.all(model.residual_weight()[:1] > 0)
    return model
