"""Daily open interest of swap venues through ccxt, against servers that speak each venue's documented format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from orchestration.sources.live import open_interest as module
from orchestration.sources.live.errors import (
    NotListed,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.open_interest import OpenInterest
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.binance_futures import BinanceFutures
from tests.live.providers.bybit_linear import BybitLinear
from tests.live.providers.deribit import Deribit
from tests.live.providers.okx_swap import OkxSwap
from tests.live.reading import Held
from tests.live.server import BROKEN, RESET, TOO_MANY, ProviderServer, Reply, storm

Serve = Callable[..., ProviderServer]
DAY = timedelta(days=1)
START = datetime(2024, 6, 5, tzinfo=UTC)
LAST = datetime(2024, 6, 30, tzinfo=UTC)  # the newest day that has ended at NOW
PATHS = {
    "binanceusdm": "/futures/data/openInterestHist",
    "bybit": "/v5/market/open-interest",
    "okx": "/api/v5/rubik/stat/contracts/open-interest-history",
}


def days(start: datetime = START, last: datetime = LAST) -> dict[datetime, float]:
    """USD at the end of each day, each of another value."""
    count = (last - start) // DAY + 1
    return {start + place * DAY: 8e9 + 1e6 * place for place in range(count)}


def handler(venue: str, usd: dict[datetime, float], **more: Any) -> Any:
    """A venue of whose open interest these are the values at the end of each day; its running day is of another value."""
    running = datetime(2024, 7, 1, tzinfo=UTC)
    if venue == "binanceusdm":
        snapshots = {day + DAY: ("100000.5", str(value)) for day, value in usd.items()}
        return BinanceFutures(NOW, open_interest={"BTCUSDT": snapshots}, **more)
    if venue == "bybit":
        coins = {day + DAY: str(value / 65_536) for day, value in usd.items()}
        marks = {**dict.fromkeys(usd, "65536"), running: "61000"}
        return BybitLinear(NOW, open_interest={"BTCUSDT": coins}, marks={"BTCUSDT": marks}, **more)
    periods = {day: ("125000", "1250", str(value)) for day, value in usd.items()}
    periods[running] = ("1", "1", "1.0")
    return OkxSwap(NOW, open_interest={"BTC-USDT-SWAP": periods}, **more)


def stream(server: ProviderServer, venue: str, coin: str = "BTC", **config: Any) -> LiveStream:
    config = {"assets": ("BTC",), "start": START.date()} | config
    streams = OpenInterest(venue, providers_at(server, **config)).streams()
    return next(one for one in streams if one.name == f"{venue}/open_interest/{coin}")  # type: ignore[return-value]


def rows(made: LiveStream, after: datetime | None = None, until: datetime = NOW) -> list[Any]:
    return [row for page in made.pages(after, until) for row in page.rows.to_pylist()]


def expected(venue: str, usd: dict[datetime, float]) -> list[dict[str, Any]]:
    return [
        {
            "venue": venue,
            "symbol": "BTC/USDT:USDT",
            "asset": "BTC",
            "ts": day,
            "open": None,
            "high": None,
            "low": None,
            "close": value,
            "resolution": "1d",
            "known_at": day + timedelta(hours=24, minutes=5),
            "source": "live",
        }
        for day, value in sorted(usd.items())
    ]


def versions(venue: str, usd: dict[datetime, float]) -> list[list[tuple[Any, ...]]]:
    return [
        [(None, None, None, row["close"], "1d", row["known_at"])] for row in expected(venue, usd)
    ]


@pytest.mark.parametrize("venue", PATHS)
def test_a_day_has_the_value_of_its_end_in_usd_and_is_known_five_minutes_later(
    serve: Serve, venue: str
) -> None:
    usd = days(START - 3 * DAY)
    made = stream(serve(**{venue: handler(venue, usd)}), venue)
    assert (made.table, made.assets, made.overlap) == ("open_interest", ("BTC",), 2 * DAY)
    assert rows(made) == expected(venue, {day: usd[day] for day in days()})
    assert made.notes() == ()


@pytest.mark.parametrize(
    ("venue", "start", "first"),
    [
        ("binanceusdm", datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)),
        ("okx", datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 24, tzinfo=UTC)),
    ],
)
def test_what_a_venue_has_forgotten_is_noted(
    serve: Serve, venue: str, start: datetime, first: datetime
) -> None:
    usd = days(start - 10 * DAY)
    server = serve(**{venue: handler(venue, usd)})
    made = stream(server, venue, start=start.date())
    assert rows(made) == expected(venue, {day: value for day, value in usd.items() if day >= first})
    keeps = {"binanceusdm": 30, "okx": 100}[venue]
    assert made.notes() == (
        f"{venue} keeps {keeps} days of open interest: BTC asked from 2024-01-01, given from {first:%Y-%m-%d}",
    )
    assert rows(made, after=NOW - 3 * DAY) != []
    assert made.notes() == ()


def test_bybit_is_read_back_to_the_listing(serve: Serve) -> None:
    usd = days(datetime(2022, 3, 1, tzinfo=UTC))
    server = serve(bybit=handler("bybit", usd))
    made = stream(server, "bybit", start=date(2021, 1, 1))
    assert rows(made) == expected("bybit", usd)
    assert made.notes() == ()
    assert len(server.asked("bybit", PATHS["bybit"])) <= 15


@pytest.mark.parametrize("venue", PATHS)
@pytest.mark.parametrize("seed", range(4))
def test_after_a_storm_of_faults_the_rows_are_the_ones_offered_once(
    serve: Serve, venue: str, seed: int
) -> None:
    server = serve(**{venue: handler(venue, days())})
    held = Held()
    server.plan(storm(seed, 30, 0.7))
    for _ in range(60):
        if held.read(stream(server, venue), NOW) is None:
            break
    server.calm()
    assert held.read(stream(server, venue), NOW) is None
    assert [key[3] for key in sorted(held.versions)] == sorted(days())
    assert [held.versions[key] for key in sorted(held.versions)] == versions(venue, days())


@pytest.mark.parametrize("venue", PATHS)
def test_rows_that_come_twice_and_in_any_order_count_once(serve: Serve, venue: str) -> None:
    offered = handler(venue, days())
    offered.quirks.twice = offered.quirks.shuffled = True
    assert rows(stream(serve(**{venue: offered}), venue)) == expected(venue, days())


def test_a_day_without_a_price_is_left_out_and_counted(serve: Serve) -> None:
    offered = handler("bybit", days())
    del offered.marks["BTCUSDT"][START + DAY]
    made = stream(serve(bybit=offered), "bybit")
    usd = {day: value for day, value in days().items() if day != START + DAY}
    assert rows(made) == expected("bybit", usd)
    assert made.notes() == (
        "1 values of BTC/USDT:USDT left out: no USD value and no price beside them",
    )


def test_a_stamp_within_a_day_ends_none_and_is_counted(serve: Serve) -> None:
    offered = handler("binanceusdm", days())
    offered.open_interest["BTCUSDT"][START + timedelta(days=3, hours=4)] = ("1", "1")
    made = stream(serve(binanceusdm=offered), "binanceusdm")
    assert rows(made) == expected("binanceusdm", days())
    assert made.notes() == ("1 values of BTC/USDT:USDT left out: stamped within a day",)


def test_days_of_a_venue_without_rules_of_ours_are_never_too_early(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(module.RULES, "okx")  # ccxt then asks for days that begin at 16:00 UTC
    made = stream(serve(okx=handler("okx", days())), "okx")
    found = rows(made)
    assert len(found) > 20
    for row in found:
        period = (
            row["ts"] - DAY
        )  # the day of the server whose period began at 16:00 of the day before
        assert row["close"] == days()[period + DAY]
        assert row["known_at"] >= period + timedelta(hours=16) + DAY


def test_coins_without_a_price_are_not_taken_for_dollars(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(module.RULES, "bybit")
    made = stream(serve(bybit=handler("bybit", days())), "bybit")
    assert rows(made) == []
    assert any("no USD value" in note for note in made.notes())


@pytest.mark.parametrize(
    ("venue", "name"), [("binanceusdm", "sumOpenInterestValue"), ("bybit", "openInterest")]
)
def test_a_field_that_is_gone_is_named_with_provider_and_endpoint(
    serve: Serve, venue: str, name: str
) -> None:
    offered = handler(venue, days())
    offered.quirks.without = name
    with pytest.raises(ShapeChanged, match=rf"{venue} fetchOpenInterestHistory: field .*{name}"):
        rows(stream(serve(**{venue: offered}), venue))


def test_a_value_that_is_gone_from_a_list_is_named(serve: Serve) -> None:
    offered = handler("okx", days())
    offered.open_interest["BTC-USDT-SWAP"] = {
        day: values[:2] for day, values in offered.open_interest["BTC-USDT-SWAP"].items()
    }
    with pytest.raises(ShapeChanged, match=r"okx fetchOpenInterestHistory: field data\.0"):
        rows(stream(serve(okx=offered), "okx"))


def test_a_list_that_is_gone_is_not_taken_for_an_empty_one(serve: Serve) -> None:
    offered = handler("bybit", days(), without_list=True)
    with pytest.raises(ShapeChanged, match=r"bybit fetchOpenInterestHistory: field result\.list"):
        rows(stream(serve(bybit=offered), "bybit"))


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit"])
def test_a_field_that_is_new_is_kept_in_the_notes(serve: Serve, venue: str) -> None:
    offered = handler(venue, days())
    offered.quirks.extra = {"longShare": "0.51"}
    made = stream(serve(**{venue: offered}), venue)
    assert rows(made) == expected(venue, days())
    assert any("longShare = '0.51'" in note for note in made.notes())


def test_a_refusal_is_not_asked_again_but_429_and_half_an_answer_are(serve: Serve) -> None:
    class Refusing(OkxSwap):
        def __call__(self, request: Any) -> Reply:
            if "rubik" in request.path:
                return Reply({"code": "51000", "msg": "Parameter period error", "data": []}, 400)
            return super().__call__(request)

    server = serve(okx=Refusing(NOW, open_interest={"BTC-USDT-SWAP": {}}))
    with pytest.raises(ProviderRefused, match="okx fetchOpenInterestHistory"):
        rows(stream(server, "okx"))
    assert len(server.asked("okx", PATHS["okx"])) == 1
    server = serve(okx=handler("okx", days()))
    server.plan([TOO_MANY, None, RESET, TOO_MANY])
    assert rows(stream(server, "okx")) == expected("okx", days())


def test_a_swap_that_is_delisted_or_was_never_listed_leaves_the_others_alone(serve: Serve) -> None:
    offered = handler("okx", days())
    offered.running["EOS-USDT-SWAP"] = "0.0001"
    offered.delisted.add("EOS-USDT-SWAP")
    server = serve(okx=offered)
    coins = {"assets": ("BTC", "EOS", "XYZ")}
    for coin in ("EOS", "XYZ"):
        with pytest.raises(NotListed, match=f"{coin} is"):
            rows(stream(server, "okx", coin, **coins))
    assert rows(stream(server, "okx", **coins)) == expected("okx", days())


@pytest.mark.parametrize("venue", PATHS)
def test_a_day_that_has_not_ended_by_the_venues_clock_is_not_given(
    serve: Serve, venue: str
) -> None:
    server = serve(**{venue: handler(venue, days())})
    server.clock_skew = timedelta(hours=-1)
    assert rows(stream(server, venue))[-1]["ts"] == LAST - DAY


def test_a_reader_who_was_killed_goes_on_without_asking_for_the_past_again(serve: Serve) -> None:
    usd = days(datetime(2022, 6, 1, tzinfo=UTC))
    server = serve(bybit=handler("bybit", usd))
    start = date(2022, 6, 1)
    held = Held()
    server.plan(
        [None] * 4 + [None] * 6 + [BROKEN] * 20
    )  # markets; interest and prices of stretches
    assert isinstance(held.read(stream(server, "bybit", start=start), NOW), ProviderUnavailable)
    reached = held.cursors["bybit/open_interest/BTC"]
    assert len(held.versions) > 300
    server.calm()
    before = len(server.requests)
    assert held.read(stream(server, "bybit", start=start), NOW) is None
    starts = [int(r.query["startTime"]) for r in server.requests[before:] if "startTime" in r.query]
    assert min(starts) >= (reached - 3 * DAY).timestamp() * 1000
    assert [held.versions[key] for key in sorted(held.versions)] == versions("bybit", usd)


def test_a_later_read_finds_a_revision_within_the_overlap(serve: Serve) -> None:
    offered = handler("binanceusdm", days())
    server = serve(binanceusdm=offered)
    held = Held()
    assert held.read(stream(server, "binanceusdm"), NOW - timedelta(minutes=15)) is None
    offered.open_interest["BTCUSDT"][LAST] = ("1", "7777.0")  # the end of the day before
    before = len(server.requests)
    assert held.read(stream(server, "binanceusdm"), NOW) is None
    found = next(v for key, v in held.versions.items() if key[3] == LAST - DAY)
    assert [version[3] for version in found] == [days()[LAST - DAY], 7777.0]
    assert found[-1][-1] == NOW
    asked = [r for r in server.requests[before:] if "startTime" in r.query]
    assert min(int(r.query["startTime"]) for r in asked) > (NOW - 3 * DAY).timestamp() * 1000


def test_a_venue_without_history_is_refused_with_the_reason(serve: Serve) -> None:
    server = serve(deribit=Deribit(NOW, running={"BTC-PERPETUAL": 0.0001}))
    with pytest.raises(ProviderRefused, match="deribit fetchOpenInterestHistory: ccxt has no such"):
        rows(stream(server, "deribit"))


def test_a_probe_tells_the_newest_day(serve: Serve) -> None:
    made = OpenInterest("okx", providers_at(serve(okx=handler("okx", days()))))
    assert made.probe() == "BTC/USDT:USDT open interest of 2024-06-30, 8,025,000,000 USD"
    empty = OpenInterest("okx", providers_at(serve(okx=handler("okx", {START: 1.0}))))
    with pytest.raises(ProviderRefused, match="no value in the last three days"):
        empty.probe()
