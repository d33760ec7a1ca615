"""The forms in which a secret turns up in text.

In: secret values. Out: one pattern that finds any of them plain, percent-encoded, escaped as JSON, Python or HTML do, in base64 and in hex. Never:
a search whose time grows faster than the text.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from functools import lru_cache

SHORTEST = 6
"""Characters: a shorter value would take innocent text with it wherever it is masked."""


@lru_cache(maxsize=8)
def pattern_of(values: frozenset[str]) -> re.Pattern[str] | None:
    """Any of ``values`` in any of its forms."""
    if not values:
        return None
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    written = ["".join(map(_character, value)) for value in longest_first]
    encoded = {
        re.escape(form) for value in values for form in _encodings(value) if len(form) >= SHORTEST
    }
    return re.compile("|".join([*written, *sorted(encoded, key=lambda form: (-len(form), form))]))


_SHORT_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\f": "f", "\b": "b", "\v": "v"}


def _character(character: str) -> str:
    """A character as it is, percent-encoded, and as an escape of JSON, Python or HTML."""
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    percent = "".join(f"%{byte:02X}" for byte in character.encode())
    surrogates = json.dumps(character)[1:-1]
    entities = {html.escape(character).lstrip("&"), f"#{code};", f"#x{code:x};", "apos;"}
    escape = r"\\{1,8}"  # bounded: a run of backslashes must not be tried from each of its places to its end
    forms = [
        rf"\\{{0,8}}{re.escape(character)}",
        f"(?i:{percent})",
        rf"{escape}(?i:x{code:02x})",
        rf"{escape}(?i:u{code:04x})",
    ]
    if not character.isascii():
        written = re.escape(surrogates.lstrip("\\")).replace("\\\\", escape)
        forms.append(f"{escape}(?i:{written})")
    if character in _SHORT_ESCAPES:
        forms.append(escape + _SHORT_ESCAPES[character])
    if character in "\"'&<>" or not character.isprintable():
        forms.append("&(?i:" + "|".join(sorted(map(re.escape, entities - {""}))) + ")")
    if character == "\n":  # a terminal, a file of Windows
        forms.append(r"\r\n[ \t]{0,40}|\n[ \t]{1,40}")
    if character in "+ ":  # each is the other, where a form is decoded that was not encoded
        forms += [r"\+", " "]
    return f"(?:{'|'.join(forms)})"


def _encodings(value: str) -> Iterator[str]:
    """``value`` in hex, and in base64 by itself or within a longer text, as in "user:password": there it begins at one of three bits."""
    content = value.encode()
    yield from (content.hex(), content.hex().upper())
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + content).decode().rstrip("=")
        inner = encoded[(0, 2, 3)[offset] :]
        if (len(content) + offset) % 3:
            inner = inner[:-1]  # its last character shares bits with what follows
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))
