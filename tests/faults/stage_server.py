"""`python -m tests.faults.stage_server [small]`: everything imported once, then a forked child for each stage that is run, or killed.

In: a request a line on standard input, as JSON. Out: what became of it, a line each. Never: a thread, a DuckDB connection or a sum of torch in
this process, or the children would inherit a half of them.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

SERVER = os.getpid()
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Request:
    """Run ``stage`` in ``home``, and kill it: at a point of its own, or after so many seconds; ``whom``: both, parent or child."""

    home: str
    stage: str
    as_of: str
    point: int | None = None
    delay: float = 0.0
    seconds: float | None = None
    whom: str = "both"
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """``killed``: somebody was. ``status``: of the child, negative for a signal. ``group``: the process group, in which others may live on."""

    status: int
    killed: bool
    seconds: float
    group: int
    points: int = 0
    errors: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outcome:
        """From JSON, which has no tuples."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in told.items()})


def serve(request: Request) -> Outcome:
    """Fork, wait and kill."""
    notes = _notes()
    notes.unlink(missing_ok=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(request, notes)
    killed, status = False, None
    while status is None:
        found, status_bits = os.waitpid(child, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(status_bits)
            break
        passed = time.monotonic() - started
        if request.seconds is not None and not killed and passed >= request.seconds:
            killed = _kill(child, request.whom)
        if passed > TIMEOUT_SECONDS:
            _end_group(child)
            os.waitpid(child, 0)
            said = _log().read_text(errors="replace")[-4000:]
            raise TimeoutError(
                f"{request.stage} in {request.home}: not done after {passed:.0f} s: {said}"
            )
        time.sleep(0.002)
    seconds = time.monotonic() - started
    told = json.loads(notes.read_text()) if notes.exists() else {}
    struck = killed or status == -signal.SIGKILL
    facts = {"status": status, "killed": struck, "seconds": seconds, "group": child}
    return Outcome.of({**facts, **told})


def _notes() -> Path:
    """What a child tells: not beside its home, whose disk may be full."""
    return Path(tempfile.gettempdir()) / f"volcast-stage-{SERVER}.outcome"


def _log() -> Path:
    return _notes().with_suffix(".log")


def _child(request: Request, notes: Path) -> None:
    """The child's life; never returns."""
    os.setpgid(0, 0)
    told: dict[str, object] = {}
    code = 1
    try:
        log = os.open(_log(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        faulthandler.dump_traceback_later(TIMEOUT_SECONDS - 10, file=log)
        os.environ.update(request.environment)
        from tests.faults.points import Points
        from tests.faults.small_stages import SMALL, run_small
        from tests.faults.stages import run_stage

        points = Points(Path(request.home), request.point, request.delay, request.whom == "both")
        points.install()
        home, as_of = Path(request.home), date.fromisoformat(request.as_of)
        errors: list[str] = []
        if request.stage in SMALL:
            run_small(home, request.stage, as_of)
        else:
            errors = run_stage(home, request.stage, as_of)
        told = {"points": points.count, "errors": errors}
        code = 2 if errors else 0
    except BaseException:
        told = {"errors": [traceback.format_exc()]}
    finally:
        told["modules"] = sorted(sys.modules)
        fresh = notes.with_suffix(".part")
        fresh.write_text(json.dumps(told))
        os.replace(fresh, notes)  # a kill may come while it is written
        sys.stdout.flush()
        os._exit(code)


def _kill(child: int, whom: str) -> bool:
    if whom == "both":
        os.killpg(child, signal.SIGKILL)
        return True
    victim = next(descendants(child), None) if whom == "child" else child
    if victim is None:
        return False  # not started yet: at the next look
    os.kill(victim, signal.SIGKILL)
    return True


def descendants(pid: int) -> Iterator[int]:
    """Child processes, whichever thread started them."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            yield from map(int, (task / "children").read_text().split())
        except FileNotFoundError:
            continue


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    if sys.argv[1:] != ["small"]:
        from orchestration import definitions

        definitions.defs.resolve_job_def("daily")
    print("ready", flush=True)
    atexit.register(_notes().unlink, missing_ok=True)
    atexit.register(_log().unlink, missing_ok=True)
    for line in sys.stdin:
        told = json.loads(line)
        if "import" in told:
            for name in told["import"]:
                if name not in sys.modules and not name.startswith("tests."):
                    try:
                        importlib.import_module(name)
                    except Exception:  # a module that only its parent can import
                        continue
            print(json.dumps({}), flush=True)
            continue
        try:
            reply = asdict(serve(Request(**told)))
        except TimeoutError as error:
            reply = {"timeout": str(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
