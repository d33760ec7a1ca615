"""Sweeping a history and telling intervals, whatever the endpoint leaves out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.sources.live.funding_rules import Rate, Settlement, with_intervals
from orchestration.sources.live.history import Cut, Part, sweep

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000

stamps = st.lists(st.integers(0, 400), unique=True, max_size=80)


def endpoint(held: list[int], page: int, cut: str) -> Callable[[int, int], list[int]]:
    """An endpoint that gives ``page`` entries at most, and leaves out what is older, newer, or around the middle."""

    def ask(since: int, until: int) -> list[int]:
        inside = sorted(stamp for stamp in held if since <= stamp <= until)
        if cut == "older":
            return inside[-page:][::-1]
        if cut == "newer":
            return inside[:page]
        middle = max(0, len(inside) // 2 - page // 2)
        return inside[middle : middle + page]

    return ask


@given(
    stamps,
    st.integers(1, 9),
    st.sampled_from(["older", "newer", "either"]),
    st.sampled_from([None, 7, 50]),
)
def test_every_entry_comes_once_in_order_whatever_an_endpoint_leaves_out(
    held: list[int], page: int, cut: Cut, window: int | None
) -> None:
    asked: list[tuple[int, int]] = []

    def ask(since: int, until: int) -> list[int]:
        asked.append((since, until))
        return endpoint(held, page, cut)(since, until)

    parts = list(sweep(ask, lambda ms: ms, 100, 300, spacing=1, cut=cut, window=window))
    got = [stamp for part in parts for stamp in part.entries]
    assert got == sorted(stamp for stamp in held if 100 <= stamp <= 300)
    assert [part.until for part in parts] == sorted(part.until for part in parts)
    assert parts[-1].until == 300
    for part in parts:
        seen = [stamp for one in parts if one.until <= part.until for stamp in one.entries]
        assert seen == sorted(stamp for stamp in held if 100 <= stamp <= part.until)
    assert all(window is None or until - since < window for since, until in asked)


@given(stamps, st.integers(1, 9))
def test_unknown_cuts_are_survived_by_asking_at_both_ends(held: list[int], page: int) -> None:
    for cut in ("older", "newer", "middle"):
        ask = endpoint(held, page, cut)
        parts = sweep(ask, lambda ms: ms, 0, 400, spacing=1, cut="either")
        assert [stamp for part in parts for stamp in part.entries] == sorted(held)


def test_an_endpoint_that_repeats_itself_ends() -> None:
    calls = 0

    def stubborn(since: int, until: int) -> list[int]:
        nonlocal calls
        calls += 1
        return [200, 150, 150]  # the newest two, whatever it is asked for

    parts = list(sweep(stubborn, lambda ms: ms, 0, 400, spacing=10))
    assert [stamp for part in parts for stamp in part.entries] == [150, 200]
    assert calls == 3


def test_parts_before_a_fault_stand() -> None:
    def ask(since: int, until: int) -> list[int]:
        if since >= 20:
            raise ConnectionError("gone")
        return list(range(since, until + 1))

    parts = sweep(ask, lambda ms: ms, 0, 40, spacing=1, window=10)
    got = [next(parts).until, next(parts).until]
    with pytest.raises(ConnectionError):
        next(parts)
    assert got == [9, 19]


def rates(times: list[datetime], pages: list[int]) -> list[Rate]:
    """Settlements at ``times``, in parts of ``pages`` entries, with the intervals told from them."""
    settled = [Settlement(round(ts.timestamp() * 1000) + 4, 0.0001) for ts in times]
    parts, sizes = [], list(pages)
    while settled:
        size = sizes.pop(0) if sizes else len(settled)
        chunk, settled = settled[:size], settled[size:]
        parts.append(Part(chunk, chunk[-1].ms if settled else chunk[-1].ms + 60_000))
    return [rate for found, _ in with_intervals(parts, None) for rate in found]


regimes = st.lists(
    st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(2, 6)), min_size=1, max_size=5
)


@given(regimes, st.lists(st.integers(1, 5), max_size=8))
def test_a_change_of_the_interval_is_seen_at_its_first_settlement(
    spans: list[tuple[int, int]], pages: list[int]
) -> None:
    hours = [hours for hours, count in spans for _ in range(count)]
    times = [START]
    for step in hours:
        times.append(times[-1] + step * HOUR)
    found = rates(times, pages)
    assert [rate.ts for rate in found] == times
    assert [rate.hours for rate in found] == [hours[0], *map(float, hours)]


@given(st.sampled_from([1, 2, 4, 8]), st.sets(st.integers(1, 9), max_size=6), st.integers(1, 7))
def test_a_missing_settlement_does_not_make_an_interval_longer(
    hours: int, holes: set[int], page: int
) -> None:
    kept = [
        START + place * hours * HOUR for place in range(34) if place % 3 or place // 3 not in holes
    ]
    found = rates(kept, [page] * 34)
    assert [rate.ts for rate in found] == kept
    assert {rate.hours for rate in found} == {float(hours)}


def test_a_lone_settlement_is_of_eight_hours() -> None:
    assert rates([START], [])[0].hours == 8.0


def test_the_newest_settlement_waits_for_the_next_before_it_counts_as_read() -> None:
    first = Part([Settlement(0, 0.1), Settlement(8 * HOUR_MS, 0.2)], 9 * HOUR_MS)
    second = Part([Settlement(16 * HOUR_MS, 0.3)], 20 * HOUR_MS)
    found = list(with_intervals([first, second], None))
    assert [[rate.rate for rate in part] for part, _ in found] == [[0.1], [0.2], [0.3]]
    assert found[0][1] < datetime(1970, 1, 1, 8, tzinfo=UTC)
    assert found[-1][1] == datetime(1970, 1, 1, 19, 59, 30, tzinfo=UTC)
