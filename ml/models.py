"""The registry of models: name -> class, imported only when asked for.

In: a model's name. Out: a new model, or one from its stored state.
Never: importing torch for a model that does not use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from ml.model import ModelState, VolatilityModel


@dataclass(frozen=True)
class Entry:
    """Where a model's class lives and what it needs."""

    module: str
    class_name: str
    uses_torch: bool = False
    reads_hourly: bool = False  # features.hourly, which is not loaded for the others
    resumes: bool = False
    """Its `fit` takes `checkpoints` and `earlier`: a killed fit goes on, and a refit may start from the version before."""
    per_coin: bool = False
    """It fits each coin by itself: parts of its fit, of two coins or more, make the bytes of the model of all (`ml.coin_parts`). Not of ar_gjr_t:
    its standard errors hang in the last digit on which coins are beside it."""
    explains: bool = False
    """It is a `ml.explain.protocol.TokenForecaster` and has `explanation_checks`."""

    @property
    def is_garch(self) -> bool:
        """Whether it is of the GARCH family."""
        return self.module.startswith("ml.garch")


MODELS: dict[str, Entry] = {
    "random_walk": Entry("ml.baselines.random_walk", "RandomWalk", per_coin=True),
    "ewma": Entry("ml.baselines.ewma", "Ewma", per_coin=True),
    "har": Entry("ml.baselines.levels", "Har", per_coin=True),
    "har_j": Entry("ml.baselines.levels", "HarJ", per_coin=True),
    "har_cj": Entry("ml.baselines.levels", "HarCj", per_coin=True),
    "shar": Entry("ml.baselines.levels", "Shar", per_coin=True),
    "harq": Entry("ml.baselines.levels", "HarQ", per_coin=True),
    "heavy": Entry("ml.baselines.heavy", "Heavy", per_coin=True),
    "log_har": Entry("ml.baselines.har", "LogHar", per_coin=True),
    "harx_cal": Entry("ml.baselines.har", "HarxCal", per_coin=True),
    "har_pooled": Entry("ml.baselines.pooled", "PooledHar"),
    "har_panel": Entry("ml.baselines.panel_har", "PanelHar", reads_hourly=True),
    "combination_equal": Entry("ml.baselines.combination", "EqualCombination", reads_hourly=True),
    "combination_qlike": Entry("ml.baselines.combination", "QlikeCombination", reads_hourly=True),
    "garch_t": Entry("ml.garch.family", "GarchT", per_coin=True),
    "garch_n": Entry("ml.garch.family", "GarchN", per_coin=True),
    "gjr_t": Entry("ml.garch.family", "GjrT", per_coin=True),
    "gjr_skewt": Entry("ml.garch.family", "GjrSkewT", per_coin=True),
    "ar_gjr_t": Entry("ml.garch.family", "ArGjrT"),
    "egarch_t": Entry("ml.garch.family", "EgarchT", per_coin=True),
    "aparch_t": Entry("ml.garch.family", "AparchT", per_coin=True),
    "figarch_t": Entry("ml.garch.family", "FigarchT", per_coin=True),
    "component_garch_t": Entry("ml.garch.family", "ComponentGarchT", per_coin=True),
    "garch_x_t": Entry("ml.garch.family", "GarchXT", per_coin=True),
    "realized_garch_t": Entry("ml.garch.family", "RealizedGarchT", per_coin=True),
    "lstm": Entry("ml.baselines.recurrent", "Lstm", uses_torch=True),
    "gru": Entry("ml.baselines.recurrent", "Gru", uses_torch=True),
    "attention": Entry(
        "ml.attention.model",
        "AttentionModel",
        uses_torch=True,
        resumes=True,
        reads_hourly=True,
        explains=True,
    ),
}


def names() -> tuple[str, ...]:
    """Every model's name, simplest first."""
    return tuple(MODELS)


def model_class(name: str) -> type[VolatilityModel]:
    """The class of a model; ValueError on an unknown name."""
    if name not in MODELS:
        raise ValueError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    entry = MODELS[name]
    found: type[VolatilityModel] = getattr(import_module(entry.module), entry.class_name)
    return found


def create(name: str) -> VolatilityModel:
    """A new, unfitted model."""
    return model_class(name)()


def from_state(state: ModelState) -> VolatilityModel:
    """The fitted model that gave this state; its name is in the meta."""
    return model_class(str(state.meta["model"])).from_state(state)
