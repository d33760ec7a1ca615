"""The market with a planted lead and the model fitted on it, as the tests of the attention model have them."""

from __future__ import annotations

from tests.ml.attention.conftest import planted, trained_model

__all__ = ["planted", "trained_model"]
