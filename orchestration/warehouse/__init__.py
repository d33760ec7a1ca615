"""The only door to DuckDB: `Warehouse`, and what writes rows and state through it.

In: settings. Out: connections in which the warehouse is attached under the catalog name ``wh``, and the published read-only copy. The module
`storage` says what it is stored in: one DuckDB file, or a lake that several machines write to. Never: leaves a connection open.
"""

from orchestration.warehouse.door import Warehouse
from orchestration.warehouse.errors import Conflict, Locked, WarehouseError
from orchestration.warehouse.layout import LAYOUT_VERSION, PREVIOUS_LAYOUTS, PUBLISHED_SCHEMAS
from orchestration.warehouse.published import published_revision, read_published
from orchestration.warehouse.rows import replace_rows
from orchestration.warehouse.state import (
    CATALOG,
    bump_revision,
    get_json_state,
    get_state,
    set_json_state,
    set_state,
)
from orchestration.warehouse.storage import Storage, attach, storage_of

__all__ = [
    "CATALOG",
    "LAYOUT_VERSION",
    "PREVIOUS_LAYOUTS",
    "PUBLISHED_SCHEMAS",
    "Conflict",
    "Locked",
    "Storage",
    "Warehouse",
    "WarehouseError",
    "attach",
    "bump_revision",
    "get_json_state",
    "get_state",
    "published_revision",
    "read_published",
    "replace_rows",
    "set_json_state",
    "set_state",
    "storage_of",
]
