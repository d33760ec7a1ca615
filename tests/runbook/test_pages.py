"""Every page is whole: a message, why, what to look at, what to do, when it is over, and a test that exists."""

from __future__ import annotations

import re

import pytest

from orchestration.settings import PROJECT_ROOT, Settings
from tests.runbook.pages import RUNBOOK, quoted, section

ANCHORS = re.findall(r'<a id="([a-z-]+)"></a>\n## \d+\. ', RUNBOOK.read_text())

COMMANDS = "".join(
    file.read_text() for file in (PROJECT_ROOT / "orchestration" / "cli").glob("*.py")
)


def test_there_are_at_least_ten_pages_and_all_are_listed():
    assert len(ANCHORS) >= 10
    assert re.findall(r"^\| \[\d+\]\(#([a-z-]+)\)", RUNBOOK.read_text(), re.MULTILINE) == ANCHORS


@pytest.mark.parametrize("anchor", ANCHORS)
def test_page(anchor):
    page = section(anchor)
    assert quoted(anchor)
    for part in ("**Why**", "**Look**", "**Do**", "**Over when**"):
        assert part in page, part
    path, name = re.search(r"\*\*Test\*\* `(tests/runbook/\w+\.py)::(\w+)`", page).groups()
    source = (PROJECT_ROOT / path).read_text()
    assert f"def {name}(" in source
    assert f'"{anchor}"' in source, f"{path} does not hold the quote of {anchor}"
    for variable in re.findall(r"VOLCAST_[A-Z_]+", page):
        name = variable.removeprefix("VOLCAST_").lower()
        assert name in Settings.model_fields, variable
    for command in re.findall(r"`volcast ([a-z]+)", page):
        assert f"def {command}(" in COMMANDS or f'name="{command}"' in COMMANDS, command
