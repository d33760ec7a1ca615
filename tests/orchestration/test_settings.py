from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from orchestration.settings import Settings, SettingsError


def test_defaults_are_the_simulated_market():
    settings = Settings.from_env({})
    assert settings.source == "simulated"
    assert settings.assets is None


def test_an_empty_value_means_the_default():
    assert Settings.from_env({"VOLCAST_SEED": " "}).seed == Settings.from_env({}).seed


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("VOLCAST_SOURCE", "bloomberg", "VOLCAST_SOURCE"),
        ("VOLCAST_SEED", "-1", "VOLCAST_SEED"),
        ("VOLCAST_ASSETS", "BTC,'; DROP TABLE x", "upper-case ticker"),
        ("VOLCAST_MODELS", "harx_cal,lstm9", "lstm9"),
        ("VOLCAST_CHAMPION", "oracle", "oracle"),
        ("VOLCAST_WAREHOUSE", "ducklake:mysql:x", "ducklake:sqlite"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_variable_and_quotes_it(name, value, expected):
    with pytest.raises(SettingsError, match=expected):
        Settings.from_env({name: value})


def test_archive_needs_its_folder():
    with pytest.raises(SettingsError, match="VOLCAST_ARCHIVE"):
        Settings.from_env({"VOLCAST_SOURCE": "archive"})


def test_decision_time_is_half_past_midnight_after_the_day():
    assert Settings().decision_time(date(2024, 2, 29)) == datetime(2024, 3, 1, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("model", ["harx_cal", "garch_t", "attention"])
def test_a_day_is_served_by_a_model_trained_strictly_before_it_on_a_fixed_grid(model):
    settings = Settings()
    cadence = 7 * settings.refit_weeks_of(model)
    for step in range(120):
        day = date(2024, 1, 1) + timedelta(days=step)
        trained = settings.trained_as_of(model, day)
        assert trained.weekday() == 6
        assert timedelta(0) < day - trained <= timedelta(days=cadence)
        assert settings.trained_as_of(model, trained + timedelta(days=1)) == trained
