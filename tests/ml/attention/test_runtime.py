"""What runs the exported graph: forecasts of a fitted and of a stored model, refusals, and models without a graph."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from ml import artifacts
from ml.attention import model as attention_model
from ml.attention.export import arrays, export_graph
from ml.attention.model import AttentionModel
from ml.attention.runtime import (
    FORMAT,
    NETWORK,
    WEIGHTS,
    ExportError,
    GraphRunner,
    InferenceGraph,
    RuntimeMissingError,
)
from ml.baselines.har import HarxCal
from ml.model import ModelState
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL
from tests.ml.attention.test_export import random_batch, untrained


@pytest.fixture(scope="module")
def small_graph() -> InferenceGraph:
    return export_graph(untrained(1, 1), random_batch(1))


BLOCK = [TRAINED + timedelta(days=k) for k in range(1, 8)]


def without_graph(state: ModelState) -> ModelState:
    return replace(
        state, tensors={k: v for k, v in state.tensors.items() if not k.startswith("graph.")}
    )


def test_the_forecasts_are_the_graphs_and_within_the_tolerance_of_eager(
    trained_model: AttentionModel, planted: Panel
) -> None:
    eager = AttentionModel.from_state(without_graph(trained_model.state()))
    ours, theirs = (m.forecast(planted, BLOCK) for m in (trained_model, eager))
    assert (ours.variance != theirs.variance).any()  # single against double precision
    np.testing.assert_allclose(np.log(ours.variance), np.log(theirs.variance), atol=1e-5)
    np.testing.assert_allclose(ours.log_quantiles, theirs.log_quantiles, atol=1e-5)
    assert ours.status.tolist() == theirs.status.tolist()


def test_the_graph_is_in_the_artefact_under_its_hash(
    trained_model: AttentionModel, planted: Panel, tmp_path: Path
) -> None:
    state = trained_model.state()
    assert state.meta["inference"] == {"runtime": FORMAT}
    assert {state.tensors[name].dtype for name in (NETWORK, WEIGHTS)} == {np.dtype(np.uint8)}
    uri = str(tmp_path / "model")
    loaded = AttentionModel.from_state(artifacts.load(uri, artifacts.save(uri, state)))
    ours, theirs = (m.forecast(planted, BLOCK) for m in (trained_model, loaded))
    np.testing.assert_array_equal(ours.variance, theirs.variance)
    np.testing.assert_array_equal(ours.log_quantiles, theirs.log_quantiles)
    assert artifacts.save(str(tmp_path / "again"), loaded.state()) == artifacts.stored_hash(uri)


def test_a_coins_forecast_does_not_depend_on_the_coins_beside_it(
    trained_model: AttentionModel, planted: Panel
) -> None:
    batch = trained_model.encode(planted, BLOCK)
    graph = trained_model._fit().graph
    assert graph is not None
    whole = GraphRunner(graph).run_all(*arrays(batch))
    alone = GraphRunner(graph).run_all(*arrays(batch.rows(5, 6)))
    for left, right in zip(whole, alone, strict=True):
        np.testing.assert_array_equal(left[5:6], right)


def test_a_residual_of_zero_is_exactly_the_anchor(planted: Panel) -> None:
    model, anchor = AttentionModel(), HarxCal()
    model.fit(planted, date(2021, 11, 1), {**SMALL, "min_training_days": 300}, 0)
    anchor.fit(planted, date(2021, 11, 1), {"window_days": SMALL["window_days"]}, 0)
    assert model.state().meta["inference"] == {"runtime": FORMAT}
    expected = np.exp(np.log(anchor.forecast(planted, BLOCK).variance))
    np.testing.assert_array_equal(model.forecast(planted, BLOCK).variance, expected)


def test_a_model_whose_kernel_is_not_exported_runs_eagerly_and_says_why(
    planted: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_model, "graph_refusal", lambda kernel: "for a test")
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "epochs": 1}, seed=3)
    state = model.state()
    assert state.meta["inference"] == {"runtime": "eager", "reason": "for a test"}
    assert NETWORK not in state.tensors
    batch = model.encode(planted, BLOCK[:1])
    expected = model.forward_tokens(batch).detach().exp().numpy()
    np.testing.assert_allclose(model.forecast(planted, BLOCK[:1]).variance[0], expected, rtol=1e-14)


def test_without_the_runtime_a_graph_is_an_error_that_says_what_to_install(
    trained_model: AttentionModel, planted: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = AttentionModel.from_state(trained_model.state())
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeMissingError, match=r"openvino.* is not installed: install it"):
        loaded.forecast(planted, BLOCK[:1])
    eager = AttentionModel.from_state(without_graph(trained_model.state()))
    assert np.isfinite(eager.forecast(planted, BLOCK[:1]).variance).all()


def test_a_graph_that_a_machine_computes_otherwise_is_refused_when_it_is_loaded(
    trained_model: AttentionModel, planted: Panel
) -> None:
    state = trained_model.state()
    weights = state.tensors[WEIGHTS].copy()
    half = len(weights) // 8 * 4
    weights[half : half + 400].view(np.float32)[:] *= 1.01
    loaded = AttentionModel.from_state(replace(state, tensors={**state.tensors, WEIGHTS: weights}))
    with pytest.raises(ExportError, match="departs from the model's own examples by"):
        loaded.forecast(planted, BLOCK[:1])


def test_inputs_of_another_shape_are_an_error_that_quotes_both(small_graph: InferenceGraph) -> None:
    batch = random_batch(1)
    runner = GraphRunner(small_graph)
    assert runner.shapes["price_daily"] == (5, 4)
    inputs, mask, anchor = arrays(batch)
    single = {group: values[0] for group, values in inputs.items()}
    with pytest.raises(ValueError, match=r"'onchain': \(1, 7\).*expected .*'onchain': \(1, 6\)"):
        runner.run({**single, "onchain": np.zeros((1, 7))}, mask[0], anchor[0])
    with pytest.raises(ValueError, match=r"expected .*'onchain'"):
        runner.run({g: v for g, v in single.items() if g != "onchain"}, mask[0], anchor[0])
    with pytest.raises(ValueError, match=r"a mask \(9,\): expected .* a mask \(10,\)"):
        runner.run(single, mask[0, :9], anchor[0])


def test_threads_that_share_a_runner_get_their_own_numbers(small_graph: InferenceGraph) -> None:
    batch = random_batch(40)
    runner = GraphRunner(small_graph)
    inputs, mask, anchor = arrays(batch)
    expected = runner.run_all(inputs, mask, anchor)[0]
    wrong: list[int] = []

    def forecast(rows: range) -> None:
        for _ in range(20):
            for row in rows:
                own = {group: values[row] for group, values in inputs.items()}
                if (runner.run(own, mask[row], anchor[row])[0] != expected[row]).any():
                    wrong.append(row)

    threads = [threading.Thread(target=forecast, args=(range(k, 40, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
