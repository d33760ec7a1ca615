"""Combinations: weights against a grid, only past losses, and what happens when a member refuses."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from ml.baselines.combination import MEMBERS, combined, qlike_weights
from ml.evaluation.losses import qlike
from ml.model import VolatilityModel
from ml.models import MODELS, create
from ml.panel import Panel

CONFIG = {"window_days": 400, "members": ["random_walk", "ewma", "log_har"]}


@pytest.fixture(scope="module")
def fitted(panel: Panel) -> dict[str, VolatilityModel]:
    models = {}
    for name in ("combination_equal", "combination_qlike"):
        models[name] = create(name)
        models[name].fit(panel, panel.days[450].item(), CONFIG, seed=0)
    return models


def test_equal_weights_give_the_mean_of_the_members(
    panel: Panel, fitted: dict[str, VolatilityModel]
) -> None:
    trained = panel.days[450].item()
    days = [trained + timedelta(days=k) for k in range(5)]
    members = []
    for name in CONFIG["members"]:
        member = create(name)
        member.fit(panel, trained, {"window_days": 400}, seed=0)
        members.append(member.forecast(panel, days).variance[:, :3])
    found = fitted["combination_equal"].forecast(panel, days).variance[:, :3]
    np.testing.assert_allclose(found, np.mean(members, axis=0), rtol=1e-12)


def test_weights_are_those_of_a_grid_search() -> None:
    generator = np.random.default_rng(0)
    signal = np.exp(0.5 * generator.standard_normal((2, 400, 3)))
    y = (0.7 * signal[0] + 0.3 * signal[1]) * generator.gamma(4, 0.25, (400, 3))
    y[:5] = np.nan
    weights = qlike_weights(signal, y)
    grid = np.linspace(0, 1, 1001)
    mean = [qlike(y[5:], w * signal[0, 5:] + (1 - w) * signal[1, 5:]).mean() for w in grid]
    assert weights[0] == pytest.approx(grid[int(np.argmin(mean))], abs=2e-3)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] == pytest.approx(0.7, abs=0.05)


def test_a_useless_member_gets_no_weight_and_few_losses_give_equal_ones() -> None:
    generator = np.random.default_rng(1)
    right = np.exp(0.5 * generator.standard_normal((300, 2)))
    y = right * generator.gamma(4, 0.25, right.shape)
    weights = qlike_weights(np.stack([right, np.full_like(right, 5.0)]), y)
    assert weights[1] < 0.02
    assert qlike_weights(np.stack([right, right])[:, :20], y[:20]).tolist() == [0.5, 0.5]


def test_weights_come_from_the_newest_third_of_the_window_and_nothing_later(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    panel: Panel,
    fitted: dict[str, VolatilityModel],
) -> None:
    model = fitted["combination_qlike"]
    meta = model.state().meta
    assert meta["held_out_days"] == 133
    assert list(meta["weights"]["5"]) == CONFIG["members"]
    expected = np.full((3, *panel.until(panel.days[450].item()).target(5).shape), np.nan)
    trained = panel.days[450].item()
    earlier = trained - timedelta(days=133)
    tested = [earlier + timedelta(days=k) for k in range(133)]
    known = panel.until(trained)
    for place, name in enumerate(CONFIG["members"]):
        member = create(name)
        member.fit(known, earlier, {"window_days": 400 - 133}, seed=0)
        expected[place, known.rows(tested)] = member.forecast(known, tested).variance[..., 1]
    weights = qlike_weights(expected, known.target(5))
    np.testing.assert_allclose(list(meta["weights"]["5"].values()), weights, atol=1e-5)


def test_residuals_are_those_of_the_members_held_out_forecasts(
    panel: Panel, fitted: dict[str, VolatilityModel]
) -> None:
    trained = panel.days[450].item()
    held_out = []
    for name in CONFIG["members"]:
        member = create(name)
        member.fit(panel, trained, {"window_days": 400}, seed=0)
        days, variance = member.held_out  # type: ignore[attr-defined]
        held_out.append(variance)
    known = panel.until(trained)
    mean = np.mean(held_out, axis=0)[:, 0, 0]
    residual = np.log(known.target(1)[known.rows([day.item() for day in days]), 0] / mean)
    expected = np.nanquantile(residual, [0.1, 0.9])
    stored = fitted["combination_equal"].state().tensors["residual_quantiles"][0, 0, [3, 7]]
    np.testing.assert_allclose(stored, expected, rtol=1e-9)
    with_heavy = create("combination_equal")  # HEAVY's residuals are in-sample
    config = {"window_days": 400, "members": ["heavy", "log_har"]}
    with_heavy.fit(panel, trained, config, seed=0)
    assert with_heavy.state().meta["observations"]["BTC"]["1"] == 133


def test_the_others_share_the_weight_of_a_member_that_refuses() -> None:
    variance = np.array([[[1.0]], [[3.0]], [[np.nan]]])
    weights = np.array([[0.2, 0.3, 0.5]])
    assert combined(variance, weights)[0, 0] == pytest.approx((0.2 * 1 + 0.3 * 3) / 0.5)
    assert np.isnan(combined(np.full((3, 1, 1), np.nan), weights)).all()
    alone = combined(np.array([[[np.nan]], [[3.0]]]), np.array([[1.0, 0.0]]))
    assert np.isnan(alone).all()  # no member of any weight


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["ewma"], r"members \['ewma'\]: expected at least two"),
        (["ewma", "ewma"], "expected at least two models, none twice"),
        (["ewma", "combination_equal"], "member 'combination_equal': expected a model that is no"),
        (["ewma", "prophet"], "model 'prophet': expected one of"),
    ],
)
def test_wrong_members_are_quoted(panel: Panel, members: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create("combination_equal").fit(panel, panel.days[450].item(), {"members": members}, seed=0)


def test_the_default_members_are_models_of_their_own() -> None:
    assert len(MEMBERS) >= 2
    assert all(not MODELS[name].module.endswith("combination") for name in MEMBERS)
