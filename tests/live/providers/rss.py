"""Feeds as "RSS 2.0 Specification" (rssboard.org) and RFC 4287 (Atom) tell them, and as publishers write them: CDATA or entities in titles,
guids that are no addresses, comments after the end, redirects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from xml.sax.saxutils import escape

from tests.live.server import Reply, Request


@dataclass(frozen=True)
class Item:
    title: str
    guid: str | None = None
    link: str | None = None
    published: datetime | None = None
    raw_title: bool = False
    """``title`` is XML already."""


@dataclass
class Feed:
    """Serves ``items`` at ``path`` as RSS 2.0, or as Atom; ``body`` instead of them."""

    items: list[Item] = field(default_factory=list)
    path: str = "/desk/feed.xml"
    atom: bool = False
    encoding: str = "utf-8"
    prologue: str = ""
    epilogue: str = ""
    body: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    """Path -> Location."""

    def __call__(self, request: Request) -> Reply:
        if request.path in self.moved:
            return Reply(b"moved", 301, {"Location": self.moved[request.path]})
        if request.path != self.path:
            return Reply(b"not found", 404)
        headers = {"Content-Type": "application/rss+xml"} | self.headers
        return Reply(self.body if self.body is not None else self.xml(), self.status, headers)

    def xml(self) -> bytes:
        text = f'<?xml version="1.0" encoding="{self.encoding}"?>{self.prologue}'
        text += self._atom() if self.atom else self._rss()
        return (text + self.epilogue).encode(self.encoding, "xmlcharrefreplace")

    def _rss(self) -> str:
        items = ""
        for item in self.items:
            title = item.title if item.raw_title else escape(item.title)
            items += f"<item><title>{title}</title>"
            items += f"<link>{escape(item.link)}</link>" if item.link else ""
            items += f'<guid isPermaLink="false">{escape(item.guid)}</guid>' if item.guid else ""
            if item.published:
                items += f"<pubDate>{format_datetime(item.published)}</pubDate>"
            items += "</item>"
        return f'<rss version="2.0"><channel><title>Desk</title>{items}</channel></rss>'

    def _atom(self) -> str:
        entries = ""
        for item in self.items:
            entries += f'<entry><title type="html">{escape(item.title)}</title>'
            entries += f'<link href="{escape(item.link)}"/>' if item.link else ""
            entries += f"<id>{escape(item.guid or '')}</id>"
            entries += f"<updated>{item.published:%Y-%m-%dT%H:%M:%SZ}</updated></entry>"
        return f'<feed xmlns="http://www.w3.org/2005/Atom"><title>Desk</title>{entries}</feed>'
