"""The exported graph gives the model's numbers, for any batch size, or is not given at all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ml.attention.export import ExportError, departure, export_graph
from ml.attention.model import AttentionModel
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED


def test_the_exported_graph_equals_eager_on_forecasts_that_it_was_not_made_with(
    trained_model: AttentionModel, planted: Panel
) -> None:
    batch = trained_model.encode(planted, [TRAINED + timedelta(days=k) for k in range(1, 9)])
    graph = export_graph(trained_model.forecaster, batch.rows(0, 3))
    assert departure(graph, trained_model.forecaster, batch) < 1e-5
    assert departure(graph, trained_model.forecaster, batch.rows(5, 6)) < 1e-5


def test_a_graph_that_departs_from_the_model_is_refused(
    trained_model: AttentionModel, planted: Panel
) -> None:
    batch = trained_model.encode(planted, [TRAINED + timedelta(days=1)])
    with pytest.raises(ExportError, match="departs from the model by"):
        export_graph(trained_model.forecaster, batch, tolerance=0.0)
    with pytest.raises(ValueError, match="example of 1 forecasts"):
        export_graph(trained_model.forecaster, batch.rows(0, 1))
