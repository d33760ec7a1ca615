"""The Fear & Greed Index against a server that speaks its documented format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from orchestration.sources.live.errors import ProviderRefused, ShapeChanged
from orchestration.sources.live.fear_greed import FearGreed
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.alternative_me import FearGreedApi
from tests.live.reading import Held
from tests.live.server import TOO_MANY, ProviderServer, Reply, storm

TODAY = datetime(2024, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Serve = Callable[..., ProviderServer]


def year() -> FearGreedApi:
    """A year up to today, with a day missing in June."""
    api = FearGreedApi()
    for number in range(366):
        api.readings[TODAY - number * DAY] = (
            number % 101,
            "Greed" if number % 101 > 50 else "Fear",
        )
    del api.readings[datetime(2024, 6, 10, tzinfo=UTC)]
    return api


def stream(
    server: ProviderServer, at: datetime = NOW, start: date = date(2024, 6, 1)
) -> LiveStream:
    providers = providers_at(server, start=start)
    providers.clock = server.clock = lambda: at
    (made,) = FearGreed(providers).streams()
    return made


def expected() -> dict[tuple[object, ...], list[tuple[object, ...]]]:
    """Each known at 01:00 of its day; today's is known in 15 minutes."""
    rows: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    for number in range(30, 0, -1):
        day = TODAY - number * DAY
        if day.day != 10:
            rows["alternative.me", "MARKET", "fear_greed", day] = [
                (float(number), "Fear", day.replace(hour=1))
            ]
    return rows


def test_readings_are_those_offered_and_no_more_is_asked_than_needed(serve: Serve) -> None:
    server = serve(**{"alternative.me": year()})
    held = Held()
    assert held.read(stream(server), NOW) is None
    assert held.versions == expected()
    assert [request.query for request in server.requests] == [{"limit": "31", "format": "json"}]


def test_the_next_day_asks_for_the_overlap_alone(serve: Serve) -> None:
    server = serve(**{"alternative.me": year()})
    held = Held()
    held.read(stream(server), NOW)
    later = NOW + timedelta(hours=12)
    assert held.read(stream(server, later), later) is None
    assert server.requests[-1].query["limit"] == "4"  # today, and the three days of overlap
    assert held.versions.pop(("alternative.me", "MARKET", "fear_greed", TODAY)) == [
        (0.0, "Fear", TODAY.replace(hour=1))
    ]
    assert held.versions == expected()


def test_all_history_is_asked_for_by_no_limit(serve: Serve) -> None:
    server = serve(**{"alternative.me": year()})
    held = Held()
    assert held.read(stream(server, start=date(2017, 1, 1)), NOW) is None
    assert server.requests[0].query["limit"] == "0"
    assert len(held.versions) == 364


def test_a_changed_reading_becomes_a_version(serve: Serve) -> None:
    api = year()
    server = serve(**{"alternative.me": api})
    held = Held()
    held.read(stream(server), NOW)
    day = datetime(2024, 6, 30, tzinfo=UTC)
    api.readings[day] = (77, "Extreme Greed")
    later = NOW + timedelta(hours=6)
    held.read(stream(server, later), later)
    assert held.versions["alternative.me", "MARKET", "fear_greed", day] == [
        (1.0, "Fear", day.replace(hour=1)),
        (77.0, "Extreme Greed", later),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_faults_every_row_is_there_once_after_they_end(
    serve: Serve, seed: int
) -> None:
    api = year()
    api.repeat, api.shuffle = seed % 2 == 0, seed % 3 == 0
    server = serve(**{"alternative.me": api})
    held = Held()
    server.plan(storm(seed, 30, share=0.9))
    for _ in range(6):
        held.read(stream(server), NOW)
    server.calm()
    assert held.read(stream(server), NOW) is None
    assert held.versions == expected()


@pytest.mark.parametrize("gone", ["value", "value_classification", "timestamp"])
def test_a_field_that_is_gone_is_named(serve: Serve, gone: str) -> None:
    api = year()
    api.rename = {gone: "other"}
    fault = Held().read(stream(serve(**{"alternative.me": api})), NOW)
    assert isinstance(fault, ShapeChanged)
    assert str(fault).startswith("alternative.me api.alternative.me/fng/: field data.0.")
    assert f"{gone}: Field required" in str(fault)


def test_a_new_field_is_noted(serve: Serve) -> None:
    api = year()
    api.extra = {"value_previous": "12"}
    made = stream(serve(**{"alternative.me": api}))
    assert Held().read(made, NOW) is None
    assert any("value_previous" in note for note in made.notes())


def test_an_error_in_a_good_answer_is_a_refusal(serve: Serve) -> None:
    api = year()
    api.error = "Invalid limit"
    server = serve(**{"alternative.me": api})
    fault = Held().read(stream(server), NOW)
    assert isinstance(fault, ProviderRefused)
    assert "Invalid limit" in str(fault)
    assert len(server.requests) == 1


def test_no_reading_at_all_is_a_fault(serve: Serve) -> None:
    fault = Held().read(stream(serve(**{"alternative.me": FearGreedApi()})), NOW)
    assert isinstance(fault, ShapeChanged)


def test_a_4xx_is_asked_once_and_a_429_again(serve: Serve) -> None:
    server = serve(**{"alternative.me": lambda request: Reply({}, 451)})
    assert isinstance(Held().read(stream(server), NOW), ProviderRefused)
    assert len(server.requests) == 1
    server = serve(**{"alternative.me": year()})
    server.plan([TOO_MANY, TOO_MANY])
    assert Held().read(stream(server), NOW) is None
    assert len(server.requests) == 3


def test_a_provider_whose_clock_is_behind_has_not_published_yet(serve: Serve) -> None:
    server = serve(**{"alternative.me": year()})
    server.clock_skew = timedelta(hours=-3)
    late = NOW + timedelta(
        hours=2
    )  # 02:45 here; there, by the Date header, 21:45 of the day before
    held = Held()
    assert held.read(stream(server, late), late) is None
    assert max(held.versions)[-1] == TODAY - DAY


def test_the_probe_tells_the_newest_reading(serve: Serve) -> None:
    server = serve(**{"alternative.me": year()})
    assert FearGreed(providers_at(server)).probe() == "2024-07-01: 0, Fear"
