"""The family behind the platform's protocol: every registered member forecasts, falls back aloud, and survives storage."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from ml import models
from ml.artifacts import load, save
from ml.baselines.ewma import DECAY, ewma_variance
from ml.garch.model import PERCENT
from ml.garch.reference import backcast, variances
from ml.garch.specification import Specification
from ml.garch.verdicts import Judged, fit_and_judge
from ml.garch.windows import Windows
from ml.panel import Panel

NAMES = tuple(name for name, entry in models.MODELS.items() if entry.module == "ml.garch.family")
TRAINED = date(2022, 4, 1)
CONFIG = {"window_days": 400}


def fitted(name: str, panel: Panel, **config: Any) -> Any:
    model = models.create(name)
    model.fit(panel, TRAINED, {**CONFIG, **config}, seed=0)
    return model


def test_the_family_is_registered() -> None:
    assert set(NAMES) == {
        "garch_t", "garch_n", "gjr_t", "gjr_skewt", "ar_gjr_t", "egarch_t", "aparch_t", "figarch_t", "component_garch_t",
        "garch_x_t", "realized_garch_t",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_within_the_window_and_after_it_join_and_do_not_see_the_future(
    name: str, panel: Panel
) -> None:
    model = fitted(name, panel)
    days = [date(2022, 3, 31), TRAINED, date(2022, 4, 2), date(2022, 4, 20)]
    together = model.forecast(panel, days)
    assert np.isfinite(together.variance[:, :3]).all()
    assert np.isnan(together.variance[:, 3]).all()  # listed 60 days before the end
    assert together.status[0, 3].startswith("needs 300 daily returns, has ")
    for position, day in enumerate(days):
        alone = model.forecast(panel.until(day), [day])
        np.testing.assert_array_equal(alone.variance[0], together.variance[position])
    later = panel.window(30)
    if later.days[0] <= np.datetime64(TRAINED):
        np.testing.assert_array_equal(
            model.forecast(later, days[2:]).variance, together.variance[2:]
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_model_gives_the_same_forecasts(name: str, panel: Panel, tmp_path: Any) -> None:
    model = fitted(name, panel)
    digest = save(str(tmp_path / name), model.state())
    again = models.from_state(load(str(tmp_path / name), digest))
    days = [date(2022, 3, 1), date(2022, 4, 9)]
    np.testing.assert_array_equal(
        again.forecast(panel, days).variance, model.forecast(panel, days).variance
    )


def test_one_day_ahead_is_the_reference_recursion_and_missing_days_are_passed_over(
    panel: Panel,
) -> None:
    model = fitted("gjr_t", panel)
    meta, tensors = model.state().meta, model.state().tensors
    returns = tensors["returns"][0]
    assert not np.isfinite(returns).all()  # the outage of 2021-09-10
    known = returns[np.isfinite(returns)]
    theta = meta["fits"]["BTC"][0]["parameters"]
    initial = backcast(known - known.mean())
    expected = variances(Specification("gjr", "t"), theta, known - theta["mu"], initial)
    found = model.forecast(panel, [TRAINED]).variance[0, 0, 0]
    assert found == pytest.approx(expected[-1] / PERCENT**2, rel=1e-9)
    day = np.datetime64("2021-09-10")
    around = [(day + shift).item() for shift in (np.timedelta64(-1, "D"), np.timedelta64(0, "D"))]
    before, during = model.forecast(panel, around).variance[:, 0]
    np.testing.assert_array_equal(before, during)


def refusing(*broken: str) -> Any:
    """`fit_and_judge`, with a verdict against some members."""

    def fit(specification: Specification, windows: Windows, **options: Any) -> Judged:
        judged = fit_and_judge(specification, windows, **options)
        if specification.name in broken:
            return replace(
                judged, verdicts=np.full(len(windows), "omega 0: at its bound", dtype=object)
            )
        return judged

    return fit


def test_a_fit_that_does_not_converge_falls_back_and_says_so(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [TRAINED, date(2022, 4, 5)]
    simpler = fitted("garch_t", panel).forecast(panel, days)
    monkeypatch.setattr("ml.garch.model.fit_and_judge", refusing("egarch_t"))
    forecasts = fitted("egarch_t", panel).forecast(panel, days)
    np.testing.assert_array_equal(forecasts.variance, simpler.variance)
    assert set(forecasts.status[:, :3].ravel()) == {
        "fallback: garch_t (no convergence: egarch_t: omega 0: at its bound)"
    }
    monkeypatch.setattr("ml.garch.model.fit_and_judge", refusing("egarch_t", "garch_t"))
    forecasts = fitted("egarch_t", panel).forecast(panel, days)
    ewma, _ = ewma_variance(panel, panel.rows(days), DECAY)
    np.testing.assert_array_equal(forecasts.variance[:, :3, 2], ewma[:, :3])
    assert forecasts.status[0, 0].startswith("fallback: ewma (no convergence: egarch_t: omega 0")
    assert len(forecasts.to_frame()) == 2 * 3 * 3


def test_a_day_outside_what_the_model_can_see_is_refused(panel: Panel) -> None:
    model = fitted("garch_t", panel)
    early = date.fromisoformat(model.state().meta["train_start"])
    with pytest.raises(ValueError, match=r"cannot forecast 20.* from a panel that starts"):
        model.forecast(panel, [date.fromordinal(early.toordinal() - 1)])
    gap = panel.window(20)
    if gap.days[0] > np.datetime64(TRAINED) + 1:
        with pytest.raises(ValueError, match="cannot forecast"):
            model.forecast(gap, [gap.days[-1].item()])


def test_exogenous_terms_come_from_the_config_and_are_named_in_the_state(panel: Panel) -> None:
    model = fitted("garch_x_t", panel, variance_terms=["rv_d", "btc_return_d"])
    fits = model.state().meta["fits"]["LTC"]
    assert fits[0]["specification"] == "garch_x_t"
    assert {"pi_rv_d", "pi_btc_return_d"} < set(fits[0]["parameters"])
    with pytest.raises(ValueError, match="variance_terms 'rv_d': expected a list"):
        fitted("garch_x_t", panel, variance_terms="rv_d")
    with pytest.raises(KeyError, match="funding_nowhere"):
        fitted("garch_x_t", panel, variance_terms=["funding_nowhere"])
    with pytest.raises(ValueError, match="config key 'variance_terms'"):
        fitted("garch_t", panel, variance_terms=["rv_d"])


def test_a_state_of_other_members_is_refused(panel: Panel) -> None:
    state = fitted("gjr_t", panel).state()
    older = replace(
        state, meta={name: value for name, value in state.meta.items() if name != "chain"}
    )
    with pytest.raises(ValueError, match=r"state with members None, expected .*: fit it again"):
        models.from_state(older).forecast(panel, [TRAINED])


def test_a_missing_exogenous_value_counts_as_its_mean(panel: Panel) -> None:
    holes = panel.feature("rv_d").copy()
    holes[::7] = np.nan
    other = replace(panel, features={**panel.features, "thin": holes})
    model = fitted("garch_x_t", other, variance_terms=["thin"])
    forecasts = model.forecast(other, [TRAINED, date(2022, 4, 3)])
    assert np.isfinite(forecasts.variance[:, :3]).all()
