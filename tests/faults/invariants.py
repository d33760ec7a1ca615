"""What must hold of a home after any fault.

In: a home. Out: the invariants that are broken, in the doctor's words; that the warehouse opens and may be written to is the first.
"""

from __future__ import annotations

from orchestration.doctor import broken, examine
from orchestration.warehouse import WarehouseError
from tests.end_to_end.homes import Home


def broken_invariants(home: Home) -> list[str]:
    """Critical findings of ``volcast doctor``."""
    try:
        with home.warehouse.write():
            pass
    except WarehouseError as error:
        return [f"the warehouse does not open: {error}"]
    return [f"{item.name}: {item}" for item in broken(examine(home.settings))]
