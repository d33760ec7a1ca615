"""One screen of 80 columns that says what is wrong and what to do."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console

from orchestration import status
from tests.orchestration.small_home import (
    NOW,
    YESTERDAY,
    small_home,
    store_run,
    store_stream,
    store_verdict,
)


@pytest.fixture
def screen(tmp_path, monkeypatch):
    """What `volcast status` shows of a home; the home is given to change before it is asked."""
    monkeypatch.setattr(status, "utc_now", lambda: NOW)
    warehouse = small_home(tmp_path / "home")

    def shown() -> str:
        console = Console(file=io.StringIO(), width=80)
        for table in status.status_tables(warehouse.settings):
            console.print(table)
        return console.file.getvalue()

    shown.warehouse = warehouse
    return shown


def test_a_home_that_is_well(screen):
    store_run(screen.warehouse.settings, seconds=68)
    text = screen()
    assert "daily 2026-03-11 succeeded in 68 s" in text
    assert "next due  │ 2026-03-12, at 2026-03-13 00:30 UTC" in text
    assert "alerts    │ none open" in text
    assert "what is wrong" not in text
    assert "stale streams" not in text
    assert "free; this home takes" in text


def test_a_home_with_everything_wrong_still_fits_the_screen(screen):
    settings = screen.warehouse.settings
    with screen.warehouse.write() as connection:
        for number in range(12):
            name = f"provider{number}"
            store_stream(
                connection, f"{name}/x", "raw.open_interest", name, "failed", "y " * 200, None
            )
        store_verdict(connection, "raw.ohlcv", YESTERDAY, failed=3, at=NOW + timedelta(seconds=1))
        store_verdict(connection, "raw.headlines", YESTERDAY, failed=1, by="ada")
    store_run(settings, status="FAILURE", start=NOW)
    store_run(settings, job="capture", status="STARTED", start=NOW)
    text = screen()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 70, text
    assert "daily 2026-03-11 failed" in text
    assert "running   │ capture" in text
    assert "gate raw.ohlcv" in text
    assert "closed 2026-03-11" in text
    assert "open 2026-03-11 by ada" in " ".join(text.split())
    assert "and 7 more" in text
    assert text.index("what is wrong") < text.index("data and gates") < text.index("stale streams")


def test_a_home_without_anything(tmp_path):
    from orchestration.settings import Settings

    (table,) = status.status_tables(Settings(home=tmp_path / "nothing"))
    assert "run `./volcast demo`" in str(list(table.columns[1].cells))
    assert not (tmp_path / "nothing").exists()
