"""Text from strangers -> one plain line.

In: a title that may hold markup, entities (encoded more than once), control characters, tricks with the direction of writing. Out: one line
of printable text of a bounded length. Never raises, whatever it is given.
"""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

LONGEST_INPUT = 1000
_ROUNDS = 3
_BREAKS = frozenset({"br", "p", "div", "li", "td", "tr", "h1", "h2", "h3"})
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn"})
"""Control characters, marks that turn the direction of writing, halves of characters, and what Unicode has not assigned."""

_COMMENT = re.compile(r"<!--.*?(?:-->|$)", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_DECLARATION = re.compile(r"<[!?][^>]*>?")


class _Words(HTMLParser):
    """The text between tags, without that of scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._silent += tag in ("script", "style")
        self.parts.append(" " if tag in _BREAKS else "")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in ("script", "style")))
        self.parts.append(" " if tag in _BREAKS else "")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def one_line(text: str, longest: int = LONGEST_INPUT) -> str:
    """``text`` without markup and unseen characters, in one line of at most ``longest`` characters."""
    text = _seen(text[:LONGEST_INPUT])
    for _ in range(_ROUNDS):
        stripped = _seen(_without_markup(text))
        if stripped == text:
            break
        text = stripped
    line = " ".join(re.sub(r"<+(?=[a-zA-Z/!?])", "", text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def is_printable(text: str) -> bool:
    """Whether every character of ``text`` can be seen; no spaces either."""
    return not any(c.isspace() or unicodedata.category(c) in _UNSEEN for c in text)


def _seen(text: str) -> str:
    """``text`` with every kind of white space as a blank, and without what cannot be seen."""
    return "".join(
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFC", text)
        if character.isspace() or unicodedata.category(character) not in _UNSEEN
    )


def _without_markup(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    text = _COMMENT.sub(" ", text)
    text = _DECLARATION.sub(" ", _CDATA.sub(r"\1", text))  # HTMLParser raises on some of them
    words = _Words()
    words.feed(text)
    words.close()
    return "".join(words.parts)
