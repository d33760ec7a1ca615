"""The homes that faults strike, the options of the harness, and its summary."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from tests.end_to_end.homes import SMALL_MARKET, Home, day_before
from tests.faults.homes import Boundaries
from tests.faults.kills import KILLS, MUST_STRIKE
from tests.live.conftest import serve  # noqa: F401

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
    parser.addoption(
        "--fault-homes", help="folder that keeps the homes between stages for the next time"
    )


@pytest.fixture(scope="session")
def fault_homes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where homes are kept."""
    named = request.config.getoption("--fault-homes")
    return Path(named) if named else tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def quick_home(fault_homes: Path) -> Home:
    """A home on the day before AS_OF."""
    home = Home(fault_homes / "base", dict(QUICK))
    done = fault_homes / "base-is-done"
    if not done.exists():
        home.run("run", "--as-of", day_before(AS_OF).isoformat())
        done.touch()
    return home


@pytest.fixture(scope="session")
def boundaries(quick_home: Home, fault_homes: Path) -> Iterator[Boundaries]:
    """The stages of AS_OF."""
    made = Boundaries(quick_home, AS_OF, fault_homes / "boundaries")
    yield made
    made.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a full round of kills of which too few struck."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _too_few(_kills(reporter)) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _kills(reporter: pytest.TerminalReporter) -> dict[str, list[dict[str, object]]]:
    """What every kill told, by stage."""
    rows: dict[str, list[dict[str, object]]] = collections.defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            told = dict(report.user_properties)
            if report.when == "call" and "fault" in told:
                rows[str(told["fault"])].append({**told, "passed": outcome == "passed"})
    return rows


def _too_few(rows: dict[str, list[dict[str, object]]]) -> bool:
    every = [row for found in rows.values() for row in found]
    return len(every) >= sum(KILLS.values()) and sum(bool(row["struck"]) for row in every) < MUST_STRIKE  # fmt: skip


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Kills, those that struck, recoveries and seconds, by stage."""
    rows = _kills(terminalreporter)
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
    if _too_few(rows):
        terminalreporter.line(f"FAILED: expected at least {MUST_STRIKE} to strike")
