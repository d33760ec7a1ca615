"""Coin Metrics through its own client, against a server that speaks its documented format."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.sources.archive_files import REVISED
from orchestration.sources.live.coinmetrics import HISTORY_MOVES, CoinMetrics
from orchestration.sources.live.coinmetrics_client import as_json
from orchestration.sources.live.errors import NotListed, ProviderRefused, ShapeChanged
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.coinmetrics import CoinMetricsApi, stamp
from tests.live.reading import Held
from tests.live.server import HTML, RESET, TOO_MANY, TRUNCATED, ProviderServer, Reply, storm

START = datetime(2024, 3, 1, tzinfo=UTC)
LAST = datetime(2024, 6, 30, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
Serve = Callable[..., ProviderServer]


def days(first: datetime = START, last: datetime = LAST) -> list[datetime]:
    return [first + n * DAY for n in range((last - first).days + 1)]


def small_chain(asset: str = "btc", until: datetime = LAST) -> CoinMetricsApi:
    """Addresses and inflows of every day; a day is complete five hours after its end, and the newest is not yet."""
    api = CoinMetricsApi()
    for number, day in enumerate(days(last=until)):
        api.offer(asset, day, AdrActCnt=str(700_000 + number), FlowInExNtv=f"{1000 + number}.125")
        api.offer(
            asset,
            day,
            **{"FlowInExNtv-status": "flash", "FlowInExNtv-status-time": stamp(day + DAY)},
        )
        if day < LAST:
            api.complete(asset, day, day + DAY + 5 * HOUR)
    return api


def connector(server: ProviderServer, page_days: int = 50, **config: object) -> CoinMetrics:
    config = {"assets": ("BTC",), "start": START.date()} | config
    return CoinMetrics(providers_at(server, **config), page_days)


def stream(made: CoinMetrics, name: str = "coinmetrics/BTC") -> LiveStream:
    return next(one for one in made.streams() if one.name == name)


def read(server: ProviderServer, held: Held | None = None, **config: object) -> Held:
    held = held or Held()
    fault = held.read(stream(connector(server, **config)), NOW)
    assert fault is None, fault
    return held


def values(held: Held, metric: str) -> dict[datetime, Sequence[object]]:
    return {key[3]: versions[-1] for key, versions in held.versions.items() if key[2] == metric}


def expected_of_small_chain() -> dict[tuple[object, ...], list[tuple[object, ...]]]:
    """Complete five hours after the day's end, which on 2024-06-30 is still to come; flows were read now."""
    rows = {}
    for number, day in enumerate(days()):
        if day < LAST:
            known = datetime(day.year, day.month, day.day, 5, tzinfo=UTC) + timedelta(days=1)
            rows["coinmetrics", "BTC", "AdrActCnt", day] = [(700_000.0 + number, known)]
            rows["coinmetrics", "BTC", "FlowInExNtv", day] = [(1000.125 + number, NOW)]
    # FlowInExNtv of the newest day has no completion, but the time at which it was computed
    rows["coinmetrics", "BTC", "FlowInExNtv", LAST] = [(1000.125 + 121, NOW)]
    return rows


def test_rows_are_those_that_the_provider_offered(serve: Serve) -> None:
    server = serve(coinmetrics=small_chain())
    assert read(server).versions == expected_of_small_chain()
    assert len(server.asked("coinmetrics", "/v4/timeseries")) == 3  # 122 days, 50 a page


def test_a_used_up_rate_limit_does_not_make_the_client_ask_twice(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))
    server = serve(coinmetrics=small_chain())
    read(server)
    asked = [request.query for request in server.requests]
    assert len(asked) == len({str(query) for query in asked})


def test_only_what_the_catalog_offers_is_asked(serve: Serve) -> None:
    api = small_chain()
    api.hidden = {"FlowInExNtv"}
    server = serve(coinmetrics=api)
    assert not values(read(server), "FlowInExNtv")
    assert {r.query["metrics"] for r in server.asked("coinmetrics", "/v4/timeseries")} == {
        "AdrActCnt,AssetEODCompletionTime"
    }


