"""A round of kills fails where too few of them struck: what strikes nothing proves nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.faults.kills import KILLS, MUST_STRIKE

SEEDS = sum(KILLS.values())


@pytest.mark.parametrize(
    ("seeds", "struck", "status"),
    [(SEEDS, MUST_STRIKE, 0), (SEEDS, MUST_STRIKE - 1, 1), (1, 0, 0)],
)
def test_a_full_round_fails_where_too_few_struck(tmp_path: Path, seeds, struck, status):
    test = f"""
        import pytest
        from tests.faults.conftest import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401

        @pytest.mark.parametrize("seed", range({seeds}))
        def test_kill(seed, record_property):
            record_property("fault", "prices")
            record_property("struck", seed < {struck})
            record_property("seconds", 0)
    """
    (tmp_path / "conftest.py").write_text(
        "from tests.faults.conftest import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401\n"
    )
    (tmp_path / "test_kill.py").write_text(textwrap.dedent(test))
    command = [sys.executable, "-m", "pytest", str(tmp_path), "-q", "-n0", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout
    assert ("expected at least" in done.stdout) == bool(status)
