"""What `tests.ml.test_classical_models` asks of every model, asked of the realised models, combinations and networks."""

from __future__ import annotations

import pytest

from ml import models
from ml.model import VolatilityModel
from ml.panel import Panel
from tests.ml.test_classical_models import (  # noqa: F401
    CONFIG,
    TRAINED,
    test_a_coin_unknown_to_the_fit_is_refused,
    test_a_coin_with_too_little_data_is_refused_with_the_reason,
    test_a_day_alone_equals_the_same_day_in_a_block,
    test_a_fit_reads_only_its_window_and_the_stated_lookback,
    test_a_forecast_reads_only_the_stated_lookback,
    test_every_coin_with_enough_data_is_forecast,
    test_later_rows_change_no_fit,
    test_later_rows_change_no_forecast,
    test_old_prices_are_refused_but_up_to_three_days_are_used,
    test_the_same_fit_has_the_same_artifact_and_forecasts_after_loading,
    test_wrong_settings_are_named,
)
from tests.ml.test_classical_models import (
    test_the_state_tells_what_the_platform_needs as what_the_platform_needs,
)

REALISED = (
    "har", "har_j", "har_cj", "shar", "harq", "heavy", "har_pooled", "har_panel", "combination_equal", "combination_qlike",
    "lstm", "gru",
)  # fmt: skip


@pytest.fixture(scope="module", params=REALISED)
def fitted(request: pytest.FixtureRequest, panel: Panel) -> VolatilityModel:
    model = models.create(request.param)
    model.fit(panel, TRAINED, CONFIG, seed=0)
    return model


def test_the_state_tells_what_the_platform_needs(fitted: VolatilityModel) -> None:
    if models.MODELS[fitted.name].uses_torch:  # residuals of the validation block alone
        assert fitted.state().meta["observations"]["BTC"]["22"] > 80
        assert set(fitted.state().meta["tail"]["BTC"]) == {"1", "5", "22"}
    else:
        what_the_platform_needs(fitted)
