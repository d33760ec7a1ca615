"""Text of others as Markdown that is only text, for model cards and the metadata that Dagster's UI shows.

In: a value whose text a provider, a file or an error may have chosen. Out: one line. Never: markup, HTML, a link, or the end of a table cell.
"""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"[\\`*{}\[\]!|~$@]|(?<!\w)_|_(?!\w)|^[-+#]|(?<=:)/|(?<=www)\.")
"""What CommonMark and GitHub's dialect read as markup; a slash after a colon and the dot of www., so that no address becomes a link."""


def in_markdown(value: object) -> str:
    """Text that is only text: no markup, no HTML, no new line, nothing that ends a table cell."""
    text = re.sub(r"\s+", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")  # fmt: skip
    return _ESCAPED.sub(lambda found: f"\\{found[0]}", text)