def test_without_a_stamp_a_day_is_known_13_hours_into_the_day_after_next(serve: Serve) -> None:
    api = CoinMetricsApi()
    for day in days(last=LAST):
        api.offer("btc", day, AdrActCnt="1")
    known = values(read(serve(coinmetrics=api)), "AdrActCnt")
    assert known[datetime(2024, 6, 28, tzinfo=UTC)] == (1.0, datetime(2024, 6, 29, 13, tzinfo=UTC))
    assert max(known) == LAST - DAY
    later = Held()
    server = serve(coinmetrics=api)
    providers = providers_at(server, assets=("BTC",), start=START.date())
    providers.clock = server.clock = lambda: NOW + 13 * HOUR
    moved = CoinMetrics(providers)
    assert later.read(stream(moved), NOW + 13 * HOUR) is None
    assert max(values(later, "AdrActCnt")) == LAST


def test_a_value_marked_as_revised_is_known_from_its_revision(serve: Serve) -> None:
    api = small_chain()
    day = datetime(2024, 5, 2, tzinfo=UTC)
    again = datetime(2024, 5, 9, 14, 30, tzinfo=UTC)
    for other, status in ((day, "revised"), (day + DAY, "reviewed")):
        api.offer(
            "btc", other, **{"AdrActCnt-status": status, "AdrActCnt-status-time": stamp(again)}
        )
    known = values(read(serve(coinmetrics=api)), "AdrActCnt")
    assert known[day][1] == again
    assert known[day + DAY][1] == datetime(2024, 5, 4, 5, tzinfo=UTC)


def test_a_stamp_from_before_the_end_of_the_day_is_not_believed(serve: Serve) -> None:
    api = small_chain()
    day = datetime(2024, 5, 2, tzinfo=UTC)
    api.complete("btc", day, day + 3 * HOUR)
    assert values(read(serve(coinmetrics=api)), "AdrActCnt")[day][1] == datetime(
        2024, 5, 3, tzinfo=UTC
    )


def test_absent_and_null_values_leave_the_row_out(serve: Serve) -> None:
    api = small_chain()
    absent, null = datetime(2024, 5, 2, tzinfo=UTC), datetime(2024, 5, 3, tzinfo=UTC)
    del api.days["btc"][absent]["AdrActCnt"]
    api.offer("btc", null, AdrActCnt=None)
    held = read(serve(coinmetrics=api))
    assert {absent, null}.isdisjoint(values(held, "AdrActCnt"))
    assert {absent, null} <= set(values(held, "FlowInExNtv"))


def test_a_metric_outside_the_tier_is_dropped_with_a_note(serve: Serve) -> None:
    api = small_chain()
    api.paid = {"FlowInExNtv"}
    made = stream(connector(serve(coinmetrics=api)))
    held = Held()
    assert held.read(made, NOW) is None
    assert len(values(held, "AdrActCnt")) == 121
    assert "not in this tier: FlowInExNtv" in made.notes()


def test_an_asset_that_is_unknown_is_not_listed_and_the_others_go_on(serve: Serve) -> None:
    server = serve(coinmetrics=small_chain())
    made = connector(server, assets=("BTC", "NOPE"))
    held = Held()
    fault = held.read(stream(made, "coinmetrics/NOPE"), NOW)
    assert isinstance(fault, NotListed)
    assert "nope" in str(fault)
    assert held.read(stream(made), NOW) is None
    assert len(server.asked("coinmetrics", "/v4/catalog-v2")) == 2  # the 400 was not asked again


def test_an_asset_without_any_of_the_metrics_is_not_listed(serve: Serve) -> None:
    api = CoinMetricsApi()
    api.offer("btc", START, PriceUSD="60000")
    fault = Held().read(stream(connector(serve(coinmetrics=api))), NOW)
    assert isinstance(fault, NotListed)


