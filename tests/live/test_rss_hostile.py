"""What a feed may try: nothing of it is opened, expanded or passed on."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.sources.live.errors import ProviderRefused, ShapeChanged
from orchestration.sources.live.plain_text import one_line
from orchestration.sources.live.rss import _may_be_followed
from tests.live.conftest import NOW
from tests.live.feeds import NOON, Serve, expected, fault_of, read, stream, titles, two_items
from tests.live.providers.rss import Feed, Item
from tests.live.reading import Held


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("<![CDATA[<b>Bitcoin</b> &amp; ether]]>", "Bitcoin & ether"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;Bitcoin up", "Bitcoin up"),
        ("&amp;lt;img src=x onerror=alert(1)&amp;gt;Bitcoin up", "Bitcoin up"),
        ("&amp;amp;lt;script&amp;amp;gt;alert(1)&amp;amp;lt;/script&amp;amp;gt; up", "up"),
        ("Price &lt; 5 and &gt; 3", "Price < 5 and > 3"),
        ("abc\u202edef\u200b\u2066g\u2028h", "abcdefg h"),
        ("two\n   lines\tof text", "two lines of text"),
        ("=HYPERLINK(&quot;http://x&quot;)", '=HYPERLINK("http://x")'),
        ("A" * 5000, "A" * 299 + "…"),
        ("Café et thé", "Café et thé"),
    ],
)
def test_titles_become_one_plain_bounded_line(serve: Serve, written: str, plain: str) -> None:
    assert titles(read(Feed([Item(written, "a-1", None, NOON, raw_title=True)]), serve)) == {plain}


@given(st.text(max_size=400) | st.text("<>![]-/?&#;abCDATA\"'= x1\x1b", max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_text_becomes_one_line_without_a_tag(text: str) -> None:
    line = one_line(text, 100)
    assert len(line) <= 100
    assert line == " ".join(line.split())
    assert not re.search(r"<[a-zA-Z/!?]", line)
    assert all(character.isprintable() for character in line)
    assert (
        one_line(line, 100) == line or "&" in line
    )  # what is left of entities may be read once more


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "https://user:word@news.example.com/1",
        'https://news.example.com/"onmouseover="alert(1)',
        "https://news.example.com/a b",
        "https://[broken",
        "https://news.example.com/" + "x" * 3000,
    ],
)
def test_an_address_that_is_not_plain_is_left_out(serve: Serve, link: str) -> None:
    held = read(Feed([Item("Title", "a-1", link, NOON)]), serve)
    assert [versions[0][2] for versions in held.versions.values()] == [None]


LAUGHS = "<!DOCTYPE lolz [<!ENTITY a0 'lol'>" + "".join(
    f"<!ENTITY a{n} '{'&a' + str(n - 1) + ';' * 1}{('&a' + str(n - 1) + ';') * 9}'>" for n in range(1, 12)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "prologue",
    [
        LAUGHS,
        "<!DOCTYPE rss [<!ENTITY big '" + "x" * 100_000 + "'>]>",
        '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE rss [<!ENTITY % a SYSTEM "http://127.0.0.1:1/evil.dtd"> %a;]>',
        '<!doctype rss [<!entity a "b">]>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_of_a_feeds_own_are_refused(serve: Serve, prologue: str, encoding: str) -> None:
    items = [Item("&a11;&big;&a;" * 1000, "a-1", None, NOON, raw_title=True)]
    started = time.monotonic()
    fault = fault_of(Feed(items, prologue=prologue, encoding=encoding), serve)
    assert isinstance(fault, ShapeChanged)
    assert "defines XML entities" in str(fault)
    assert time.monotonic() - started < 5


def test_an_external_document_type_is_not_fetched(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("opened an address"))
    feed = Feed(two_items(), prologue='<!DOCTYPE rss SYSTEM "http://evil.example.com/rss.dtd">')
    assert read(feed, serve).versions == expected()


@pytest.mark.parametrize(
    "text", ["http://169.254.169.254/latest/", "{file}", "feed:http://10.0.0.1/"]
)
def test_a_body_that_is_an_address_or_a_file_name_is_not_opened(
    serve: Serve, tmp_path: Path, text: str
) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_bytes(Feed([Item("The secret", "s", None, NOON)]).xml())
    fault = fault_of(Feed(body=text.format(file=secret).encode()), serve)
    assert isinstance(fault, ShapeChanged)
    assert "not a feed" in str(fault)


@pytest.mark.parametrize(
    "body",
    [
        b"<rss version='2.0'><channel>" + b"<item>" * 200_000,
        b"<rss version='2.0'><channel>" + b"<a>" * 20_000,
        b"<rss version='2.0'><channel>" + b"<a>" * 200_000,
        b"\x00\x01\x02" * 1000,
        b"\xff\xfe" + b"\xd8\x00" * 1000,
        b"<?xml version='1.0' encoding='utf-7'?>+ADwAIQ-ENTITY",
        b"<?xml version='1.0' encoding='zip'?>PK",
    ],
)
def test_junk_is_refused_in_a_moment(serve: Serve, body: bytes) -> None:
    started = time.monotonic()
    assert isinstance(fault_of(Feed(body=body), serve), ShapeChanged)
    assert time.monotonic() - started < 8


def test_a_body_over_the_limit_is_not_read_on(serve: Serve) -> None:
    fault = fault_of(Feed(body=b"<rss>" + b" " * (5 * 2**20)), serve)
    assert isinstance(fault, ShapeChanged)
    assert "more than 4,194,304 bytes" in str(fault)


def test_a_redirect_to_the_web_is_followed(serve: Serve) -> None:
    feed = Feed(two_items(), path="/desk/new/feed.xml")
    feed.moved = {"/desk/desk/feed.xml": "https://feeds.example.org/new/feed.xml"}
    server = serve(rss=feed)
    held = Held()
    assert held.read(stream(server), NOW) is None
    assert held.versions == expected()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://localhost/admin",
        "https://[::1]/",
        "https://10.0.0.5:8080/",
        "https://warehouse.internal/",
        "http://news.example.com/desk/other.xml",
        "file:///etc/passwd",
        "https://user@news.example.com/",
        "https://intranet/",
    ],
)
def test_a_redirect_into_a_private_network_is_not_followed(serve: Serve, target: str) -> None:
    feed = Feed(two_items(), path="/desk/other.xml", moved={"/desk/desk/feed.xml": target})
    server = serve(rss=feed)
    fault = Held().read(stream(server), NOW)
    assert isinstance(fault, ProviderRefused)
    assert len(server.requests) == 1


def test_a_feed_of_the_desks_own_network_may_redirect_within_its_host() -> None:
    assert _may_be_followed("http://10.0.0.5/b.xml", "http://10.0.0.5/a.xml")
    assert not _may_be_followed("http://10.0.0.6/b.xml", "http://10.0.0.5/a.xml")


def test_redirects_that_never_end_are_refused(serve: Serve) -> None:
    feed = Feed(moved={"/desk/desk/feed.xml": "/desk/feed.xml"})
    server = serve(rss=feed)
    fault = Held().read(stream(server), NOW)
    assert isinstance(fault, ProviderRefused)
    assert len(server.requests) == 4


def test_a_text_that_breaks_the_parser_is_a_changed_shape(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedparser.parse", lambda *_, **__: [][0])
    fault = fault_of(Feed(two_items()), serve)
    assert isinstance(fault, ShapeChanged)
    assert "cannot be read: IndexError" in str(fault)
