"""What the registry asset asks of the worker, and what it shows of the training."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from ml.worker import WorkerSpec
from orchestration.assets.training import fit_config, fits_due, with_warm_starts
from orchestration.curves import (
    BARS,
    MOST_CURVES,
    MOST_EPOCHS,
    curves_json,
    curves_markdown,
    sparkline,
)
from orchestration.settings import Settings, SettingsError
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import Warehouse, replace_rows

DAYS = [date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)]


def _settings(tmp_path, **more):
    return Settings(home=tmp_path, models=("harx_cal", "attention"), **more)


def _registered(settings, trained: str, config: dict[str, object], version: str = "v1"):
    row = dict.fromkeys(OUTPUT_TABLES["models.registry"].columns)
    row |= {
        "model": "attention", "model_version": version, "trained_as_of": date.fromisoformat(trained),
        "artifact_uri": f"models/attention/{version}", "artifact_hash": f"hash of {version}", "seed": 7,
        "config": json.dumps(config), "created_at": datetime(2024, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    with Warehouse(settings).write() as connection:
        replace_rows(
            connection, "models.registry", pd.DataFrame([row]), on=["model", "model_version"]
        )


def _due(settings, days=DAYS):
    with Warehouse(settings).read() as connection:
        due = fits_due(connection, settings, days, date(2020, 1, 1))
        return [
            fit
            for fit in with_warm_starts(connection, settings, due)
            if fit["model"] == "attention"
        ]


def test_fits_start_cold_by_default(tmp_path):
    due = _due(_settings(tmp_path))
    assert len(due) == 3
    assert all("warm_from" not in fit for fit in due)


def test_a_warm_refit_starts_from_the_version_before_it(tmp_path):
    settings = _settings(tmp_path, attention_warm_start=True)
    first, second, third = _due(settings)
    assert "warm_from" not in first
    assert second["warm_from"] == {"trained_as_of": first["trained_as_of"]}
    assert third["warm_from"] == {"trained_as_of": second["trained_as_of"]}
    _registered(settings, first["trained_as_of"], first["config"])
    again, third = _due(settings)
    assert again["warm_from"] == {
        "trained_as_of": first["trained_as_of"],
        "uri": str(settings.artifacts_dir / "models/attention/v1"),
        "artifact_hash": "hash of v1",
    }
    assert third["warm_from"] == {"trained_as_of": second["trained_as_of"]}
    spec = WorkerSpec(
        snapshot="s", output="o", fits=[{**fit, "window_days": 1500, "seed": 7} for fit in (again, third)]
    )  # fmt: skip
    assert spec.fits[0].warm_from is not None


def test_a_version_of_another_config_or_a_later_day_is_no_start(tmp_path):
    settings = _settings(tmp_path, attention_warm_start=True)
    config = fit_config(settings, "attention")
    _registered(settings, "2023-06-04", {**config, "epochs": 3}, "other")
    _registered(settings, "2024-06-02", config, "later")
    (first,) = _due(settings, DAYS[:1])
    assert "warm_from" not in first


def test_the_adopted_config_is_checked_and_reaches_the_fit(tmp_path):
    settings = Settings.from_env(
        {
            "VOLCAST_HOME": str(tmp_path),
            "VOLCAST_ATTENTION_CONFIG": '{"d_model": 40, "dropout": 0.1}',
        }
    )
    assert fit_config(settings, "attention") == {
        "window_days": 1500,
        "epochs": 20,
        "anchor": "har_panel",
        "d_model": 40,
        "dropout": 0.1,
    }
    assert fit_config(settings, "harx_cal") == {"window_days": 1500}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"dmodel": 32}', "did you mean 'd_model'"),
        ('{"d_model": "wide"}', "expected a value like the default"),
        ('{"dropout": 2.0}', "dropout 2.0"),
        ('{"window_days": 700}', "expected in VOLCAST_TRAIN_WINDOW_DAYS"),
        ("dropout=0.1", "expected JSON"),
        ("[1]", "VOLCAST_ATTENTION_CONFIG"),
    ],
)
def test_a_bad_adopted_config_is_an_error_that_names_the_variable(value, message):
    with pytest.raises(SettingsError, match="VOLCAST_ATTENTION_CONFIG") as error:
        Settings.from_env({"VOLCAST_ATTENTION_CONFIG": value})
    assert message in str(error.value)


def _result(day="2024-01-07", epochs=5, networks=1, notes=()):
    curve = [
        {
            "epoch": float(epoch),
            "training_loss": math.nan if epoch == 0 else 1.0 / epoch,
            "validation_loss": 1.0 - 0.11 * epoch + 0.025 * epoch**2,
            "selection_loss": 1.0 - 0.11 * epoch + 0.025 * epoch**2,
        }
        for epoch in range(epochs + 1)
    ]
    return {
        "model": "attention", "trained_as_of": day, "curves": [curve] * networks, "notes": list(notes),
    }  # fmt: skip


def test_learning_curves_are_a_table_with_the_best_epoch():
    harx = {"model": "harx_cal", "trained_as_of": "2024-01-07", "curves": [], "notes": []}
    assert curves_markdown([harx]) == ""
    text = curves_markdown([harx, _result(notes=["epoch 1: no memory for 128 samples at once"])])
    row = text.splitlines()[2]
    assert row.startswith("| attention | 2024-01-07 | 0 | 5 | 2 | 1.0000 | 0.8800 | ▅▂▁▂▄█ |")
    assert "- attention of 2024-01-07: epoch 1: no memory for 128 samples" in text


def test_curves_of_a_long_backfill_are_capped():
    results = [_result(f"2024-{month:02d}-07", epochs=300, networks=5) for month in range(1, 13)]
    text = curves_markdown(results)
    assert text.count("| attention |") == MOST_CURVES
    assert "20 more networks are not shown" in text
    assert text.splitlines()[2].startswith("| attention | 2024-12-07 | 0 | 300 |")
    points = curves_json(results)
    assert len(points) == MOST_CURVES
    assert len(points[0]["epoch"]) == MOST_EPOCHS
    assert (points[0]["epoch"][0], points[0]["epoch"][-1]) == (0, 300)
    assert points[0]["training_loss"][0] is None
    json.dumps(points, allow_nan=False)


def test_a_sparkline_runs_from_the_lowest_to_the_highest():
    assert sparkline([1.0, 2.0, 1.5, math.nan]) == f"{BARS[0]}{BARS[-1]}{BARS[4]} "
    assert sparkline([3.0, 3.0]) == 2 * BARS[0]
    assert sparkline([]) == ""
