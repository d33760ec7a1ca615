"""Every page is whole: a message, why, what to look at, what to do, when it is over, and a test that exists."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from orchestration.alerts.causes import KINDS
from orchestration.cli import app
from orchestration.settings import PROJECT_ROOT, Settings
from tests.runbook.pages import RUNBOOK, quoted, section

ANCHORS = re.findall(r'<a id="([a-z-]+)"></a>\n## \d+\. ', RUNBOOK.read_text())

QUOTED = [
    line
    for path in (
        *sorted((PROJECT_ROOT / "docs").glob("*.md")),
        PROJECT_ROOT / "deploy" / "README.md",
        *sorted((PROJECT_ROOT / "orchestration" / "alerts").glob("*.py")),
    )
    for line in re.findall(r"`(?:\./)?volcast ([a-z][^`]*)`", path.read_text())
]
"""Commands as docs and alerts give them to people."""


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
    for sentence in re.findall(r"\*\*Seen in\*\* [^,;]*alert[^,;]*", page):
        for kind in re.findall(r"`([a-z]+)`", sentence):
            assert kind in KINDS, kind


@pytest.mark.parametrize("line", sorted(set(QUOTED)))
def test_a_command_that_is_advised_has_these_options(line):
    command, words = get_command(app), re.sub(r"[\[\]]", " ", line).split()
    if words[0] == "test":  # the shell script's own
        return
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"volcast {line}: no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= known, f"volcast {line}: {sorted(used - known)}"
