"""What a live source does to the ingest: streams that fail alone, resume, and revise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from orchestration.ingest import capture, ingest_window
from orchestration.settings import Settings
from orchestration.sources.live.errors import ProviderUnavailable, ShapeChanged
from orchestration.sources.live.rows import arrow, within
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.protocol import Page
from orchestration.warehouse import Warehouse

DAY = datetime(2024, 3, 1, tzinfo=UTC)
DELAY = timedelta(hours=37)


class Provider:
    """Daily values of one metric; ``fails`` breaks after so many pages of two days."""

    def __init__(self, name: str, coin: str, days: int) -> None:
        self.name, self.coin = name, coin
        self.values = {DAY + timedelta(days=day): 100.0 + day for day in range(days)}
        self.fails: tuple[int, Exception] | None = None
        self.asked: list[datetime | None] = []

    def stream(self, overlap: timedelta = timedelta(0)) -> LiveStream:
        return LiveStream(
            f"{self.name}/{self.coin}",
            "onchain_metrics",
            self.name,
            self._read,
            assets=(self.coin,),
            overlap=overlap,
        )

    def _read(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        self.asked.append(known_after)
        days = sorted(self.values)
        for page in range(0, len(days), 2):
            if self.fails and page // 2 >= self.fails[0]:
                raise self.fails[1]
            rows = [
                {
                    "provider": self.name, "asset": self.coin, "metric": "TxCnt", "ts": ts, "value": self.values[ts],
                    "known_at": ts + DELAY,
                }
                for ts in days[page : page + 2]
            ]  # fmt: skip
            yield Page(
                within(arrow("onchain_metrics", rows), known_after, known_until),
                min(days[page : page + 2][-1] + DELAY, known_until),
            )


class Live:
    """A live source made of such providers."""

    name = "live"
    assets = ("BTC", "ETH")

    def __init__(self, streams: Callable[[], Sequence[LiveStream]], now: datetime) -> None:
        self._streams, self.present = streams, now
        self.start = DAY.date()

    def streams(self, table: str) -> Sequence[LiveStream]:
        return [stream for stream in self._streams() if stream.table == table]

    def first_day(self) -> date:
        return self.start

    def now(self) -> datetime:
        return self.present


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(Settings(home=tmp_path / "home"))


def _ingest(warehouse: Warehouse, source: Live, day: date = date(2024, 3, 20)):
    return ingest_window(warehouse, source, "onchain_metrics", day, day)  # type: ignore[arg-type]


def _rows(warehouse: Warehouse, query: str = "SELECT asset, ts, value FROM raw.onchain_metrics"):
    with warehouse.read() as connection:
        return connection.execute(f"{query} ORDER BY ALL").fetchall()


def _status(warehouse: Warehouse) -> dict[str, tuple[str, datetime | None]]:
    found = _rows(warehouse, "SELECT stream, status, known_until FROM raw.streams")
    return {stream: (status, until) for stream, status, until in found}


def test_a_stream_that_fails_leaves_the_others_alone_and_is_named(warehouse):
    good, bad = Provider("good", "BTC", 6), Provider("bad", "ETH", 6)
    bad.fails = (1, ShapeChanged("bad", "api.bad/v1", "field value: Field required"))
    source = Live(lambda: [bad.stream(), good.stream()], DAY + timedelta(days=20))
    result = _ingest(warehouse, source)
    assert result.count.inserted == 8  # six good rows, and the page of the bad one before it broke
    assert [(s.stream, s.status) for s in result.stale] == [("bad/ETH", "changed shape")]
    assert "api.bad/v1: field value" in result.stale[0].detail
    status = _status(warehouse)
    assert status["good/BTC"] == ("ok", source.present)
    assert status["bad/ETH"] == ("changed shape", DAY + timedelta(days=1) + DELAY)


def test_a_stream_that_recovers_resumes_after_its_last_whole_page(warehouse):
    provider = Provider("p", "BTC", 10)
    provider.fails = (2, ProviderUnavailable("p", "api.p/v1", "503"))
    source = Live(lambda: [provider.stream()], DAY + timedelta(days=20))
    assert isinstance(_ingest(warehouse, source).unavailable, ConnectionError)
    provider.fails = None
    assert _ingest(warehouse, source).stale == []
    assert provider.asked == [None, DAY + timedelta(days=3) + DELAY]
    assert [value for *_, value in _rows(warehouse)] == [100.0 + day for day in range(10)]
    assert _status(warehouse)["p/BTC"][0] == "ok"


def test_reading_again_with_an_overlap_stores_revisions_and_nothing_else(warehouse):
    provider = Provider("p", "BTC", 5)
    source = Live(lambda: [provider.stream(timedelta(days=30))], DAY + timedelta(days=20))
    _ingest(warehouse, source)
    provider.values[DAY + timedelta(days=2)] = 90.0
    assert _ingest(warehouse, source).count.inserted == 1
    assert _ingest(warehouse, source).count.inserted == 0
    versions = _rows(warehouse, "SELECT known_at, value FROM raw.onchain_metrics WHERE day(ts) = 3")
    assert [value for _, value in versions] == [102.0, 90.0]
    assert versions[0][0] == DAY + timedelta(days=2) + DELAY
    assert versions[1][0] == source.present  # a revision without a stamp is known when it arrives


def test_a_value_that_is_revised_back_is_a_third_version(warehouse):
    provider = Provider("p", "BTC", 1)
    source = Live(lambda: [provider.stream(timedelta(days=30))], DAY + timedelta(days=20))
    for value in (100.0, 90.0, 100.0, 100.0):
        provider.values[DAY] = value
        _ingest(warehouse, source)
        source.present += timedelta(seconds=1)
    found = _rows(warehouse, "SELECT known_at, value FROM raw.onchain_metrics")
    assert [value for _, value in found] == [100.0, 90.0, 100.0]


def test_a_new_coin_reads_its_history_and_the_others_do_not_start_again(warehouse):
    bitcoin, ether = Provider("p", "BTC", 3), Provider("p", "ETH", 3)
    streams = [bitcoin.stream()]
    source = Live(lambda: streams, DAY + timedelta(days=20))
    _ingest(warehouse, source)
    streams.append(ether.stream())
    _ingest(warehouse, source)
    assert bitcoin.asked == [None, source.present]
    assert ether.asked == [None]


def test_a_live_source_reads_up_to_the_present_and_later_rows_wait_for_their_day(warehouse):
    provider = Provider("p", "BTC", 10)
    source = Live(lambda: [provider.stream()], DAY + timedelta(days=20))
    _ingest(warehouse, source, date(2024, 3, 5))
    assert len(_rows(warehouse)) == 10


def test_what_a_stream_notes_is_kept_beside_it(warehouse):
    provider = Provider("p", "BTC", 1)
    plain = provider.stream()
    noted = LiveStream(
        plain.name, plain.table, plain.provider, plain.read, noted=lambda: ["new field x = 1"]
    )
    source = Live(lambda: [noted], DAY + timedelta(days=20))
    assert _ingest(warehouse, source).notes == ["p/BTC: new field x = 1"]
    assert _rows(warehouse, "SELECT notes FROM raw.streams") == [("new field x = 1",)]


def test_a_fault_of_our_own_is_not_taken_for_a_stale_provider(warehouse):
    provider = Provider("p", "BTC", 3)
    provider.fails = (0, TypeError("ours"))
    source = Live(lambda: [provider.stream()], DAY + timedelta(days=20))
    with pytest.raises(TypeError, match="ours"):
        _ingest(warehouse, source)


def test_an_earlier_start_reads_from_the_beginning_again(warehouse):
    provider = Provider("p", "BTC", 3)
    source = Live(lambda: [provider.stream()], DAY + timedelta(days=20))
    _ingest(warehouse, source)
    source.start -= timedelta(days=365)
    _ingest(warehouse, source)
    source.start += timedelta(days=30)
    _ingest(warehouse, source)
    assert provider.asked == [None, None, source.present]
    assert len(_rows(warehouse)) == 3


def test_pages_of_several_streams_are_stored_together(warehouse):
    providers = [Provider(f"p{number}", "BTC", 6) for number in range(5)]
    source = Live(lambda: [p.stream() for p in providers], DAY + timedelta(days=20))
    _ingest(warehouse, source)
    assert len(_rows(warehouse)) == 30
    assert _rows(warehouse, "SELECT count(*) FROM raw.batches") == [(1,)]


def test_only_what_exists_now_is_captured(warehouse):
    now = DAY + timedelta(days=20)

    def book(_: datetime | None, until: datetime) -> Iterator[Page]:
        side = "[[100.0, 1.0]]"
        row = {"venue": "v", "symbol": "BTC/USDT", "asset": "BTC", "ts": until, "known_at": until}
        yield Page(arrow("order_books", [{**row, "bids": side, "asks": "[[101.0, 1.0]]"}]), until)

    provider = Provider("p", "BTC", 3)
    snapshot = LiveStream(
        "v/order_book/BTC", "order_books", "v", book, assets=("BTC",), snapshot=True
    )
    source = Live(lambda: [provider.stream(), snapshot], now)
    assert {table: r.count.inserted for table, r in capture(warehouse, source).items()} == {
        "order_books": 1
    }  # type: ignore[arg-type]
    assert provider.asked == []


def test_a_row_that_was_not_there_when_it_should_have_been_is_known_on_arrival(warehouse):
    provider = Provider("p", "BTC", 5)
    late = DAY + timedelta(days=2)
    value = provider.values.pop(late)
    source = Live(lambda: [provider.stream(timedelta(days=30))], DAY + timedelta(days=10))
    _ingest(warehouse, source)
    provider.values[late] = value
    source.present += timedelta(days=1)
    assert _ingest(warehouse, source).count.inserted == 1
    found = _rows(warehouse, "SELECT known_at FROM raw.onchain_metrics WHERE day(ts) = 3")
    assert found == [(source.present,)]  # not ts + 37 h: whoever asked a day ago did not get it


def test_bars_of_an_exchange_were_there_whenever_we_ask(warehouse):
    provider = Provider("p", "BTC", 5)
    late = DAY + timedelta(days=2)
    value = provider.values.pop(late)
    streams = lambda: [replace(provider.stream(timedelta(days=30)), punctual=True)]  # noqa: E731
    source = Live(streams, DAY + timedelta(days=10))
    _ingest(warehouse, source)
    provider.values[late] = value
    source.present += timedelta(days=1)
    _ingest(warehouse, source)
    found = _rows(warehouse, "SELECT known_at FROM raw.onchain_metrics WHERE day(ts) = 3")
    assert found == [(late + DELAY,)]


def test_an_earlier_start_brings_history_with_its_times_and_late_rows_with_their_arrival(warehouse):
    provider = Provider("p", "BTC", 6)
    late = DAY + timedelta(days=4)
    value = provider.values.pop(late)
    source = Live(lambda: [provider.stream()], DAY + timedelta(days=20))
    source.start = (DAY + timedelta(days=3)).date()
    history = {ts: v for ts, v in provider.values.items() if ts < DAY + timedelta(days=3)}
    for ts in history:
        del provider.values[ts]
    _ingest(warehouse, source)
    provider.values |= {**history, late: value}
    source.start = DAY.date()
    source.present += timedelta(days=1)
    _ingest(warehouse, source)
    known = dict(_rows(warehouse, "SELECT ts, known_at FROM raw.onchain_metrics"))
    assert known.pop(late) == source.present
    assert all(known_at == ts + DELAY for ts, known_at in known.items())
    assert len(known) == 5
