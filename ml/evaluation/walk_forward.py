"""Walk forward: fit, forecast the days until the next fit, go on; over models and fits, in processes, resumable.

In: a panel, models by name with a function that makes them, and folds. Out: frames of forecasts and refusals.
Never: a row after the day that is forecast, or a fit twice: each finished fit's forecasts lie in a file under the hash
of all that they depend on, so that a killed run goes on where it was and a changed setting or input starts anew.
Nothing here knows a model by name; `ml.models.create` comes in from outside.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa

from ml.evaluation.folds import Fold, fits
from ml.forecasts import FRAME_COLUMNS
from ml.model import VolatilityModel, lookback_days
from ml.panel import Panel
from ml.snapshot import write_atomically

KEY: tuple[str, ...] = ("source", "asset", "as_of", "horizon", "model", "model_version")
FORECAST_COLUMNS: tuple[str, ...] = (
    *KEY, "trained_as_of", *(name for name in FRAME_COLUMNS if name not in KEY),
)  # fmt: skip
REFUSAL_COLUMNS: tuple[str, ...] = (*KEY, "trained_as_of", "reason")

FRAME_SUFFIX, HASH_SUFFIX = ".parquet", ".sha256"
Create = Callable[[str], VolatilityModel]


@dataclass(frozen=True)
class Step:
    """One finished fit, told to the progress callback."""

    done: int
    total: int
    model: str
    trained_as_of: str
    forecasts: int
    reused: bool
    seconds: float


@dataclass(frozen=True)
class WalkForwardResult:
    """All forecasts of a walk, in order of model, day, coin and horizon."""

    forecasts: pd.DataFrame  # FORECAST_COLUMNS: what ml.evaluation.scores.score_frame reads
    refusals: pd.DataFrame  # REFUSAL_COLUMNS
    data_version: str  # 12 hex digits of the hash of the whole panel
    fits_made: int
    fits_reused: int


class WalkForwardError(RuntimeError):
    """A fit that failed; the finished ones are kept and are not made again."""


@dataclass(frozen=True)
class _Task:
    """One fit of one model and the days it forecasts."""

    model: str
    config: dict[str, Any]
    fold: Fold
    version: str
    key: str


@dataclass(frozen=True)
class _Shared:
    """What every task of a walk has in common; sent to each process once."""

    panel: Panel
    create: Create
    seed: int
    device: str
    minimum_rows: int
    folder: str | None


def walk_forward(
    panel: Panel,
    models: Sequence[str] | Mapping[str, Mapping[str, Any]],
    folds: Sequence[Fold],
    create: Create,
    *,
    seed: int = 0,
    code_version: str = "",
    folder: Path | str | None = None,
    workers: int = 1,
    minimum_rows: int = 1,
    device: str = "cpu",
    progress: Callable[[Step], None] | None = None,
) -> WalkForwardResult:
    """Forecasts of every model for the test rows of every fold.

    `models`: names, or names with their fit's config; `window_days` comes from the fold's training range. `create` makes a
    model from its name and must be a function of a module when `workers` > 1 (processes are spawned). `folder`, a path or any fsspec URI, keeps the
    forecasts of finished fits; `code_version` is part of what they depend on, as are config, seed, days and the content
    of the panel up to the last day forecast. A coin that has fewer than `minimum_rows` training rows since its first
    realised variance is refused with the reason. The same arguments give the same frames, whatever `workers` is.

    Raises WalkForwardError with the model and the day of a fit that failed; ValueError on no models, no folds, or a
    fold that the panel does not reach.
    """
    configs = _configs(models)
    if workers < 1:
        raise ValueError(f"workers {workers}: expected a positive number of processes")
    merged = fits(folds)
    if not merged:
        raise ValueError("no folds: expected at least one")
    if max(fold.test.stop for fold in merged) > len(panel.days):
        raise ValueError(
            f"a fold ends at row {max(fold.test.stop for fold in merged)}: the panel has {len(panel.days)}"
        )
    shared = _Shared(
        panel, create, seed, device, minimum_rows, None if folder is None else str(folder)
    )
    tasks = list(_tasks(shared, configs, merged, code_version))
    frames: dict[str, tuple[pd.DataFrame, bool]] = {}
    for task, frame, reused, seconds in _results(shared, tasks, workers):
        frames[task.key] = frame, reused
        if progress is not None:
            day = str(panel.days[task.fold.fit_row])
            count = int(frame["variance"].notna().sum())
            progress(Step(len(frames), len(tasks), task.model, day, count, reused, seconds))
    whole = pd.concat([frames[task.key][0] for task in tasks], ignore_index=True)
    given = whole["variance"].notna()
    reused_fits = sum(reused for _, reused in frames.values())
    refusals = whole[~given].rename(columns={"status": "reason"})
    return WalkForwardResult(
        forecasts=whole[given].reset_index(drop=True),
        refusals=refusals.reindex(columns=list(REFUSAL_COLUMNS)).reset_index(drop=True),
        data_version=panel.data_hash()[:12],
        fits_made=len(frames) - reused_fits,
        fits_reused=reused_fits,
    )


def first_rows(panel: Panel) -> dict[str, int]:
    """Row of each coin's first realised variance; the number of rows for a coin that has none."""
    known = np.isfinite(panel.realized_variance())
    found = np.where(known.any(axis=0), known.argmax(axis=0), len(panel.days))
    return dict(zip(panel.assets, found.tolist(), strict=True))


