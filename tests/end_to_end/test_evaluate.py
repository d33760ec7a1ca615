"""`volcast evaluate`: models walked forward over a finished home's features."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from orchestration.evaluate import Plan, evaluate
from tests.end_to_end.homes import AS_OF, Home, day_before

FIRST = day_before(AS_OF, 27)
ARGUMENTS = (
    "--from",
    FIRST.isoformat(),
    "--to",
    AS_OF.isoformat(),
    "--models",
    "random_walk,log_har,gjr_t",
)


@pytest.mark.slow
def test_an_evaluation_writes_scores_leaderboard_and_tests_and_the_same_again_changes_nothing(
    finished: Home, tmp_path: Path
) -> None:
    shutil.copytree(finished.path, tmp_path / "home")
    home = Home(tmp_path / "home", finished.environment)
    before = home.table_hash("forecasts.volatility")
    output = home.run("evaluate", *ARGUMENTS)
    assert "gjr_t" in output
    head = home.rows(
        "SELECT models, first_as_of, last_as_of, forecasts, refusals FROM evaluation.walk_forward"
    )
    days = (AS_OF - FIRST).days + 1
    assert head == [("random_walk,log_har,gjr_t,harx_cal", FIRST, AS_OF, days * 3 * 3 * 4, 0)]
    late = home.rows(
        "SELECT count(*) FROM evaluation.walk_forward_scores WHERE as_of + horizon > ?", [AS_OF]
    )
    assert late == [(0,)]
    scored = home.rows(
        "SELECT horizon, count(*) FROM evaluation.walk_forward_scores GROUP BY 1 ORDER BY 1"
    )
    assert scored == [(h, (days - h) * 3 * 4) for h in (1, 5, 22)]
    kinds = {
        kind
        for (kind,) in home.rows(
            "SELECT DISTINCT segment_kind FROM evaluation.walk_forward_leaderboard"
        )
    }
    assert {"all", "coin_group", "year", "target_day", "regime"} <= kinds
    ledger = home.rows(
        "SELECT DISTINCT model_versions, code_version <> '', length(data_version) FROM evaluation.walk_forward_leaderboard "
        "WHERE segment_kind = 'all'"
    )
    assert ledger == [(1, True, 12)]
    assert home.rows(
        "SELECT count(*) > 0 FROM evaluation.walk_forward_tests WHERE test = 'diebold_mariano'"
    ) == [(True,)]
    assert home.table_hash("forecasts.volatility") == before
    seen = {
        table: home.table_hash(table)
        for table in (
            "evaluation.walk_forward_scores",
            "evaluation.walk_forward_leaderboard",
            "evaluation.walk_forward_tests",
        )
    }
    home.run("evaluate", *ARGUMENTS)
    assert {table: home.table_hash(table) for table in seen} == seen
    assert home.rows("SELECT count(*) FROM evaluation.walk_forward") == [(1,)]
    shutil.rmtree(home.path / "artifacts" / "walk_forward")
    workers = Home(home.path, {**home.environment, "VOLCAST_WORKERS_AT_ONCE": "2"})
    workers.run("evaluate", *ARGUMENTS)
    assert {table: home.table_hash(table) for table in seen} == seen
    assert list((home.path / "artifacts" / "specs").glob("walk-*.json"))


def test_a_bad_plan_is_refused_by_name(tmp_path: Path) -> None:
    settings, console = Home(tmp_path / "home").settings, Console(quiet=True)
    backwards = Plan(("log_har",), AS_OF + timedelta(days=1), AS_OF, 4, 500)
    with pytest.raises(ValueError, match="expected the first day not to be after the last"):
        evaluate(settings, backwards, console)
    with pytest.raises(ValueError, match="model 'tarot': expected one of"):
        evaluate(settings, Plan(("tarot",), FIRST, AS_OF, 4, 500), console)
