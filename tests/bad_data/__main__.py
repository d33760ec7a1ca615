"""Prints the table of docs/bad_data.md: `python -m tests.bad_data`."""

from __future__ import annotations

from tests.bad_data.document import table

print(table())
