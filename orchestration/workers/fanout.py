"""Shards of a spec on workers, side by side: how many at once, again after a loss, stopped with the run, gathered in the spec's order.

In: a Dagster context, settings and a worker spec. Out: one result per fit, the same whichever way the spec was split and wherever it ran. Never: a
fit made again that failed by its own error, or a worker that goes on after the run was stopped.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec

from orchestration.settings import Settings
from orchestration.workers.plan import split
from orchestration.workers.processes import Processes
from orchestration.workers.shard import Backend, Ended, Shard, WorkerFailed

logger = logging.getLogger(__name__)

WORKER_MODULE = "ml.worker"


def run_worker(
    context: dg.AssetExecutionContext,
    settings: Settings,
    spec: dict[str, Any],
    address: str | Path,
    coins: Sequence[str] | None = None,
    seen: Callable[[list[tuple[Shard, Ended]]], None] = lambda ended: None,
) -> list[dict[str, Any]]:
    """Run every fit of ``spec`` and return their results in its order, failed ones included.

    ``address`` is where the spec is written, ``coins`` those of the snapshot, by which large fits are cut; ``seen`` is told how each worker ended.
    Raises ``WorkerFailed`` when workers died before they reported on every fit.
    """
    shards = shards_of(settings, spec, str(address), coins)
    ended = fan_out(context, settings, shards)
    seen(list(zip(shards, ended, strict=True)))
    found: list[dict[str, Any]] = []
    problems = []
    for shard, end in zip(shards, ended, strict=True):
        found += results_of(shard, end)
        problems += [end.problem] if end.problem else []
    results, missing = [], []
    for fit in spec["fits"]:
        of_fit = [item for item in found if _key(item) == _key(fit)]
        parts = [one for shard in shards for one in shard.spec["fits"] if _key(one) == _key(fit)]
        if len(of_fit) < max(1, len(parts)):
            missing.append(fit)
        elif len(parts) > 1:
            results.append(_merged(spec, fit, coins or (), of_fit))
        else:
            results.append(of_fit[-1])
    if missing:
        names = ", ".join(f"{fit['model']} of {fit['trained_as_of']}" for fit in missing)
        why = "; ".join(dict.fromkeys(problems))
        raise WorkerFailed(f"no result for {names}" + (f": {why}" if why else ""))
    return results


def shards_of(
    settings: Settings, spec: dict[str, Any], address: str, coins: Sequence[str] | None
) -> list[Shard]:
    """The shards of a worker spec; the only one is the spec itself, at its address."""
    from ml.worker import WorkerSpec

    parts = split(spec, settings.workers_at_once, coins)
    stem = address.removesuffix(".json")
    found = []
    for number, (part, needs_gpu, seconds) in enumerate(parts, start=1):
        name = f"{number}/{len(parts)}"
        own = address if len(parts) == 1 else f"{stem}-{number}-of-{len(parts)}.json"
        try:
            results = WorkerSpec(**part).results_uri()
        except (TypeError, ValueError):  # the worker says what is wrong with it
            results = None
        found.append(Shard(WORKER_MODULE, part, own, "fit", name, needs_gpu, seconds, results))
    return found


def results_of(shard: Shard, ended: Ended) -> list[dict[str, Any]]:
    """Results of a shard's worker: of its messages where each came, else of the file that it left.

    Of a worker that died only finished fits count: others it may not have begun.
    """
    if ended.problem is None and len(ended.messages) == len(shard.spec["fits"]):
        return list(ended.messages)
    stored = _stored(shard.results)
    if ended.problem is None or not ended.lost:
        return stored or list(ended.messages)
    return [item for item in stored if item["status"] == "ok"]


def _stored(uri: str | None) -> list[dict[str, Any]]:
    """Results that a worker left; none where they are not whole."""
    from ml.worker import FitResult

    if uri is None:
        return []
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        found = json.loads(fs.cat_file(path))
        return [FitResult(**item).model_dump(mode="json") for item in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read, its fits are made again: %s", path, error)
        return []


def _key(fit: dict[str, Any]) -> tuple[str, str]:
    return fit["model"], str(fit["trained_as_of"])


def _merged(
    spec: dict[str, Any],
    fit: dict[str, Any],
    coins: Sequence[str],
    parts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """One result of the parts of a fit that was cut by coins."""
    from ml.coin_parts import merged_result
    from ml.worker import FitResult

    own = [FitResult(**part) for part in parts]
    return merged_result(spec["output"], coins, own).model_dump(mode="json")


def fan_out(context: Any, settings: Settings, shards: Sequence[Shard]) -> list[Ended]:
    """Run the shards, ``settings.workers_at_once`` at a time, and say how each ended, in their order.

    A shard whose worker is lost is run again by another, ``settings.worker_retries`` times. When this run is stopped, no worker outlives it.
    """
    backend = open_backend(context, settings)
    cancelled = threading.Event()
    ended: dict[int, Ended] = {}
    pool = ThreadPoolExecutor(max(1, min(settings.workers_at_once, len(shards))), "worker")
    try:
        futures = {
            pool.submit(_to_its_end, context, settings, backend, shard, cancelled): number
            for number, shard in enumerate(shards)
        }
        for future in _as_they_end(futures):
            ended[futures[future]] = future.result()
            _note(context, settings, shards[futures[future]], future.result())
    except BaseException:
        cancelled.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [ended[number] for number in range(len(shards))]


def open_backend(context: Any, settings: Settings) -> Backend:
    """Where ``VOLCAST_WORKERS`` says that shards run."""
    if settings.workers == "ray":
        from orchestration.workers.ray_jobs import RayJobs

        return RayJobs(context, settings)
    if settings.workers == "k8s":
        try:
            from orchestration.workers.pods import Pods
        except ImportError as error:
            raise WorkerFailed(
                "VOLCAST_WORKERS=k8s needs the extra `k8s`: uv pip install -c requirements.lock -e .[k8s]"
            ) from error
        return Pods(context, settings)
    return Processes(context, settings)


def _as_they_end(futures: dict[Future[Ended], int]) -> Iterator[Future[Ended]]:
    """Futures in the order of their ends; an interrupt of this thread is not kept waiting."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
        yield from sorted(done, key=futures.__getitem__)


