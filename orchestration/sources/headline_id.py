"""The identity of a headline whose provider gives none.

In: publisher, address, title and time. Out: a short hash. Never: changes, or the same headline
would enter twice.
"""

from __future__ import annotations

import hashlib

ID_LENGTH = 24


def headline_id(publisher: str, url: str | None, title: str, ts_microseconds: int) -> str:
    """First 24 hex digits of sha256(``publisher|url|title|microseconds since 1970``); the archive's
    SQL does the same.
    """
    text = f"{publisher}|{url or ''}|{title}|{ts_microseconds}"
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
