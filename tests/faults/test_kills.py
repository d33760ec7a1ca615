"""SIGKILL at random moments of every stage: the next run completes by itself and every table is what it is without the kill.

`./volcast test --faults --fault-seed N` repeats the kill of one seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.homes import Boundaries
from tests.faults.kills import KILLS, kill_and_recover, plan_of, stage_of

SEEDS = sum(KILLS.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        one = metafunc.config.getoption("--fault-seed", default=None)
        seeds = range(SEEDS) if one is None else [one]
        metafunc.parametrize("seed", seeds, ids=lambda seed: f"{stage_of(seed)}-{seed}")


@pytest.mark.faults
def test_a_killed_stage_is_finished_by_the_next_run(
    boundaries: Boundaries,
    seed: int,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    stage = stage_of(seed)
    boundaries.finished(stage)
    plan = plan_of(seed, stage, boundaries.outcomes[stage])
    started = time.monotonic()
    record_property("fault", stage)
    record_property("struck", False)
    record_property("seconds", 0)
    try:
        killed = kill_and_recover(boundaries, plan, tmp_path)
    except AssertionError as error:
        raise AssertionError(
            f"seed {seed} ({plan}): {error}\nagain: ./volcast test --faults --fault-seed {seed}"
        ) from error
    record_property("struck", killed.killed)
    record_property("seconds", round(time.monotonic() - started, 1))
