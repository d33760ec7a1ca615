"""GDELT's timelines against a server that speaks their documented format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from orchestration.sources.live.errors import ProviderRefused, ProviderUnavailable, ShapeChanged
from orchestration.sources.live.gdelt import QUERIES, Gdelt
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.gdelt import GdeltApi
from tests.live.reading import Held
from tests.live.server import RESET, TOO_MANY, ProviderServer, Reply, storm

LATER = NOW + timedelta(hours=1)  # 2024-07-01 01:45: June is known to the end
DAY = timedelta(days=1)
Serve = Callable[..., ProviderServer]
MARKET = QUERIES["MARKET"]


def news(days: int = 60) -> GdeltApi:
    """Two months up to now, the newest day unfinished."""
    api = GdeltApi({query: {} for query in QUERIES.values()})
    for number in range(days):
        day = datetime(2024, 7, 1, tzinfo=UTC) - number * DAY
        api.days[MARKET][day] = (1000 + number, 200_000 + number, -1.5 + number / 100)
        api.days["bitcoin"][day] = (500 + number, 200_000 + number, 0.5)
    return api


def stream(
    server: ProviderServer,
    asset: str = "MARKET",
    at: datetime = LATER,
    start: date = date(2024, 6, 1),
) -> LiveStream:
    providers = providers_at(server, assets=("ETH",), start=start)
    providers.clock = server.clock = lambda: at
    return next(one for one in Gdelt(providers).streams() if one.name == f"gdelt/{asset}")


def expected() -> dict[tuple[object, ...], list[tuple[object, ...]]]:
    """The market in June; day D is known at D+1 01:00."""
    rows: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    for number in range(1, 31):
        day = datetime(2024, 7, 1, tzinfo=UTC) - number * DAY
        known = (day + DAY).replace(hour=1)
        key = ("gdelt", "MARKET")
        rows[*key, "gdelt_article_count", day] = [(1000.0 + number, None, known)]
        rows[*key, "gdelt_total_articles", day] = [(200_000.0 + number, None, known)]
        rows[*key, "gdelt_tone", day] = [(-1.5 + number / 100, None, known)]
    return rows


def test_tone_and_counts_are_those_offered(serve: Serve) -> None:
    server = serve(gdelt=news())
    held = Held()
    assert held.read(stream(server), LATER) is None
    assert held.versions == expected()
    assert [request.query["mode"] for request in server.requests] == [
        "timelinevolraw",
        "timelinetone",
    ]


def test_a_day_is_not_known_before_one_in_the_morning_of_the_next(serve: Serve) -> None:
    held = Held()
    assert held.read(stream(serve(gdelt=news()), at=NOW), NOW) is None
    assert max(key[3] for key in held.versions) == datetime(2024, 6, 29, tzinfo=UTC)


def test_a_coin_has_tone_and_count_of_its_own(serve: Serve) -> None:
    server = serve(gdelt=news())
    held = Held()
    assert held.read(stream(server, "BTC"), LATER) is None
    assert {key[1:3] for key in held.versions} == {
        ("BTC", "gdelt_article_count"),
        ("BTC", "gdelt_tone"),
    }
    assert len(held.versions) == 60
    assert stream(server, "BTC").assets == ("BTC",)
    assert stream(server, "MARKET").assets == ()


def test_the_next_read_asks_for_two_weeks_so_that_days_come_and_adds_the_new_day(
    serve: Serve,
) -> None:
    server = serve(gdelt=news())
    held = Held()
    held.read(stream(server, at=NOW), NOW)
    before = len(server.requests)
    assert held.read(stream(server), LATER) is None
    query = server.requests[before].query
    assert (query["startdatetime"], query["enddatetime"]) == ("20240617000000", "20240630235959")
    assert held.versions == expected()


def test_years_are_read_a_year_at_a_time_and_resumed(serve: Serve) -> None:
    api = news(days=900)
    server = serve(gdelt=api)
    start = date(2022, 2, 1)
    held = Held()
    server.plan([None, None, None, *[RESET] * 8])
    assert held.read(stream(server, start=start), LATER) is not None
    first = [(r.query["startdatetime"], r.query["enddatetime"]) for r in server.requests]
    assert first[:3:2] == [
        ("20220201000000", "20230131235959"),
        ("20230201000000", "20240131235959"),
    ]
    server.calm()
    before = len(server.requests)
    assert held.read(stream(server, start=start), LATER) is None
    assert server.requests[before].query["startdatetime"] == "20230128000000"  # 3 days of overlap
    days = {key[3] for key in held.versions}
    assert len(days) == (datetime(2024, 7, 1, tzinfo=UTC) - datetime(2022, 2, 1, tzinfo=UTC)).days
    assert len(held.versions) == 3 * len(days)
    assert all(len(versions) == 1 for versions in held.versions.values())


def test_nothing_from_before_2017_is_asked(serve: Serve) -> None:
    server = serve(gdelt=news())
    fault = Held().read(stream(server, start=date(2015, 1, 1)), LATER)
    assert server.requests[0].query["startdatetime"] == "20170101000000"
    assert isinstance(fault, ShapeChanged)  # the server has nothing of that year, and says {}


def test_a_day_on_which_gdelt_was_down_is_no_day_without_news(serve: Serve) -> None:
    api = news()
    down, quiet = datetime(2024, 6, 5, tzinfo=UTC), datetime(2024, 6, 6, tzinfo=UTC)
    api.days[MARKET][down] = (0, 0, 0.0)
    api.days[MARKET][quiet] = (0, 180_000, 0.0)
    held = Held()
    assert held.read(stream(serve(gdelt=api)), LATER) is None
    of_days = {day: {k[2] for k in held.versions if k[3] == day} for day in (down, quiet)}
    assert of_days[down] == set()
    assert of_days[quiet] == {"gdelt_article_count", "gdelt_total_articles"}


def test_asked_too_often_is_a_fault_of_the_moment(serve: Serve) -> None:
    api = news()
    api.too_often = 2
    server = serve(gdelt=api)
    held = Held()
    assert held.read(stream(server), LATER) is None
    assert held.versions == expected()
    api.too_often = 100
    fault = Held().read(stream(server), LATER)
    assert isinstance(fault, ProviderUnavailable)
    assert "Please limit requests" in str(fault)


def test_another_sentence_is_quoted(serve: Serve) -> None:
    api = news()
    server = serve(gdelt=lambda request: Reply(b"The specified phrase is too short."))
    fault = Held().read(stream(server), LATER)
    assert isinstance(fault, ShapeChanged)
    assert "The specified phrase is too short." in str(fault)
    assert api.too_often == 0


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_faults_every_row_is_there_once_after_they_end(
    serve: Serve, seed: int
) -> None:
    api = news()
    api.shuffle = seed % 2 == 0
    server = serve(gdelt=api)
    held = Held()
    server.plan(storm(seed, 30, share=0.8))
    api.too_often = seed % 3
    for _ in range(5):
        held.read(stream(server), LATER)
    server.calm()
    assert held.read(stream(server), LATER) is None
    assert held.versions == expected()


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("timeline", "field timeline: Field required"),
        ("date", "timeline.0.data.0.date: Field required"),
        ("value", "timeline.0.data.0.value: Field required"),
        ("norm", "field timeline.data.norm: missing"),
        ("Article Count", "no 'Article Count' in timelinevolraw"),
    ],
)
def test_a_field_that_is_gone_is_named(serve: Serve, gone: str, named: str) -> None:
    api = news()
    api.rename = {gone: "other"}
    fault = Held().read(stream(serve(gdelt=api)), LATER)
    assert isinstance(fault, ShapeChanged)
    assert str(fault).startswith("gdelt api.gdeltproject.org/api/v2/doc/doc: ")
    assert named in str(fault)


@pytest.mark.parametrize("text", ["20240630", "20240630T120000Z", 5])
def test_a_date_that_is_no_day_is_named(serve: Serve, text: object) -> None:
    api = news()
    api.extra = {"date": text}
    fault = Held().read(stream(serve(gdelt=api)), LATER)
    assert isinstance(fault, ShapeChanged)
    assert "date" in str(fault)


def test_a_new_field_is_noted(serve: Serve) -> None:
    api = news()
    api.extra = {"toparts": []}
    made = stream(serve(gdelt=api))
    assert Held().read(made, LATER) is None
    assert any("toparts" in note for note in made.notes())


def test_a_provider_whose_clock_is_behind_ends_no_day_early(serve: Serve) -> None:
    server = serve(gdelt=news())
    made = stream(server)
    server.clock_skew = timedelta(hours=-2)
    held = Held()
    assert held.read(made, LATER) is None
    assert max(key[3] for key in held.versions) == datetime(2024, 6, 29, tzinfo=UTC)
    server.clock_skew = timedelta(0)
    assert held.read(stream(server), LATER) is None
    assert held.versions == expected()


def test_a_refusal_is_asked_once_and_a_429_again(serve: Serve) -> None:
    server = serve(gdelt=lambda request: Reply({}, 403))
    assert isinstance(Held().read(stream(server), LATER), ProviderRefused)
    assert len(server.requests) == 1
    server = serve(gdelt=news())
    server.plan([TOO_MANY])
    held = Held()
    assert held.read(stream(server), LATER) is None
    assert held.versions == expected()


def test_the_probe_tells_the_newest_day(serve: Serve) -> None:
    server = serve(gdelt=news())
    assert Gdelt(providers_at(server)).probe() == "2024-06-30: 1,001 articles on crypto"
    assert len(server.requests) == 1
