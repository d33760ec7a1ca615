"""Each detector on a market with its precursor planted, on one without, and the rules that all share."""

from __future__ import annotations

import numpy as np
import pytest

from ml.events.catalog import COLUMNS, DETECTORS
from ml.events.detector import MEMORY_DAYS, NEEDED_DAYS, Detector, Past, detect, mean_of

T, N = 900, 6
PLANTED = range(700, 720)


def autoregressive(chance: np.random.Generator, phi: float, size: float) -> np.ndarray:
    noise = chance.standard_normal((T, N))
    values = np.zeros((T, N))
    for row in range(1, T):
        values[row] = phi * values[row - 1] + np.sqrt(1 - phi**2) * noise[row]
    return size * values


def quiet_market(seed: int = 4) -> dict[str, np.ndarray]:
    """Columns that move by themselves, as persistent as on real markets, and foretell nothing."""
    chance = np.random.default_rng(seed)
    return {
        "amihud_22d": np.exp(autoregressive(chance, 0.95, 0.5)),
        "corwin_schultz_d": np.abs(autoregressive(chance, 0.3, 0.003)),
        "log_volume_ratio_22d": autoregressive(chance, 0.5, 0.3),
        "book_depth_50bp_usd_d": np.exp(autoregressive(chance, 0.9, 0.3)),
        "book_spread_bps_d": np.exp(autoregressive(chance, 0.9, 0.3)),
        "exchange_netflow_ratio": autoregressive(chance, 0.2, 0.1),
        "exchange_flow_change_7d": autoregressive(chance, 0.8, 0.2),
        "fees_change_7d": autoregressive(chance, 0.8, 0.3),
        "onchain_flows_revised": np.zeros((T, N)),
        "funding_rate_7d": 1e-4 * (1 + autoregressive(chance, 0.85, 1.0)),
        "funding_dispersion_d": 1e-5 * np.exp(autoregressive(chance, 0.5, 0.5)),
        "open_interest_change_7d": autoregressive(chance, 0.85, 0.1),
        "return_5d": autoregressive(chance, 0.8, 0.08),
    }


def with_precursor(event: str) -> dict[str, np.ndarray]:
    """The quiet market with 20 days of the precursor on coin 2."""
    market, at = quiet_market(), (slice(PLANTED.start, PLANTED.stop), 2)
    if event == "liquidity_dry_up":
        market["amihud_22d"][at] = np.exp(1.8)
        market["corwin_schultz_d"][at] = 0.012
        market["log_volume_ratio_22d"][at] = -0.8
    elif event == "large_transfers":
        market["exchange_netflow_ratio"][at] = 0.4
        market["exchange_flow_change_7d"][at] = 0.8
    else:
        market["funding_rate_7d"][at] = 6e-4
        market["open_interest_change_7d"][at] = 0.25
        market["return_5d"][at] = -0.15
    return market


@pytest.mark.parametrize("event", DETECTORS)
def test_a_planted_precursor_is_found_on_its_coin(event: str) -> None:
    found = detect(DETECTORS[event], with_precursor(event), np.arange(T))
    during = found.active[PLANTED.start : PLANTED.stop]
    assert during[7:, 2].all()  # a week's mean takes a week to fill
    first = np.flatnonzero(during[:, 2])[0]
    assert found.running_days[PLANTED.start + first, 2] == 0
    assert (np.diff(found.running_days[PLANTED.start + first : PLANTED.stop, 2]) == 1).all()
    others = np.delete(during, 2, axis=1)
    assert others.mean() < 0.1
    assert not found.active[PLANTED.stop + MEMORY_DAYS + 10, 2]


@pytest.mark.parametrize("event", DETECTORS)
def test_without_a_precursor_fewer_than_two_days_in_a_hundred_are_alarms(event: str) -> None:
    alarms, judged = 0, 0
    for seed in range(3):
        found = detect(DETECTORS[event], quiet_market(seed), np.arange(400, T, 2))
        judged += int(np.isfinite(found.score).sum())
        alarms += int(found.active.sum())
    assert judged > 4_000
    assert alarms / judged < 0.02


def test_a_crowd_is_squeezed_from_either_side() -> None:
    market = with_precursor("funding_squeeze")
    at = (slice(PLANTED.start, PLANTED.stop), 3)
    market["funding_rate_7d"][at] = -5e-4
    market["open_interest_change_7d"][at] = 0.25
    market["return_5d"][at] = 0.15
    found = detect(DETECTORS["funding_squeeze"], market, np.array([PLANTED.stop - 1]))
    assert found.active[0, [2, 3]].all()
    market["return_5d"][at] = -0.15  # with the crowd
    market["funding_dispersion_d"][at] = 1e-5
    found = detect(DETECTORS["funding_squeeze"], market, np.array([PLANTED.stop - 1]))
    assert found.active[0, 2]
    assert not found.active[0, 3]


def test_a_missing_input_is_not_judged_and_does_not_silence_the_others() -> None:
    market = with_precursor("liquidity_dry_up")
    for name in ("book_depth_50bp_usd_d", "book_spread_bps_d"):
        market[name][:] = np.nan
    row = np.array([PLANTED.stop - 1])
    found = detect(DETECTORS["liquidity_dry_up"], market, row)
    assert found.active[0, 2]
    assert np.isnan(found.signals["thin_book"]).all()
    market["exchange_netflow_ratio"][:] = np.nan
    market["exchange_flow_change_7d"][:] = np.nan  # fees alone are no transfer to an exchange
    found = detect(DETECTORS["large_transfers"], market, row)
    assert np.isnan(found.score).all()
    assert not found.active.any()
    with pytest.raises(KeyError, match="amihud_22d"):
        detect(DETECTORS["liquidity_dry_up"], {}, row)


