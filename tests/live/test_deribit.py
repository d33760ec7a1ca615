"""Deribit's volatility index over JSON-RPC, against a server that speaks the documented format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from orchestration.sources.live.deribit import DeribitVolatility
from orchestration.sources.live.errors import ProviderRefused, ProviderUnavailable, ShapeChanged
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.deribit import Candle, Deribit
from tests.live.reading import Held
from tests.live.server import BROKEN, RESET, TOO_MANY, ProviderServer, storm

Serve = Callable[..., ProviderServer]
START = datetime(2024, 3, 1, tzinfo=UTC)
LENGTHS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
ASKED = {"1h": "3600", "1d": "1D"}
LAST = {"1h": datetime(2024, 6, 30, 23, tzinfo=UTC), "1d": datetime(2024, 6, 30, tzinfo=UTC)}
PATH = "/api/v2/public/get_volatility_index_data"


def candles(resolution: str = "1h", start: datetime = START) -> dict[datetime, Candle]:
    """Candles up to the one that runs at NOW, each of another value."""
    count = (LAST[resolution] - start) // LENGTHS[resolution] + 2
    return {
        start + place * LENGTHS[resolution]: (50.0, 55.5 + place / 1000, 45.25, 51.0 + place / 1000)
        for place in range(count)
    }


def index(resolution: str = "1h", start: datetime = START, **more: Any) -> Deribit:
    return Deribit(NOW, index={("BTC", ASKED[resolution]): candles(resolution, start)}, **more)


def stream(
    server: ProviderServer, resolution: str = "1h", coin: str = "BTC", **config: Any
) -> LiveStream:
    made = DeribitVolatility(providers_at(server, **{"start": START.date(), **config}))
    return next(s for s in made.streams() if s.name == f"deribit/dvol/{coin}/{resolution}")  # type: ignore[return-value]


def rows(made: LiveStream, after: datetime | None = None) -> list[dict[str, Any]]:
    return [row for page in made.pages(after, NOW) for row in page.rows.to_pylist()]


def expected(resolution: str = "1h", start: datetime = START) -> list[dict[str, Any]]:
    after_end = {"1h": timedelta(minutes=61), "1d": timedelta(hours=24, minutes=1)}[resolution]
    return [
        {
            "venue": "deribit",
            "symbol": "BTC-DVOL",
            "asset": "BTC",
            "resolution": resolution,
            "ts": ts,
            "open": values[0],
            "high": values[1],
            "low": values[2],
            "close": values[3],
            "known_at": ts + after_end,
            "source": "live",
        }
        for ts, values in candles(resolution, start).items()
        if ts <= LAST[resolution]
    ]


@pytest.mark.parametrize("resolution", LENGTHS)
@pytest.mark.parametrize("ends_belong", [True, False])
def test_every_closed_candle_is_given_once_and_known_a_minute_after_its_end(
    serve: Serve, resolution: str, ends_belong: bool
) -> None:
    server = serve(deribit=index(resolution, ends_belong=ends_belong))
    made = stream(server, resolution)
    assert (made.table, made.assets) == ("implied_volatility", ("BTC",))
    assert rows(made) == expected(resolution)
    assert made.notes() == ()
    assert len(server.requests) == {"1h": 3, "1d": 1}[resolution]


@pytest.mark.parametrize("points", [100, 333, 999])
def test_an_answer_that_is_cut_is_continued(serve: Serve, points: int) -> None:
    server = serve(deribit=index(points=points))
    assert rows(stream(server)) == expected()
    assert len(server.requests) > 3


def test_nothing_is_asked_of_the_time_before_the_index(serve: Serve) -> None:
    first = datetime(2021, 3, 24, tzinfo=UTC)
    server = serve(deribit=index("1d", first))
    assert rows(stream(server, "1d", start=date(2017, 1, 1))) == expected("1d", first)
    starts = [int(request.query["start_timestamp"]) for request in server.requests]
    assert min(starts) >= first.timestamp() * 1000 - 1
    assert len(starts) == 2


def test_only_coins_with_an_index_have_streams(serve: Serve) -> None:
    made = DeribitVolatility(providers_at(serve(), assets=("SOL", "ETH")))
    assert [s.name for s in made.streams()] == [
        "deribit/dvol/BTC/1h",
        "deribit/dvol/BTC/1d",
        "deribit/dvol/ETH/1h",
        "deribit/dvol/ETH/1d",
    ]


@pytest.mark.parametrize("seed", range(6))
def test_after_a_storm_of_faults_the_rows_are_the_ones_offered_once(
    serve: Serve, seed: int
) -> None:
    server = serve(deribit=index(points=400))
    held = Held()
    server.plan(storm(seed, 40, 0.7))
    for _ in range(60):
        if held.read(stream(server), NOW) is None:
            break
    server.calm()
    assert held.read(stream(server), NOW) is None
    wanted = expected()
    assert [key[4] for key in sorted(held.versions)] == [row["ts"] for row in wanted]
    assert [held.versions[key] for key in sorted(held.versions)] == [
        [tuple(row[name] for name in ("open", "high", "low", "close", "known_at"))]
        for row in wanted
    ]


def test_candles_that_come_twice_and_in_any_order_count_once(serve: Serve) -> None:
    offered = index()
    offered.quirks.twice = offered.quirks.shuffled = True
    assert rows(stream(serve(deribit=offered))) == expected()


@pytest.mark.parametrize(
    ("skew", "last"), [(timedelta(hours=-1), 22), (timedelta(0), 23), (timedelta(hours=3), 23)]
)
def test_a_candle_that_has_not_ended_by_both_clocks_is_not_given(
    serve: Serve, skew: timedelta, last: int
) -> None:
    server = serve(deribit=index())
    server.clock_skew = skew
    assert rows(stream(server))[-1]["ts"] == datetime(2024, 6, 30, last, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, 10028, "too_many_requests", ProviderUnavailable),
        (200, 10040, "retry", ProviderUnavailable),
        (400, 13028, "temporarily_unavailable", ProviderUnavailable),
        (400, 11029, "invalid_arguments", ProviderRefused),
        (200, -32602, "Invalid params", ProviderRefused),
        (403, 13021, "forbidden", ProviderRefused),
    ],
)
def test_an_error_of_deribit_is_told_by_its_code(
    serve: Serve, status: int, code: int, message: str, kind: type[Exception]
) -> None:
    server = serve(deribit=index(error=(status, code, message)))
    with pytest.raises(kind, match=rf"deribit public/get_volatility_index_data: error {code} {message}") as found:  # fmt: skip
        rows(stream(server))
    assert type(found.value) is kind
    assert len(server.requests) == 1


def test_an_answer_without_data_is_named(serve: Serve) -> None:
    for name in ("data", "continuation"):
        offered = index()
        offered.quirks.without = name
        with pytest.raises(ShapeChanged, match=rf"deribit public/get_volatility_index_data: field result\.{name}: Field required"):  # fmt: skip
            rows(stream(serve(deribit=offered)))


def test_a_candle_without_a_close_is_named(serve: Serve) -> None:
    offered = index("1d")
    held: Any = offered.index["BTC", "1D"]
    held[START] = (50.0, 51.0, 49.0)
    with pytest.raises(ShapeChanged, match=r"deribit public/get_volatility_index_data: field result\.data\.0"):  # fmt: skip
        rows(stream(serve(deribit=offered), "1d"))


def test_a_field_that_is_new_is_kept_in_the_notes(serve: Serve) -> None:
    class Newer(Deribit):
        def __call__(self, request: Any) -> Any:
            reply = super().__call__(request)
            reply.body["result"]["unit"] = "percent"
            reply.body["result"]["data"] = [[*row, 7.5] for row in reply.body["result"]["data"]]
            return reply

    made = stream(serve(deribit=Newer(NOW, index={("BTC", "1D"): candles("1d")})), "1d")
    assert rows(made) == expected("1d")
    assert made.notes() == ("new field public/get_volatility_index_data: result.unit = 'percent'",)


def test_429_and_half_an_answer_are_asked_for_again(serve: Serve) -> None:
    server = serve(deribit=index())
    server.plan([TOO_MANY, RESET, None, RESET])
    assert rows(stream(server)) == expected()


def test_a_reader_who_was_killed_goes_on_without_asking_for_the_past_again(serve: Serve) -> None:
    server = serve(deribit=index())
    held = Held()
    server.plan([None, None] + [BROKEN] * 10)
    assert isinstance(held.read(stream(server), NOW), ProviderUnavailable)
    reached = held.cursors["deribit/dvol/BTC/1h"]
    assert reached == START + timedelta(hours=2000, minutes=1)
    server.calm()
    before = len(server.requests)
    assert held.read(stream(server), NOW) is None
    starts = [int(request.query["start_timestamp"]) for request in server.requests[before:]]
    assert min(starts) >= (reached - timedelta(hours=8)).timestamp() * 1000
    assert [key[4] for key in sorted(held.versions)] == [row["ts"] for row in expected()]


def test_a_later_read_finds_a_revision_within_the_overlap(serve: Serve) -> None:
    offered = index()
    server = serve(deribit=offered)
    held = Held()
    assert held.read(stream(server), NOW - timedelta(minutes=30)) is None
    revised = datetime(2024, 6, 30, 21, tzinfo=UTC)
    offered.index["BTC", "3600"][revised] = (50.0, 99.0, 45.0, 60.0)
    assert held.read(stream(server), NOW) is None
    versions = held.versions["deribit", "BTC-DVOL", "BTC", "1h", revised]
    assert [version[3] for version in versions] == [candles()[revised][3], 60.0]
    assert versions[1][-1] == NOW


def test_a_probe_tells_the_newest_hour(serve: Serve) -> None:
    made = DeribitVolatility(providers_at(serve(deribit=index())))
    close = candles()[LAST["1h"]][3]
    assert made.probe() == f"BTC-DVOL 1h of 2024-06-30 23:00, close {close:g} %"
    empty = DeribitVolatility(providers_at(serve(deribit=Deribit(NOW))))
    with pytest.raises(ProviderRefused, match="no hour in the last six"):
        empty.probe()
