"""Spot bars from several venues through ccxt, against servers that speak each venue's documented format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.sources.live import prices
from orchestration.sources.live.errors import (
    NotListed,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.prices import Prices
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.binance_spot import BinanceSpot
from tests.live.providers.bybit_spot import BybitSpot
from tests.live.providers.candles import LENGTH, Book, Candle, candles, expected
from tests.live.providers.kraken_spot import KrakenSpot
from tests.live.providers.okx_spot import OkxSpot
from tests.live.reading import Held
from tests.live.server import TOO_MANY, ProviderServer, Reply, Request, storm

START = datetime(2024, 6, 24, tzinfo=UTC)
CANDLE_PATHS = {
    "binance": "/api/v3/klines",
    "okx": "/api/v5/market",
    "bybit": "/v5/market/kline",
    "kraken": "/0/public/OHLC",
}
VENUES: dict[str, type[Book]] = {
    "binance": BinanceSpot,
    "okx": OkxSpot,
    "bybit": BybitSpot,
    "kraken": KrakenSpot,
}
Serve = Callable[..., ProviderServer]


def book(
    venue: str = "binance", interval: str = "5m", start: datetime = START, **more: Any
) -> Book:
    """BTC from ``start`` on; the newest bar has not ended at NOW."""
    bars = candles(start, NOW + LENGTH[interval], interval)
    return VENUES[venue]({("BTC", interval): bars}, clock=lambda: NOW, **more)


def connector(server: ProviderServer, **config: Any) -> Prices:
    config = {
        "assets": ("BTC",),
        "start": START.date(),
        "price_venues": ("binance",),
        "bars": ("5m",),
    } | config
    return Prices(providers_at(server, **config), files=False)


def stream(made: Prices, name: str = "prices/5m/BTC") -> LiveStream:
    return next(one for one in made.streams() if one.name == name)


def read(made: Prices, after: datetime | None = None, name: str = "prices/5m/BTC") -> list[Any]:
    return [row for page in stream(made, name).pages(after, NOW) for row in page.rows.to_pylist()]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "PAGE_ROWS", 200)


class Down:
    """A venue that answers everything with one status."""

    def __init__(self, status: int, body: object) -> None:
        self.status, self.body = status, body

    def __call__(self, request: Request) -> Reply:
        return Reply(self.body, self.status)


@pytest.mark.parametrize("venue", ["binance", "okx", "bybit"])
@pytest.mark.parametrize("interval", ["1m", "5m", "1h"])
def test_the_raw_rows_are_what_the_venue_offers(serve: Serve, venue: str, interval: str) -> None:
    start = NOW.replace(hour=0, minute=0) - {"1m": 1, "5m": 5, "1h": 60}[interval] * timedelta(
        days=1
    )
    offered = book(venue, interval, start)
    made = connector(
        serve(**{venue: offered}), price_venues=(venue,), bars=(interval,), start=start.date()
    )
    found = read(made, name=f"prices/{interval}/BTC")
    assert found == expected(offered.bars["BTC", interval], venue, interval)
    assert stream(made, f"prices/{interval}/BTC").notes() == ()


def test_a_stream_for_each_coin_and_interval_names_the_venue_asked_first(serve: Serve) -> None:
    made = connector(
        serve(), assets=("ETH",), bars=("1h", "5m"), price_venues=("okx", "binance")
    ).streams()
    assert [one.name for one in made] == [
        "prices/1h/BTC", "prices/1h/ETH", "prices/5m/BTC", "prices/5m/ETH",
    ]  # fmt: skip
    assert {one.provider for one in made} == {"okx"}
    assert {one.table for one in made} == {"ohlcv"}
    assert [one.assets for one in made] == [("BTC",), ("ETH",)] * 2


def test_nothing_is_asked_before_a_stream_is_read(serve: Serve) -> None:
    server = serve(binance=book())
    stream(connector(server)).pages(None, NOW)
    assert server.requests == []


def test_kraken_gives_only_its_newest_bars_and_the_gap_is_noted(serve: Serve) -> None:
    offered = book("kraken")
    server = serve(kraken=offered)
    made = connector(server, price_venues=("kraken",))
    found = read(made)
    # 720 bars, of which the last has not ended and the one before is known only at 00:46
    assert found == expected(offered.bars["BTC", "5m"][-720:], "kraken")
    assert stream(made).notes() == (
        "BTC: kraken has no bar before 2024-06-28 12:50, asked from 2024-06-24 00:00; it gives only the newest 720 bars",
    )
    assert len(server.asked("kraken", CANDLE_PATHS["kraken"])) == 2


def test_a_venue_that_ccxt_knows_and_we_do_not_gives_the_unified_values(serve: Serve) -> None:
    bars = candles(START, NOW, "5m")

    def bitstamp(request: Request) -> Reply:
        if "ohlc" not in request.path:
            return Reply(
                [
                    {"name": "BTC/USDT", "market_symbol": "btcusdt", "base_currency": "BTC", "base_decimals": 8,
                     "counter_currency": "USDT", "counter_decimals": 2, "minimum_order_value": "10", "trading": "Enabled",
                     "market_type": "SPOT"}
                ]
            )  # fmt: skip
        first, last = int(request.query["start"]), int(request.query["end"])
        shown = [bar for bar in bars if first <= bar.ms // 1000 <= last]
        names = ("open", "high", "low", "close", "volume")
        ohlc = [
            {"timestamp": str(bar.ms // 1000), **{name: str(getattr(bar, name)) for name in names}}
            for bar in shown[: int(request.query["limit"])]
        ]
        return Reply({"data": {"pair": "BTC/USDT", "ohlc": ohlc}})

    made = connector(serve(bitstamp=bitstamp), price_venues=("bitstamp",))
    assert read(made) == expected(bars, "bitstamp")


@pytest.mark.parametrize("venue", ["binance", "okx", "bybit"])
def test_pages_out_of_order_and_with_rows_twice_change_nothing(serve: Serve, venue: str) -> None:
    offered = book(venue, disorder=True)
    found = read(connector(serve(**{venue: offered}), price_venues=(venue,)))
    assert found == expected(offered.bars["BTC", "5m"], venue)


@pytest.mark.parametrize("venue", ["binance", "okx", "bybit"])
@pytest.mark.parametrize(
    ("first", "last"),
    [
        # OKX's second page opens 2024-06-25 01:00 and its fourth 2024-06-27 03:00
        (datetime(2024, 6, 24, 12, tzinfo=UTC), datetime(2024, 6, 24, 13, tzinfo=UTC)),
        (datetime(2024, 6, 25, 1, tzinfo=UTC), datetime(2024, 6, 25, 1, 30, tzinfo=UTC)),
        (datetime(2024, 6, 24, 23, tzinfo=UTC), datetime(2024, 6, 28, 9, 5, tzinfo=UTC)),
        (datetime(2024, 6, 30, 12, tzinfo=UTC), datetime(2024, 6, 30, 23, tzinfo=UTC)),
    ],
    ids=["inside a page", "where a page ends", "of days", "shortly before now"],
)
def test_bars_missing_at_the_venue_do_not_stop_the_paging(
    serve: Serve, venue: str, first: datetime, last: datetime
) -> None:
    offered = book(venue)
    held = [bar for bar in offered.bars["BTC", "5m"] if not first <= bar.ts < last]
    offered.bars["BTC", "5m"] = held
    made = connector(serve(**{venue: offered}), price_venues=(venue,))
    assert read(made) == expected(held, venue)
    missing = (last - first) // timedelta(minutes=5)
    assert stream(made).notes() == (
        f"BTC: {missing} bars missing at {venue} in 1 holes, the longest {last - first} from {first:%Y-%m-%d %H:%M}",
    )


@pytest.mark.parametrize("venue", ["binance", "okx", "bybit"])
def test_years_before_a_listing_cost_few_calls(serve: Serve, venue: str) -> None:
    offered = book(venue)
    server = serve(**{venue: offered})
    made = connector(server, price_venues=(venue,), start=date(2019, 1, 1))
    assert read(made) == expected(offered.bars["BTC", "5m"], venue)
    assert len(server.asked(venue, CANDLE_PATHS[venue])) < 24  # 5.5 years of 5m are 1,900 OKX pages
    assert stream(made).notes() == (
        f"BTC: {venue} has no bar before 2024-06-24 00:00, asked from 2019-01-01 00:00",
    )


def test_a_venue_that_gives_fewer_rows_than_asked_newest_first_loses_none(serve: Serve) -> None:
    offered = book("okx", cap=100)
    server = serve(okx=offered)
    made = connector(server, price_venues=("okx",))
    assert read(made) == expected(offered.bars["BTC", "5m"], "okx")
    assert stream(made).notes() == ()
    limits = [r.query["limit"] for r in server.asked("okx", "/api/v5/market")]
    assert limits[0] == "300"
    assert set(limits[3:]) <= {str(n) for n in range(1, 101)}  # learnt from the first page


def test_a_venue_without_any_market_has_changed_and_does_not_mean_that_coins_are_gone(
    serve: Serve,
) -> None:
    with pytest.raises(ShapeChanged, match="binance loadMarkets: field markets: none"):
        read(connector(serve(binance=book(unlisted={"BTC"}))))


def two_coins(venue: str, **more: Any) -> Book:
    made = book(venue, **more)
    made.bars["ETH", "5m"] = candles(START, NOW, "5m", seed=8)
    return made


@pytest.mark.parametrize(("fault", "word"), [("unlisted", "not listed"), ("delisted", "delisted")])
def test_a_coin_missing_on_one_venue_is_read_from_the_next_for_all_time(
    serve: Serve, fault: str, word: str
) -> None:
    offered = book("okx", "1h", datetime(2024, 5, 1, tzinfo=UTC))
    server = serve(binance=two_coins("binance", **{fault: {"BTC"}}), okx=offered)
    made = connector(server, price_venues=("binance", "okx"), start=date(2024, 5, 1), bars=("1h",))
    assert read(made, name="prices/1h/BTC") == expected(offered.bars["BTC", "1h"], "okx", "1h")
    assert stream(made, "prices/1h/BTC").notes() == (
        f"BTC: {word} at binance, read from okx from 2024-05-01 on",
    )
    assert server.asked("binance", CANDLE_PATHS["binance"]) == []


def test_a_listed_coin_that_does_not_trade_is_read_from_the_next_venue(serve: Serve) -> None:
    halted, offered = book(), book("okx")
    halted.bars["BTC", "5m"] = candles(START - timedelta(days=9), START, "5m")
    made = connector(serve(binance=halted, okx=offered), price_venues=("binance", "okx"))
    assert read(made) == expected(offered.bars["BTC", "5m"], "okx")


def test_a_coin_that_no_venue_lists_is_not_listed_and_every_venue_is_named(serve: Serve) -> None:
    server = serve(
        binance=two_coins("binance", unlisted={"BTC"}), okx=two_coins("okx", delisted={"BTC"})
    )
    with pytest.raises(NotListed, match="BTC: BTC: not listed at binance; BTC: delisted at okx"):
        read(connector(server, price_venues=("binance", "okx")))


def test_unavailable_counts_more_than_not_listed(serve: Serve) -> None:
    server = serve(
        binance=two_coins("binance", unlisted={"BTC"}), okx=Down(503, b"<html>maintenance</html>")
    )
    with pytest.raises(ProviderUnavailable, match="not listed at binance; BTC: okx unavailable"):
        read(connector(server, price_venues=("binance", "okx")))


def test_while_a_venue_is_down_the_next_one_has_the_whole_of_the_cursors_day(serve: Serve) -> None:
    """One run at 00:45 each day: binance answers yesterday, not today, and again tomorrow."""
    cursor = NOW - timedelta(days=1)
    offered = book("okx")
    server = serve(binance=Down(503, b"<html>maintenance</html>"), okx=offered)
    made = connector(server, price_venues=("binance", "okx"))
    found = read(made, cursor - stream(made).overlap)
    assert {row["venue"] for row in found} == {"okx"}
    times = {row["ts"] for row in found}
    day = cursor.replace(hour=0, minute=0)
    assert {day + n * timedelta(minutes=5) for n in range(288)} <= times
    note = stream(made).notes()[0]
    assert note.startswith("BTC: binance unavailable (binance ")
    assert "503" in note
    assert note.endswith("read from okx from 2024-06-28 on")

    back = serve(binance=book(), okx=offered)
    found = read(connector(back, price_venues=("binance", "okx")), NOW - stream(made).overlap)
    assert {row["venue"] for row in found} == {"binance"}
    day = NOW.replace(hour=0, minute=0) - timedelta(days=1)
    assert {day + n * timedelta(minutes=5) for n in range(288)} <= {row["ts"] for row in found}


def test_a_venue_that_fails_in_the_middle_is_replaced_from_midnight_on(serve: Serve) -> None:
    good, offered = book(), book("okx")
    asked = []

    def breaks(request: Request) -> Reply:
        asked.append(request)
        return good(request) if len(asked) <= 2 else Reply({"msg": "down"}, 500)

    made = connector(serve(binance=breaks, okx=offered), price_venues=("binance", "okx"))
    found = read(made)
    # markets and one page of 1000 bars: 3 days and 11:20
    midnight = datetime(2024, 6, 27, tzinfo=UTC)
    bars = good.bars["BTC", "5m"]
    assert found[:1000] == expected(bars[:1000], "binance")
    assert found[1000:] == expected([bar for bar in bars if bar.ts >= midnight], "okx")
    assert stream(made).notes()[0].endswith("read from okx from 2024-06-27 on")


def test_what_came_before_a_fault_is_kept_and_read_on_from(serve: Serve) -> None:
    good = book()
    asked = []

    def breaks(request: Request) -> Reply:
        asked.append(request)
        return Reply({"msg": "down"}, 500) if 2 < len(asked) < 8 else good(request)

    server = serve(binance=breaks)
    held = Held()
    fault = held.read(stream(connector(server)), NOW)
    assert isinstance(fault, ProviderUnavailable)
    assert len(held.versions) == 1000
    last = max(key[3] for key in held.versions)
    assert held.cursors["prices/5m/BTC"] == last + timedelta(minutes=6)
    assert held.read(stream(connector(server)), NOW) is None
    assert len(held.versions) == len(expected(good.bars["BTC", "5m"], "binance"))


def test_years_of_history_are_not_handed_to_another_venue_by_an_outage(serve: Serve) -> None:
    server = serve(binance=Down(500, {"msg": "down"}), okx=book("okx"))
    made = connector(server, price_venues=("binance", "okx"), start=date(2023, 1, 1))
    with pytest.raises(ProviderUnavailable, match=r"binance .* 500"):
        read(made)
    assert server.asked("okx") == []


def test_a_venue_that_refuses_is_asked_once_and_replaced_for_all_time(serve: Serve) -> None:
    refusal = {"code": 0, "msg": "Service unavailable from a restricted location"}
    offered = book("okx", "1h", datetime(2024, 5, 1, tzinfo=UTC))
    server = serve(binance=Down(451, refusal), okx=offered)
    made = connector(server, price_venues=("binance", "okx"), start=date(2024, 5, 1), bars=("1h",))
    assert read(made, name="prices/1h/BTC") == expected(offered.bars["BTC", "1h"], "okx", "1h")
    assert len(server.asked("binance")) == 1
    assert "refused" in stream(made, "prices/1h/BTC").notes()[0]
    assert "451" in stream(made, "prices/1h/BTC").notes()[0]


def test_a_single_venue_that_refuses_names_itself(serve: Serve) -> None:
    with pytest.raises(ProviderRefused, match=r"binance loadMarkets: .*451"):
        read(connector(serve(binance=Down(451, {"code": 0, "msg": "restricted location"}))))


def test_too_many_requests_are_asked_again_after_the_time_that_the_venue_names(
    serve: Serve,
) -> None:
    server = serve(binance=book())
    server.plan([None, TOO_MANY, TOO_MANY, None])
    found = read(connector(server))
    assert len(found) == len(expected(candles(START, NOW, "5m"), "binance"))


@pytest.mark.parametrize(
    ("venue", "value", "message"),
    [
        ("binance", 11, "binance fetchOHLCV: field ignore: missing, the candle has 11 of 12"),
        ("okx", 8, "okx fetchOHLCV: field confirm: missing, the candle has 8 of 9"),
        ("bybit", 6, "bybit fetchOHLCV: field quote_volume: missing, the candle has 6 of 7"),
        ("kraken", 7, "kraken fetchOHLCV: field trades: missing, the candle has 7 of 8"),
    ],
)
def test_a_candle_with_a_value_less_is_a_changed_shape(
    serve: Serve, venue: str, value: int, message: str
) -> None:
    with pytest.raises(ShapeChanged, match=re.escape(message)):
        read(connector(serve(**{venue: book(venue, drop=value)}), price_venues=(venue,)))


def test_a_price_that_is_no_number_is_a_changed_shape(serve: Serve) -> None:
    offered = book()
    bad = offered.bars["BTC", "5m"][700]
    offered.bars["BTC", "5m"][700] = Candle(**(vars(bad) | {"high": float("nan")}))
    with pytest.raises(ShapeChanged, match="binance fetchOHLCV: field high: expected a number"):
        read(connector(serve(binance=offered)))


def test_a_new_value_in_a_candle_is_noted_and_the_rest_is_read(serve: Serve) -> None:
    offered = book(extra="0.125")
    made = connector(serve(binance=offered))
    assert read(made) == expected(offered.bars["BTC", "5m"], "binance")
    assert stream(made).notes() == ("new field binance fetchOHLCV: value 13 = '0.125'",)


def test_an_answer_without_candles_where_some_should_be_is_no_empty_page(serve: Serve) -> None:
    kraken = book("kraken", result_key="BTC/USDT")
    with pytest.raises(ShapeChanged, match=r"kraken fetchOHLCV: field result\.\*: expected a list"):
        read(connector(serve(kraken=kraken), price_venues=("kraken",)))
    okx = book("okx")

    def renamed(request: Request) -> Reply:
        reply = okx(request)
        if "candles" in request.path:
            reply.body["candles"] = reply.body.pop("data")
        return reply

    with pytest.raises(ShapeChanged, match="okx fetchOHLCV: field data: expected a list"):
        read(connector(serve(okx=renamed), price_venues=("okx",)))


def test_a_changed_shape_at_one_venue_does_not_keep_the_next_from_being_read(serve: Serve) -> None:
    offered = book("okx")
    made = connector(serve(binance=book(drop=11), okx=offered), price_venues=("binance", "okx"))
    assert read(made) == expected(offered.bars["BTC", "5m"], "okx")
    assert (
        stream(made)
        .notes()[0]
        .startswith("BTC: binance changed shape (binance fetchOHLCV: field ignore: missing")
    )


@pytest.mark.parametrize("venue", ["binance", "okx", "bybit"])
def test_a_venue_with_a_slow_clock_gives_no_bar_that_has_not_ended(
    serve: Serve, venue: str
) -> None:
    behind = timedelta(minutes=52)
    offered = book(venue)
    offered.clock = lambda: NOW - behind
    server = serve(**{venue: offered})
    server.clock_skew = -behind
    made = connector(server, price_venues=(venue,))
    found = read(made, NOW - timedelta(days=2))
    # 23:53 at the venue: its last bar that has ended opened at 23:45
    assert found[-1]["ts"] == datetime(2024, 6, 30, 23, 45, tzinfo=UTC)
    wanted = [
        r
        for r in expected(offered.bars["BTC", "5m"], venue)
        if r["known_at"] > NOW - timedelta(days=2)
    ]
    assert found == wanted[: len(found)]


def test_a_venue_whose_clock_is_ahead_gives_no_bar_of_our_future(serve: Serve) -> None:
    offered = book()
    offered.bars["BTC", "5m"] = candles(START, NOW + timedelta(hours=2), "5m")
    offered.clock = lambda: NOW + timedelta(hours=1)
    server = serve(binance=offered)
    server.clock_skew = timedelta(hours=1)
    assert read(connector(server)) == expected(offered.bars["BTC", "5m"], "binance")


def test_a_clock_that_is_hours_behind_is_not_believed(serve: Serve) -> None:
    offered = book()
    offered.clock = lambda: NOW - timedelta(hours=3)
    server = serve(binance=offered)
    server.clock_skew = -timedelta(hours=3)
    with pytest.raises(ProviderUnavailable, match="its clock is 3:00:00 behind ours"):
        read(connector(server))


def test_an_interval_that_the_venue_does_not_have_is_refused(serve: Serve) -> None:
    server = serve(binance=book())
    made = connector(server)
    made.venues[0].exchange.timeframes.pop("5m")
    with pytest.raises(ProviderRefused, match="binance fetchOHLCV: no 5m bars, it has 1s, 1m"):
        read(made)


def test_wrong_settings_are_named(serve: Serve) -> None:
    with pytest.raises(ValueError, match=r"bars \['2m'\]: expected 1m, 5m, 1h"):
        connector(serve(), bars=("2m",))
    with pytest.raises(ValueError, match="at least one ccxt venue"):
        connector(serve(), price_venues=())
    with pytest.raises(ProviderRefused, match="no venue 'binanse'"):
        read(connector(serve(), price_venues=("binanse",)))


def test_a_read_goes_on_at_the_cursor_without_asking_the_past_again(serve: Serve) -> None:
    server = serve(binance=book())
    made = connector(server)
    held = Held()
    assert held.read(stream(made), NOW) is None
    server.requests.clear()
    assert held.read(stream(made), NOW) is None
    asked = [int(r.query["startTime"]) for r in server.asked("binance", "/api/v3/klines")]
    # the cursor is NOW; 26 hours before it 2024-06-29 22:45, when the bar of 22:35 was known for four minutes
    assert asked == [int(datetime(2024, 6, 29, 22, 40, tzinfo=UTC).timestamp() * 1000)]
    assert all(len(versions) == 1 for versions in held.versions.values())


def test_a_bar_that_the_venue_corrects_becomes_a_version(serve: Serve) -> None:
    offered = book()
    server = serve(binance=offered)
    held = Held()
    held.read(stream(connector(server)), NOW)
    last = offered.bars["BTC", "5m"][-10]
    offered.bars["BTC", "5m"][-10] = Candle(**(vars(last) | {"close": 1.5}))
    held.read(stream(connector(server)), NOW)
    changed = {key[3]: value for key, value in held.versions.items() if len(value) == 2}
    assert list(changed) == [last.ts]
    assert changed[last.ts][1][3] == 1.5


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ProviderServer, Book]]:
    offered = book("okx")
    with ProviderServer({"okx": offered}, clock=lambda: NOW) as server:
        yield server, offered


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kills=st.lists(st.integers(0, 6), max_size=3))
def test_killed_after_any_page_a_read_goes_on_to_the_same_rows(
    served: tuple[ProviderServer, Book], small_pages: None, kills: list[int]
) -> None:
    server, offered = served
    everything = expected(offered.bars["BTC", "5m"], "okx")
    rows: dict[datetime, Any] = {}
    cursor = None
    for pages in [*kills, None]:
        made = stream(connector(server, price_venues=("okx",)))
        reading = made.pages(None if cursor is None else cursor - made.overlap, NOW)
        for page in reading:
            if pages == 0:
                reading.close()  # type: ignore[attr-defined]
                break
            pages = None if pages is None else pages - 1
            for row in page.rows.to_pylist():
                assert rows.setdefault(row["ts"], row) == row
            cursor = page.known_through
            assert cursor is not None
            known = [row for row in everything if row["known_at"] <= cursor]
            assert [rows[row["ts"]] for row in known] == known  # what the cursor promises
    assert [rows[ts] for ts in sorted(rows)] == everything


@pytest.mark.parametrize("venue", list(VENUES))
@pytest.mark.parametrize("seed", range(4))
def test_after_a_storm_the_rows_are_those_offered_once(
    serve: Serve, small_pages: None, venue: str, seed: int
) -> None:
    start = NOW.replace(hour=0, minute=0) - timedelta(days=2)
    offered = book(venue, start=start)
    server = serve(**{venue: offered})
    server.plan(storm(seed, 60, share=0.6))
    held, faults = Held(), []
    while True:  # each attempt is another run of the platform
        fault = held.read(stream(connector(server, price_venues=(venue,), start=start.date())), NOW)
        if fault is None:
            break
        assert isinstance(fault, ProviderError)
        faults.append(fault)
        assert len(faults) < 60
    assert all(len(versions) == 1 for versions in held.versions.values())
    wanted = expected(offered.bars["BTC", "5m"], venue)
    found = {key[3]: versions[0] for key, versions in held.versions.items()}
    assert sorted(found) == [row["ts"] for row in wanted]
    for row in wanted:
        assert found[row["ts"]][3] == row["close"]
        assert found[row["ts"]][-1] == row["known_at"]


def test_the_probe_says_what_the_newest_bar_is(serve: Serve) -> None:
    offered = book()
    server = serve(binance=offered)
    bar = next(b for b in offered.bars["BTC", "5m"] if b.ts == NOW - timedelta(minutes=10))
    assert connector(server).probe() == f"BTC/USDT 5m bar of 2024-07-01 00:35, close {bar.close:,}"
    assert len(server.requests) == 2
    with pytest.raises(ProviderUnavailable, match=r"binance .* 503"):
        connector(serve(binance=Down(503, b"<html></html>"))).probe()