def _to_its_end(
    context: Any, settings: Settings, backend: Backend, shard: Shard, cancelled: threading.Event
) -> Ended:
    """A shard's end: its worker's, or another's after a loss."""
    attempts = settings.worker_retries + 1
    for attempt in range(1, attempts + 1):
        started = time.monotonic()
        ended = replace(
            backend.run(shard, attempt, cancelled),
            attempts=attempt,
            seconds=time.monotonic() - started,
        )
        if not ended.lost or attempt == attempts or cancelled.is_set():
            break
        if len(results_of(shard, ended)) == len(shard.spec.get("fits", ())) > 0:
            break  # it had done all before it was lost
        context.log.warning(
            f"shard {shard.name} lost its worker ({ended.worker}): {ended.problem}; starting another, {attempt} of {attempts - 1}"
        )
        logger.warning(
            "shard %s lost its worker (%s): %s", shard.name, ended.worker, ended.problem, extra={"event": "worker_lost", "counts": {"attempt": attempt}}
        )  # fmt: skip
    return ended


def _note(context: Any, settings: Settings, shard: Shard, ended: Ended) -> None:
    """How a worker ended, in the event log and in the structured logs."""
    if shard.name == "1/1" and settings.workers == "subprocess" and ended.attempts == 1:
        return  # the default: the worker's own lines say it all
    devices = ", ".join(sorted({str(one["device"]) for one in ended.messages if one.get("device")}))
    text = (
        f"shard {shard.name} on {settings.workers}, {ended.worker}{f' ({devices})' if devices else ''}: "
        f"{ended.problem or 'done'}, attempt {ended.attempts}, "
        f"{ended.seconds:.1f} s (expected {shard.expected_seconds:.0f})"
    )
    context.log.info(text)
    logger.info(
        "%s", text, extra={"event": "worker_ended", "duration_seconds": round(ended.seconds, 3), "counts": {"attempt": ended.attempts}}
    )  # fmt: skip
