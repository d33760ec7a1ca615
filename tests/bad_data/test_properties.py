"""What holds for any rows, any text and any answer, not only for the faults that we thought of.

Few examples, always the same, in the default run; `./volcast test -m slow` draws many others.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.raw_rows import append_batch, release_rows
from orchestration.settings import Settings
from orchestration.sources.protocol import SourceError
from orchestration.sources.schema import TABLES, TableSchema
from orchestration.warehouse import Warehouse
from quality import validate
from tests.bad_data.answer_faults import BARS, FG, RSS, Said, candle, fear, feed
from tests.bad_data.test_answers import NOW, Speaker, speaker, stream_of

__all__ = ["speaker"]
START = datetime(2024, 3, 1, tzinfo=UTC)
UNTIL = datetime(2024, 4, 1, tzinfo=UTC)
FEW, MANY = 2, 80


def examples(count: int) -> Any:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=count < MANY,
        suppress_health_check=list(HealthCheck),
    )


NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 2.5, -1.0, 101.0, 1e300, math.nan, math.inf, -math.inf])
TIMES = st.sampled_from([START + timedelta(hours=hour) for hour in range(4)]) | st.sampled_from(
    [datetime(1970, 1, 20, tzinfo=UTC), datetime(2089, 1, 1, tzinfo=UTC), None]
)
DELAYS = st.sampled_from([timedelta(hours=hours) for hours in (-1, 0, 1, 2, 30, 2000)])
NAMES = st.sampled_from(["a", "b", "", None, "x'; --", "ВТС", "=1+1"])
TEXTS = st.text(max_size=30) | st.none()
CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "symbol": st.sampled_from(["BTC/USDT", "ETH/USDT", "BTC/EUR", None]),
    "interval": st.sampled_from(["1h", "5m", "7m"]),
    "resolution": st.sampled_from(["1h", "1d", "soon"]),
    "metric": st.sampled_from(["AdrActCnt", "fear_greed", "CapMVRVCur"]),
    "source": st.sampled_from(["archive", "simulated", "guess"]),
    "bids": st.sampled_from(["[[1.0,1.0]]", "[]", "[" * 5000]),
    "asks": st.sampled_from(["[[2.0,1.0]]", "x"]),
}


@st.composite
def batches(draw: st.DrawFn, table: TableSchema) -> pa.Table:
    """Up to 12 rows, many with the same key; sound ones among them."""
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        row: dict[str, Any] = {}
        for name, kind in table.columns.items():
            if name in CHOICES:
                row[name] = draw(CHOICES[name])
            elif kind == "DOUBLE":
                row[name] = draw(NUMBERS)
            elif kind == "VARCHAR":
                row[name] = draw(TEXTS if name in ("title", "url", "label") else NAMES)
        row["ts"] = draw(TIMES)
        row["known_at"] = (row["ts"] or START) + draw(DELAYS)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=table.arrow)


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("empty")
    with Warehouse(Settings(home=home)).write():
        return home


def fresh(empty_home: Path, folder: str) -> Warehouse:
    home = Path(folder)
    shutil.copy(empty_home / "warehouse.duckdb", home / "warehouse.duckdb")
    return Warehouse(Settings(home=home))


def rows_of(warehouse: Warehouse, query: str) -> list[tuple[Any, ...]]:
    with warehouse.read() as connection:
        return connection.execute(query).fetchall()


def versions(warehouse: Warehouse, table: TableSchema) -> list[tuple[Any, ...]]:
    """Stored rows; of versions of a key that say the same, one after the other, the first."""
    found: list[tuple[Any, ...]] = []
    key = ", ".join(f'"{name}"' for name in table.key)
    values = ", ".join(f'"{name}"' for name in table.value_columns)
    for row in rows_of(
        warehouse,
        f"SELECT {{{key_pairs(table)}}}, [{values_as_text(table)}], known_at FROM {table.qualified_name} "
        f"ORDER BY {key}, known_at, {values}",
    ):
        if not found or found[-1][:2] != row[:2]:
            found.append(row)
    return found


def key_pairs(table: TableSchema) -> str:
    return ", ".join(f"'{name}': \"{name}\"" for name in table.key)


def values_as_text(table: TableSchema) -> str:
    return ", ".join(f'CAST("{name}" AS VARCHAR)' for name in table.value_columns)


def check_any_batch(empty_home: Path, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([TABLES[name] for name in TABLES]))
    batch = data.draw(batches(table))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        home = fresh(empty_home, one)
        count = append_batch(home, table, batch, None, UNTIL)
        assert count.offered == batch.num_rows
        assert count.offered == count.inserted + count.duplicate + count.quarantined
        stored = versions(home, table)
        total = rows_of(
            home,
            f"SELECT (SELECT count(*) FROM {table.qualified_name}), (SELECT count(*) FROM quarantine.rows)",
        )
        again = append_batch(home, table, batch, None, UNTIL)
        assert again.inserted == 0
        assert total == rows_of(
            home,
            f"SELECT (SELECT count(*) FROM {table.qualified_name}), (SELECT count(*) FROM quarantine.rows)",
        )
        with home.read() as connection:
            frame = connection.execute(f"SELECT * FROM {table.qualified_name}").df()
        wrong = [
            (result.expectation, result.observed)
            for result in validate(table.qualified_name, frame, now=UNTIL).results
            if result.severity == "critical" and result.failing_rows
        ]
        assert not wrong
        # sources give rows in the order of known_at; within a batch and where it ends, any order
        split = fresh(empty_home, other)
        ordered = batch.sort_by("known_at")
        times = ordered["known_at"].to_pylist()
        cuts = [n for n in range(1, len(times)) if times[n] != times[n - 1]]
        cut = data.draw(st.sampled_from([0, *cuts]))
        order = data.draw(st.permutations(range(cut, ordered.num_rows)))
        for part in (ordered.slice(0, cut), ordered.take(list(order))):
            append_batch(split, table, part, None, UNTIL)
        assert versions(split, table) == stored


@given(data=st.data())
@examples(FEW)
def test_every_row_of_any_batch_is_accounted_for(empty_home: Path, data: st.DataObject) -> None:
    check_any_batch(empty_home, data)


@pytest.mark.slow
@given(data=st.data())
@examples(MANY)
def test_every_row_of_any_batch_is_accounted_for_many_times(
    empty_home: Path, data: st.DataObject
) -> None:
    check_any_batch(empty_home, data)


HOSTILE = st.sampled_from(
    ["'; DROP TABLE raw.headlines; --", '=HYPERLINK("x")', "a\0b", "\u202e\u2066", "{{ var }}", "$1 ?", "\\", '"', "%s", "🪙" * 20, " lead", "NULL", "nan"]
)  # fmt: skip


def check_any_text(empty_home: Path, texts: list[str]) -> None:
    table = TABLES["headlines"]
    made = [
        {"publisher": text, "id": f"{place}{text}", "ts": START, "title": text, "url": text,
         "known_at": START, "source": "live"}
        for place, text in enumerate(texts)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        home = fresh(empty_home, folder)
        append_batch(home, table, pa.Table.from_pylist(made, schema=table.arrow), None, UNTIL)
        stored = set(rows_of(home, "SELECT publisher, id, title, url FROM raw.headlines"))
        refused = [
            json.loads(text) for (text,) in rows_of(home, "SELECT row_json FROM quarantine.rows")
        ]
    kept = stored | {(row["publisher"], row["id"], row["title"], row["url"]) for row in refused}
    assert kept == {(row["publisher"], row["id"], row["title"], row["url"]) for row in made}


@given(st.lists(st.text(max_size=50) | HOSTILE, min_size=10, max_size=40))
@examples(FEW)
def test_any_text_is_stored_as_it_is_or_quarantined_whole(
    empty_home: Path, texts: list[str]
) -> None:
    check_any_text(empty_home, texts)


@pytest.mark.slow
@given(st.lists(st.text(max_size=2000) | HOSTILE, min_size=10, max_size=40))
@examples(MANY)
def test_any_text_is_stored_as_it_is_or_quarantined_whole_many_times(
    empty_home: Path, texts: list[str]
) -> None:
    check_any_text(empty_home, texts)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["NaN", "1e999", "-1", "9" * 30, 10**400, 1e308, "0x1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, answer: Callable[[], Any]) -> bytes:
    """A sound answer with another value in one place."""
    whole = {"": answer()}
    holder: Any = whole
    name: Any = ""
    while isinstance(holder[name], dict | list) and holder[name] and draw(st.integers(0, 4)):
        holder = holder[name]
        name = draw(
            st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
        )
    holder[name] = draw(JSON)
    return json.dumps(whole[""]).encode()


ANSWERS: dict[str, st.SearchStrategy[bytes]] = {
    FG: changed(fear) | st.binary(max_size=200),
    BARS: changed(candle) | st.binary(max_size=50),
    RSS: st.text("<>/&;rsitemltchanbuD=\"'! x1\x00é", max_size=200).map(lambda t: feed().replace(b"Bitcoin", t.encode()))
    | st.binary(max_size=200),
}  # fmt: skip


def check_any_answer(speaker: Speaker, provider: str, content: bytes) -> None:
    speaker.said = Said(content)
    made = stream_of(provider, speaker.url, "any")
    try:
        pages = list(made.pages(None, NOW))
    except SourceError:
        return
    for page in pages:
        assert page.rows.schema == TABLES[made.table].arrow
        validate(f"raw.{made.table}", page.rows.to_pandas()) if page.rows.num_rows else None


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.mark.parametrize("provider", ANSWERS)
@given(data=st.data())
@examples(8)
def test_any_answer_gives_rows_or_a_source_error(
    provider: str, speaker: Speaker, data: st.DataObject
) -> None:
    check_any_answer(speaker, provider, data.draw(ANSWERS[provider]))


@pytest.mark.slow
@pytest.mark.parametrize("provider", ANSWERS)
@given(data=st.data())
@examples(5 * MANY)
def test_any_answer_gives_rows_or_a_source_error_many_times(
    provider: str, speaker: Speaker, data: st.DataObject
) -> None:
    check_any_answer(speaker, provider, data.draw(ANSWERS[provider]))


def check_release(empty_home: Path, data: st.DataObject) -> None:
    table = data.draw(
        st.sampled_from([TABLES["funding_rates"], TABLES["headlines"], TABLES["onchain_metrics"]])
    )
    batch = data.draw(batches(table))
    with tempfile.TemporaryDirectory() as folder:
        home = fresh(empty_home, folder)
        append_batch(home, table, batch, None, UNTIL)
        before = set(versions_with_times(home, table))
        refused = rows_of(home, "SELECT row_id FROM quarantine.rows ORDER BY 1")
        at = datetime.now(UTC)
        release_rows(home, [str(row[0]) for row in refused], "ada")
        for row in versions_with_times(home, table):
            assert row in before or row[-1] >= at
        assert rows_of(
            home,
            "SELECT count(*) FROM quarantine.rows WHERE released_at < ?".replace(
                "?", f"TIMESTAMPTZ '{at.isoformat()}'"
            ),
        ) == [(0,)]


def versions_with_times(warehouse: Warehouse, table: TableSchema) -> list[tuple[str, datetime]]:
    texts = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in table.columns)
    return [
        (str(row[0]), row[1])
        for row in rows_of(warehouse, f"SELECT [{texts}], known_at FROM {table.qualified_name}")
    ]


@given(data=st.data())
@examples(FEW)
def test_what_is_released_is_known_from_its_release_on(
    empty_home: Path, data: st.DataObject
) -> None:
    check_release(empty_home, data)


@pytest.mark.slow
@given(data=st.data())
@examples(MANY)
def test_what_is_released_is_known_from_its_release_on_many_times(
    empty_home: Path, data: st.DataObject
) -> None:
    check_release(empty_home, data)


def test_a_frame_of_nothing_but_faults_breaks_no_check() -> None:
    for name, table in TABLES.items():
        frame = pd.DataFrame({column: [None, math.inf, "x", -1] for column in table.columns})
        results = validate(f"raw.{name}", frame, now=UNTIL).results
        assert not [r.observed for r in results if r.observed.startswith("the check itself failed")]
