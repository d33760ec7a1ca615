"""The recurrent form of linear attention: tokens come, go and change, and it stays the batch form."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.attention.kernels import LinearKernel, LinearState
from ml.attention.kernels.linear import elu_plus_one

HEADS, WIDTH, VALUES, TOKENS = 3, 4, 5, 12


def batch_form(
    keys: np.ndarray, values: np.ndarray, mask: np.ndarray, query: np.ndarray
) -> np.ndarray:
    """LinearKernel on keys (H, N, d), values (N, V), mask (H, N) for one query (H, d)."""
    found = LinearKernel(HEADS, WIDTH)
    given_ = (query[:, None], keys, values[None], mask)
    return found(*(torch.from_numpy(x)[None] for x in given_))[0, :, 0].numpy()


def some_tokens(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        2 * random.standard_normal((HEADS, TOKENS, WIDTH)),
        random.standard_normal((TOKENS, VALUES)),
        random.standard_normal((HEADS, WIDTH)),
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, TOKENS - 1), st.sampled_from(["come", "go", "change"])),
        max_size=40,
    ),
    st.integers(0, 1000),
)
def test_any_sequence_of_comings_and_goings_equals_the_batch_form(
    steps: list[tuple[int, str]], seed: int
) -> None:
    keys, values, query = some_tokens(seed)
    random = np.random.default_rng(seed + 1)
    reach = random.uniform(size=(HEADS, TOKENS)) > 0.3  # which heads a token belongs to
    here = np.zeros(TOKENS, dtype=bool)
    state = LinearState(HEADS, WIDTH, VALUES)
    for token, step in steps:
        factor = reach[:, token].astype(float)
        if step == "come" and not here[token]:
            state.update(keys[:, token], values[token], factor)
            here[token] = True
        elif step == "go" and here[token]:
            state.remove(keys[:, token], values[token], factor)
            here[token] = False
        elif step == "change" and here[token]:
            new = 2 * random.standard_normal((HEADS, WIDTH)), random.standard_normal(VALUES)
            state.replace(keys[:, token], values[token], *new, factor)
            keys[:, token], values[token] = new
    present = reach & here
    seen = present.any(axis=1)
    expected = batch_form(keys, values, present, query)
    np.testing.assert_allclose(state.read(query)[seen], expected[seen], rtol=1e-9, atol=1e-10)
    rebuilt = LinearState.of(keys, values, present)
    np.testing.assert_allclose(rebuilt.read(query), expected, rtol=1e-12, atol=1e-12)


def test_twenty_thousand_changes_leave_rounding_errors_alone() -> None:
    keys, values, query = some_tokens()
    random = np.random.default_rng(3)
    state = LinearState.of(keys, values, np.ones((HEADS, TOKENS)))
    for step in range(20_000):
        token = step % TOKENS
        new = 2 * random.standard_normal((HEADS, WIDTH)), random.standard_normal(VALUES)
        state.replace(keys[:, token], values[token], *new)
        keys[:, token], values[token] = new
    expected = batch_form(keys, values, np.ones((HEADS, TOKENS), dtype=bool), query)
    assert np.abs(state.read(query) - expected).max() < 1e-11


def test_a_state_without_tokens_reads_zero_and_takes_tensors() -> None:
    keys, values, query = some_tokens()
    state = LinearState(HEADS, WIDTH, VALUES)
    assert not state.read(query).any()
    state.update(torch.from_numpy(keys[:, 0]), torch.from_numpy(values[0]))
    np.testing.assert_allclose(state.read(torch.from_numpy(query)), np.tile(values[0], (HEADS, 1)))


def test_the_features_are_elu_plus_one_and_never_nothing() -> None:
    x = torch.linspace(-9, 9, 500, dtype=torch.float64)
    torch.testing.assert_close(elu_plus_one(x), torch.nn.functional.elu(x) + 1)
    assert elu_plus_one(torch.tensor([-1e4])).item() > 0
