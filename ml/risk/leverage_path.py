"""From targets to advice, day by day: a no-trade band and a largest change per day.

In: today's target, and the last advice where there is one. Out: today's advice and why, in one sentence.
Never: a leverage above the target's hard limit, or a memory: all that the past does to a day is in the one advice that
it is handed, so a row can be computed again from itself and from the row before it.

With target T, last advice p, band b, largest rise m a day and hard limit H (maximum leverage, shortfall budget),

.. math:: L = \\min(H, c), \\quad c = p \\text{ if } |T - p| \\le b p, \\text{ else } \\min(\\max(T, p - 2m), p + m)

so a cut may be twice as fast as a rise, and one that a hard limit asks for is made at once, whatever band and change say.
A no-trade region is what proportional costs ask for (Davis and Norman 1990, "Portfolio selection with transaction
costs", Mathematics of Operations Research 15; Garleanu and Pedersen 2013, Journal of Finance 68).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from ml.risk.leverage import LeveragePolicy, LeverageTarget

LONGEST_GAP_DAYS = 7
"""An advice older than a week is not followed on from: the path starts again at the target."""
CUT_SPEED = 2.0
"""How many times as much as a rise a cut may be in one day, where no hard limit asks for more."""


@dataclass(frozen=True)
class LastAdvice:
    """The advice that a day follows on from."""

    as_of: date
    leverage: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.leverage) and self.leverage >= 0):
            raise ValueError(
                f"leverage {self.leverage} of {self.as_of}: expected a number of at least 0"
            )


@dataclass(frozen=True)
class LeverageAdvice:
    """What to hold until the next advice."""

    leverage: float
    target: float
    limit: float
    binding: str  # one of LeverageTarget's, or 'max_change' or 'band'
    previous: LastAdvice | None
    reason: str


def follow(
    target: LeverageTarget,
    as_of: date,
    last: LastAdvice | None = None,
    policy: LeveragePolicy | None = None,
) -> LeverageAdvice:
    """The advice of `as_of`, following on from `last` where that is at most 7 days old.

    Raises ValueError where `last` is not of an earlier day.
    """
    rules = policy or LeveragePolicy()
    if last is not None and last.as_of >= as_of:
        raise ValueError(f"last advice of {last.as_of}: expected one before {as_of}")
    wanted = target.leverage
    if last is None or (as_of - last.as_of).days > LONGEST_GAP_DAYS:
        why = f"no advice in the {LONGEST_GAP_DAYS} days before to follow on from"
        return _advice(wanted, target.binding, None, why, target)
    held, fall = last.leverage, CUT_SPEED * rules.max_change
    before = f"{held:.2f} on {last.as_of}"
    if wanted == held:
        leverage, binding, why = held, target.binding, f"as the {before}"
    elif abs(wanted - held) <= rules.band * held:
        leverage, binding = held, "band"
        why = f"the {before} stays, as it lies within {rules.band:.0%}"
    elif wanted > held + rules.max_change:
        leverage, binding = held + rules.max_change, "max_change"
        why = f"from {before} it rises by at most {rules.max_change:.2f} a day"
    elif wanted < held - fall:
        leverage, binding = held - fall, "max_change"
        why = f"from {before} it falls by at most {fall:.2f} a day"
    else:
        leverage, binding, why = wanted, target.binding, f"it was {before}"
    if leverage > target.limit:
        leverage, binding = target.limit, target.limit_name
        name = "maximum leverage" if binding == "max_leverage" else "shortfall budget"
        why = f"cut at once from {before} to what the {name} allows"
    return _advice(leverage, binding, last, why, target)


def _advice(
    leverage: float, binding: str, previous: LastAdvice | None, why: str, target: LeverageTarget
) -> LeverageAdvice:
    reason = f"{leverage:.2f}: {target.reason}; {why}"
    return LeverageAdvice(leverage, target.leverage, target.limit, binding, previous, reason)
