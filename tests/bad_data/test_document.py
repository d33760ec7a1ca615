"""docs/bad_data.md tells the corpus as it is."""

from __future__ import annotations

from orchestration.settings import PROJECT_ROOT
from tests.bad_data.corpus import all_faults
from tests.bad_data.document import table


def test_the_document_has_every_fault_and_what_comes_of_it() -> None:
    assert table() in (PROJECT_ROOT / "docs" / "bad_data.md").read_text()


def test_the_corpus_covers_every_input() -> None:
    faults = all_faults()
    assert len(faults) >= 60
    wanted = {"bars", "funding", "open interest", "implied volatility", "on-chain", "sentiment", "headlines", "order books", "CSV files",
              "Parquet files", "paths", "portfolio files", "settings", "whole days"}  # fmt: skip
    assert wanted <= {fault.input for fault in faults}
