"""What ``dbt.py`` starts: dbt in a process of its own, on the project as it was parsed once.

In: ``python -m orchestration.dbt_child PARSED COMMAND OPTION...``, where PARSED is a file under dbt's target folder. Out: what dbt prints and writes; the
exit status is 1 where it failed. dbt's own command line parses the whole project again whenever ``--vars`` change, so for each day; here the project
is parsed where PARSED is not there or cannot be read, and kept there. ``parsed_file`` names it by all that the result hangs on: the project's
files and the versions of dbt; the project's ``vars`` are read when SQL is compiled, none when it is parsed. Never: imports dbt before it is started.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def main(parsed: Path, command: list[str]) -> int:
    from dbt.cli.main import dbtRunner

    project: Any = None if command[0] == "parse" else read_project(parsed)
    if project is None:
        made = dbtRunner().invoke(["parse", *_without_variables(command[1:])])
        if made.exception is not None or not made.success:
            return _said(made.exception)
        keep_project(parsed, made.result)
        project = made.result
    if command[0] == "parse":
        return 0
    done = dbtRunner(manifest=project).invoke(command)
    return 0 if done.success else _said(done.exception)


def read_project(parsed: Path) -> Any:
    """dbt's ``Manifest`` as it was kept; None where there is none that can be read."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    try:
        return Manifest.from_msgpack(parsed.read_bytes(), decoder=extended_mashumuro_decoder)
    except FileNotFoundError:
        return None
    except (
        Exception
    ) as error:  # half a file, a folder in its place: whatever it is, parsing mends it
        print(f"{parsed} cannot be read and is made again: {type(error).__name__}")
        return None


def keep_project(parsed: Path, project: Any) -> None:
    """Write dbt's ``Manifest`` whole or not at all, and remove those of other versions."""
    from dbt.parser.manifest import extended_mashumaro_encoder

    temporary = parsed.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(project.to_msgpack(extended_mashumaro_encoder))
    os.replace(temporary, parsed)
    for older in parsed.parent.glob(f"{parsed.name.split('-')[0]}-*"):
        if older != parsed:
            older.unlink(missing_ok=True)


def _without_variables(options: list[str]) -> list[str]:
    """Options that ``parse`` knows: where it runs and what it writes, not what is built."""
    return options[options.index("--project-dir") :]


def _said(error: BaseException | None) -> int:
    if error is not None:
        print(f"{type(error).__name__}: {error}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
