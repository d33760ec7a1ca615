"""Holds what happens against what the runbook quotes."""

from __future__ import annotations

import re

from orchestration.settings import PROJECT_ROOT

RUNBOOK = PROJECT_ROOT / "docs" / "runbook.md"


def section(anchor: str) -> str:
    """The page of the runbook at ``anchor``."""
    text = RUNBOOK.read_text()
    start = text.index(f'<a id="{anchor}"></a>')
    end = text.find('<a id="', start + 1)
    return text[start:] if end < 0 else text[start:end]


def quoted(anchor: str) -> list[str]:
    """The messages that the page quotes, a line each."""
    found = re.search(r"```text\n(.*?)```", section(anchor), re.DOTALL)
    assert found, f"{anchor}: the page quotes no message"
    return found[1].splitlines()


def assert_quoted(anchor: str, message: str, line: int = 0) -> None:
    """``message`` holds the ``line``-th message of the page; ``<...>`` stands for anything."""
    quote = quoted(anchor)[line]
    pattern = "(?s:.+?)".join(re.escape(part) for part in re.split(r"<[a-z ]+>", quote))
    assert re.search(pattern, message), f"the runbook quotes\n  {quote}\nbut it says\n  {message}"
