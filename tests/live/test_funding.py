"""Funding of swap venues through ccxt, against servers that speak each venue's documented format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from orchestration.sources.live import funding as funding_module
from orchestration.sources.live.errors import (
    NotListed,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.funding import Funding
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.binance_futures import BinanceFutures
from tests.live.providers.bybit_linear import BybitLinear
from tests.live.providers.deribit import Deribit
from tests.live.providers.dydx import Dydx
from tests.live.providers.hyperliquid import Hyperliquid
from tests.live.providers.okx_swap import OkxSwap
from tests.live.reading import Held
from tests.live.server import BROKEN, RESET, TOO_MANY, ProviderServer, Reply, storm

Serve = Callable[..., ProviderServer]
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
START = datetime(2024, 4, 10, tzinfo=UTC)
# venue: its name of BTC's swap, ccxt's name, hours between settlements
VENUES: dict[str, tuple[str, str, int]] = {
    "binanceusdm": ("BTCUSDT", "BTC/USDT:USDT", 8),
    "bybit": ("BTCUSDT", "BTC/USDT:USDT", 8),
    "okx": ("BTC-USDT-SWAP", "BTC/USDT:USDT", 8),
    "deribit": ("BTC-PERPETUAL", "BTC/USD:BTC", 1),
    "hyperliquid": ("BTC", "BTC/USDC:USDC", 1),
    "dydx": ("BTC-USD", "BTC/USDC:USDC", 1),
}
FIELDS = {
    "binanceusdm": "fundingRate",
    "bybit": "fundingRateTimestamp",
    "okx": "realizedRate",
    "deribit": "interest_1h",
    "hyperliquid": "time",
}
PATHS = {
    "binanceusdm": "/fapi/v1/fundingRate",
    "bybit": "/v5/market/funding/history",
    "okx": "/api/v5/public/funding-rate-history",
    "deribit": "/api/v2/public/get_funding_rate_history",
    "hyperliquid": "/info",
    "dydx": "/v4/historicalFunding",
}


def settled(start: datetime = START, hours: int = 8, until: datetime = NOW) -> dict[datetime, str]:
    """A rate at every settlement, each of another value."""
    count = (until - start) // (hours * HOUR) + 1
    return {start + place * hours * HOUR: f"{place * 1e-7 - 0.0001:.8f}" for place in range(count)}


def handler(venue: str, rates: dict[datetime, str], **more: Any) -> Any:
    name = VENUES[venue][0]
    made: Any
    if venue == "deribit":
        numbers = {ts: float(rate) for ts, rate in rates.items()}
        made = Deribit(NOW, {name: numbers}, **more)
    else:
        kinds: dict[str, Any] = {
            "binanceusdm": BinanceFutures, "bybit": BybitLinear, "okx": OkxSwap, "hyperliquid": Hyperliquid, "dydx": Dydx,
        }  # fmt: skip
        made = kinds[venue](NOW, {name: rates}, **more)
    return made


def history(server: ProviderServer, venue: str, coin: str = "BTC", **config: Any) -> LiveStream:
    config = {"assets": ("BTC",), "start": START.date()} | config
    streams = Funding(venue, providers_at(server, **config)).streams()
    return next(one for one in streams if one.name == f"{venue}/funding/{coin}")  # type: ignore[return-value]


def running(server: ProviderServer, venue: str, **config: Any) -> LiveStream:
    streams = Funding(venue, providers_at(server, **{"assets": ("BTC",), **config})).streams()
    return next(one for one in streams if one.name == f"{venue}/funding-now")  # type: ignore[return-value]


def rows(stream: LiveStream, after: datetime | None = None, until: datetime = NOW) -> list[Any]:
    return [row for page in stream.pages(after, until) for row in page.rows.to_pylist()]


def expected(venue: str, rates: dict[datetime, str]) -> list[dict[str, Any]]:
    _, symbol, hours = VENUES[venue]
    return [
        {
            "venue": venue,
            "symbol": symbol,
            "asset": "BTC",
            "ts": ts,
            "rate": float(rate),
            "interval_hours": float(hours),
            "known_at": ts + MINUTE,
            "source": "live",
        }
        for ts, rate in sorted(rates.items())
    ]


def asked(server: ProviderServer, venue: str) -> list[Any]:
    """Requests for a history."""
    found = server.asked(venue, PATHS[venue])
    return [r for r in found if venue != "hyperliquid" or r.json["type"] == "fundingHistory"]


@pytest.mark.parametrize("venue", VENUES)
def test_every_settlement_is_given_once_with_its_interval_and_known_a_minute_later(
    serve: Serve, venue: str
) -> None:
    rates = settled(hours=VENUES[venue][2])
    stream = history(serve(**{venue: handler(venue, rates)}), venue)
    assert (stream.table, stream.assets, stream.overlap) == (
        "funding_rates",
        ("BTC",),
        timedelta(days=1),
    )
    assert rows(stream) == expected(venue, rates)
    assert stream.notes() == ()


@pytest.mark.parametrize(
    ("venue", "start", "requests"),
    [
        ("binanceusdm", datetime(2023, 1, 1, tzinfo=UTC), 2),
        ("bybit", datetime(2024, 1, 1, tzinfo=UTC), 3),
        ("deribit", datetime(2024, 3, 1, tzinfo=UTC), 4),
        ("hyperliquid", datetime(2024, 4, 1, tzinfo=UTC), 5),
    ],
)
def test_pages_of_a_long_history_join_without_a_hole(
    serve: Serve, venue: str, start: datetime, requests: int
) -> None:
    rates = settled(start - 10 * 24 * HOUR, VENUES[venue][2])
    server = serve(**{venue: handler(venue, rates)})
    wanted = {ts: rate for ts, rate in rates.items() if ts >= start}
    assert rows(history(server, venue, start=start.date())) == expected(venue, wanted)
    assert requests <= len(asked(server, venue)) <= 2 * requests + 1


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit", "okx", "deribit", "hyperliquid"])
@pytest.mark.parametrize("seed", range(3))
def test_after_a_storm_of_faults_the_rows_are_the_ones_offered_once(
    serve: Serve, venue: str, seed: int
) -> None:
    hours = VENUES[venue][2]
    start = NOW.replace(hour=0, minute=0) - timedelta(days=70 if hours == 8 else 25)
    rates = settled(start, hours)
    server = serve(**{venue: handler(venue, rates)})
    held = Held()
    server.plan(storm(seed, 40, 0.7))
    for _ in range(60):
        if held.read(history(server, venue, start=start.date()), NOW) is None:
            break
    server.calm()
    assert held.read(history(server, venue, start=start.date()), NOW) is None
    wanted = expected(venue, rates)
    assert {key[3] for key in held.versions} == set(rates)
    assert [held.versions[key] for key in sorted(held.versions)] == [
        [(row["rate"], row["interval_hours"], row["known_at"])] for row in wanted
    ]


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit", "okx", "deribit", "hyperliquid"])
def test_rows_that_come_twice_and_in_any_order_count_once(serve: Serve, venue: str) -> None:
    rates = settled(hours=VENUES[venue][2], start=NOW.replace(minute=0) - 20 * 24 * HOUR)
    offered = handler(venue, rates)
    offered.quirks.twice = offered.quirks.shuffled = True
    stream = history(serve(**{venue: offered}), venue, start=date(2024, 6, 1))
    assert rows(stream) == expected(venue, rates)


def test_a_page_limit_that_was_lowered_since_loses_nothing(serve: Serve) -> None:
    rates = settled()
    server = serve(binanceusdm=handler("binanceusdm", rates, page=37))
    assert rows(history(server, "binanceusdm")) == expected("binanceusdm", rates)


def test_the_interval_follows_the_venue_through_changes_and_holes(serve: Serve) -> None:
    steps = [8, 8, 8, 4, 4, 4, 1, 1, 1, 2, 2, 8, 8, 8]
    ts, hours = START, {START: 8.0}
    for step in steps:
        ts += step * HOUR
        hours[ts] = float(step)
    missing = START + 32 * HOUR  # the second of the four-hour ones
    rates = dict.fromkeys((one for one in hours if one != missing), "0.0001")
    for page in (3, 1000):
        stream = history(serve(binanceusdm=handler("binanceusdm", rates, page=page)), "binanceusdm")
        found = {row["ts"]: row["interval_hours"] for row in rows(stream)}
        assert found == {one: value for one, value in hours.items() if one != missing}
        again = {row["ts"]: row["interval_hours"] for row in rows(stream, after=START + 30 * HOUR)}
        assert again == {
            one: value for one, value in found.items() if one + MINUTE > START + 30 * HOUR
        }


@pytest.mark.parametrize(("late", "minute"), [(-20_000, 0), (29_000, 0), (31_000, 1)])
def test_a_stamp_is_rounded_to_the_minute_of_the_settlement(
    serve: Serve, late: int, minute: int
) -> None:
    stream = history(serve(binanceusdm=handler("binanceusdm", settled(), late=late)), "binanceusdm")
    found = rows(stream)[3]
    assert found["ts"] == START + 24 * HOUR + minute * MINUTE
    assert found["known_at"] == found["ts"] + MINUTE


@pytest.mark.parametrize("venue", FIELDS)
def test_a_field_that_is_gone_is_named_with_provider_and_endpoint(serve: Serve, venue: str) -> None:
    offered = handler(venue, settled(hours=VENUES[venue][2]))
    offered.quirks.without = FIELDS[venue]
    with pytest.raises(
        ShapeChanged, match=rf"{venue} fetchFundingRateHistory: field .*{FIELDS[venue]}"
    ):
        rows(history(serve(**{venue: offered}), venue))


def test_a_list_that_is_gone_is_not_taken_for_an_empty_one(serve: Serve) -> None:
    offered = handler("bybit", settled(), without_list=True)
    with pytest.raises(
        ShapeChanged, match=r"bybit fetchFundingRateHistory: field result\.list: Field required"
    ):
        rows(history(serve(bybit=offered), "bybit"))


def test_a_rate_that_is_no_number_is_named(serve: Serve) -> None:
    rates = {**settled(), NOW.replace(hour=0, minute=0): "n/a"}
    with pytest.raises(
        ShapeChanged, match=r"okx fetchFundingRateHistory: field .*realizedRate.*'n/a'"
    ):
        rows(history(serve(okx=handler("okx", rates)), "okx"))


@pytest.mark.parametrize("venue", FIELDS)
def test_a_field_that_is_new_is_kept_in_the_notes(serve: Serve, venue: str) -> None:
    rates = settled(hours=VENUES[venue][2], start=NOW.replace(minute=0) - 5 * 24 * HOUR)
    offered = handler(venue, rates)
    offered.quirks.extra = {"adlTier": "gold"}
    stream = history(serve(**{venue: offered}), venue, start=date(2024, 6, 1))
    assert len(rows(stream)) == len(rates)
    assert any("adlTier = 'gold'" in note for note in stream.notes())


def test_a_refusal_is_not_asked_again_but_429_is_after_the_time_it_names(serve: Serve) -> None:
    class Refusing(BinanceFutures):
        def __call__(self, request: Any) -> Reply:
            if request.path == "/fapi/v1/fundingRate":
                return Reply({"code": -1121, "msg": "Invalid symbol."}, 400)
            return super().__call__(request)

    server = serve(binanceusdm=Refusing(NOW, {"BTCUSDT": settled()}))
    with pytest.raises((ProviderRefused, NotListed), match="binanceusdm"):
        rows(history(server, "binanceusdm"))
    assert len(asked(server, "binanceusdm")) == 1

    slept: list[float] = []
    server = serve(binanceusdm=handler("binanceusdm", settled()))
    providers = providers_at(server, assets=("BTC",), start=START.date())
    providers._sleep = slept.append
    stream = Funding("binanceusdm", providers).streams()[1]
    server.plan([None, TOO_MANY, TOO_MANY])
    assert len(rows(stream)) == len(settled())  # type: ignore[arg-type]
    assert len(slept) == 2
    assert all(1.0 <= seconds <= 2.0 for seconds in slept)


def test_half_an_answer_is_asked_for_again(serve: Serve) -> None:
    server = serve(deribit=handler("deribit", settled(hours=1)))
    server.plan([RESET, None, RESET, RESET, None])
    assert rows(history(server, "deribit")) == expected("deribit", settled(hours=1))


def test_a_swap_that_is_delisted_or_was_never_listed_leaves_the_others_alone(serve: Serve) -> None:
    offered = BinanceFutures(
        NOW, {"BTCUSDT": settled(), "EOSUSDT": settled()}, delisted={"EOSUSDT"}
    )
    server = serve(binanceusdm=offered)
    coins = {"assets": ("BTC", "EOS", "XYZ")}
    with pytest.raises(NotListed, match="EOS is delisted"):
        rows(history(server, "binanceusdm", "EOS", **coins))
    with pytest.raises(NotListed, match="XYZ is not listed"):
        rows(history(server, "binanceusdm", "XYZ", **coins))
    assert rows(history(server, "binanceusdm", **coins)) == expected("binanceusdm", settled())


def test_a_venue_whose_clock_is_behind_settles_by_its_own_time(serve: Serve) -> None:
    server = serve(bybit=handler("bybit", settled()))
    server.clock_skew = timedelta(hours=-2)
    last = rows(history(server, "bybit"))[-1]
    assert last["ts"] == datetime(2024, 6, 30, 16, tzinfo=UTC)


def test_a_reader_who_was_killed_goes_on_without_asking_for_the_past_again(serve: Serve) -> None:
    rates = settled(datetime(2023, 1, 1, tzinfo=UTC))
    server = serve(bybit=handler("bybit", rates))
    held = Held()
    server.plan([None] * 8 + [BROKEN] * 20)  # four answers about markets, then four stretches
    assert isinstance(held.read(history(server, "bybit", start=date(2023, 1, 1)), NOW), ProviderUnavailable)  # fmt: skip
    reached = held.cursors["bybit/funding/BTC"]
    assert len(held.versions) > 500
    assert max(key[3] for key in held.versions) < reached < NOW
    server.calm()
    before = len(server.requests)
    assert held.read(history(server, "bybit", start=date(2023, 1, 1)), NOW) is None
    starts = [
        int(request.query["startTime"])
        for request in server.requests[before:]
        if "startTime" in request.query
    ]
    assert min(starts) >= (reached - timedelta(days=3, minutes=2)).timestamp() * 1000
    assert [held.versions[key] for key in sorted(held.versions)] == [
        [(row["rate"], row["interval_hours"], row["known_at"])] for row in expected("bybit", rates)
    ]


def test_a_later_read_asks_for_the_overlap_alone_and_finds_a_revision(serve: Serve) -> None:
    rates = settled()
    offered = handler("hyperliquid", rates)
    server = serve(hyperliquid=offered)
    held = Held()
    assert held.read(history(server, "hyperliquid"), NOW - HOUR) is None
    rates[datetime(2024, 6, 30, 16, tzinfo=UTC)] = "0.00055"
    before = len(server.requests)
    assert held.read(history(server, "hyperliquid"), NOW) is None
    starts = [request.json["startTime"] for request in server.requests[before:] if b"startTime" in request.body]  # fmt: skip
    assert min(starts) > (NOW - timedelta(days=4)).timestamp() * 1000
    versions = next(v for key, v in held.versions.items() if key[3] == datetime(2024, 6, 30, 16, tzinfo=UTC))  # fmt: skip
    assert [version[0] for version in versions] == [float(settled()[datetime(2024, 6, 30, 16, tzinfo=UTC)]), 0.00055]  # fmt: skip
    assert versions[1][-1] == NOW


def test_history_that_okx_forgot_is_noted(serve: Serve) -> None:
    rates = settled(datetime(2023, 12, 1, tzinfo=UTC))
    stream = history(serve(okx=handler("okx", rates)), "okx", start=date(2023, 12, 1))
    first = datetime(2024, 3, 31, 8, tzinfo=UTC)
    assert rows(stream) == expected("okx", {ts: r for ts, r in rates.items() if ts >= first})
    assert stream.notes() == (
        "okx keeps 92 days of funding: BTC asked from 2023-12-01, given from 2024-03-31 08:00",
    )
    assert rows(stream, after=NOW - timedelta(days=2)) != []
    assert stream.notes() == ()


def test_a_venue_without_rules_of_ours_is_read_in_stretches_and_says_what_it_gave(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(funding_module.RULES, "bybit")
    rates = settled(datetime(2024, 3, 1, tzinfo=UTC))
    stream = history(serve(bybit=handler("bybit", rates)), "bybit", start=date(2024, 1, 1))
    assert rows(stream) == expected("bybit", rates)
    assert stream.notes() == (
        "bybit is asked in 30-day stretches, its own paging is not known to us: BTC asked from 2024-01-01, "
        "given from 2024-03-01 00:00",
    )


def test_a_venue_that_ccxt_does_not_know_is_named(serve: Serve) -> None:
    with pytest.raises(ProviderRefused, match="has no venue 'mtgox'"):
        rows(history(serve(), "mtgox"))


RUNNING: dict[str, tuple[str, float]] = {
    "binanceusdm": ("0.00010000", 8.0),
    "bybit": ("0.00012", 4.0),
    "okx": ("0.00027815", 2.0),
    "deribit": ("0.00008", 8.0),
    "hyperliquid": ("0.0000125", 1.0),
}


def running_at(venue: str, **more: Any) -> Any:
    name, (rate, hours) = VENUES[venue][0], RUNNING[venue]
    if venue in ("bybit", "okx"):
        more = {"hours": int(hours), **more}
    value: Any = {name: float(rate)} if venue == "deribit" else {name: rate}
    return handler(venue, settled(hours=VENUES[venue][2]), running=value, **more)


@pytest.mark.parametrize("venue", RUNNING)
def test_the_running_rate_is_known_when_it_was_read_and_marked_as_not_settled(
    serve: Serve, venue: str
) -> None:
    stream = running(serve(**{venue: running_at(venue)}), venue)
    rate, hours = RUNNING[venue]
    assert stream.snapshot
    assert rows(stream) == [
        {
            "venue": venue,
            "symbol": f"{VENUES[venue][1]}(current)",
            "asset": "BTC",
            "ts": NOW,
            "rate": float(rate),
            "interval_hours": hours,
            "known_at": NOW,
            "source": "live",
        }
    ]
    assert [page.known_through for page in stream.pages(None, NOW)] == [None]


def test_binance_says_only_of_changed_symbols_how_long_their_interval_is(serve: Serve) -> None:
    offered = BinanceFutures(
        NOW, running={"BTCUSDT": "0.0001", "ETHUSDT": "-0.0002"}, hours={"ETHUSDT": 4}
    )
    server = serve(binanceusdm=offered)
    stream = running(server, "binanceusdm", assets=("BTC", "ETH", "XYZ"))
    found = {row["asset"]: (row["rate"], row["interval_hours"]) for row in rows(stream)}
    assert found == {"BTC": (0.0001, 8.0), "ETH": (-0.0002, 4.0)}
    assert stream.notes() == ("XYZ is not listed",)
    assert len(server.asked("binanceusdm", "/fapi/v1/fundingInfo")) == 1


@pytest.mark.parametrize(
    ("venue", "name"),
    [("binanceusdm", "lastFundingRate"), ("bybit", "fundingRate"), ("okx", "fundingRate")],
)
def test_a_running_rate_without_a_rate_is_named(serve: Serve, venue: str, name: str) -> None:
    offered = running_at(venue)
    offered.quirks.without = name
    with pytest.raises(
        ShapeChanged, match=rf"{venue} fetchFundingRates: field BTC/USDT:USDT.fundingRate"
    ):
        rows(running(serve(**{venue: offered}), venue))


def test_a_venue_without_running_rates_says_so(serve: Serve) -> None:
    stream = running(serve(dydx=handler("dydx", settled(hours=1))), "dydx")
    assert rows(stream) == []
    assert stream.notes() == ("ccxt has no running rate of this venue",)


def test_no_listed_coin_at_all_is_not_listed(serve: Serve) -> None:
    offered = BinanceFutures(NOW, running={"ETHUSDT": "0.0001"})
    with pytest.raises(NotListed, match="none of the coins"):
        rows(running(serve(binanceusdm=offered), "binanceusdm"))


def test_a_probe_tells_the_newest_settlement(serve: Serve) -> None:
    server = serve(deribit=handler("deribit", {NOW.replace(minute=0): "0.000125"}))
    made = Funding("deribit", providers_at(server))
    assert made.provider == "deribit"
    assert made.probe() == "BTC/USD:BTC funding of 2024-07-01 00:00, 0.0125% for 1 h"
    server = serve(deribit=handler("deribit", {START: "0.000125"}))
    with pytest.raises(ProviderRefused, match="no settlement in the last two days"):
        Funding("deribit", providers_at(server)).probe()
