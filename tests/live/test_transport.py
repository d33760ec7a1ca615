"""How a provider is asked, whatever it answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from orchestration.sources.live.errors import (
    NotListed,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.transport import Policy, Transport
from tests.live.conftest import NOW
from tests.live.server import (
    BROKEN,
    DROPPED,
    FAULTS,
    HTML,
    NOTHING,
    RESET,
    TOO_MANY,
    TRUNCATED,
    UNAVAILABLE,
    ProviderServer,
    Reply,
    Request,
    storm,
)

URL = "https://api.example.com/v1/values?key=SECRET"


class Clock:
    def __init__(self) -> None:
        self.now = NOW
        self.waits: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += timedelta(seconds=seconds)


def ok(_: Request) -> Reply:
    return Reply({"values": list(range(1000))})


def ask(server: ProviderServer, clock: Clock | None = None, **policy: object) -> Transport:
    clock = clock or Clock()
    return Transport(
        "example",
        Policy(**policy),  # type: ignore[arg-type]
        base_url=f"{server.url}/example",
        clock=clock,
        sleep=clock.sleep,
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_moment_is_asked_again(serve, fault):
    server = serve(example=ok)
    server.plan([fault, fault])
    assert ask(server).get_json(URL)["values"] == list(range(1000))
    assert len(server.requests) == 3


@pytest.mark.parametrize("seed", range(5))
def test_whole_storms_pass(serve, seed):
    server = serve(example=ok)
    server.plan(storm(seed, 40, share=0.6))
    transport = ask(server, attempts=50)
    assert all(len(transport.get_json(URL)["values"]) == 1000 for _ in range(10))


def test_what_stays_broken_is_unavailable_and_says_what_was_seen(serve):
    server = serve(example=ok)
    server.plan([UNAVAILABLE] * 9)
    with pytest.raises(
        ProviderUnavailable, match=r"example api.example.com/v1/values: 503 .*right back"
    ):
        ask(server, attempts=3).get_json(URL)
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [HTML, TRUNCATED, NOTHING])
def test_what_never_is_json_has_changed_shape(serve, fault):
    server = serve(example=ok)
    server.plan([fault] * 5)
    with pytest.raises(ShapeChanged, match="not JSON"):
        ask(server).get_json(URL)


@pytest.mark.parametrize("status", [400, 401, 403, 410, 451])
def test_a_4xx_is_not_asked_again(serve, status):
    server = serve(example=lambda _: Reply({"error": "no such symbol"}, status))
    with pytest.raises(ProviderRefused, match=f"{status} .*no such symbol"):
        ask(server).get_json(URL)
    assert len(server.requests) == 1


def test_404_of_a_file_is_not_listed_and_of_an_endpoint_is_refused(serve):
    server = serve(example=lambda _: Reply({}, 404))
    with pytest.raises(NotListed):
        ask(server).get_bytes(URL)
    with pytest.raises(ProviderRefused, match="404"):
        ask(server).get_json(URL)


def test_retry_after_is_honoured_in_seconds_and_as_a_date(serve):
    replies = [
        Reply({}, 429, {"Retry-After": "7"}),
        Reply({}, 503, {"Retry-After": format_datetime(NOW + timedelta(seconds=40))}),
        Reply({"values": []}),
    ]
    server = serve(example=lambda _: replies.pop(0))
    clock = Clock()
    ask(server, clock).get_json(URL)
    assert 7 <= clock.waits[0] <= 8
    assert clock.now >= NOW + timedelta(seconds=40)


def test_a_provider_that_asks_for_an_hour_is_left_alone(serve):
    server = serve(example=lambda _: Reply({}, 429, {"Retry-After": "3600"}))
    with pytest.raises(ProviderUnavailable, match="429"):
        ask(server).get_json(URL)
    assert len(server.requests) == 1


def test_waits_grow_and_are_not_all_alike(serve):
    server = serve(example=ok)
    server.plan([BROKEN] * 6)
    clock = Clock()
    ask(server, clock, attempts=7).get_json(URL)
    assert len(clock.waits) == 6
    assert len(set(clock.waits)) == 6
    assert all(0 <= wait <= 0.5 * 2**attempt for attempt, wait in enumerate(clock.waits))


def test_the_circuit_opens_and_is_tried_once_after_a_while(serve):
    server = serve(example=ok)
    server.plan([DROPPED] * 7)
    clock = Clock()
    transport = ask(server, clock, attempts=3, breaker_after=2, breaker_for=300)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            transport.get_json(URL)
    with pytest.raises(ProviderUnavailable, match="not asked until"):
        transport.get_json(URL)
    assert len(server.requests) == 6  # the open circuit asked nothing
    clock.now += timedelta(seconds=301)
    with pytest.raises(ProviderUnavailable):
        transport.get_json(URL)
    assert len(server.requests) == 7  # one trial, no retries
    clock.now += timedelta(seconds=301)
    assert transport.get_json(URL)["values"]
    assert transport.breaker.failures == 0


def test_a_body_that_does_not_end_is_cut_off(serve):
    server = serve(example=lambda _: Reply(b"[" + b"1," * 10_000_000 + b"1]"))
    with pytest.raises(ShapeChanged, match="more than 1,000,000 bytes"):
        ask(server, max_body_bytes=1_000_000).get_json(URL)


def test_no_message_holds_the_query(serve):
    server = serve(example=ok)
    server.plan([RESET, DROPPED, TOO_MANY, BROKEN, HTML] * 3)
    transport = ask(server, attempts=4, breaker_after=99)
    for _ in range(3):
        with pytest.raises((ProviderUnavailable, ShapeChanged)) as found:
            transport.get_json(URL)
        assert "SECRET" not in str(found.value)
        assert "127.0.0.1" not in str(found.value)


def test_a_host_that_cannot_be_reached_is_unavailable():
    clock = Clock()
    transport = Transport(
        "example",
        Policy(attempts=2),
        base_url="http://127.0.0.1:9/example",
        clock=clock,
        sleep=clock.sleep,
    )
    with pytest.raises(
        ProviderUnavailable, match=r"example api\.example\.com/v1/values: ConnectionError"
    ):
        transport.get_json(URL)


def test_a_redirect_is_not_followed_where_none_is_expected(serve):
    server = serve(example=lambda _: Reply({}, 302, {"Location": "https://elsewhere.example/"}))
    with pytest.raises(ProviderRefused, match="302"):
        ask(server).get_json(URL)
    assert len(server.requests) == 1


def test_the_earlier_of_two_clocks_counts(serve):
    server = serve(example=ok)
    server.clock_skew = -timedelta(hours=2)
    transport = ask(server)
    transport.get_json(URL)
    assert abs(transport.now() - (NOW - timedelta(hours=2))) < timedelta(minutes=2)
    server.clock_skew = timedelta(hours=2)
    transport.get_json(URL)
    assert transport.now() == transport.clock()


def test_the_rate_limit_waits_for_its_turn(serve):
    server = serve(example=ok)
    clock = Clock()
    transport = ask(server, clock, requests=3, per=60.0)
    for _ in range(4):
        transport.get_json(URL)
    assert len(clock.waits) == 1
    assert 55 < clock.waits[0] <= 60
