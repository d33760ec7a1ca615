"""What each seed kills, when and how; and what must hold afterwards.

In: a seed. Out: a plan, drawn from the seed alone once the stage's writes and seconds have been counted. After a kill: the warehouse opens, nothing that
was committed is gone, the same stage run again completes by itself, and every table and artefact is what it is without the kill.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

from tests.faults.homes import (
    Boundaries,
    artefacts,
    copy_home,
    fingerprint,
    published_fingerprint,
    wait_for_group,
)
from tests.faults.invariants import broken_invariants
from tests.faults.stage_server import Outcome
from tests.faults.stages import WITH_CHILDREN

KILLS = {
    "prices": 44,
    "modalities": 22,
    "dbt": 18,
    "training": 16,
    "forecasting": 36,
    "explanation": 28,
    "judging": 14,
    "publishing": 36,
    "report": 16,
}
"""Kills by stage: most on those that take little. Seeds go through the stages in turn, so that any first part of them has all."""
DELAYS = (0.0, 0.0, 0.0, 0.0002, 0.001, 0.005, 0.02)
"""Seconds after a point: at once is before the write, later is within it or after it."""
PUBLISHED = ("publishing", "report", "publish", "artefact")
"""Stages after which the published copy is the warehouse's."""
MUST_STRIKE = 200
"""Of all seeds so many have to strike: a kill planned by time may find its stage done."""
GO_ON_EVERY = 12
"""Of so many seeds one runs the stages after it too."""


def stage_of(seed: int) -> str:
    """Stages by turns, each as often as ``KILLS`` says."""
    left = dict(KILLS)
    order = []
    while any(left.values()):
        for stage in left:
            if left[stage]:
                left[stage] -= 1
                order.append(stage)
    return next(islice(chain(order, cycle(order)), seed, None))


@dataclass(frozen=True)
class Plan:
    """A kill: at the write number ``point`` and ``delay`` seconds later, or ``seconds`` after the start."""

    seed: int
    stage: str
    whom: str
    point: int | None
    delay: float
    seconds: float | None

    def __str__(self) -> str:
        when = f"write {self.point} + {self.delay:g} s" if self.point else f"{self.seconds:.2f} s"
        return f"{self.stage}, {self.whom}, at {when}"


def plan_of(seed: int, stage: str, undisturbed: Outcome) -> Plan:
    """The plan of a seed for a stage that makes so many writes in so many seconds."""
    chance = random.Random(seed)
    whom = chance.choice(("both", "parent", "child")) if stage in WITH_CHILDREN else "both"
    by_point = whom != "child" and chance.random() < 0.6
    return Plan(
        seed,
        stage,
        whom,
        chance.randint(1, undisturbed.points) if by_point else None,
        chance.choice(DELAYS) if by_point else 0.0,
        None if by_point else chance.uniform(0.02, 0.98) * undisturbed.seconds,
    )


def kill_and_recover(boundaries: Boundaries, plan: Plan, folder: Path) -> Outcome:
    """Kill as planned, look, run the stage again, compare; the outcome of the killed run."""
    boundaries.finished(plan.stage)
    path = copy_home(boundaries.before(plan.stage), folder / "home")
    home = boundaries.home(path)
    killed = boundaries.run(
        path,
        plan.stage,
        point=plan.point,
        delay=plan.delay,
        seconds=plan.seconds,
        whom=plan.whom,
    )
    if plan.point and not plan.delay:  # inside of the write: nothing can be done before
        assert killed.killed, f"nobody was killed: {killed.points} writes in {killed.seconds:.2f} s"
    broken = broken_invariants(home)
    assert not broken, f"after the kill: {broken}"
    again = boundaries.run(path, plan.stage)
    assert again.status == 0, f"the next run did not complete: {again.errors}"
    wait_for_group(killed.group)
    same(fingerprint(home), boundaries.after[plan.stage], "tables")
    undisturbed = boundaries.home(boundaries.finished(plan.stage))
    same(artefacts(home), artefacts(undisturbed), "artefacts")
    leftovers = unfinished(path)
    assert leftovers == [], f"nobody removed {leftovers}"
    last = plan.stage
    if plan.seed % GO_ON_EVERY == 0:
        for last in boundaries.stages[boundaries.stages.index(plan.stage) + 1 :]:
            done = boundaries.run(path, last)
            assert done.status == 0, f"{last} did not complete: {done.errors}"
            boundaries.finished(last)
            same(fingerprint(home), boundaries.after[last], f"tables after {last}")
    if boundaries.home(path).settings.published_path.exists() and last in PUBLISHED:
        expected = published_fingerprint(boundaries.home(boundaries.finished(last)))
        same(published_fingerprint(home), expected, "published tables")
    broken = broken_invariants(home)
    assert not broken, f"after the next run: {broken}"
    shutil.rmtree(path)
    return killed


def same(found: dict[str, str], expected: dict[str, str], what: str) -> None:
    """Raise unless both sides have the same names with the same content."""
    wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    assert not wrong, f"other {what} than without the fault: {', '.join(wrong)}"


def unfinished(home: Path) -> list[str]:
    """Files of a run that nobody will finish; a lock file without a run is one."""
    patterns = ("artifacts/**/*.part", "runs/*.lock", "runs/*.part", "published/.*", "artifacts/specs/*.[0-9]*")  # fmt: skip
    numbered = [path for path in home.glob("reports/*.[0-9]*") if path.suffix[1:].isdigit()]
    found = [path for pattern in patterns for path in home.glob(pattern)] + numbered
    return sorted(str(path.relative_to(home)) for path in found)
