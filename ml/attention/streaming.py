r"""Streaming: a forecaster with the linear kernel and one token after another go in, an updated forecast comes out, O(1) a token.

Between daily runs a funding rate, an implied-volatility tick or an hourly bar changes one token of sixty. Linear attention reads
its tokens only through the sums S = sum_j phi(k_j) v_j' and z = sum_j phi(k_j) (kernels/linear.py), so a token is replaced by
taking its old term off and adding the new one. That needs a single layer: in a second one every token changes with the first.

    put:   S, z -= old term, += new term;   x = x_forecast + mean over heads of phi(q)' S / phi(q)' z;   then MLP and heads

All in double precision (recurrence.py), equal to `ResidualForecaster.forward` on the same tokens. Sums keep about 1e-16 of each token
that leaves them: they are built anew every `REBUILD_EVERY` tokens, and whenever most of one has gone.

In: a forecaster's modules and one forecast's scaled tokens. Out: log variance (H,), log quantiles (H, Q). Never: a panel, a clock, or
a row of forecasts.volatility; which value is known at which instant is the caller's to answer for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ml.attention import recurrence
from ml.attention.network import AttentionNetwork, Layer, ResidualForecaster
from ml.attention.recurrence import State, Weights
from ml.attention.tails import _coefficients
from ml.attention.widening import widen

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
REBUILD_EVERY = 4096
"""Tokens after which the sums are built anew."""
CANCELLED = 1e-4
"""A sum that has shrunk to this share of its largest value since is built anew at once: rounding of what left would show in it."""
Quantiles = tuple[FloatArray, FloatArray]
"""Log variance (H,) and log quantiles (H, Q)."""


class StreamingForecaster:
    """One coin's forecast, kept up to date as its tokens change. Not for two threads at once.

    Parameters
    ----------
    forecaster : one layer, kernel 'linear', any number E of networks; ValueError otherwise
    inputs : group -> (tokens, width), scaled as `Scaler.apply` does
    mask : (token,) True where a token is there, in the order of the groups
    anchor : (H,) log variance; the tokens correct it and do not change it
    widening : mask (token,) -> (H,) factors of the quantiles' distances from their median; None for none
    rebuild_every : tokens after which the sums are built anew

    Example
    -------
    >>> stream = model.streaming(panel, date(2023, 7, 1), "BTC")
    >>> log_variance, log_quantiles = stream.put("funding", 0, scaled)  # a new funding rate
    >>> log_variance, log_quantiles = stream.put("onchain", 0, None)  # no longer known
    """

    def __init__(
        self,
        forecaster: ResidualForecaster,
        inputs: Mapping[str, ArrayLike],
        mask: ArrayLike,
        anchor: ArrayLike,
        widening: Callable[[BoolArray], FloatArray] | None = None,
        rebuild_every: int = REBUILD_EVERY,
    ) -> None:
        networks = [cast(AttentionNetwork, network) for network in forecaster.networks]
        config = networks[0].config
        if config.kernel != "linear" or config.n_layers != 1:
            raise ValueError(
                f"kernel {config.kernel!r} with {config.n_layers} layers: a token is replaced at O(1)"
                " only with kernel 'linear' and n_layers 1"
            )
        if rebuild_every < 1:
            raise ValueError(f"rebuild_every {rebuild_every}: expected a positive number of tokens")
        self._rebuild_every = rebuild_every
        self.anchor = np.array(anchor, dtype=np.float64)
        self._widening = widening
        self._factor: FloatArray | None = None
        values = {group: np.array(inputs[group], dtype=np.float64) for group in networks[0].groups}
        given = np.array(mask, dtype=bool)
        self._check_shapes(networks[0], values, given)
        counts = [len(own) for own in values.values()]
        self._weights = streaming_weights(forecaster, counts)
        ensemble, tokens, size = self._weights.place.shape
        heads = (ensemble, config.n_heads, size // config.n_heads)
        self._state = State(
            inputs=np.zeros(int(self._weights.width.sum())),
            mask=given,
            keys=np.zeros((tokens, *heads)),
            values=np.zeros((tokens, ensemble, size)),
            sums=np.zeros((*heads, size)),
            totals=np.zeros(heads),
            peaks=np.zeros(heads),
            query=np.zeros(heads),
            forecast=np.zeros((ensemble, size)),
        )
        self._first: dict[str, int] = {}  # token at which a group begins
        self._inputs: dict[str, FloatArray] = {}  # group -> (tokens, width), views of the state
        token = 0
        for group, own in values.items():
            at = int(self._weights.input_at[token])
            self._first[group] = token
            self._inputs[group] = self._state.inputs[at : at + own.size].reshape(own.shape)
            self._inputs[group][:] = own
            token += len(own)
        self.rebuild()
        first = networks[0].groups[
            0
        ]  # put it as it is: machine code is made now, not at the first token
        self.put(first, 0, self._inputs[first][0] if given[0] else None)

    @staticmethod
    def _check_shapes(
        network: AttentionNetwork, values: Mapping[str, FloatArray], mask: BoolArray
    ) -> None:
        for group, own in values.items():
            width = cast(nn.Linear, network.embed[group]).in_features
            if own.ndim != 2 or own.shape[1] != width:
                raise ValueError(
                    f"group {group!r} of shape {own.shape}: expected (tokens, {width})"
                )
        found, expected = sum(map(len, values.values())), network.position.shape[0]
        if found != expected or mask.shape != (expected,):
            raise ValueError(f"{found} tokens with a mask {mask.shape}: expected {expected}")

    @property
    def inputs(self) -> dict[str, FloatArray]:
        """The tokens as they are now: group -> (tokens, width), a copy."""
        return {group: values.copy() for group, values in self._inputs.items()}

    @property
    def mask(self) -> BoolArray:
        """(token,), a copy."""
        return self._state.mask.copy()

    def put(self, group: str, slot: int, values: ArrayLike | None) -> Quantiles:
        """One token of a group is now these scaled values (width,), or is not known any more (None); gives the new forecast.

        Raises ValueError for a group, slot or width that the network does not have, or values that are not finite.
        """
        token = self._token(group, slot)
        if values is not None:
            self._inputs[group][slot] = self._checked(group, values)
        self._replace(token, np.array([values is not None]))
        return self.forecast()

    def advance(self, group: str, values: ArrayLike | None) -> Quantiles:
        """Time moves on by one token of a group: each goes one slot back, the oldest falls out, `values` are the newest.

        A token's place is part of it, so the group's tokens are replaced: O(1) for each of them.
        """
        first, own = self._token(group, 0), self._inputs[group]
        newest = np.zeros(own.shape[1]) if values is None else self._checked(group, values)
        own[:-1], own[-1] = own[1:].copy(), newest
        were = self._state.mask[first : first + len(own)]
        self._replace(first, np.append(were[1:], values is not None))
        return self.forecast()

    def _replace(self, first: int, present: BoolArray) -> None:
        """Tokens from `first` on have new inputs, or none where they are not `present`."""
        if (present != self._state.mask[first : first + len(present)]).any():
            self._factor = None
        fell = recurrence.replace(self._weights, self._state, first, present, CANCELLED)
        self._steps += len(present)
        if fell or self._steps >= self._rebuild_every:
            self.rebuild()

    def forecast(self) -> Quantiles:
        """Log variance (H,) and log quantiles (H, Q) of the tokens as they are now."""
        found = recurrence.read(self._weights, self._state)
        point, quantiles = self.anchor + found[:, 0], self.anchor[:, None] + found[:, 1:]
        if self._widening is not None:
            if self._factor is None:
                self._factor = self._widening(self._state.mask)
            quantiles = widen(quantiles, self._factor)
        return point, quantiles

    def rebuild(self) -> None:
        """Build the sums anew from all tokens: the same numbers without the rounding of what came and went."""
        recurrence.build(self._weights, self._state)
        self._steps = 0

    def _token(self, group: str, slot: int) -> int:
        if group not in self._inputs:
            raise ValueError(f"token group {group!r}: expected one of {', '.join(self._inputs)}")
        if not 0 <= slot < len(self._inputs[group]):
            raise ValueError(
                f"slot {slot} of group {group!r}: expected 0 .. {len(self._inputs[group]) - 1}"
            )
        return self._first[group] + slot

    def _checked(self, group: str, values: ArrayLike) -> FloatArray:
        given = np.asarray(values, dtype=np.float64)
        if given.shape != self._inputs[group].shape[1:] or not np.isfinite(given).all():
            raise ValueError(
                f"values {given} of group {group!r}: expected {self._inputs[group].shape[1]} finite numbers"
            )
        return given


def streaming_weights(forecaster: ResidualForecaster, counts: list[int]) -> Weights:
    """The parameters of a forecaster of one layer, in double precision; counts: tokens of each group."""
    networks = [cast(AttentionNetwork, network) for network in forecaster.networks]
    layers = [cast(Layer, network.layers[0]) for network in networks]
    embeds = [[cast(nn.Linear, n.embed[group]) for group in n.groups] for n in networks]
    widths = [linear.in_features for linear in embeds[0]]
    sizes = [linear.weight.numel() for linear in embeds[0]]
    places = [
        np.repeat(np.stack([_array(linear.bias) for linear in own]), counts, axis=0)
        + _array(network.position)
        for network, own in zip(networks, embeds, strict=True)
    ]
    width = np.repeat(np.array(widths, np.int64), counts)
    query = _side_by_side([_after(y.attention_norm, y.attention.query) for y in layers])
    key_value = _side_by_side(
        [
            _after(y.attention_norm, cast(nn.Linear, y.attention.key), y.attention.value)
            for y in layers
        ]
    )
    mlp_in = _side_by_side([_after(y.mlp_norm, cast(nn.Linear, y.mlp[0])) for y in layers])
    outs = [cast(nn.Linear, y.mlp[2]) for y in layers]
    mlp_out = _side_by_side([(_array(y.weight), _array(y.bias)) for y in outs])
    heads = _side_by_side(
        [_after(n.norm, n.residual_head, n.quantile_head, n.tail_head) for n in networks]
    )
    return Weights(
        embed=np.stack([np.concatenate([_array(y.weight).T.ravel() for y in own]) for own in embeds]),
        embed_at=np.repeat(np.cumsum([0, *sizes[:-1]]), counts),
        input_at=np.cumsum(width) - width,
        width=width,
        place=np.stack(places),
        factors=np.stack([_factors(network) for network in networks]),
        query=query[0], query_bias=query[1],
        key_value=key_value[0], key_value_bias=key_value[1],
        mlp_in=mlp_in[0], mlp_in_bias=mlp_in[1],
        mlp_out=mlp_out[0], mlp_out_bias=mlp_out[1],
        heads=heads[0], heads_bias=heads[1],
        network_tails=np.stack([_array(network.base_tails) for network in networks]),
        shrinkage=_array(forecaster.shrinkage),
        share=_array(forecaster.quantile_shrinkage),
        base=_array(forecaster.base),
        shift=_array(forecaster.shift),
        base_tails=_array(forecaster.base_tails),
        tail_use=_array(forecaster.tail_use),
        outer=_coefficients(),
        epsilon=float(layers[0].attention_norm.eps),
        cap=float(networks[0].config.residual_cap),
    )  # fmt: skip


def _array(tensor: Tensor) -> FloatArray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _after(norm: nn.LayerNorm, *linears: nn.Linear) -> tuple[FloatArray, FloatArray]:
    """(weight (out, in), bias (out,)) of linear maps side by side, for a standardised input: the norm's weights are folded in."""
    weight = np.concatenate([_array(linear.weight) for linear in linears])
    bias = np.concatenate([_array(linear.bias) for linear in linears])
    return weight * _array(norm.weight), weight @ _array(norm.bias) + bias


def _side_by_side(maps: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """(weight (out, in), bias (out,)) of E networks -> (E, in, out), (E, out)."""
    weights, biases = zip(*maps, strict=True)
    return np.ascontiguousarray(np.stack(weights).transpose(0, 2, 1)), np.stack(biases)


def _factors(network: AttentionNetwork) -> FloatArray:
    """(H, T) what each head multiplies a token's weight with that is there: 0 outside its scale, else the modality's gate or 1."""
    everything = torch.ones(1, network.position.shape[0], dtype=torch.bool)
    return _array(network._keys(everything.to(network.position.device))[0])
