"""A verdict stamped by a clock that was ahead does not outrank those that were stored after it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from orchestration import gates
from orchestration.doctor import broken, examine
from orchestration.gates import GateClosed, require_open_gates, run_gate, store_verdict
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse
from quality import Result, Verdict
from tests.orchestration.doctor.homes import DAYS, FIRST, break_by_hand, healthy

DAY = date(2024, 3, 18)


@pytest.fixture
def ahead(monkeypatch):
    """ahead(): the clock is two days ahead; ahead(0): it is right again."""

    def move(days: int = 2) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(days=days)

        monkeypatch.setattr(gates, "datetime", Clock)

    return move


def verdict(suite: str, passed: bool) -> Verdict:
    return Verdict.of(suite, [Result(suite, "rows", None, "critical", passed, "3", "")])


def test_the_verdict_stored_last_decides(tmp_path, ahead):
    warehouse = Warehouse(Settings(home=tmp_path / "home"))
    for suite in gates.SUITES:
        store_verdict(warehouse, verdict(suite, True), DAY, DAY, "first")
    ahead()
    assert store_verdict(warehouse, verdict("raw.ohlcv", True), DAY, DAY, "ahead").open
    ahead(0)
    assert not store_verdict(warehouse, verdict("raw.ohlcv", False), DAY, DAY, "closed").open
    with warehouse.read() as connection, pytest.raises(GateClosed, match=r"raw\.ohlcv failed"):
        require_open_gates(connection, [DAY])
    assert store_verdict(warehouse, verdict("raw.ohlcv", True), DAY, DAY, "mended").open
    with warehouse.read() as connection:
        assert require_open_gates(connection, [DAY])["raw.ohlcv"] == "open"


def test_a_stored_verdict_of_a_clock_that_was_ahead_is_judged_again_and_no_other(tmp_path, ahead):
    warehouse = Warehouse(Settings(home=tmp_path / "home"))

    def judged_by() -> list[str]:
        with warehouse.read() as connection:
            rows = connection.execute("SELECT DISTINCT run_id FROM quality.validations ORDER BY 1")
            return [run for (run,) in rows.fetchall()]

    run_gate(warehouse, "raw.funding_rates", DAY, DAY, "a")
    run_gate(warehouse, "raw.funding_rates", DAY, DAY, "b")
    assert judged_by() == ["a"]
    with warehouse.write() as connection:
        connection.execute(
            "UPDATE quality.validations SET checked_at = checked_at + INTERVAL 1 DAY"
        )
    run_gate(warehouse, "raw.funding_rates", DAY, DAY, "c")
    assert judged_by() == ["a", "c"]


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [(True, False, []), (False, False, ["gate-verdicts"])],
)
def test_the_doctor_takes_verdicts_of_a_clock_ahead_for_what_they_are(
    tmp_path, ahead, first, second, names
):
    """Their times say nothing of whether they came before the forecasts; whether a gate was open they say."""
    settings = healthy(tmp_path / "home")
    break_by_hand(settings, "DELETE FROM quality.validations WHERE suite = 'features.daily'")
    warehouse = Warehouse(settings)
    ahead()
    store_verdict(warehouse, verdict("features.daily", first), FIRST, DAYS[-1], "ahead")
    ahead(0)
    store_verdict(warehouse, verdict("features.daily", second), FIRST, DAYS[-1], "later")
    assert [item.name for item in broken(examine(settings))] == names
    with warehouse.read() as connection:
        newest = connection.execute("SELECT max(checked_at) FROM quality.validations").fetchone()
    assert newest is not None
    assert newest[0] > datetime.now(UTC) + timedelta(days=1)
