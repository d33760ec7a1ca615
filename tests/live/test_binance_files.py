"""Years of bars from Binance's archive: monthly and daily zips with a checksum file, the API for the rest."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.sources.live import binance_files, prices
from orchestration.sources.live.binance_files import LOOK_AHEAD, period_of
from orchestration.sources.live.errors import ProviderError
from orchestration.sources.live.prices import Prices
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.binance_files import BinanceFiles, zipped
from tests.live.providers.binance_spot import BinanceSpot
from tests.live.providers.candles import Candle, candles, expected
from tests.live.reading import Held
from tests.live.server import ProviderServer, Reply, Request, storm

START = datetime(2024, 3, 1, tzinfo=UTC)
FIRST = START.date()
HOUR = timedelta(hours=1)
BARS = candles(START, NOW + HOUR, "1h")
NAME = "prices/1h/BTC"
Serve = Callable[..., ProviderServer]


def archive(bars: list[Candle] = BARS, **more: Any) -> BinanceFiles:
    return BinanceFiles({("BTC", "1h"): bars}, clock=lambda: NOW, **more)


def api(bars: list[Candle] = BARS) -> BinanceSpot:
    return BinanceSpot({("BTC", "1h"): bars}, clock=lambda: NOW)


def stream(server: ProviderServer, start: date = FIRST, **config: Any) -> LiveStream:
    config = {"assets": ("BTC",), "price_venues": ("binance",), "bars": ("1h",)} | config
    return Prices(providers_at(server, start=start, **config)).streams()[0]


def rows(one: LiveStream, after: datetime | None = None) -> list[dict[str, Any]]:
    return [row for page in one.pages(after, NOW) for row in page.rows.to_pylist()]


def files_asked(server: ProviderServer) -> list[str]:
    """Names of the zips, each once, in order."""
    names = [r.path.rsplit("/", 1)[1] for r in server.asked("binance_files")]
    return sorted({name.removesuffix(".CHECKSUM") for name in names})


def asked_from(server: ProviderServer) -> list[datetime]:
    return [
        datetime.fromtimestamp(int(r.query["startTime"]) / 1000, tz=UTC)
        for r in server.asked("binance", "/api/v3/klines")
    ]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "PAGE_ROWS", 200)


def test_months_come_from_monthly_files_then_days_from_daily_ones_then_the_api(
    serve: Serve,
) -> None:
    server = serve(binance_files=archive(), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert one.notes() == ()
    days = [f"BTCUSDT-1h-2024-06-{day:02}.zip" for day in range(1, 30)]
    months = [f"BTCUSDT-1h-2024-{month:02}.zip" for month in (3, 4, 5)]
    assert files_asked(server) == sorted([*months, *days])
    paths = [r.path for r in server.asked("binance_files")]
    assert "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03.zip.CHECKSUM" in paths
    assert "/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-06-29.zip" in paths
    # the day that ended 45 minutes ago is not in the archive yet
    assert asked_from(server) == [datetime(2024, 6, 30, tzinfo=UTC)]


@pytest.mark.parametrize("more", [{"header": True}, {"microseconds": True}, {"disorder": True}])
def test_a_header_microseconds_and_rows_out_of_order_or_twice_are_read(
    serve: Serve, more: dict[str, bool]
) -> None:
    one = stream(serve(binance_files=archive(**more), binance=api()))
    assert rows(one) == expected(BARS, "binance", "1h")
    assert one.notes() == ()


def test_a_short_history_asks_for_no_files(serve: Serve) -> None:
    server = serve(binance_files=archive(), binance=api())
    found = rows(stream(server), NOW - timedelta(hours=30))
    wanted = [r for r in expected(BARS, "binance", "1h") if r["known_at"] > NOW - 30 * HOUR]
    assert found == wanted
    assert server.asked("binance_files") == []


def test_the_first_file_is_cut_where_the_read_begins(serve: Serve) -> None:
    after = datetime(2024, 5, 17, 9, 30, tzinfo=UTC)
    found = rows(stream(serve(binance_files=archive(), binance=api())), after)
    assert found == [r for r in expected(BARS, "binance", "1h") if r["known_at"] > after]


def test_files_can_be_left_out_altogether(serve: Serve) -> None:
    server = serve(binance_files=archive(), binance=api())
    config = {"assets": ("BTC",), "start": START.date(), "bars": ("1h",)}
    one = Prices(providers_at(server, **config), files=False).streams()[0]
    assert rows(one) == expected(BARS, "binance", "1h")
    assert server.asked("binance_files") == []


def test_a_missing_file_is_read_from_the_api(serve: Serve) -> None:
    missing = {"BTCUSDT-1h-2024-04", "BTCUSDT-1h-2024-06-11"}
    server = serve(binance_files=archive(missing=missing), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert asked_from(server) == [
        datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 6, 11, tzinfo=UTC), datetime(2024, 6, 30, tzinfo=UTC),
    ]  # fmt: skip
    assert one.notes() == (
        "not in the archive, asked of the API instead: BTCUSDT-1h-2024-04.zip and 1 more",
    )


def test_months_before_the_listing_cost_few_calls(serve: Serve) -> None:
    server = serve(binance_files=archive(), binance=api())
    one = stream(server, start=date(2017, 1, 1))
    assert rows(one) == expected(BARS, "binance", "1h")
    assert len(files_asked(server)) == 3 + 29 + 3  # three of 2017 were asked for and not there
    assert len(asked_from(server)) == 3
    assert one.notes() == (
        "not in the archive, asked of the API instead: BTCUSDT-1h-2017-01.zip",
        "BTC: binance has no bar before 2024-03-01 00:00, asked from 2017-01-01 00:00",
    )


def test_an_archive_that_does_not_answer_leaves_all_to_the_api(serve: Serve) -> None:
    server = serve(binance_files=lambda request: Reply(b"<html>", 503), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert re.fullmatch(
        r"binance_files \S+: (503|not asked until).*; the API is asked for the rest", one.notes()[0]
    )
    # three downloads at once, five attempts each, and no file after that
    assert len(server.asked("binance_files")) <= (LOOK_AHEAD + 1) * 5


def test_an_archive_that_refuses_leaves_all_to_the_api(serve: Serve) -> None:
    server = serve(binance_files=lambda request: Reply(b"denied", 403), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert "403 'denied'; the API is asked for the rest" in one.notes()[0]


def test_a_wrong_checksum_is_fetched_again(serve: Serve) -> None:
    server = serve(binance_files=archive(wrong_checksum={"BTCUSDT-1h-2024-04": 1}), binance=api())
    assert rows(stream(server)) == expected(BARS, "binance", "1h")
    asked = [r.path for r in server.asked("binance_files") if "2024-04." in r.path]
    assert len(asked) == 4


def test_a_file_whose_checksum_stays_wrong_is_named_and_read_from_the_api_instead(
    serve: Serve, small_pages: None
) -> None:
    server = serve(
        binance_files=archive(wrong_checksum={"BTCUSDT-1h-2024-04": 2}),
        binance=api(),
        okx=lambda request: pytest.fail("another venue was asked"),
    )
    one = stream(server, price_venues=("binance", "okx"))
    assert rows(one) == expected(BARS, "binance", "1h")
    assert re.search(
        r"^binance_files /data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-04.zip: "
        r"BTCUSDT-1h-2024-04.zip: SHA-256 is [0-9a-f]{16}..., its checksum file says [0-9a-f]{16}..., twice; "
        r"the API is asked for it$",
        one.notes()[0],
    )
    assert [r for r in server.asked("binance_files") if "2024-05." in r.path]  # the archive goes on


@pytest.mark.parametrize(
    "line",
    [b"<html><body>sorry</body></html>", b"", b"0" * 64, b"0" * 64 + b"  ../../etc/passwd\n"],
)
def test_a_checksum_file_that_is_none_is_named(serve: Serve, line: bytes) -> None:
    server = serve(binance_files=archive(checksums={"BTCUSDT-1h-2024-03": line}), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert "BTCUSDT-1h-2024-03.zip.CHECKSUM: expected a SHA-256" in one.notes()[0]


def test_an_archive_of_bad_files_is_given_up(serve: Serve) -> None:
    bad = {f"BTCUSDT-1h-2024-0{month}": b"nothing" for month in (3, 4, 5, 6)}
    server = serve(binance_files=archive(checksums=bad), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert len([note for note in one.notes() if "expected a SHA-256" in note]) == 3


CSV = "BTCUSDT-1h-2024-03.csv"


def encrypted() -> bytes:
    body = bytearray(zipped({CSV: b"1,2,3\n"}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + place] |= 1
    return bytes(body)


def damaged() -> bytes:
    """One byte of a stored file is another."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as made:
        made.writestr(CSV, b"1709251200000,1,1,1,1,1,1709254799999,1,1,1,1,0\n")
    return packed.getvalue().replace(b"1709251200000", b"1709251200001")


