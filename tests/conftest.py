"""Shared fixtures: settings with a home of their own, and the archive folder where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes run tests side by side
os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # as in ./volcast: the processes of the tests compile nothing twice
for _name in [name for name in os.environ if name.startswith("VOLCAST_")]:
    if _name not in ("VOLCAST_TEST_ARCHIVE", "VOLCAST_SCREENSHOTS"):
        del os.environ[_name]  # a developer's own settings must not steer the tests


@pytest.fixture(scope="session")
def archive_folder() -> Path:
    folder = os.environ.get("VOLCAST_TEST_ARCHIVE")
    if not folder:
        pytest.skip("VOLCAST_TEST_ARCHIVE is not set: no real data to test on")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Modules that read settings on import get a home of their own, never the developer's."""
    os.environ["VOLCAST_HOME"] = str(tmp_path_factory.mktemp("home"))
    return


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first: the longest modules must not begin when the others are done."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)
