"""DefiLlama against a server that speaks its documented format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.sources.live.defillama import DefiLlama
from orchestration.sources.live.errors import NotListed, ProviderRefused, ShapeChanged
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.defillama import TOTAL, DefiLlamaApi
from tests.live.reading import Held
from tests.live.server import TOO_MANY, ProviderServer, Reply, storm

START = datetime(2024, 6, 1, tzinfo=UTC)
TODAY = datetime(2024, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Serve = Callable[..., ProviderServer]


def small_market() -> DefiLlamaApi:
    """Every day from May, before the start, to today, whose point still moves."""
    api = DefiLlamaApi(coins=[("99", "USDT", 5.0), ("1", "USDT", 1e11), ("2", "USDC", 3e10)])
    for number in range(62):
        day = TODAY - (61 - number) * DAY
        api.offer(TOTAL, day, peggedUSD=1.5e11 + number, peggedEUR=2.5e8, peggedVAR=None)
        api.offer("1", day, peggedUSD=1.1e11 + number)
    return api


def connector(server: ProviderServer, at: datetime = NOW) -> DefiLlama:
    providers = providers_at(server, assets=("BTC",), start=START.date())
    providers.clock = server.clock = lambda: at
    return DefiLlama(providers)


def stream(made: DefiLlama, asset: str = "ALL_STABLES") -> LiveStream:
    return next(one for one in made.streams() if one.name == f"defillama/{asset}")


def expected(asset: str = "ALL_STABLES") -> dict[tuple[object, ...], list[tuple[object, ...]]]:
    """Of 2024-06-01 to 2024-06-30, each known at noon of its day."""
    level = {"ALL_STABLES": 1.5e11 + 2.5e8, "USDT": 1.1e11}[asset]
    return {
        ("defillama", asset, "CirculatingUSD", START + number * DAY): [
            (level + 31 + number, datetime(2024, 6, 1 + number, 12, tzinfo=UTC))
        ]
        for number in range(30)
    }


def test_the_total_is_the_sum_over_pegs_in_dollars(serve: Serve) -> None:
    server = serve(defillama=small_market())
    held = Held()
    assert held.read(stream(connector(server)), NOW) is None
    assert held.versions == expected()
    assert len(server.requests) == 1


def test_of_two_stablecoins_with_one_symbol_the_larger_is_meant(serve: Serve) -> None:
    server = serve(defillama=small_market())
    made = connector(server)
    held = Held()
    assert held.read(stream(made, "USDT"), NOW) is None
    assert held.versions == expected("USDT")
    assert [request.query for request in server.requests] == [{}, {"stablecoin": "1"}]
    assert isinstance(held.read(stream(made, "TUSD"), NOW), NotListed)
    assert len(server.asked("defillama", "/stablecoins")) == 1


def test_the_point_of_a_running_day_is_not_taken(serve: Serve) -> None:
    api = small_market()
    server = serve(defillama=api)
    held = Held()
    evening = TODAY + timedelta(hours=20)
    assert held.read(stream(connector(server, evening)), evening) is None
    assert max(held.versions) == ("defillama", "ALL_STABLES", "CirculatingUSD", TODAY - DAY)
    api.offer(TOTAL, TODAY, peggedUSD=7.0)
    tomorrow = TODAY + timedelta(days=1, minutes=45)
    assert held.read(stream(connector(server, tomorrow)), tomorrow) is None
    assert held.versions["defillama", "ALL_STABLES", "CirculatingUSD", TODAY] == [
        (7.0, datetime(2024, 7, 1, 12, tzinfo=UTC))
    ]


def test_a_provider_whose_clock_is_behind_ends_no_day_early(serve: Serve) -> None:
    server = serve(defillama=small_market())
    server.clock_skew = timedelta(hours=-2)
    held = Held()
    assert held.read(stream(connector(server)), NOW) is None
    assert max(held.versions)[-1] == datetime(2024, 6, 29, tzinfo=UTC)


def test_a_changed_past_within_the_overlap_becomes_a_version(serve: Serve) -> None:
    api = small_market()
    server = serve(defillama=api)
    held = Held()
    held.read(stream(connector(server)), NOW)
    api.offer(TOTAL, datetime(2024, 6, 28, tzinfo=UTC), peggedUSD=9.0)
    api.offer(TOTAL, datetime(2024, 6, 3, tzinfo=UTC), peggedUSD=9.0)  # long past the overlap
    later = NOW + DAY
    assert held.read(stream(connector(server, later)), later) is None
    changed = {key[3]: versions for key, versions in held.versions.items() if len(versions) > 1}
    assert list(changed) == [datetime(2024, 6, 28, tzinfo=UTC)]
    assert changed[datetime(2024, 6, 28, tzinfo=UTC)][1] == (9.0, later)


def test_repeated_and_shuffled_points_enter_once(serve: Serve) -> None:
    api = small_market()
    api.repeat = api.backwards = True
    held = Held()
    assert held.read(stream(connector(serve(defillama=api))), NOW) is None
    assert held.versions == expected()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_faults_every_row_is_there_once_after_they_end(
    serve: Serve, seed: int
) -> None:
    server = serve(defillama=small_market())
    held = Held()
    server.plan(storm(seed, 40, share=0.8))
    for _ in range(5):
        made = connector(server)
        held.read(stream(made), NOW)
        held.read(stream(made, "USDT"), NOW)
    server.calm()
    made = connector(server)
    assert held.read(stream(made), NOW) is None
    assert held.read(stream(made, "USDT"), NOW) is None
    assert held.versions == expected() | expected("USDT")


@pytest.mark.parametrize("gone", ["date", "totalCirculatingUSD"])
def test_a_field_that_is_gone_is_named(serve: Serve, gone: str) -> None:
    api = small_market()
    api.rename = {gone: "other"}
    fault = Held().read(stream(connector(serve(defillama=api))), NOW)
    assert isinstance(fault, ShapeChanged)
    assert "/stablecoincharts/all" in str(fault)
    assert f"{gone}: Field required" in str(fault)


def test_milliseconds_are_no_seconds(serve: Serve) -> None:
    api = small_market()
    api.extra = {"date": "1719705600000"}
    fault = Held().read(stream(connector(serve(defillama=api))), NOW)
    assert isinstance(fault, ShapeChanged)
    assert "expected seconds since 1970, got '1719705600000'" in str(fault)


def test_new_fields_and_days_without_a_value_are_noted(serve: Serve) -> None:
    api = small_market()
    api.extra = {"totalRedeemed": {"peggedUSD": 5}}
    api.offer(TOTAL, START)
    made = stream(connector(serve(defillama=api)))
    held = Held()
    assert held.read(made, NOW) is None
    assert len(held.versions) == 29
    notes = "\n".join(made.notes())
    assert "1 days without a value" in notes
    assert "totalRedeemed" in notes


def test_an_empty_history_is_a_fault(serve: Serve) -> None:
    fault = Held().read(stream(connector(serve(defillama=DefiLlamaApi()))), NOW)
    assert isinstance(fault, ShapeChanged)


def test_a_refusal_is_not_asked_again_and_a_429_is(serve: Serve) -> None:
    server = serve(defillama=lambda request: Reply({"message": "no"}, 403))
    assert isinstance(Held().read(stream(connector(server)), NOW), ProviderRefused)
    assert len(server.requests) == 1
    server = serve(defillama=small_market())
    server.plan([TOO_MANY])
    held = Held()
    assert held.read(stream(connector(server)), NOW) is None
    assert held.versions == expected()


def test_the_probe_tells_the_newest_total(serve: Serve) -> None:
    probe = connector(serve(defillama=small_market())).probe()
    assert probe == "ALL_STABLES of 2024-07-01: 150,250,000,061 USD"
