"""`python -m ml.walk_worker spec.json`: fits of a walk-forward evaluation where there is room for them.

In: a spec (`WalkSpec`) that names a snapshot folder, the folder of finished fits, and which folds of which models to make. Out: each fit's forecasts in that folder,
where `ml.evaluation.walk_forward` finds them by all that they depend on. Never: a fit that is there already, or another result than the same fit in
one process has. A fit that fails ends this worker with exit code 3 after the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict, Field

from ml.evaluation.folds import WalkForward, fits
from ml.evaluation.walk_forward import WalkForwardError, walk_forward
from ml.models import create
from ml.panel import Panel
from ml.worker import EXIT_FAILED_FITS, Reporter, code_version, reporting

log = logging.getLogger("ml.walk_worker")


class WalkSpec(BaseModel):
    """All that a worker of a walk-forward evaluation is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snapshot: str
    snapshot_sha256: str | None = None
    folder: str  # URI of the finished fits
    configs: Mapping[str, dict[str, Any]]  # by model, without window_days: the folds say it
    rule: dict[str, Any]  # arguments of `WalkForward`
    rows: int = Field(gt=0)  # of the panel, to the last day forecast
    first: int = Field(ge=0)  # row of the first day forecast
    tasks: tuple[tuple[str, int], ...] = Field(min_length=1)  # model, and the number of its fold
    seed: int = Field(ge=0)
    device: str = "cpu"
    minimum_rows: int = 1
    code_version: str | None = None

    def identity(self) -> str:
        """16 hex digits of the spec's content."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def run(spec: WalkSpec, reporter: Reporter) -> list[str]:
    """Make the fits; what failed, a text each."""
    panel = Panel.read(spec.snapshot, spec.snapshot_sha256)
    folds = fits(WalkForward(**spec.rule).split(spec.rows, spec.first))
    failed = []
    for number, (model, place) in enumerate(spec.tasks, start=1):
        started, said = time.perf_counter(), "ok"
        try:
            walk_forward(
                panel,
                {model: spec.configs[model]},
                [folds[place]],
                create,
                seed=spec.seed,
                code_version=code_version(),
                folder=spec.folder,
                minimum_rows=spec.minimum_rows,
                device=spec.device,
            )
        except WalkForwardError as error:
            log.exception("fit %d failed", number)
            said = str(error)
            failed.append(said)
        seconds = time.perf_counter() - started
        reporter.line(
            f"fit {number}/{len(spec.tasks)} {model} fold {place}: {said}, {seconds:.1f} s"
        )
        reporter.message(
            {"walk": {"model": model, "fold": place, "status": said, "seconds": seconds}}
        )
    return failed


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 2 for a wrong call or spec, 3 when a fit failed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if len(arguments) != 1:
        log.error(
            "expected one argument, the spec's URI: python -m %s spec.json", Path(__file__).stem
        )
        return 2
    try:
        with fsspec.open(arguments[0], "rb") as file:
            spec = WalkSpec.model_validate_json(file.read())
    except (OSError, ValueError) as error:
        log.error("cannot read the spec %s: %s", arguments[0], error)
        return 2
    if spec.code_version not in (None, code_version()):
        log.error("the code here is %s: expected %s; give the workers the same volcast", code_version(), spec.code_version)  # fmt: skip
        return 2
    with reporting() as reporter:
        failed = run(spec, reporter)
    return EXIT_FAILED_FITS if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
