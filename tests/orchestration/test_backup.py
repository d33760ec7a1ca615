"""Backup and restore: whole or not at all, every file verified, and a home that works at another path."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestration import backup as module
from orchestration.backup import MANIFEST, BackupError, backup, keep_newest, restore, verify
from orchestration.doctor import broken, examine
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import Warehouse
from tests.orchestration.doctor.homes import healthy


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Settings:
    """A healthy small home, with runs in Dagster's SQLite files and what a backup leaves out."""
    settings = healthy(tmp_path_factory.mktemp("small") / "home")
    history = settings.dagster_home / "history"
    history.mkdir(parents=True)
    connection = sqlite3.connect(history / "runs.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE runs (run_id, status)")
    connection.execute("INSERT INTO runs VALUES ('one', 'SUCCESS')")
    connection.commit()  # left open: the row is in the -wal file alone
    settings.reports_dir.mkdir()
    (settings.reports_dir / "2024-03-20.html").write_text("<p>report</p>")
    (settings.artifacts_dir / "models" / ".half.part").mkdir()
    (settings.home / "secrets.env").write_text("VOLCAST_ALERT_SLACK_URL=planted")
    yield settings
    connection.close()


@pytest.fixture(scope="module")
def made(home, tmp_path_factory) -> Path:
    return backup(home, tmp_path_factory.mktemp("backups") / "night").folder


@pytest.fixture
def own(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "night")
    return tmp_path / "night"


def contents(settings: Settings) -> dict[str, str]:
    """Every table of the warehouse, as a hash of its rows in order."""
    found = {}
    with Warehouse(settings).read() as connection:
        names = [name for (name,) in connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = 'wh'").fetchall()]  # fmt: skip
        for name in names:
            rows = connection.execute(f"FROM {name} ORDER BY ALL").fetchall()
            found[name] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


def test_a_restored_home_has_the_same_tables_and_every_invariant_holds(home, made, tmp_path):
    there = Settings(home=tmp_path / "moved" / "home")
    restore(there, made)
    assert contents(there) == contents(home)
    assert {*OUTPUT_TABLES} <= set(contents(there))
    findings = examine(there)
    assert [item.name for item in findings if not item.holds] == []
    assert next(item for item in findings if item.name == "published-copy").checked > 0
    assert (there.reports_dir / "2024-03-20.html").read_text() == "<p>report</p>"
    with sqlite3.connect(there.dagster_home / "history" / "runs.db") as connection:
        assert connection.execute("SELECT * FROM runs").fetchall() == [("one", "SUCCESS")]
    with Warehouse(there).read() as connection:
        comment = connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'volatility'").fetchone()  # fmt: skip
    assert comment[0] == OUTPUT_TABLES["forecasts.volatility"].description


def test_the_manifest_names_every_file_and_nothing_secret_or_half_written(made):
    manifest = json.loads((made / MANIFEST).read_text())
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert files == {*manifest["files"], MANIFEST}
    assert manifest["source"] == ""
    assert manifest["layout"] == "6"
    assert manifest["volcast"]
    assert not any(part in name for name in files for part in ("secret", ".part", "-wal", "lock"))
    assert not any(b"planted" in (made / name).read_bytes() for name in files)


def test_an_existing_folder_or_one_in_the_home_is_refused(home, made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    with pytest.raises(BackupError, match="exists: expected a new folder"):
        backup(home, made)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    with pytest.raises(BackupError, match="lies in the home"):
        backup(home, home.home / "backup")
    with pytest.raises(BackupError, match="nothing to back up"):
        backup(Settings(home=made / "nowhere"), made.with_name("other"))
    assert not made.with_name("other").exists()


def test_no_space_is_told_and_leaves_nothing(home, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(BackupError, match=r"no space left on .*free some"):
        backup(home, tmp_path / "night")
    assert list(tmp_path.iterdir()) == []


def test_no_space_for_a_restore_leaves_the_home_empty(made, tmp_path, monkeypatch):
    real, calls = shutil.copyfile, []

    def full(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(module.shutil, "copyfile", full)
    there = Settings(home=tmp_path / "home")
    with pytest.raises(BackupError, match="no space left"):
        restore(there, made)
    assert list(there.home.iterdir()) == []
    restore(there, made)
    assert there.warehouse_path.exists()


@pytest.mark.parametrize("name", ["warehouse.duckdb", "artifacts/models/ewma/v1/model.safetensors"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_backup_is_refused_and_the_home_stays_empty(own, tmp_path, name, damage):
    path = own / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[:-1])
    with pytest.raises(BackupError, match=f"{name}.*the backup is damaged"):
        restore(Settings(home=tmp_path / "home"), own)
    assert not (tmp_path / "home").exists()


def test_an_unfinished_backup_is_none(own, tmp_path):
    (own / MANIFEST).unlink()
    with pytest.raises(BackupError, match="not a finished backup"):
        restore(Settings(home=tmp_path / "home"), own)


def test_a_manifest_cannot_reach_out_of_its_folder(own, tmp_path):
    (tmp_path / "outside").write_text("x")
    manifest = json.loads((own / MANIFEST).read_text())
    manifest["files"]["../outside"] = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    (own / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="lies outside the backup"):
        verify(own)


def test_a_home_that_holds_anything_is_left_alone(made, tmp_path):
    there = Settings(home=tmp_path / "home")
    there.home.mkdir()
    (there.home / "notes.txt").write_text("mine")
    with pytest.raises(BackupError, match=r"not empty \(it holds notes.txt\)"):
        restore(there, made)
    assert [path.name for path in there.home.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("call", ["copyfile", "rename"])
def test_a_restore_that_was_killed_can_be_repeated(made, tmp_path, call):
    """Killed while files are gathered, or while they are moved into place."""
    there = Settings(home=tmp_path / "home")
    owner = "module.shutil" if call == "copyfile" else "module.os"
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from orchestration import backup as module
        from orchestration.settings import Settings
        real, calls = {owner}.{call}, []
        def dying(*arguments, **named):
            calls.append(arguments)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)
        settings = Settings(home=Path({str(there.home)!r}))
        if {call!r} == "rename":
            publish = module.Warehouse.publish
            module.Warehouse.publish = lambda self: (publish(self), setattr(module.os, "rename", dying))
        else:
            {owner}.{call} = dying
        module.restore(settings, Path({str(made)!r}))
        """
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not there.warehouse_path.exists()
    assert any(there.home.iterdir())
    restore(there, made)
    assert broken(examine(there)) == []
    assert not (there.home / module.RESTORING).exists()


def test_a_backup_waits_for_the_writer(home, tmp_path):
    impatient = home.model_copy(update={"lock_timeout_seconds": 0.3})
    with Warehouse(home).write(), pytest.raises(RuntimeError, match="still locked"):
        backup(impatient, tmp_path / "night")
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_backups_are_kept(own, tmp_path):
    for place in range(3):
        other = tmp_path / f"night-{place}"
        shutil.copytree(own, other)
        manifest = json.loads((other / MANIFEST).read_text())
        manifest["created_at"] = f"2030-01-0{place + 1}T00:00:00+00:00"
        (other / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "notes").mkdir()
    deleted = keep_newest(own, 2)
    assert sorted(path.name for path in deleted) == ["night", "night-0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night-1", "night-2", "notes"]
