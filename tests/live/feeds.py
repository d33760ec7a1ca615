"""A feed on the test server and its stream, for the tests of headlines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from orchestration.sources.headline_id import headline_id
from orchestration.sources.live.rss import Rss
from orchestration.sources.live.stream import LiveStream
from tests.live.conftest import NOW, providers_at
from tests.live.providers.rss import Feed, Item
from tests.live.reading import Held
from tests.live.server import ProviderServer

NOON = datetime(2024, 6, 30, 12, tzinfo=UTC)
URL = "https://news.example.com/desk/feed.xml"
Serve = Callable[..., ProviderServer]
KeyOf = dict[tuple[str, ...], list[tuple[object, ...]]]


def two_items() -> list[Item]:
    return [
        Item("Bitcoin rallies", "a-1", "https://news.example.com/1", NOON),
        Item(
            "Ether & friends fall", "a-2", "https://news.example.com/2", NOON - timedelta(hours=1)
        ),
    ]


def connector(server: ProviderServer, at: datetime = NOW, url: str = URL) -> Rss:
    providers = providers_at(server)
    providers.clock = server.clock = lambda: at
    return Rss("desk", url, providers)


def stream(server: ProviderServer, at: datetime = NOW) -> LiveStream:
    (made,) = connector(server, at).streams()
    return made


def read(feed: Feed, serve: Serve, at: datetime = NOW) -> Held:
    held = Held()
    fault = held.read(stream(serve(rss=at_desk(feed)), at), at)
    assert fault is None, fault
    return held


def at_desk(feed: Feed) -> Feed:
    """The server sees /desk/<path of the address>."""
    feed.path = "/desk/desk/feed.xml"
    return feed


def fault_of(feed: Feed, serve: Serve) -> Exception:
    held = Held()
    fault = held.read(stream(serve(rss=at_desk(feed))), NOW)
    assert fault is not None
    assert not held.versions
    return fault


def titles(held: Held) -> set[object]:
    return {versions[-1][1] for versions in held.versions.values()}


def expected() -> KeyOf:
    return {
        ("desk", headline_id("desk", "a-1", "", 0)): [
            (NOON, "Bitcoin rallies", "https://news.example.com/1", NOW)
        ],
        ("desk", headline_id("desk", "a-2", "", 0)): [
            (NOON - timedelta(hours=1), "Ether & friends fall", "https://news.example.com/2", NOW)
        ],
    }
