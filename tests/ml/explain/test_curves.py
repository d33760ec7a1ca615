"""Deletion and insertion curves, on a forecaster whose areas are known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ml.explain.curves import Curves, deletion_and_insertion
from ml.explain.protocol import TokenBatch
from ml.explain.removal import audited_groups, tokens_of_groups
from ml.explain.rollout import group_rollout
from tests.ml.explain.forecasters import GROUPS, Stated, batch

EFFECTS = {"price": 4.0, "funding": 2.0, "onchain": 1.0, "sentiment": 0.5, "asset": 0.25}
FAITHFUL = Stated(EFFECTS, attention=dict(EFFECTS))


def curves(
    forecaster: Stated, made: TokenBatch, seeds: tuple[int, ...] = (1, 2, 3), orders: int = 400
) -> Curves:
    groups = audited_groups(made)
    scores = np.where(groups, group_rollout(forecaster, made), 0.0)
    return deletion_and_insertion(
        forecaster, made, tokens_of_groups(made), groups, scores, seeds, orders
    )


def effects_of(made: TokenBatch, forecaster: Stated) -> np.ndarray:
    """(B, G): what the linear forecaster loses with each group."""
    return np.stack(
        [
            forecaster.weights.get(g, 0.0) * x.mean(dim=(1, 2)).numpy()
            for g, x in made.inputs.items()
        ],
        axis=1,
    )


def test_areas_of_a_sum_are_those_of_partial_sums() -> None:
    made = batch()
    found = curves(FAITHFUL, made)
    for row, own in enumerate(effects_of(made, FAITHFUL)):
        parts = np.sort(own[1:])[::-1]  # without calendar, which the forecast token has
        np.testing.assert_allclose(found.deletion[row], np.cumsum(parts)[:-1].mean())
        np.testing.assert_allclose(
            found.insertion[row], (parts.sum() - np.cumsum(parts)[:-1]).mean()
        )


def test_the_p_value_is_the_share_of_all_orders_that_do_as_well() -> None:
    made = batch(1)
    scores = {"price": 2.0, "funding": 4.0, "onchain": 1.0, "sentiment": 0.25, "asset": 0.5}
    forecaster = Stated(EFFECTS, attention=scores)
    found = curves(forecaster, made, (7,), orders=2000)
    effects = effects_of(made, forecaster)[0, 1:]

    def gap(order: tuple[int, ...]) -> float:
        removed = np.cumsum(effects[list(order)])[:-1]
        return float(removed.mean() - (effects.sum() - removed).mean())

    rollout = group_rollout(forecaster, made)[0, 1:]
    own = gap(tuple(np.argsort(-rollout)))
    exact = np.mean([gap(order) >= own - 1e-12 for order in permutations(range(5))])
    assert found.gap_p[0, 0] == pytest.approx(exact, abs=0.03)
    every = np.mean([np.cumsum(effects[list(o)])[:-1].mean() for o in permutations(range(5))])
    assert found.deletion_random[0, 0] == pytest.approx(every, rel=0.02)


def test_attention_that_ranks_by_effect_beats_random_orders_and_its_reverse_does_not() -> None:
    made = batch()
    reverse = Stated(EFFECTS, attention={g: 1 / e for g, e in EFFECTS.items()})
    assert (curves(FAITHFUL, made).gap_p < 0.05).all()
    assert (curves(FAITHFUL, made).deletion_p < 0.05).all()
    assert (curves(reverse, made).gap_p > 0.9).all()
    assert (curves(reverse, made).insertion_p > 0.9).all()


def test_the_p_value_of_an_order_by_chance_is_not_small_too_often() -> None:
    made = batch(200)
    scores = np.random.default_rng(5).random((200, len(GROUPS)))
    groups = audited_groups(made)
    p = deletion_and_insertion(
        FAITHFUL, made, tokens_of_groups(made), groups, scores, range(200), 100
    ).gap_p[:, 0]
    for level in (0.1, 0.5):
        assert np.mean(p <= level) <= level + 2.5 * np.sqrt(level * (1 - level) / 200)
    assert np.mean(p <= 0.5) > 0.35


def test_groups_that_are_not_there_take_no_part() -> None:
    made = batch(2)
    mask = made.mask.clone()
    mask[1, made.token_slice("funding")] = False
    part = curves(FAITHFUL, made.with_mask(mask), (1, 2))
    whole = curves(FAITHFUL, made, (1, 2))
    np.testing.assert_array_equal(part.deletion[0], whole.deletion[0])
    parts = np.sort(np.delete(effects_of(made, FAITHFUL)[1, 1:], 1))[::-1]
    np.testing.assert_allclose(part.deletion[1], np.cumsum(parts)[:-1].mean())


def test_fewer_than_two_groups_give_no_curve() -> None:
    made = batch(2)
    mask = made.mask.clone()
    mask[1, 3:] = False
    found = curves(FAITHFUL, made.with_mask(mask), (1, 2))
    assert np.isfinite(found.gap_p[0]).all()
    assert np.isnan(found.gap[1]).all()


def test_token_curves_take_few_steps_and_the_same_seed_gives_the_same_areas() -> None:
    made = batch()
    tokens = made.mask.numpy().copy()
    tokens[:, 0] = False
    scores = np.random.default_rng(0).random(tokens.shape)
    each = [
        deletion_and_insertion(
            FAITHFUL, made, np.eye(8, dtype=bool), tokens, scores, (1, 2, 3), 10, steps=3
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(each[0].gap_p, each[1].gap_p)
    np.testing.assert_array_equal(each[0].deletion_random, each[1].deletion_random)
    assert np.isfinite(each[0].gap).all()


def test_bad_orders_and_scores_are_errors() -> None:
    made = batch()
    groups = audited_groups(made)
    scores = np.ones(groups.shape)
    arguments = FAITHFUL, made, tokens_of_groups(made), groups
    with pytest.raises(ValueError, match="orders 3: expected an even number, at least 2"):
        deletion_and_insertion(*arguments, scores, (1, 2, 3), 3)
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="score nan of unit 2 of forecast 1"):
        deletion_and_insertion(*arguments, scores, (1, 2, 3), 4)


def test_a_batch_of_none_gives_no_rows() -> None:
    made = batch().rows(0, 0)
    assert curves(FAITHFUL, made, ()).gap_p.shape == (0, 2)
