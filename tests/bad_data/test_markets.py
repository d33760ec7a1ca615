"""Every fault of a whole day closes its gate or is named by it; a real crash of half the price passes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from orchestration.gates import GateClosed, GateOutcome, require_open_gates, run_gate
from orchestration.ingest import ingest_window
from orchestration.settings import Settings
from orchestration.sources.archive import ArchiveSource
from orchestration.warehouse import Warehouse
from tests.bad_data import market, market_faults
from tests.bad_data.corpus import GateCloses, MarketFault
from tests.bad_data.faulty_rows import TABLE_OF


def judged(folder: Path, home: Path, table: str, day: date) -> tuple[GateOutcome, Warehouse]:
    """The day before is read, then the day, as daily runs do; then the day's gate looks."""
    warehouse = Warehouse(Settings(home=home))
    for as_of in (day - timedelta(days=1), day):
        ingest_window(warehouse, ArchiveSource(folder), table, as_of, as_of)
    return run_gate(warehouse, f"raw.{table}", day, day, "run"), warehouse


ALWAYS = ("frozen prices", "a fat finger in the last bar of the day before")
"""In the default run; the others take a second each and are marked slow."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=() if fault.name in ALWAYS else pytest.mark.slow)
        for fault in market_faults.FAULTS
    ],
)
def test_a_faulty_day_is_refused_or_flagged(fault: MarketFault, tmp_path: Path) -> None:
    table = TABLE_OF[fault.stem]
    tables = {stem: market.frames()[stem] for stem in ("ohlcv/1h", fault.stem)}
    tables[fault.stem] = fault.make(tables[fault.stem])
    market.write(tmp_path / "archive", tables)
    outcome, warehouse = judged(tmp_path / "archive", tmp_path / "home", table, market.LAST)
    failed = {(r.expectation, r.severity) for r in outcome.verdict.results if not r.success}
    if isinstance(fault.outcome, GateCloses):
        assert (fault.outcome.expectation, "critical") in failed
        assert not outcome.open
        with warehouse.read() as connection, pytest.raises(GateClosed):
            require_open_gates(connection, [market.LAST])
    else:
        assert (fault.outcome.expectation, "warning") in failed
        assert outcome.open


@pytest.mark.slow
def test_a_sound_day_passes_without_a_word(tmp_path: Path) -> None:
    market.write(tmp_path / "archive", market.frames())
    outcome, _ = judged(tmp_path / "archive", tmp_path / "home", "ohlcv", market.LAST)
    assert [r.expectation for r in outcome.verdict.results if not r.success] == []


@pytest.mark.archive
def test_the_crash_of_2020_03_12_passes(archive_folder: Path, tmp_path: Path) -> None:
    """The worst day of the real archive: every bar of its ten coins is stored, and the gate is open."""
    day = date(2020, 3, 12)
    outcome, warehouse = judged(archive_folder, tmp_path / "home", "ohlcv", day)
    assert outcome.open
    with warehouse.read() as connection:
        refused = connection.execute("SELECT count(*) FROM quarantine.rows").fetchone()
        fall = connection.execute(
            "SELECT min(low) / max(high) FROM raw.ohlcv WHERE symbol = 'BTC/USDT' AND CAST(ts AS DATE) = ?",
            [day],
        ).fetchone()
    assert refused == (0,)
    assert fall is not None
    assert fall[0] < 0.6