@pytest.mark.parametrize("event", DETECTORS)
def test_only_the_past_counts_and_only_so_much_of_it(event: str) -> None:
    market = with_precursor(event)
    rows = np.arange(640, 730)
    whole = detect(DETECTORS[event], market, rows)
    poisoned = {
        name: np.where(np.arange(T)[:, None] > 729, 99.0, values) for name, values in market.items()
    }
    again = detect(DETECTORS[event], poisoned, rows)
    assert np.array_equal(whole.score, again.score, equal_nan=True)
    for row in (650, 705, 729):  # a day alone, from the rows that it needs
        cut = {name: values[row - NEEDED_DAYS : row + 1] for name, values in market.items()}
        alone = detect(DETECTORS[event], cut, np.array([NEEDED_DAYS]))
        assert np.array_equal(alone.score[0], whole.score[row - 640], equal_nan=True)
        assert np.array_equal(alone.active[0], whole.active[row - 640])
        assert np.array_equal(alone.running_days[0], whole.running_days[row - 640])


def scripted(scores: list[float], threshold: float = 2.0, release: float = 1.0) -> Detector:
    values = np.array(scores, dtype=float)[:, None]
    return Detector(
        "scripted", "", (), lambda past: {"x": values[past.rows]}, mean_of(1), threshold, release
    )


def states(scores: list[float]) -> tuple[list[bool], list[int]]:
    found = detect(scripted(scores), {}, np.arange(len(scores)))
    return found.active[:, 0].tolist(), found.running_days[:, 0].tolist()


def test_hysteresis_by_hand() -> None:
    nan = float("nan")
    active, days = states([0.0, 1.5, 2.1, 1.2, 1.9, 0.9, 1.5, 2.0, nan, 1.5])
    assert active == [False, False, True, True, True, False, False, True, False, False]
    assert days == [0, 0, 0, 1, 2, 0, 0, 0, 0, 0]


def test_an_event_is_forgotten_thirty_days_after_its_score_last_reached_the_threshold() -> None:
    active, _ = states([2.5, *[1.5] * 40])
    assert active[MEMORY_DAYS]
    assert not any(active[MEMORY_DAYS + 1 :])


def test_days_are_counted_from_the_beginning_on_and_never_backwards() -> None:
    """Reached on days 0 and 25: the first is out of memory on day 31, and the event is no younger for it."""
    active, days = states([2.5, *[1.5] * 24, 2.5, *[1.5] * 40])
    assert days[:56] == [min(day, MEMORY_DAYS) for day in range(56)]
    assert [day for day, on in enumerate(active) if on] == list(range(56))
    assert days[56:] == [0] * 10


def test_an_event_that_was_on_yesterday_does_not_begin_today() -> None:
    active, days = states([2.5, *[1.5] * 30, 2.5, *[1.5] * 5])  # 31 days between
    assert all(active)
    assert [day for day, count in enumerate(days) if count == 0] == [0]
    active, days = states([2.5, *[1.5] * 31, 2.5, 1.5])  # 32: off for a day
    assert active[30:] == [True, False, True, True]
    assert days[30:] == [30, 0, 0, 1]
    active, days = states([*[1.5] * 50, 2.5, 1.5])  # at the release for longer than the memory
    assert days[-2:] == [0, 1]


def test_a_day_alone_says_what_it_says_among_others() -> None:
    chance = np.random.default_rng(3)
    scores = (1.3 + 0.9 * chance.random(400)).tolist()
    scores[::90] = [0.5] * len(scores[::90])
    detector = scripted(scores, threshold=2.1)
    whole = detect(detector, {}, np.arange(400))
    assert (whole.running_days == MEMORY_DAYS).any()
    for row in range(100, 400):
        alone = detect(detector, {}, np.array([row]))
        assert alone.active[0, 0] == whole.active[row, 0]
        assert alone.running_days[0, 0] == whole.running_days[row, 0]


def test_scores_are_robust_deviations_from_the_year_before() -> None:
    chance = np.random.default_rng(0)
    values = chance.standard_normal((600, 1))
    values[:235] += 50.0  # older than a year
    z = Past({}, np.array([599])).z(values)
    past = values[599 - 365 : 599, 0]
    spread = 1.4826 * np.median(np.abs(past - np.median(past)))
    assert z[0, 0] == pytest.approx((values[599, 0] - np.median(past)) / spread, rel=1e-12)
    assert np.isnan(Past({}, np.array([100])).z(values)[0, 0])  # less than half a year
    assert np.isnan(Past({}, np.array([500])).z(np.ones((600, 1)))[0, 0])  # no spread


def test_every_column_that_a_detector_names_is_one_that_it_needs() -> None:
    market = quiet_market()
    for detector in DETECTORS.values():
        own = {name: market[name] for name in detector.needs}
        assert np.isfinite(detect(detector, own, np.array([T - 1])).score).all()
    assert set(COLUMNS) == set(market)
