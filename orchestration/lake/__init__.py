"""A warehouse that several machines write to: DuckLake, its catalog in PostgreSQL or SQLite, its rows in Parquet files.

In: ``VOLCAST_WAREHOUSE`` and ``VOLCAST_LAKE_DATA``. Out: the same tables under the same names as in a file. Imported only where a lake is named.
"""
