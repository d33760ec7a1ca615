"""Windows and batches that all sources share, and the choice of a source."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.sources import ArchiveSource, SimulatedSource, SourceError, open_source
from orchestration.sources.bundle import bounded

NOON = datetime(2022, 1, 3, 12, tzinfo=UTC)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_batches_hold_the_same_rows_in_order_in_as_few_as_fit(sizes: list[int], size: int) -> None:
    numbers = iter(range(sum(sizes)))
    schema = pa.schema({"a": pa.int64()})
    tables = [
        pa.table({"a": [next(numbers) for _ in range(count)]}, schema=schema) for count in sizes
    ]
    batches = list(bounded(tables, size))
    assert [value for batch in batches for value in batch["a"].to_pylist()] == list(
        range(sum(sizes))
    )
    assert all(batch.num_rows == size for batch in batches[:-1])
    assert all(0 < batch.num_rows <= size for batch in batches)


def test_a_window_without_a_zone_is_refused() -> None:
    source = SimulatedSource(1, ["BTC"])
    with pytest.raises(SourceError, match="known_until 2022-01-03T12:00:00: expected a time with"):
        source.batches("ohlcv", None, NOON.replace(tzinfo=None))


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(KeyError, match="'prices'"):
        SimulatedSource(1, ["BTC"]).batches("prices", None, NOON)


def test_an_empty_window_yields_nothing() -> None:
    source = SimulatedSource(1, ["BTC"])
    assert list(source.batches("ohlcv", NOON, NOON)) == []


def settings(**values: object) -> SimpleNamespace:
    usual = {
        "source": "simulated",
        "archive": None,
        "assets": None,
        "seed": 3,
        "simulated_start": date(2022, 1, 1),
    }
    return SimpleNamespace(**{**usual, **values})


def test_settings_choose_the_simulated_market() -> None:
    source = open_source(settings(assets=("ETH",), simulated_end=date(2022, 2, 1)))
    assert isinstance(source, SimulatedSource)
    assert (source.seed, source.assets) == (3, ("ETH",))
    assert (source.first_day(), source.last_day()) == (date(2022, 1, 1), date(2022, 2, 1))
    assert open_source(settings()).last_day() is None


def test_settings_choose_the_archive(tmp_path: Path, frames, write) -> None:  # type: ignore[no-untyped-def]
    folder = write(tmp_path, frames, "parquet")
    source = open_source(settings(source="archive", archive=folder))
    assert isinstance(source, ArchiveSource)
    assert source.name == "archive"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "archive"}, "needs VOLCAST_ARCHIVE"),
        ({"source": "other"}, "'other': expected simulated, archive or live"),
    ],
)
def test_settings_that_name_no_source_say_what_to_set(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(settings(**values))
