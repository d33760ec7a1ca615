"""News headlines from one RSS or Atom feed, as they are at the moment of reading.

In: the feed's address, and whatever is behind it: nothing in a feed is trusted. Out: rows of ``raw.headlines``: plain titles and web
addresses, no markup, no control characters, of bounded length. Never expands an XML entity that the feed defines, never opens an address
from within a feed, and takes no half of a feed for the whole.

A headline is known when it was read, since a feed may add items late. One that is dated in the future is left for a later read; one without
a date gets the day of reading as its date (00:00, as the archive's dates without a time), so that reading it again the same day changes nothing.
"""

from __future__ import annotations

import calendar
import codecs
import io
import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from orchestration.secrets import mask_known
from orchestration.sources.headline_id import headline_id
from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import NotListed, ProviderRefused, ShapeChanged
from orchestration.sources.live.plain_text import is_printable, one_line
from orchestration.sources.live.rows import arrow, in_order, midnight, within
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.transport import Policy, endpoint_of
from orchestration.sources.protocol import Page

POLICY = Policy(json=False, requests=1, per=1.0, deadline=60.0, max_body_bytes=4 * 2**20)
REDIRECTS = 3
MOST_ITEMS, MOST_TAGS = 1000, 150_000
LONGEST_TITLE = 300
LONGEST_ADDRESS = 2000
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")
_ENCODING = re.compile(
    r"(?:encoding|charset)=[\"']?(iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis|euc-jp|euc-kr)\b",
    re.IGNORECASE,
)
"""Of the encodings that a feed may declare, those that are nothing but encodings."""
_ITEM = re.compile(r"<(?:\w+:)?(?:item|entry)[\s>]", re.IGNORECASE)
_END = re.compile(r"</(?:\w+:)?(?:rss|feed|rdf)\s*>", re.IGNORECASE)


