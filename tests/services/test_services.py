"""The servers that other tests lean on."""

from __future__ import annotations

import psycopg2
import pytest
import s3fs

from tests.services import object_store, postgres


def test_postgres_starts_lets_in_who_has_the_password_and_stops() -> None:
    with postgres.running() as server:
        words = server.make_database("lake")
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(words)
        connection = psycopg2.connect(f"{words} password={server.password}")
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        connection.close()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(server.url("postgres"))


def test_the_object_store_keeps_what_a_client_of_s3_puts_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with object_store.running() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.pipe_file(f"{store.bucket}/folder/file", b"content")
        assert files.cat_file(f"{store.bucket}/folder/file") == b"content"
