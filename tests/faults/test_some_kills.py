"""Eight kills that every test run makes; `./volcast test --faults` makes hundreds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from orchestration.platform import Platform
from tests.end_to_end.homes import Home
from tests.faults.homes import Boundaries
from tests.faults.kills import kill_and_recover, plan_of
from tests.faults.small_stages import ENVIRONMENT, SMALL

AS_OF = date(2024, 3, 1)
KILLS = {"append": 10, "publish": 6, "artefact": 4}
ALWAYS = {"append": 3, "publish": 3, "artefact": 2}
"""Of these so many in every test run: a kill takes about two seconds."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boundaries]:
    """A warehouse that nothing is in yet."""
    folder = tmp_path_factory.mktemp("small")
    home = Home(folder / "base", ENVIRONMENT)
    with Platform(home.settings).warehouse.write():
        pass
    made = Boundaries(home, AS_OF, folder / "boundaries", SMALL)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("stage", "seed"),
    [
        pytest.param(stage, seed, marks=() if seed <= ALWAYS[stage] else pytest.mark.faults)
        for stage, kills in KILLS.items()
        for seed in range(1, kills + 1)
    ],
)
def test_what_was_killed_is_finished_by_doing_it_again(
    small: Boundaries, stage: str, seed: int, tmp_path: Path
) -> None:
    small.finished(stage)
    plan = plan_of(seed, stage, small.outcomes[stage])
    try:
        kill_and_recover(small, plan, tmp_path)
    except AssertionError as error:
        raise AssertionError(f"seed {seed} ({plan}): {error}") from error
