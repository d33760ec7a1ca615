"""Backup and restore: whole or not at all, every file verified, and a home that works at another path."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from orchestration import backup as module
from orchestration import backup_files
from orchestration.backup import MANIFEST, BackupError, backup, keep_newest, restore, verify
from orchestration.cleaning import clean, running
from orchestration.cli import app
from orchestration.doctor import broken, examine
from orchestration.runs import prepare_home
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import LAYOUT_VERSION, Warehouse, attach
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
    assert manifest["layout"] == LAYOUT_VERSION
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
    with pytest.raises(BackupError, match=r"no space for .*free some"):
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
    with pytest.raises(BackupError, match="no space for"):
        restore(there, made)
    assert [path.name for path in there.home.iterdir()] == ["warehouse.lock"]
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


def test_a_restore_that_failed_leaves_a_home_that_the_next_one_takes(made, tmp_path, monkeypatch):
    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "home"))
    assert CliRunner().invoke(app, ["restore", str(tmp_path / "typo")]).exit_code == 1
    restore(Settings(home=tmp_path / "home"), made)
    assert (tmp_path / "home" / "warehouse.duckdb").exists()


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
    assert sorted(path.name for path in there.home.iterdir()) == ["notes.txt", "warehouse.lock"]


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


def test_a_restore_that_failed_while_it_moved_files_can_be_repeated(made, tmp_path, monkeypatch):
    real, calls = os.rename, []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(errno.EIO, "Input/output error")
        real(*arguments)

    there = Settings(home=tmp_path / "home")
    with monkeypatch.context() as once:
        once.setattr(module.os, "rename", failing)
        with pytest.raises(BackupError, match="nothing was kept"):
            restore(there, made)
    assert [path.name for path in there.home.iterdir()] == ["warehouse.lock"]
    restore(there, made)
    assert broken(examine(there)) == []


def test_who_writes_to_the_target_of_a_restore_waits_and_loses_nothing(made, tmp_path, monkeypatch):
    there, told = Settings(home=tmp_path / "home", lock_timeout_seconds=60), []

    def write() -> None:
        with Warehouse(there).write() as connection:
            connection.execute("INSERT INTO meta.state VALUES ('mine', 'written meanwhile')")
        told.append("written")

    writer = threading.Thread(target=write)
    publish = Warehouse.publish

    def racing(self: Warehouse) -> bool:
        writer.start()
        time.sleep(0.5)
        assert not told
        return publish(self)

    monkeypatch.setattr(Warehouse, "publish", racing)
    restore(there, made)
    writer.join()
    with Warehouse(there).read() as connection:
        found = connection.execute("SELECT count(*) FROM meta.state WHERE key = 'mine'").fetchone()
        assert found == (1,)
        assert connection.execute("SELECT count(*) > 0 FROM forecasts.risk").fetchone() == (True,)


def test_what_others_put_into_the_home_meanwhile_is_left_alone(made, tmp_path, monkeypatch):
    there, publish = Settings(home=tmp_path / "home"), Warehouse.publish

    def racing(self: Warehouse) -> bool:
        (there.home / "artifacts").mkdir()
        (there.home / "artifacts" / "notes.txt").write_text("mine")
        return publish(self)

    monkeypatch.setattr(Warehouse, "publish", racing)
    with pytest.raises(BackupError, match=r"not empty \(it holds artifacts\)"):
        restore(there, made)
    assert (there.home / "artifacts" / "notes.txt").read_text() == "mine"
    assert not (there.home / module.RESTORING).exists()


def test_a_run_that_the_backup_caught_is_failed_in_the_restored_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("VOLCAST_HOME", "")

    @dg.job(name="daily")
    def daily() -> None:
        pass

    settings, there = Settings(home=tmp_path / "home"), Settings(home=tmp_path / "restored")
    with Warehouse(settings).write():
        pass
    prepare_home(settings)
    with dg.DagsterInstance.get() as instance:
        run_id = instance.create_run_for_job(daily, status=dg.DagsterRunStatus.STARTED).run_id
        with running(settings, instance, run_id, "daily"):
            instance.event_log_storage.set_concurrency_slots("warehouse", 1)
            instance.event_log_storage.claim_concurrency_slot("warehouse", run_id, "raw__ohlcv")
            restore(there, backup(settings, tmp_path / "night").folder)
    prepare_home(there)
    with dg.DagsterInstance.get() as instance:
        found = clean(there, instance)
        assert (found.runs, found.slots) == ((run_id,), 1)
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.FAILURE
        assert not instance.event_log_storage.get_concurrency_run_ids()


def test_a_backup_lets_readers_in_and_keeps_to_the_memory_limit(home, tmp_path, monkeypatch):
    impatient = home.model_copy(update={"lock_timeout_seconds": 0.3, "memory_limit": "64MiB"})
    seen = []

    def looking(connection: Any, *arguments: Any, **named: Any) -> None:
        seen.append(connection.execute("SELECT current_setting('memory_limit'), current_setting('temp_directory')").fetchone())  # fmt: skip
        attach(connection, *arguments, **named)

    monkeypatch.setattr(backup_files, "attach", looking)
    with Warehouse(home).read():
        made = backup(impatient, tmp_path / "night")
    assert seen[0] == ("64.0 MiB", str(tmp_path / "night.part" / ".spill.part"))
    assert not any("spill" in name for name in made.manifest["files"])


def test_a_file_that_goes_while_a_backup_is_made_is_none_of_it(home, tmp_path, monkeypatch):
    real, temporary = shutil.copyfile, home.reports_dir / "2024-03-21.4194305"
    temporary.write_text("half a report")

    def renaming(source: Any, target: Any) -> Any:
        if source == temporary:
            temporary.unlink()
        return real(source, target)

    monkeypatch.setattr(backup_files.shutil, "copyfile", renaming)
    made = backup(home, tmp_path / "night")
    assert "reports/2024-03-20.html" in made.manifest["files"]
    assert f"reports/{temporary.name}" not in made.manifest["files"]


def test_a_backup_waits_for_the_writer(home, tmp_path):
    impatient = home.model_copy(update={"lock_timeout_seconds": 0.3})
    with Warehouse(home).write(), pytest.raises(RuntimeError, match="still locked"):
        backup(impatient, tmp_path / "night")
    assert list(tmp_path.iterdir()) == []


def _backups(own: Path, **changes: dict[str, object]) -> None:
    """Copies of a backup beside it, each with changes to its manifest."""
    for name, change in changes.items():
        shutil.copytree(own, own.with_name(name))
        manifest = json.loads((own / MANIFEST).read_text())
        (own.with_name(name) / MANIFEST).write_text(json.dumps(manifest | change))


def test_only_the_newest_backups_of_a_home_are_kept(own, tmp_path):
    _backups(
        own,
        first={"created_at": "2020-01-01T00:00:00+00:00"},
        second={"created_at": "2020-01-02T00:00:00+00:00"},
        of_another_home={"created_at": "2020-01-01T00:00:00+00:00", "home": "/other"},
    )
    (tmp_path / "notes").mkdir()
    assert keep_newest(own, 2) == [tmp_path / "first"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night", "notes", "of_another_home", "second"]  # fmt: skip


def test_the_backup_just_made_is_kept_whatever_the_clock_says_and_links_to_it_lead(own, tmp_path):
    _backups(own, ahead={"created_at": "2099-01-01T00:00:00+00:00"})
    (tmp_path / "latest").symlink_to(own.name)
    assert keep_newest(tmp_path / "latest", 1) == [tmp_path / "ahead"]
    assert verify(tmp_path / "latest").folder == own