class Rss:
    """One feed, one stream."""

    def __init__(self, publisher: str, url: str, providers: Providers) -> None:
        self.publisher, self.url = publisher, url
        self.provider = f"rss/{publisher}"
        self._transport = providers.transport(self.provider, POLICY)
        self._notes: list[str] = []

    def streams(self) -> list[LiveStream]:
        """See ``Connector.streams``."""
        return [
            LiveStream(
                name=self.provider,
                table="headlines",
                provider=self.provider,
                read=self._read,
                snapshot=True,
                noted=lambda: tuple(self._notes),
            )
        ]

    def probe(self) -> str:
        """See ``Connector.probe``."""
        rows = self._rows(self._items(), self._transport.clock())
        if not rows:
            return "a feed without items"
        newest = max(rows, key=lambda row: row["ts"])
        return f"{newest['ts']:%Y-%m-%d %H:%M}: {newest['title'][:60]}"

    def _read(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        self._notes = []
        items = self._items()
        read = self._transport.clock()
        rows = in_order(self._rows(items, read), "id")
        yield Page(within(arrow("headlines", rows), known_after, known_until, read))

    def _rows(self, items: list[Any], read: datetime) -> list[dict[str, Any]]:
        rows = []
        left_out = {"without a title": 0, "dated in the future": 0}
        undated = 0
        for item in items:
            title = mask_known(one_line(str(item.get("title") or ""), LONGEST_TITLE))
            published = _published(item)
            if not title:
                left_out["without a title"] += 1
                continue
            if published is not None and published > min(read, self._transport.now()):
                left_out["dated in the future"] += 1
                continue
            undated += published is None
            url = _web_address(item.get("link"), self.url)
            rows.append(
                {
                    "publisher": self.publisher,
                    "id": self._id(item.get("id"), url, title, published),
                    "ts": published or midnight(read),
                    "title": title,
                    "url": url and mask_known(url),  # a private feed's links may carry its token
                    "known_at": read,
                }
            )
        self._notes += [
            f"{count} items {why}: left out" for why, count in left_out.items() if count
        ]
        if undated:
            self._notes.append(f"{undated} items without a date: dated {read:%Y-%m-%d}")
        if not items:
            self._notes.append("the feed has no items")
        return rows

    def _id(self, guid: Any, url: str | None, title: str, published: datetime | None) -> str:
        """By what the publisher calls it, else by its address: titles and dates are edited."""
        if guid or url:
            return headline_id(self.publisher, str(guid or url), "", 0)
        stamp = 0 if published is None else round(published.timestamp() * 1e6)
        return headline_id(self.publisher, None, title, stamp)

    def _items(self) -> list[Any]:
        """The items of the feed. Raises ``ShapeChanged`` for what is no feed, or no whole one."""
        import feedparser

        text = self._fetch()
        if "<!entity" in text.lower():
            raise self._changed("defines XML entities, which no news feed needs")
        if text.count("<") > MOST_TAGS or len(_ITEM.findall(text)) > MOST_ITEMS:
            raise self._changed(f"more than {MOST_ITEMS:,} items or {MOST_TAGS:,} tags")
        try:
            # a stream, since feedparser opens a string that looks like an address or a file name
            found = feedparser.parse(
                io.BytesIO(_DECLARATION.sub("", text).encode("utf-8", "replace")),
                response_headers={"content-type": "application/xml; charset=utf-8"},
                sanitize_html=False,  # titles are made plain text here, the rest is not read
                resolve_relative_uris=False,
            )
        except Exception as error:  # whatever a stranger's text can do to a parser
            raise self._changed(f"cannot be read: {type(error).__name__}") from error
        if not found.get("version"):
            raise self._changed(f"not a feed: {text[:80].strip()!r}")
        if not _END.search(text[-4096:]):
            raise self._changed("cut off before its end")
        return list(found.entries)

    def _fetch(self) -> str:
        """The text behind the address; a redirect is followed to the web and nowhere else."""
        url = self.url
        for _ in range(REDIRECTS + 1):
            response = self._transport.get(url)
            if response.status_code in (404, 410):
                raise NotListed(self.provider, endpoint_of(url), f"{response.status_code}")
            location = response.headers.get("Location")
            if response.status_code in (301, 302, 303, 307, 308) and location:
                target = urljoin(url, location)
                if not _may_be_followed(target, self.url):
                    raise self._refused(f"redirects to {endpoint_of(target)!r}: not followed")
                url = target
                continue
            if response.status_code >= 300:
                raise self._refused(f"status {response.status_code}")
            return self._text(response)
        raise self._refused(f"more than {REDIRECTS} redirects")

    def _text(self, response: requests.Response) -> str:
        body = bytes(response.content)
        for mark, name in _BOMS:
            if body.startswith(mark):
                return body[len(mark) :].decode(name, "replace")
        if b"\x00" in body[:64]:
            raise self._changed("not text")
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            told = body[:200].decode("ascii", "replace") + response.headers.get("Content-Type", "")
            declared = _ENCODING.search(told)
            return body.decode(declared[1] if declared else "utf-8", "replace")

    def _changed(self, detail: str) -> ShapeChanged:
        return ShapeChanged(self.provider, endpoint_of(self.url), detail)

    def _refused(self, detail: str) -> ProviderRefused:
        return ProviderRefused(self.provider, endpoint_of(self.url), detail)


def _published(item: Any) -> datetime | None:
    """When it was published, else last changed; None without a date that can be."""
    parsed = item.get("published_parsed") or item.get("updated_parsed")
    try:
        stamp = datetime.fromtimestamp(calendar.timegm(parsed), tz=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return stamp if stamp.year >= 2009 else None  # before there was anything to report


def _web_address(link: Any, base: str) -> str | None:
    """An address to show; None for anything but a plain http(s) one."""
    if not link:
        return None
    try:
        address = urljoin(base, str(link).strip())
        parts = urlsplit(address)
        web = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        return None
    plain = is_printable(address) and not set("<>\"'`") & set(address)
    return address if web and plain and len(address) <= LONGEST_ADDRESS else None


def _may_be_followed(target: str, origin: str) -> bool:
    """On the same host anything but a step down from TLS; elsewhere no address of a private network, and no name of one."""
    try:
        to, source = urlsplit(target), urlsplit(origin)
        host = (to.hostname or "").lower()
    except ValueError:
        return False
    if to.scheme not in ("https", source.scheme) or not host or to.username:
        return False
    if host == source.hostname:
        return True
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
