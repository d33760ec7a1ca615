"""Headlines from feeds: whole, and once. What hostile feeds may try is in ``test_rss_hostile``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestration.sources.headline_id import headline_id
from orchestration.sources.live.errors import NotListed, ProviderRefused, ShapeChanged
from tests.live.conftest import NOW
from tests.live.feeds import (
    NOON,
    Serve,
    at_desk,
    connector,
    expected,
    fault_of,
    read,
    stream,
    titles,
    two_items,
)
from tests.live.providers.rss import Feed, Item
from tests.live.reading import Held
from tests.live.server import BROKEN, HTML, NOTHING, RESET, TRUNCATED, storm


@pytest.mark.parametrize("atom", [False, True])
def test_headlines_are_those_of_the_feed_and_known_when_they_were_read(
    serve: Serve, atom: bool
) -> None:
    assert read(Feed(two_items(), atom=atom), serve).versions == expected()


def test_a_feed_is_a_snapshot_of_one_publisher(serve: Serve) -> None:
    made = stream(serve(rss=Feed()))
    assert (made.name, made.provider, made.table, made.snapshot) == (
        "rss/desk",
        "rss/desk",
        "headlines",
        True,
    )


def test_reading_again_adds_what_is_new_and_nothing_else(serve: Serve) -> None:
    feed = at_desk(Feed(two_items()))
    server = serve(rss=feed)
    held = Held()
    assert held.read(stream(server), NOW) is None
    later = NOW + timedelta(minutes=15)
    # a late item, dated before the last read: it is known from now on
    feed.items.insert(0, Item("Late but old", "a-3", None, NOON - timedelta(hours=5)))
    assert held.read(stream(server, later), later) is None
    late = held.versions.pop(("desk", headline_id("desk", "a-3", "", 0)))
    assert late == [(NOON - timedelta(hours=5), "Late but old", None, later)]
    assert held.versions == expected()


def test_an_edited_title_is_a_version_of_the_same_headline(serve: Serve) -> None:
    feed = at_desk(Feed(two_items()))
    server = serve(rss=feed)
    held = Held()
    held.read(stream(server), NOW)
    feed.items[0] = Item("Bitcoin slumps", "a-1", "https://news.example.com/1", NOON)
    later = NOW + timedelta(minutes=15)
    held.read(stream(server, later), later)
    versions = held.versions["desk", headline_id("desk", "a-1", "", 0)]
    assert [(title, known) for _, title, _, known in versions] == [
        ("Bitcoin rallies", NOW),
        ("Bitcoin slumps", later),
    ]


def test_an_item_dated_in_the_future_waits_for_its_time(serve: Serve) -> None:
    soon = NOW + timedelta(minutes=10)
    feed = at_desk(Feed([*two_items(), Item("Embargoed", "a-3", None, soon)]))
    server = serve(rss=feed)
    held = Held()
    made = stream(server)
    assert held.read(made, NOW) is None
    assert held.versions == expected()
    assert "1 items dated in the future: left out" in made.notes()
    later = NOW + timedelta(minutes=15)
    assert held.read(stream(server, later), later) is None
    assert held.versions["desk", headline_id("desk", "a-3", "", 0)] == [
        (soon, "Embargoed", None, later)
    ]


def test_an_item_without_a_date_is_dated_by_the_day_and_enters_once_a_day(serve: Serve) -> None:
    server = serve(rss=at_desk(Feed([Item("Undated", "a-1")])))
    held = Held()
    for minutes in range(0, 60, 15):
        at = NOW + timedelta(minutes=minutes)
        made = stream(server, at)
        assert held.read(made, at) is None
    midnight = datetime(2024, 7, 1, tzinfo=UTC)
    assert list(held.versions.values()) == [[(midnight, "Undated", None, NOW)]]
    assert "1 items without a date: dated 2024-07-01" in made.notes()


def test_identity_is_the_guid_else_the_address_else_the_title(serve: Serve) -> None:
    items = [
        Item("One", None, "https://news.example.com/one", NOON),
        Item("Two", None, None, NOON),
        Item("Three", "https://news.example.com/?p=3", "https://news.example.com/three", NOON),
        Item(
            "Three again", "https://news.example.com/?p=3", "https://news.example.com/three", NOON
        ),
    ]
    held = read(Feed(items), serve)
    assert {key[1]: versions[0][1] for key, versions in held.versions.items()} == {
        headline_id("desk", "https://news.example.com/one", "", 0): "One",
        headline_id("desk", None, "Two", round(NOON.timestamp() * 1e6)): "Two",
        headline_id("desk", "https://news.example.com/?p=3", "", 0): "Three again",
    }


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_faults_every_headline_is_there_once_after_they_end(
    serve: Serve, seed: int
) -> None:
    feed = at_desk(
        Feed([Item(f"Headline {n} " + "x" * 40, f"g-{n}", None, NOON) for n in range(30)])
    )
    server = serve(rss=feed)
    server.plan(storm(seed, 30, share=0.8))
    held = Held()
    for minute in range(5):
        at = NOW + timedelta(minutes=minute)
        held.read(stream(server, at), at)
    server.calm()
    last = NOW + timedelta(minutes=6)
    assert held.read(stream(server, last), last) is None
    assert titles(held) == {item.title for item in feed.items}
    assert all(len(versions) == 1 for versions in held.versions.values())


@pytest.mark.parametrize("fault", [HTML, NOTHING, TRUNCATED])
def test_what_is_no_whole_feed_is_a_changed_shape(serve: Serve, fault: str) -> None:
    server = serve(rss=at_desk(Feed(two_items())))
    server.plan([fault])
    held = Held()
    found = held.read(stream(server), NOW)
    assert isinstance(found, ShapeChanged)
    assert str(found).startswith("rss/desk news.example.com/desk/feed.xml: ")
    assert not held.versions


@pytest.mark.parametrize("fault", [BROKEN, RESET])
def test_a_fault_of_the_moment_is_tried_again(serve: Serve, fault: str) -> None:
    server = serve(rss=at_desk(Feed(two_items())))
    server.plan([fault, fault])
    held = Held()
    assert held.read(stream(server), NOW) is None
    assert held.versions == expected()


def test_a_feed_without_items_is_noted(serve: Serve) -> None:
    made = stream(serve(rss=at_desk(Feed())))
    held = Held()
    assert held.read(made, NOW) is None
    assert not held.versions
    assert made.notes() == ("the feed has no items",)


def test_a_comment_after_the_end_is_no_cut(serve: Serve) -> None:
    feed = Feed(two_items(), epilogue="\n<!-- served in 0.2 s by a cache -->\n")
    assert read(feed, serve).versions == expected()


def test_a_feed_that_is_not_well_formed_is_read_all_the_same(serve: Serve) -> None:
    item = Item("Bitcoin&nbsp;& ether <br> rise", "a-1", None, NOON, raw_title=True)
    assert titles(read(Feed([item]), serve)) == {"Bitcoin & ether rise"}


def test_addresses_are_kept_with_their_query_and_completed(serve: Serve) -> None:
    items = [
        Item("One", "1", "https://news.example.com/?a=1&copy=2&reg=3", NOON),
        Item("Two", "2", "/two", NOON),
    ]
    held = read(Feed(items), serve)
    assert {versions[0][2] for versions in held.versions.values()} == {
        "https://news.example.com/?a=1&copy=2&reg=3",
        "https://news.example.com/two",
    }


def test_items_without_a_title_are_left_out_and_counted(serve: Serve) -> None:
    items = [*two_items(), Item("", "a-3", None, NOON), Item("<i></i>", "a-4", None, NOON)]
    made = stream(serve(rss=at_desk(Feed(items))))
    held = Held()
    assert held.read(made, NOW) is None
    assert held.versions == expected()
    assert "2 items without a title: left out" in made.notes()


def test_a_feed_that_is_gone_is_not_listed_and_a_refusal_is_asked_once(serve: Serve) -> None:
    server = serve(rss=Feed(path="/elsewhere"))
    assert isinstance(Held().read(stream(server), NOW), NotListed)
    assert len(server.requests) == 1
    assert isinstance(fault_of(Feed(status=403), serve), ProviderRefused)


def test_an_old_encoding_is_understood(serve: Serve) -> None:
    feed = Feed([Item("Café", "a-1", None, NOON)], encoding="iso-8859-1")
    assert titles(read(feed, serve)) == {"Café"}


def test_the_probe_tells_the_newest_headline(serve: Serve) -> None:
    assert connector(serve(rss=at_desk(Feed(two_items())))).probe() == (
        "2024-06-30 12:00: Bitcoin rallies"
    )
    assert connector(serve(rss=at_desk(Feed()))).probe() == "a feed without items"
