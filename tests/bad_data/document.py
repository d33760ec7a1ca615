"""The corpus as Markdown. In: ``all_faults``. Out: the tables of docs/bad_data.md, one for each kind of input."""

from __future__ import annotations

from itertools import groupby

from tests.bad_data.corpus import Fault, all_faults


def table() -> str:
    """A heading with the number of faults, and a row for each fault: its name and what comes of it."""
    faults = all_faults()
    lines = [f"{len(faults)} faults."]
    for kind, group in groupby(faults, key=lambda fault: fault.input):
        lines += [
            "",
            f"### {kind[0].upper()}{kind[1:]}",
            "",
            "| fault | what comes of it |",
            "|---|---|",
        ]
        lines += [_row(fault) for fault in group]
    return "\n".join(lines)


def _row(fault: Fault) -> str:
    return f"| {_cell(fault.name)} | {_cell(fault.outcome.words)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
