"""What the benchmarks pipeline and scale make of samples and step times."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import pipeline, scale
from benchmarks.stages import OUTSIDE, Stage, Timed, by_stage, stage_of


@pytest.mark.parametrize(
    ("step", "stage"),
    [
        ("raw__ohlcv", "ingest"),
        ("raw__ohlcv_gate", "gates"),
        ("features__daily_gate", "gates"),
        ("dbt_features", "features (dbt)"),
        ("models__registry", "training"),
        ("evaluation__traffic_lights", "evaluation"),
        ("forecasts__attention_weights", "attention"),
        ("published__report", "report and cards"),
    ],
)
def test_a_step_belongs_to_its_stage(step: str, stage: str) -> None:
    assert stage_of(step) == stage


def test_every_step_of_the_daily_job_has_a_stage() -> None:
    from orchestration.definitions import defs

    job = defs.resolve_job_def("daily")
    stages = {stage_of(node.name) for node in job.graph.node_defs}
    assert not stages & {node.name for node in job.graph.node_defs if node.name != "learning"}


def test_processor_time_and_memory_are_counted_to_the_step_in_which_they_fall() -> None:
    samples = [(0.0, 0.0, 10.0), (1.0, 1.0, 20.0), (2.0, 1.5, 50.0), (3.0, 2.5, 30.0)]
    steps = [("raw__ohlcv", 0.5, 1.0), ("raw__headlines", 1.0, 2.0), ("learning", 2.0, 2.5)]
    found = by_stage(steps, samples)
    assert found["ingest"] == Stage(wall=1.5, cpu=1.0, peak=50.0)
    assert found["learning"].cpu == pytest.approx(0.5)


def test_a_power_law_has_its_exponent_and_no_doubt() -> None:
    sizes = [10.0, 50.0, 200.0]
    assert scale.slope(sizes, [2.0 * n**1.3 for n in sizes]) == pytest.approx((1.3, 0.0), abs=1e-9)


def test_the_interval_of_a_slope_is_that_of_least_squares() -> None:
    from scipy.stats import linregress
    from scipy.stats import t as student

    sizes, costs = [2.0, 4.0, 8.0, 16.0], [1.0, 2.5, 3.9, 9.0]
    reference = linregress(np.log(sizes), np.log(costs))
    found, half = scale.slope(sizes, costs)
    assert found == pytest.approx(reference.slope)
    assert half == pytest.approx(reference.stderr * student.ppf(0.975, 2))
    assert math.isnan(scale.slope([1.0, 2.0], [1.0, 2.0])[1])
    assert all(map(math.isnan, scale.slope([1.0, 2.0], [0.0, 2.0])))


def test_the_tables_of_pipeline_name_every_run_and_stage() -> None:
    idle = Timed(10.0, 8.0, 300.0, {"ingest": Stage(2.0, 1.0, 200.0), OUTSIDE: Stage(8.0, 7.0)})
    work = Timed(40.0, 32.0, 900.0, {"ingest": Stage(20.0, 16.0, 900.0), OUTSIDE: Stage(20.0, 16.0)})  # fmt: skip
    runs = {"next day": work, "the same day again": idle}
    totals, stages = pipeline.tables(runs, 10)
    assert totals[2][0] == ["next day", 40.0, 32.0, 900.0, "25%", 4.0]
    assert [row[0] for row in stages[2]] == ["ingest", OUTSIDE]
    assert stages[2][0][1:] == ["20.0 / 16.0", "2.0 / 1.0"]


def test_exponents_leave_out_a_stage_that_costs_nothing() -> None:
    runs = {
        (coins, bars): Timed(
            1.0,
            0.1 * coins * scale.BARS[bars],
            100.0,
            {"gates": Stage(1.0, 0.1 * coins * scale.BARS[bars], 50.0), "learning": Stage(0.1, 0.1, 1.0)},
        )
        for coins in (10, 50, 200)
        for bars in scale.BARS
    }  # fmt: skip
    rows = scale.exponents(runs, [10, 50, 200])
    assert [row[0] for row in rows] == ["the whole run", "gates"]
    assert rows[1][1:] == ["1.00 ± 0.00", "1.00 ± 0.00", "0.00 ± 0.00", "1.00 ± 0.00"]


@pytest.mark.slow
def test_scale_runs_to_the_end(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    scale.add_arguments(parser)
    figures, tables = scale.run(parser.parse_args(["--quick", "--folder", str(tmp_path)]))
    assert len(figures["runs"]) == 6
    assert {row[0] for row in tables[1][2]} >= {"ingest", "gates", "features (dbt)", "publish"}
