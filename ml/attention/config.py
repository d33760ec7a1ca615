"""The attention model's one typed config: a mapping goes in, checked frozen dataclasses come out.

Keys are flat (`d_model`, `daily_tokens`, `learning_rate`, ...); each belongs to the part that declares it. Unknown keys
and values of the wrong kind are errors that quote them; nothing is ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from ml.attention.anchors import anchor_class
from ml.attention.network import NetworkConfig
from ml.attention.selection import SelectionConfig
from ml.attention.tokens import TokenConfig
from ml.attention.training import TrainingConfig
from ml.forecasts import HORIZONS
from ml.model import DEFAULT_WINDOW_DAYS

Part = TypeVar("Part", TokenConfig, NetworkConfig, TrainingConfig, SelectionConfig)


@dataclass(frozen=True)
class AttentionConfig:
    """Everything that can be set, by the part that declares it."""

    tokens: TokenConfig
    network: NetworkConfig
    training: TrainingConfig
    selection: SelectionConfig
    window_days: int = DEFAULT_WINDOW_DAYS  # length of the rolling training window
    n_seeds: int = 1  # networks trained from different seeds; their outputs are averaged
    anchor: str = (
        "har_panel"  # the forecast that attention corrects, by name (ml/attention/anchors/)
    )

    def __post_init__(self) -> None:
        for name in ("window_days", "n_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive integer")
        anchor_class(self.anchor)
        weights = self.training.horizon_weights
        if len(weights) != len(HORIZONS):
            raise ValueError(f"horizon_weights {weights}: expected one for each of {HORIZONS}")

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> AttentionConfig:
        """Defaults, overridden by `config`; ValueError on an unknown key or a bad value."""
        known = {key for part in PARTS.values() for key in _names(part)} | set(OWN)
        for key in config:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"attention config key {key!r} is unknown{hint} Known: {', '.join(sorted(known))}"
                )
        own = {
            key: _checked(key, config[key], default)
            for key, default in OWN.items()
            if key in config
        }
        return cls(
            tokens=_part(TokenConfig, config),
            network=_part(NetworkConfig, config),
            training=_part(TrainingConfig, config),
            selection=_part(SelectionConfig, config),
            **own,
        )

    def as_mapping(self) -> dict[str, Any]:
        """Flat and JSON-ready; `from_mapping` of it gives the same config."""
        flat: dict[str, Any] = {key: getattr(self, key) for key in OWN}
        for name in PARTS:
            flat |= asdict(getattr(self, name))
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()
        }


PARTS: dict[str, type[Any]] = {
    "tokens": TokenConfig,
    "network": NetworkConfig,
    "training": TrainingConfig,
    "selection": SelectionConfig,
}
OWN: dict[str, Any] = {"window_days": DEFAULT_WINDOW_DAYS, "n_seeds": 1, "anchor": "har_panel"}


def _names(part: type[Any]) -> list[str]:
    return [field.name for field in fields(part)]


def _part(part: type[Part], config: Mapping[str, Any]) -> Part:
    default = part()
    given = {
        key: _checked(key, config[key], getattr(default, key))
        for key in _names(part)
        if key in config
    }
    return part(**given)


def _checked(key: str, value: Any, default: Any) -> Any:
    """The value in the type of its default; ValueError when it is of another kind."""
    if isinstance(default, bool) or isinstance(value, bool):
        good = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, int):
        good = isinstance(value, int)
    elif isinstance(default, float):
        good = isinstance(value, int | float)
        value = float(value) if good else value
    elif isinstance(default, tuple):
        kind = type(default[0])
        given = (int, float) if kind is float else kind
        good = isinstance(value, list | tuple) and all(isinstance(item, given) for item in value)
        value = tuple(kind(item) for item in value) if good else value
    else:
        good = isinstance(value, str)
    if not good:
        raise ValueError(f"{key} {value!r}: expected a value like the default, {default!r}")
    return value
