"""The uncertainty score and its parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.risk.uncertainty import (
    AUDIT_DOUBT,
    PARTS,
    UncertaintyScales,
    combine,
    disagreement,
    interval_width,
    uncertainty,
)

CAUSES = st.tuples(*[st.floats(0, 1e3)] * 5)


def test_each_cause_alone_gives_a_half_at_its_scale() -> None:
    scales = UncertaintyScales()
    for place, scale in enumerate(vars(scales).values()):
        causes = [0.0] * 5
        causes[place] = scale
        assert uncertainty(*causes).score == pytest.approx(0.5)
    assert uncertainty(0, 0, 0, 0, 0).score == 0.0
    assert uncertainty(0.25, 2.3, 0, 0, 0).score == pytest.approx(0.247, abs=1e-3)


def test_the_documented_figures_of_drift_and_audit() -> None:
    drifted = [float(uncertainty(0, 0, 0, kinds, 0).score) for kinds in (0, 1, 3)]
    assert drifted == pytest.approx([0.0, 0.1, 0.5])
    doubt = {name: float(uncertainty(0, 0, 0, 0, x).score) for name, x in AUDIT_DOUBT.items()}
    assert doubt == {"valid": 0.0, "weak": pytest.approx(1 / 17), "invalid": pytest.approx(0.2)}


@given(CAUSES)
def test_the_score_can_be_made_again_from_its_parts(
    causes: tuple[float, float, float, float, float],
) -> None:
    found = uncertainty(*causes)
    parts = [getattr(found, name) for name in PARTS]
    assert combine(*parts) == found.score
    assert found.score == pytest.approx(1 - np.prod([1 - part for part in parts]), abs=1e-12)


@given(CAUSES, st.integers(0, 4), st.floats(0, 10))
def test_more_doubt_never_lowers_the_score(
    causes: tuple[float, ...], place: int, more: float
) -> None:
    raised = list(causes)
    raised[place] += more
    before, after = uncertainty(*causes).score, uncertainty(*raised).score
    assert 0 <= before <= 1
    assert after >= before - 1e-12


def test_causes_broadcast_over_coins_and_horizons() -> None:
    found = uncertainty(np.zeros((10, 3)), np.full((10, 3), 2.0), np.zeros((10, 1)), 1, 0)
    assert found.score.shape == found.data_age.shape == found.audit.shape == (10, 3)


def test_disagreement_is_the_spread_of_log_variances() -> None:
    variances = np.array(
        [[1.0, np.e**2, np.nan], [np.e, np.nan, np.nan], [np.e**2, np.nan, np.nan]]
    )
    found = disagreement(variances)
    assert found[0] == pytest.approx(np.std([0, 1, 2]))
    assert found[1] == 0.0
    assert np.isnan(found[2])
    assert interval_width(-9.0, -7.5) == 1.5


def test_a_forecast_disagrees_alike_alone_and_among_others() -> None:
    variances = np.exp(np.random.default_rng(1).standard_normal((11, 500)))
    together = disagreement(variances)
    for order in (variances, np.asfortranarray(variances)):
        alone = [disagreement(order[:, [k]])[0] for k in range(variances.shape[1])]
        assert alone == together.tolist()  # to the last bit: a backfill equals daily runs


def test_wrong_causes_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"interval_width -1.0: expected a number of at least 0"):
        uncertainty(0, -1, 0, 0, 0)
    with pytest.raises(ValueError, match="data_age_days nan"):
        uncertainty(0, 1, np.nan, 0, 0)
    with pytest.raises(ValueError, match="audit inf: expected"):
        uncertainty(0, 1, 0, 0, np.inf)
    with pytest.raises(ValueError, match="scale drift 0: expected a positive"):
        UncertaintyScales(drift=0)
