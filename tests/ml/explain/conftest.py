"""The market with a planted lead, the model fitted on it as the tests of the attention model have it, and one of a single layer with its checks."""

from __future__ import annotations

import pytest

from ml.attention.model import AttentionModel
from ml.explain.checks import Check
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED, planted, trained_model
from tests.ml.attention.markets import SMALL

__all__ = ["planted", "trained_model"]


@pytest.fixture(scope="session")
def plain_model(planted: Panel) -> AttentionModel:
    """One layer, as by default."""
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "n_layers": 1}, seed=3)
    return model


@pytest.fixture(scope="session")
def plain_checks(plain_model: AttentionModel, planted: Panel) -> list[Check]:
    return plain_model.explanation_checks(planted.until(TRAINED), lambda line: None)