def _configs(
    models: Sequence[str] | Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    pairs = models.items() if isinstance(models, Mapping) else [(name, {}) for name in models]
    configs = {name: dict(config) for name, config in pairs}
    if not configs:
        raise ValueError("no models: expected at least one name")
    for name, config in configs.items():
        if "window_days" in config:
            raise ValueError(
                f"{name}: window_days {config['window_days']} in the config; the folds say how long the window is"
            )
    return configs


def _tasks(
    shared: _Shared, configs: Mapping[str, dict[str, Any]], folds: Sequence[Fold], code: str
) -> Iterator[_Task]:
    panel, hashes = shared.panel, {}
    for name, config in configs.items():
        lookback = lookback_days(type(shared.create(name)), config)
        for fold in folds:
            oldest = max(0, fold.train.start - lookback)
            for last in (fold.fit_row, fold.test.stop - 1):
                if (oldest, last) not in hashes:
                    seen = panel.until(panel.days[last].item()).window(last + 1 - oldest)
                    hashes[oldest, last] = seen.data_hash()
            made = [name, config, shared.seed, code, str(panel.days[fold.fit_row]), len(fold.train)]
            version = _digest([*made, hashes[oldest, fold.fit_row]])[:8]
            served = [str(panel.days[fold.test.start]), str(panel.days[fold.test.stop - 1])]
            key = _digest(
                [
                    *made,
                    served,
                    shared.minimum_rows,
                    shared.device,
                    hashes[oldest, fold.test.stop - 1],
                ]
            )
            yield _Task(name, config, fold, f"{panel.days[fold.fit_row]}-{version}", key)


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _results(
    shared: _Shared, tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[_Task, pd.DataFrame, bool, float]]:
    """Every task with its frame, whether it was there already, and its seconds; in order of completion."""
    open_tasks = []
    for task in tasks:
        stored = _stored(shared.folder, task)
        if stored is None:
            open_tasks.append(task)
        else:
            yield task, stored, True, 0.0
    if workers == 1 or len(open_tasks) < 2:
        for task in open_tasks:
            yield task, *_attempt(task, shared.panel, partial(_run, shared, task))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(open_tasks)), context, _receive, (shared,)) as pool:
        futures: dict[Future[pd.DataFrame], _Task] = {
            pool.submit(_run_received, task): task for task in open_tasks
        }
        try:
            for future in as_completed(futures):
                task = futures[future]
                yield task, *_attempt(task, shared.panel, future.result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _attempt(
    task: _Task, panel: Panel, work: Callable[[], pd.DataFrame]
) -> tuple[pd.DataFrame, bool, float]:
    try:
        frame = work()
    except Exception as error:
        raise WalkForwardError(
            f"{task.model} fitted on {panel.days[task.fold.fit_row]}: {type(error).__name__}: {error}"
        ) from error
    return frame, False, float(frame.attrs.get("seconds", 0.0))


def _stored(folder: str | None, task: _Task) -> pd.DataFrame | None:
    """What an earlier run finished; None when there is nothing, or not what that run wrote."""
    if folder is None:
        return None
    fs, path = fsspec.core.url_to_fs(_place(folder, task))
    try:
        content = fs.cat_file(path)
        stated = fs.cat_file(f"{path.removesuffix(FRAME_SUFFIX)}{HASH_SUFFIX}").decode()
        if stated != hashlib.sha256(content).hexdigest():
            return None
        return pd.read_parquet(BytesIO(content))
    except (OSError, ValueError, pa.ArrowException):
        return None


def _place(folder: str, task: _Task) -> str:
    return f"{folder.rstrip('/')}/{task.model}/{task.key}{FRAME_SUFFIX}"


_received: list[_Shared] = []


def _receive(shared: _Shared) -> None:
    """In a worker process: keep what all its tasks share."""
    _received[:] = [shared]


def _run_received(task: _Task) -> pd.DataFrame:
    return _run(_received[0], task)


def _run(shared: _Shared, task: _Task) -> pd.DataFrame:
    """Fit, forecast and store; rows of FORECAST_COLUMNS, refusals among them without a variance."""
    started = time.perf_counter()
    panel, fold = shared.panel, task.fold
    trained = panel.days[fold.fit_row].item()
    model = shared.create(task.model)
    model.device = shared.device
    window = (
        fold.fit_row + 1 - fold.train.start
    )  # the fit's own day closes the window, without a target yet
    model.fit(panel, trained, {**task.config, "window_days": window}, shared.seed)
    forecasts = model.forecast(panel, [panel.days[row].item() for row in fold.test])
    refused = forecasts.refused().reindex(columns=list(FRAME_COLUMNS))
    given = forecasts.to_frame().astype({"calibrated": "boolean"})
    frame = refused if given.empty else pd.concat([given, refused], ignore_index=True)
    frame = frame.astype(
        dict.fromkeys(given.select_dtypes("number").columns, "float64") | {"horizon": "int64"}
    )
    frame = _without_young(frame, fold, first_rows(panel), shared.minimum_rows)
    frame = frame.assign(
        source=panel.source,
        model_version=task.version,
        trained_as_of=pd.Timestamp(trained).as_unit("s"),
        calibrated=frame["calibrated"].astype("boolean"),
    )
    frame = frame.sort_values(["as_of", "asset", "horizon"])
    buffer = BytesIO()
    frame[list(FORECAST_COLUMNS)].to_parquet(buffer, index=False)
    if shared.folder is not None:
        place, content = _place(shared.folder, task), buffer.getvalue()
        write_atomically(place, content)
        digest = hashlib.sha256(content).hexdigest()
        write_atomically(f"{place.removesuffix(FRAME_SUFFIX)}{HASH_SUFFIX}", digest.encode())
    frame = pd.read_parquet(buffer)  # the types that a resumed run reads
    frame.attrs["seconds"] = time.perf_counter() - started
    return frame


def _without_young(
    frame: pd.DataFrame, fold: Fold, first: Mapping[str, int], minimum: int
) -> pd.DataFrame:
    """The forecasts of coins with too few training rows become refusals."""
    old_enough = set(fold.assets(first, minimum))
    young = ~frame["asset"].isin(old_enough) & frame["variance"].notna()
    if not young.any():
        return frame
    rows = {
        asset: max(0, fold.train.stop - max(fold.train.start, row)) for asset, row in first.items()
    }
    frame = frame.copy()
    numbers = frame.select_dtypes("number").columns.difference(["horizon"])
    frame.loc[young, numbers] = np.nan
    frame.loc[young, "status"] = [
        f"needs {minimum} training rows, has {rows[asset]}" for asset in frame.loc[young, "asset"]
    ]
    return frame
