"""dbt's connection to the lake: the same extensions, credentials and address as every other step's.

In: the environment that ``orchestration.dbt`` gives to dbt. Out: the lake attached as ``wh`` before dbt looks for it. Never: a setting or a table of its own.
"""

from __future__ import annotations

import os

from dbt.adapters.duckdb.plugins import BasePlugin

from orchestration.lake.connection import Lake


class Plugin(BasePlugin):
    """Named in transforms/profiles.yml, target ``lake``."""

    def configure_connection(self, conn) -> None:
        conn.execute("SET autoinstall_known_extensions = false")
        Lake(
            os.environ["VOLCAST_LAKE_CATALOG"],
            os.environ["VOLCAST_LAKE_FILES"],
            os.environ["VOLCAST_LAKE_NEW_FILES"],
        ).attach(conn, "wh")
