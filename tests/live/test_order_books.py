"""Snapshots of order books through ccxt, against servers that speak each venue's documented format."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestration.sources.live.errors import NotListed, ProviderRefused, ShapeChanged
from orchestration.sources.live.order_books import OrderBooks
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.spot_books import BinanceBooks, OkxBooks
from tests.live.reading import Held
from tests.live.server import TOO_MANY, ProviderServer, Reply, storm

Serve = Callable[..., ProviderServer]
BIDS = [("62690.10", "0.55"), ("62690.00", "1.25"), ("62689.5", "0.00001")]
ASKS = [("62690.20", "2.5"), ("62691", "0.75")]
TEXT = {
    "bids": "[[62690.1,0.55],[62690.0,1.25],[62689.5,1e-05]]",
    "asks": "[[62690.2,2.5],[62691.0,0.75]]",
}
STAMP = NOW - timedelta(seconds=3, milliseconds=250)


def binance(bids: Any = BIDS, asks: Any = ASKS, **more: Any) -> BinanceBooks:
    return BinanceBooks({"BTCUSDT": (bids, asks)}, **more)


def stream(server: ProviderServer, venue: str, coin: str = "BTC", *coins: str) -> LiveStream:
    made = OrderBooks(venue, providers_at(server, assets=(coin, *coins)))
    return next(s for s in made.streams() if s.name == f"{venue}/order_book/{coin}")  # type: ignore[return-value]


def rows(made: LiveStream) -> list[dict[str, Any]]:
    return [row for page in made.pages(None, NOW) for row in page.rows.to_pylist()]


def test_a_book_is_kept_as_given_and_known_when_it_was_read(serve: Serve) -> None:
    server = serve(binance=binance())
    made = stream(server, "binance")
    assert (made.table, made.assets, made.snapshot) == ("order_books", ("BTC",), True)
    assert rows(made) == [
        {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "asset": "BTC",
            "ts": NOW,
            **TEXT,
            "known_at": NOW,
            "source": "live",
        }
    ]
    assert [r.query["limit"] for r in server.asked("binance", "/api/v3/depth")] == ["100"]


def test_the_venues_own_stamp_is_the_time_of_the_book(serve: Serve) -> None:
    offered = OkxBooks({"BTC-USDT": (BIDS, ASKS)}, STAMP)
    row = rows(stream(serve(okx=offered), "okx"))[0]
    assert (row["ts"], row["known_at"]) == (STAMP, NOW)
    assert (row["bids"], row["asks"]) == (TEXT["bids"], TEXT["asks"])


def test_a_stamp_after_our_clock_is_not_believed(serve: Serve) -> None:
    offered = OkxBooks({"BTC-USDT": (BIDS, ASKS)}, NOW + timedelta(minutes=2))
    row = rows(stream(serve(okx=offered), "okx"))[0]
    assert (row["ts"], row["known_at"]) == (NOW, NOW)


def test_a_book_is_known_when_it_was_read_even_by_a_run_that_began_before(serve: Serve) -> None:
    asked_until = NOW - timedelta(seconds=5)  # a run that began five seconds ago
    made = stream(serve(okx=OkxBooks({"BTC-USDT": (BIDS, ASKS)}, STAMP)), "okx")
    (page,) = made.pages(None, asked_until)
    assert [(row["ts"], row["known_at"]) for row in page.rows.to_pylist()] == [(STAMP, NOW)]


def test_the_same_snapshot_read_twice_is_one_row(serve: Serve) -> None:
    server = serve(okx=OkxBooks({"BTC-USDT": (BIDS, ASKS)}, STAMP))
    held = Held()
    assert held.read(stream(server, "okx"), NOW) is None
    held.cursors.clear()
    assert held.read(stream(server, "okx"), NOW) is None
    assert [len(versions) for versions in held.versions.values()] == [1]


@pytest.mark.parametrize(
    ("bids", "asks"),
    [([], ASKS), (BIDS, []), ([], []), (ASKS, BIDS), ([("1", "0")], ASKS)],
    ids=["no bids", "no asks", "empty", "crossed", "no amount"],
)
def test_a_book_that_can_be_read_is_passed_on_however_odd(
    serve: Serve, bids: Any, asks: Any
) -> None:
    row = rows(stream(serve(binance=binance(bids, asks)), "binance"))[0]
    for name, side, sign in (("bids", bids, -1), ("asks", asks, 1)):
        wanted = sorted(([float(p), float(a)] for p, a in side), key=lambda level: sign * level[0])
        assert json.loads(row[name]) == wanted


@pytest.mark.parametrize("side", ["bids", "asks"])
def test_a_side_that_is_gone_is_not_taken_for_an_empty_one(serve: Serve, side: str) -> None:
    server = serve(binance=binance(without=side))
    with pytest.raises(ShapeChanged, match=f"binance fetchOrderBook: field {side}: missing"):
        rows(stream(server, "binance"))


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (("n/a", "1"), r"bids\.1\.price"),
        (("62690", "NaN"), r"bids\.1\.amount"),
        (("62690",), r"bids\.1\.amount"),
        ((None, "1"), r"bids\.1\.price"),
    ],
)
def test_a_level_that_is_no_number_is_named(serve: Serve, level: Any, name: str) -> None:
    server = serve(binance=binance([("62690.10", "0.55"), level]))
    with pytest.raises(
        ShapeChanged, match=f"binance fetchOrderBook: field {name}: expected a number"
    ):
        rows(stream(server, "binance"))


@pytest.mark.parametrize("seed", range(4))
def test_after_a_storm_of_faults_there_is_one_row_for_each_book_read(
    serve: Serve, seed: int
) -> None:
    server = serve(okx=OkxBooks({"BTC-USDT": (BIDS, ASKS), "ETH-USDT": (ASKS, ASKS)}, STAMP))
    held = Held()
    server.plan(storm(seed, 30, 0.8))
    coins = ("BTC", "ETH")
    for _ in range(60):
        found = [held.read(stream(server, "okx", coin, *coins), NOW) for coin in coins]
        if found == [None, None]:
            break
    assert found == [None, None]
    assert held.versions == {
        ("okx", "BTC/USDT", "BTC", STAMP): [(TEXT["bids"], TEXT["asks"], NOW)],
        ("okx", "ETH/USDT", "ETH", STAMP): [("[[62691.0,0.75],[62690.2,2.5]]", TEXT["asks"], NOW)],
    }


def test_a_refusal_is_not_asked_again_but_429_is(serve: Serve) -> None:
    class Refusing(BinanceBooks):
        def __call__(self, request: Any) -> Reply:
            if request.path == "/api/v3/depth":
                return Reply({"code": -1100, "msg": "Illegal characters found"}, 403)
            return super().__call__(request)

    server = serve(binance=Refusing({"BTCUSDT": (BIDS, ASKS)}))
    with pytest.raises(ProviderRefused, match="binance fetchOrderBook"):
        rows(stream(server, "binance"))
    assert len(server.asked("binance", "/api/v3/depth")) == 1
    server = serve(binance=binance())
    server.plan([None, TOO_MANY, TOO_MANY])
    assert len(rows(stream(server, "binance"))) == 1


def test_a_coin_that_is_delisted_or_was_never_listed_leaves_the_others_alone(serve: Serve) -> None:
    offered = BinanceBooks({"BTCUSDT": (BIDS, ASKS), "EOSUSDT": (BIDS, ASKS)}, delisted={"EOSUSDT"})
    server = serve(binance=offered)
    for coin in ("EOS", "XYZ"):
        with pytest.raises(NotListed, match=f"{coin} is"):
            rows(stream(server, "binance", coin))
    assert len(rows(stream(server, "binance"))) == 1


def test_streams_of_a_venue_are_one_for_each_coin_and_btc(serve: Serve) -> None:
    made = OrderBooks("okx", providers_at(serve(), assets=("ETH",)))
    assert [s.name for s in made.streams()] == ["okx/order_book/BTC", "okx/order_book/ETH"]


def test_a_probe_tells_the_best_prices(serve: Serve) -> None:
    made = OrderBooks("binance", providers_at(serve(binance=binance())))
    assert made.probe() == "BTC/USDT book, best bid 62,690.1, best ask 62,690.2"