def lying_bomb() -> bytes:
    """Says that it unpacks to 100 bytes."""
    body = bytearray(zipped({CSV: b"0" * 2**22}))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = body.index(signature) + place
        body[at : at + 4] = (100).to_bytes(4, "little")
    return bytes(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (zipped({"../../" + CSV: b"1"}), "expected 'BTCUSDT-1h-2024-03.csv' alone in the zip, found"),
        (zipped({"/etc/cron.d/x": b"1"}), "alone in the zip, found ['/etc/cron.d/x']"),
        (zipped({CSV: b"1", "more.csv": b"2"}), "alone in the zip, found"),
        (zipped({}), "alone in the zip, found []"),
        (zipped({CSV: b"0" * 2**22}), f"{CSV}: unpacks to more than 1,048,576 bytes"),
        (lying_bomb(), f"{CSV}: "),
        (encrypted(), f"{CSV}: RuntimeError"),
        (b"<html>maintenance</html>", f"{CSV}: BadZipFile"),
        (damaged(), f"{CSV}: BadZipFile: Bad CRC-32"),
        (zipped({CSV: b""}), "BTCUSDT-1h-2024-03.zip: no rows"),
        (zipped({CSV: b"time,price\n1,2\n"}), "field open_time: expected, got 'time,price'"),
        (zipped({CSV: b"1,2,3\n"}), "field low: missing, a row has 3 of 12 values"),
        (
            zipped({CSV: b"1709251200000,1,1,1,1,1,1709254799999,1,1,1,1,0\n1709254800000,x,1,1,1,1,1,1,1,1,1,0\n"}),
            "CSV conversion error to double",
        ),
        (
            zipped({CSV: b"1709251200000,1,1,1,1,1,1709254799999,1,1,1,1,0\n1,2\n"}),
            "Expected 12 columns, got 2",
        ),
        (
            zipped({CSV: b"1709251200000,1,1,1,1,1,1709254799999,1,1,1,1,0\n,1,1,1,1,1,1,1,1,1,1,0\n"}),
            "field open_time: a row without it",
        ),
    ],
)  # fmt: skip
def test_a_zip_that_is_not_what_it_should_be_is_named_and_read_from_the_api_instead(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, body: bytes, message: str
) -> None:
    monkeypatch.setattr(binance_files, "MAX_CSV_BYTES", 2**20)
    server = serve(binance_files=archive(bodies={"BTCUSDT-1h-2024-03": body}), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert message in one.notes()[0]
    assert "/BTCUSDT-1h-2024-03.zip: " in one.notes()[0]


def test_a_column_less_in_every_row_names_the_field(serve: Serve) -> None:
    server = serve(binance_files=archive(drop=11), binance=api())
    one = stream(server)
    assert rows(one) == expected(BARS, "binance", "1h")
    assert "field ignore: missing, a row has 11 of 12 values" in one.notes()[0]


def test_a_new_column_is_noted_and_the_rest_is_read(serve: Serve) -> None:
    one = stream(serve(binance_files=archive(extra="7.5"), binance=api()))
    assert rows(one) == expected(BARS, "binance", "1h")
    assert one.notes() == ("new field binance_files: value 13 = '7.5'",)


def test_bars_of_another_month_in_a_file_are_left_out_and_noted(serve: Serve) -> None:
    served = archive()
    body = served._zip("monthly", "BTCUSDT", "1h", "BTCUSDT-1h-2024-03", "2024-03")
    assert body is not None
    text = zipfile.ZipFile(BytesIO(body)).read(CSV)
    stray = b"1577836800000,1,1,1,1,1,1577840399999,1,1,1,1,0\n"
    served.bodies["BTCUSDT-1h-2024-03"] = zipped({CSV: stray + text})
    one = stream(serve(binance_files=served, binance=api()))
    assert rows(one) == expected(BARS, "binance", "1h")
    assert one.notes() == (
        "BTCUSDT-1h-2024-03.zip: 1 bars of another time left out, the first of 2020-01-01 00:00:00+00:00",
    )


def test_bars_missing_in_a_file_are_noted(serve: Serve) -> None:
    gone = (datetime(2024, 4, 29, 22, tzinfo=UTC), datetime(2024, 5, 2, 3, tzinfo=UTC))
    held = [bar for bar in BARS if not gone[0] <= bar.ts < gone[1]]
    one = stream(serve(binance_files=archive(held), binance=api(held)))
    assert rows(one) == expected(held, "binance", "1h")
    assert one.notes() == (
        "BTC: 53 bars missing at binance in 1 holes, the longest 2 days, 5:00:00 from 2024-04-29 22:00",
    )


def test_only_a_few_files_are_fetched_ahead(serve: Serve, small_pages: None) -> None:
    server = serve(binance_files=archive(), binance=api())
    reading = stream(server, start=date(2024, 3, 1)).pages(None, NOW)
    next(reading)
    assert len(files_asked(server)) <= 1 + LOOK_AHEAD
    reading.close()  # type: ignore[attr-defined]


def test_when_a_file_is_asked_for() -> None:
    now = datetime(2024, 7, 9, 0, 45, tzinfo=UTC)
    june = period_of(datetime(2024, 6, 30, 23, 55, tzinfo=UTC), now)
    assert june is not None
    assert (june.kind, june.label, june.end) == (
        "monthly", "2024-06", datetime(2024, 7, 1, tzinfo=UTC),
    )  # fmt: skip
    day = period_of(datetime(2024, 7, 7, 12, tzinfo=UTC), now)
    assert day is not None
    assert (day.kind, day.label) == ("daily", "2024-07-07")
    assert period_of(datetime(2024, 7, 8, tzinfo=UTC), now) is None
    december = period_of(datetime(2024, 12, 31, tzinfo=UTC), datetime(2025, 1, 9, tzinfo=UTC))
    assert december is not None
    assert (december.label, december.end) == ("2024-12", datetime(2025, 1, 1, tzinfo=UTC))


def test_the_checksum_is_of_the_zip_as_it_is_served(serve: Serve) -> None:
    """The stand-in itself: what it says of a file is what the file has."""
    served = archive()
    request = Request(
        "binance_files", "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-03.zip", {}, {}
    )
    body = served(request).encoded()
    line = served(Request("binance_files", request.path + ".CHECKSUM", {}, {})).encoded()
    assert line == f"{hashlib.sha256(body).hexdigest()}  BTCUSDT-1h-2024-03.zip\n".encode()


@pytest.fixture(scope="module")
def served() -> Iterator[ProviderServer]:
    handlers = {"binance_files": archive(), "binance": api()}
    with ProviderServer(handlers, clock=lambda: NOW) as server:
        yield server


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kills=st.lists(st.integers(0, 12), max_size=3))
def test_killed_after_any_page_a_backfill_goes_on_to_the_same_rows(
    served: ProviderServer, small_pages: None, kills: list[int]
) -> None:
    wanted = expected(BARS, "binance", "1h")
    found: dict[datetime, Any] = {}
    cursor = None
    for pages in [*kills, None]:
        one = stream(served)
        reading = one.pages(None if cursor is None else cursor - one.overlap, NOW)
        for page in reading:
            if pages == 0:
                reading.close()  # type: ignore[attr-defined]
                break
            pages = None if pages is None else pages - 1
            for row in page.rows.to_pylist():
                assert found.setdefault(row["ts"], row) == row
            cursor = page.known_through
            assert cursor is not None
            known = [row for row in wanted if row["known_at"] <= cursor]
            assert [found[row["ts"]] for row in known] == known
    assert [found[ts] for ts in sorted(found)] == wanted


@pytest.mark.parametrize("seed", range(6))
def test_after_a_storm_the_rows_are_those_offered_once(
    serve: Serve, small_pages: None, seed: int
) -> None:
    server = serve(binance_files=archive(), binance=api())
    server.plan(storm(seed, 120, share=0.6))
    held, faults = Held(), 0
    while True:  # each attempt is another run of the platform
        fault = held.read(stream(server), NOW)
        if fault is None:
            break
        assert isinstance(fault, ProviderError)
        faults += 1
        assert faults < 60
    wanted = expected(BARS, "binance", "1h")
    assert all(len(versions) == 1 for versions in held.versions.values())
    found = {key[3]: versions[0] for key, versions in held.versions.items()}
    assert sorted(found) == [row["ts"] for row in wanted]
    for row in wanted:
        assert found[row["ts"]][3] == row["close"]
        assert found[row["ts"]][-1] == row["known_at"]
