"""The homes that faults strike, the options of the harness, and its summary."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from datetime import date

import pytest

from tests.end_to_end.conftest import finished  # noqa: F401
from tests.end_to_end.homes import SMALL_MARKET, Home, day_before
from tests.faults.homes import Boundaries

AS_OF = date(2024, 3, 18)
"""A Monday on which every model is due to be trained."""
QUICK = {
    **SMALL_MARKET,
    "VOLCAST_MODELS": "random_walk,harx_cal,attention",
    "VOLCAST_ATTENTION_EPOCHS": "1",
    "VOLCAST_EXPLANATION_CHECKS": "false",  # two more fits
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seed", type=int, help="repeat exactly the kill of this seed")


@pytest.fixture(scope="session")
def quick_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home on the day before AS_OF."""
    home = Home(tmp_path_factory.mktemp("faults") / "base", dict(QUICK))
    home.run("run", "--as-of", day_before(AS_OF).isoformat())
    return home


@pytest.fixture(scope="session")
def boundaries(quick_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boundaries]:
    """The stages of AS_OF."""
    made = Boundaries(quick_home, AS_OF, tmp_path_factory.mktemp("boundaries"))
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Kills, those that struck, recoveries and seconds, by stage."""
    rows: dict[str, list[dict[str, object]]] = collections.defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            told = dict(report.user_properties)
            if report.when == "call" and "fault" in told:
                rows[str(told["fault"])].append({**told, "passed": outcome == "passed"})
    if not rows:
        return
    terminalreporter.section("faults")
    for stage, found in rows.items():
        struck = sum(bool(row["struck"]) for row in found)
        recovered = sum(bool(row["passed"]) for row in found)
        seconds = sum(float(str(row["seconds"])) for row in found)
        terminalreporter.line(
            f"{stage:<12} {len(found):>4} planned  {struck:>4} struck  {recovered:>4} recovered  {seconds:>7.0f} s"
        )
    every = [row for found in rows.values() for row in found]
    terminalreporter.line(
        f"{'all':<12} {len(every):>4} planned  {sum(bool(row['struck']) for row in every):>4} struck  "
        f"{sum(bool(row['passed']) for row in every):>4} recovered  {sum(float(str(row['seconds'])) for row in every):>7.0f} s"
    )
