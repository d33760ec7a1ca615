"""Whatever stands in the place of an archive's file is read as it is, or refused by an error that names it; memory stays bounded."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_ROOT
from orchestration.sources.archive import ArchiveSource
from orchestration.sources.protocol import SourceError
from orchestration.sources.schema import TABLES
from tests.bad_data import file_faults, market
from tests.bad_data.corpus import FileFault, LeftOut, Refused, Stored

BOMBS = [fault for fault in file_faults.FAULTS if re.search("MB|million|megabyte", fault.name)]
OTHERS = [fault for fault in file_faults.FAULTS if fault not in BOMBS]
UNTIL = datetime(2100, 1, 1, tzinfo=UTC)
NOBODY = 65534


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market.write(tmp_path_factory.mktemp("files") / "sound", market.frames())


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "archive"))


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Root may read everything; for a moment we are not root."""
    if os.geteuid() != 0:
        yield
        return
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == "root" and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def bars_of(folder: Path) -> int:
    """Rows of every table are read; how many are bars."""
    source = ArchiveSource(folder)
    count = {}
    for table in TABLES:
        batches = source.batches(table, None, UNTIL)
        if (folder / "grow").exists() and table == "headlines":
            path = folder / file_faults.NEWS
            path.write_bytes(path.read_bytes() + b"more")
        count[table] = sum(batch.num_rows for batch in batches)
    return count["ohlcv"]


@pytest.mark.parametrize("fault", OTHERS, ids=lambda fault: fault.name)
def test_a_file_is_read_or_refused_by_name(
    fault: FileFault,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    fault.make(folder)
    if fault.name == "a file without permission":
        request.getfixturevalue("unprivileged")
    outcome = fault.outcome
    if isinstance(outcome, Refused):
        with pytest.raises(SourceError, match=outcome.message) as refused:
            bars_of(folder)
        assert str(folder) in str(refused.value)
    elif isinstance(outcome, Stored):
        assert bars_of(folder) == outcome.rows
    else:
        assert isinstance(outcome, LeftOut)
        assert bars_of(folder) > 0
        assert re.search(outcome.log, caplog.text)


_CHILD = """
import sys
from pathlib import Path
from orchestration.sources.archive import ArchiveSource
from orchestration.sources.protocol import SourceError
from datetime import UTC, datetime
for folder in sys.argv[1:]:
    try:
        source = ArchiveSource(Path(folder))
        for table in ("ohlcv", "headlines"):
            for _ in source.batches(table, None, datetime(2100, 1, 1, tzinfo=UTC)):
                pass
        print("read")
    except SourceError as error:
        print(error)
"""


def test_a_bomb_is_refused_in_little_memory(sound: Path, tmp_path: Path) -> None:
    folders = []
    for number, fault in enumerate(BOMBS):
        folders.append(Path(shutil.copytree(sound, tmp_path / str(number) / "archive")))
        fault.make(folders[-1])
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, folders)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)),
    )
    messages = done.stdout.splitlines()
    assert len(messages) == len(BOMBS) > 5
    for fault, message in zip(BOMBS, messages, strict=True):
        assert isinstance(fault.outcome, Refused)
        assert re.search(fault.outcome.message, message), (fault.name, message)


ADDRESS_SPACE = 3 * 2**30
"""A process that has imported the sources takes about half of it in addresses; what is left is less than any of the bombs' payload."""