def test_stablecoins_are_read_by_supply_and_coins_by_their_id(serve: Serve) -> None:
    api = CoinMetricsApi()
    for asset in ("usdt", "avaxc"):
        api.offer(asset, START, SplyCur="100.5", AdrActCnt="3")
    server = serve(coinmetrics=api)
    made = connector(server, assets=("AVAX",))
    held = Held()
    for name in ("coinmetrics/stablecoin/USDT", "coinmetrics/AVAX"):
        assert held.read(stream(made, name), NOW) is None
    known = START + 37 * HOUR
    assert held.versions == {
        ("coinmetrics", "USDT", "SplyCur", START): [(100.5, known)],
        ("coinmetrics", "AVAX", "SplyCur", START): [(100.5, known)],
        ("coinmetrics", "AVAX", "AdrActCnt", START): [(3.0, known)],
    }


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_faults_every_row_is_there_once_after_they_end(
    serve: Serve, seed: int
) -> None:
    server = serve(coinmetrics=small_chain())
    held = Held()
    server.plan(storm(seed, 40, share=0.7))
    for _ in range(4):
        held.read(stream(connector(server, page_days=20)), NOW)
    server.calm()
    assert read(server, held).versions == expected_of_small_chain()


def test_a_read_goes_on_where_the_last_complete_page_ended(serve: Serve) -> None:
    server = serve(coinmetrics=small_chain())
    held = Held()
    server.plan([None, None, None, *[RESET] * 5])
    fault = held.read(stream(connector(server)), NOW)
    assert fault is not None
    assert len(values(held, "AdrActCnt")) == 100  # two pages of 50 days
    server.calm()
    before = len(server.asked("coinmetrics", "/v4/timeseries"))
    read(server, held)
    since = server.asked("coinmetrics", "/v4/timeseries")[before].query["start_time"]
    assert (
        since == "2024-05-08"
    )  # the 100th day is 2024-06-08; 30 days of overlap and 2 of slack before its end
    assert held.versions == expected_of_small_chain()


def test_a_second_read_asks_for_the_overlap_only_and_adds_nothing(serve: Serve) -> None:
    server = serve(coinmetrics=small_chain())
    held = read(server)
    before = len(server.requests)
    read(server, held)
    assert server.requests[before + 1].query["start_time"] == "2024-05-30"
    assert held.versions == expected_of_small_chain()


def test_a_changed_value_within_the_overlap_becomes_a_version_known_when_it_was_read(
    serve: Serve,
) -> None:
    api = small_chain()
    server = serve(coinmetrics=api)
    held = read(server)
    day = datetime(2024, 6, 20, tzinfo=UTC)
    api.offer("btc", day, FlowInExNtv="5.5")
    providers = providers_at(server, assets=("BTC",), start=START.date())
    providers.clock = server.clock = lambda: NOW + DAY
    assert held.read(stream(CoinMetrics(providers)), NOW + DAY) is None
    assert held.versions["coinmetrics", "BTC", "FlowInExNtv", day][1:] == [(5.5, NOW + DAY)]


def test_repeated_and_shuffled_rows_enter_once(serve: Serve) -> None:
    api = small_chain()
    api.repeat_rows, api.backwards = 7, True
    server = serve(coinmetrics=api)
    held = Held()
    assert held.read(stream(connector(server, page_days=20)), NOW) is None
    assert held.versions == expected_of_small_chain()


def test_rows_out_of_order_move_no_cursor_before_the_end(serve: Serve) -> None:
    api = small_chain()
    api.backwards = True
    server = serve(coinmetrics=api)
    server.plan([None, None, None, *[RESET] * 5])
    held = Held()
    assert held.read(stream(connector(server)), NOW) is not None
    assert held.cursors == {}


@pytest.mark.parametrize(
    ("renamed", "field"), [("time", "time"), ("asset", "asset"), ("data", "data")]
)
def test_a_field_that_is_gone_is_named_with_provider_and_endpoint(
    serve: Serve, renamed: str, field: str
) -> None:
    api = small_chain()
    api.rename = {renamed: "something_else"}
    fault = Held().read(stream(connector(serve(coinmetrics=api))), NOW)
    assert isinstance(fault, ShapeChanged)
    assert str(fault).startswith("coinmetrics ")
    assert "timeseries/asset-metrics" in fault.endpoint
    assert f"{field}: Field required" in fault.detail


