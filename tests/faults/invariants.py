"""What must hold of a home after any fault.

In: a home. Out: the invariants that are broken, in words. The doctor's, and that the warehouse opens.
"""

from __future__ import annotations

from orchestration.warehouse import WarehouseError
from tests.end_to_end.homes import Home


def broken_invariants(home: Home, *, after_kill: bool = False) -> list[str]:
    """``after_kill``: nothing has run since, so what a later stage or the next publish brings in order may still be out of it."""
    try:
        with home.warehouse.write() as connection:
            repeated = connection.execute(
                "SELECT count(*) - count(DISTINCT (asset, as_of, horizon, model, model_version)) FROM forecasts.volatility"
            ).fetchone()
    except WarehouseError as error:
        return [f"the warehouse does not open: {error}"]
    return [f"{repeated[0]} forecasts are there twice"] if repeated and repeated[0] else []
