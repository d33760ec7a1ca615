"""Reads a stretch of history from an endpoint that gives only a part of what it is asked for.

In: a function that asks once. Out: every entry of the stretch, oldest first, in parts. Never: takes a short page for the last one; the
limit of a page may have been lowered since its documentation was written.

Endpoints cut in two ways. Some give the oldest entries of the stretch (Binance, Hyperliquid), some the newest (Bybit, OKX, Deribit). So
where the answer leaves room for an entry at an end that may have been cut, that end is asked for again, until nothing new comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Cut = Literal["older", "newer", "either"]
"""Which end of the stretch an endpoint leaves out when there is too much."""


@dataclass(frozen=True)
class Part(Generic[T]):
    """Entries in order of time. With the parts before it, all up to ``until`` (ms) are there."""

    entries: list[T]
    until: int


def sweep(
    ask: Callable[[int, int], Sequence[T]],
    stamp: Callable[[T], int],
    since: int,
    until: int,
    *,
    spacing: int,
    cut: Cut = "either",
    window: int | None = None,
) -> Iterator[Part[T]]:
    """Every entry with ``since <= stamp <= until``. All times are ms.

    ``ask(since, until)`` may give entries outside, twice and in any order. ``spacing``: the shortest time between two entries. ``window``:
    no more than this is asked for at once. Raises what ``ask`` raises; the parts before it stand.
    """
    while since <= until:
        end = until if window is None else min(until, since + window - 1)
        yield from _window(ask, stamp, since, end, spacing, cut)
        since = end + 1


def _window(
    ask: Callable[[int, int], Sequence[T]],
    stamp: Callable[[T], int],
    since: int,
    until: int,
    spacing: int,
    cut: Cut,
) -> Iterator[Part[T]]:
    todo = [(since, until)]  # the oldest stretch last
    waiting: dict[int, T] = {}
    while todo:
        start, end = todo.pop()
        found = {stamp(entry): entry for entry in ask(start, end) if start <= stamp(entry) <= end}
        if found:
            waiting |= found
            oldest, newest = min(found), max(found)
            if cut != "older" and end - newest >= spacing:
                todo.append((newest + 1, end))
            if cut != "newer" and oldest - start >= spacing:
                todo.append((start, oldest - 1))
        complete = todo[-1][0] - 1 if todo else until
        ready = sorted(ms for ms in waiting if ms <= complete)
        if ready or not todo:
            yield Part([waiting.pop(ms) for ms in ready], complete)