def test_a_value_that_is_no_number_is_named(serve: Serve) -> None:
    api = small_chain()
    api.offer("btc", START, AdrActCnt="n/a")
    fault = Held().read(stream(connector(serve(coinmetrics=api))), NOW)
    assert isinstance(fault, ShapeChanged)
    assert "AdrActCnt" in fault.detail
    assert "'n/a'" in fault.detail


def test_rows_of_another_asset_are_refused(serve: Serve) -> None:
    api = small_chain()
    api.extra = {"asset": "eth"}
    fault = Held().read(stream(connector(serve(coinmetrics=api))), NOW)
    assert isinstance(fault, ShapeChanged)
    assert "'eth', not 'btc'" in fault.detail


def test_an_unknown_field_is_kept_in_the_notes(serve: Serve) -> None:
    api = small_chain()
    api.extra = {"confidence": "0.9"}
    made = stream(connector(serve(coinmetrics=api)))
    assert Held().read(made, NOW) is None
    assert any("confidence" in note and "0.9" in note for note in made.notes())


@pytest.mark.parametrize("quirk", ["empty_page", "circle"])
def test_pages_that_lead_nowhere_are_a_fault_and_not_the_end(serve: Serve, quirk: str) -> None:
    api = small_chain()
    setattr(api, quirk, True)
    fault = Held().read(stream(connector(serve(coinmetrics=api))), NOW)
    assert isinstance(fault, ShapeChanged)
    assert "next_page_token" in fault.detail


def test_an_error_in_a_good_answer_is_a_refusal(serve: Serve) -> None:
    api = small_chain()
    api.refuse = Reply(
        {"error": {"type": "unauthorized", "message": "Requested resource requires authorization."}}
    )
    server = serve(coinmetrics=api)
    fault = Held().read(stream(connector(server)), NOW)
    assert isinstance(fault, ProviderRefused)
    assert "requires authorization" in fault.detail
    assert len(server.requests) == 1


def test_too_many_requests_are_waited_for(serve: Serve) -> None:
    server = serve(coinmetrics=small_chain())
    server.plan([TOO_MANY, None, TOO_MANY, HTML, TRUNCATED])
    assert read(server).versions == expected_of_small_chain()


def test_a_provider_whose_clock_is_behind_gives_no_unfinished_day(serve: Serve) -> None:
    api = small_chain()
    server = serve(coinmetrics=api)
    server.clock_skew = -2 * HOUR  # there it is still 2024-06-30
    held = read(server)
    assert max(values(held, "FlowInExNtv")) == LAST - DAY
    assert len(values(held, "FlowInExNtv")) == 121


def test_the_key_goes_to_the_provider_and_nowhere_else(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VOLCAST_COINMETRICS_API_KEY", "s3cret")
    api = small_chain()
    server = serve(coinmetrics=api)
    caplog.set_level(logging.DEBUG, logger="urllib3")  # a client of Kubernetes silences it
    with caplog.at_level(logging.DEBUG):
        read(server)
        api.refuse = Reply(
            {"error": {"type": "wrong_credentials", "message": "Bad key in ?api_key=s3cret&x=1"}},
            401,
        )
        fault = Held().read(stream(connector(server)), NOW)
    assert all(request.query["api_key"] == "s3cret" for request in server.requests)
    assert isinstance(fault, ProviderRefused)
    assert "401" in str(fault)
    assert "s3cret" not in str(fault)
    assert "api_key=..." in caplog.text
    assert "s3cret" not in caplog.text


def test_the_probe_tells_the_newest_value(serve: Serve) -> None:
    server = serve(coinmetrics=small_chain())
    assert connector(server).probe() == "BTC AdrActCnt of 2024-06-30: 700,121"
    assert len(server.requests) == 1


def test_metrics_with_a_moving_history_are_the_archives() -> None:
    assert HISTORY_MOVES.pattern in REVISED


def test_a_newer_client_is_asked_for_json() -> None:
    class Older:
        def get_asset_metrics(self, assets: str) -> None: ...

    class Newer:
        def get_asset_metrics(self, assets: str, format: str = "json_stream") -> None: ...

    assert as_json(Older()) == {}
    assert as_json(Newer()) == {"format": "json"}
