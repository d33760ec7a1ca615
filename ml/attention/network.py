"""The attention network: token groups and an anchor go in, a log variance, its quantiles and its tails come out.

Reads top to bottom: embed every token group, let the tokens attend to each other, read the forecast token. Every head
belongs to a scale and attends to the tokens of that scale and to the forecast token: the few context tokens do not compete
with the many price tokens for one head's attention. All heads read the same values, and a layer adds the mean over heads

    x_i + mean over heads of sum_j a_hij V x_j  =  x_i + sum_j (mean over heads of a_hij) V x_j

so that the mean of the heads' weights is what the layer does (interpretable multi-head attention; Lim et al. 2021).

    log f_h     = anchor_h + cap * tanh(w_h' x)                            x: the forecast token after the last layer
    log q_h(p)  = log f_h + c_h(x) +/- cumulative sums of softplus(s_h(x))   (monotone in p by construction)
    tails_h     = skewed t of log(realised / f_h), its base moved by t_h(x)  (tails.py; for the outermost quantiles)

w, t, and the weights of c and s, start at zero: the untrained network is exactly the anchor, with the quantiles and tails
given by `set_base_quantiles` and `set_base_tails`. The residual can never exceed `residual_cap`, so the forecast can never blow up.
The network reads no panel, knows no dates and no coin names, and keeps no state between calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.attention.kernels import attention_kernel, kernel_class
from ml.attention.tails import NORMAL, moved, outer_quantiles, splice

TOKEN_SCALES = ("forecast", "hourly", "daily", "weekly", "context", "asset")
"""What a token may belong to; 'forecast' is the forecast token's own."""
HEAD_SCALES: dict[str, tuple[str, ...]] = {
    "intraday": ("hourly",),
    "daily": ("daily",),
    "macro": ("weekly", "context"),
    "context": ("context",),
    "assets": ("asset",),
    "all": TOKEN_SCALES,
}
"""What a head may belong to, and the scales of the tokens that it attends to besides the forecast token."""
GATED_SCALES = ("context", "asset")
"""Groups of these scales have a gate each where `modality_gates` is set."""
GATE_START = 0.3


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network."""

    d_model: int = 20  # width of a token
    n_heads: int = 5  # attention heads per layer; must divide d_model
    # The scale of each head, out of `HEAD_SCALES`.
    head_scales: tuple[str, ...] = ("intraday", "daily", "macro", "context", "assets")
    n_layers: int = 1  # attention layers; the last one is computed for the forecast token only
    mlp_ratio: int = 2  # hidden width of a layer's MLP, in multiples of d_model
    dropout: float = 0.3  # on each layer's attention and MLP output, while training
    kernel: str = "softmax"  # attention kernel, by name (ml/attention/kernels/)
    kernel_seed: int = 0  # of Performer's features and Reformer's hashes; layer k adds k
    modality_gates: bool = False  # a learnt factor on the attention to each context group
    residual_cap: float = 0.35  # largest |log forecast - log anchor|; 0.35 is a factor of 1.42

    def __post_init__(self) -> None:
        for name in ("d_model", "n_heads", "n_layers", "mlp_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive integer")
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads}: must divide d_model {self.d_model}")
        if len(self.head_scales) != self.n_heads:
            raise ValueError(
                f"head_scales {self.head_scales}: expected one for each of {self.n_heads} heads"
            )
        for scale in self.head_scales:
            if scale not in HEAD_SCALES:
                raise ValueError(f"head_scales {scale!r}: expected one of {', '.join(HEAD_SCALES)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: expected a share in [0, 1)")
        if not 0 < self.residual_cap <= 2:
            raise ValueError(f"residual_cap {self.residual_cap}: expected a number in (0, 2]")
        kernel_class(self.kernel)


@dataclass(frozen=True)
class TokenShape:
    """How many tokens a group has, how many inputs each of them carries, and the scale that they belong to."""

    tokens: int
    width: int
    scale: str  # one of `TOKEN_SCALES`


class SelfAttention(nn.Module):
    """Multi-head attention with one value projection for all heads, and the mean over heads.

    Every head attends to the tokens of its own row of the mask (batch, head, token): bool, or a factor on the token's weight.
    """

    def __init__(self, config: NetworkConfig, seed: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        d_head = config.d_model // config.n_heads
        self.kernel = attention_kernel(config.kernel, config.n_heads, d_head, seed)
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key: nn.Linear | None = None  # the queries' projection, where the kernel shares it
        if not self.kernel.shares_query_key:
            self.key = nn.Linear(config.d_model, config.d_model)
        self.value = nn.Linear(config.d_model, config.d_model)

    def _queries_and_keys(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        key = self.query if self.key is None else self.key
        return self._split(self.query(queries)), self._split(key(tokens))

    def _split(self, x: Tensor) -> Tensor:
        heads = x.view(*x.shape[:2], self.n_heads, -1)  # (batch, token, head, d_head)
        return heads.transpose(1, 2)  # (batch, head, token, d_head)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """(batch, query, d_model); the queries are the first tokens."""
        query, key = self._queries_and_keys(queries, tokens)
        value = self.value(tokens)[:, None]  # (batch, 1, token, d_model)
        attended: Tensor = self.kernel(query, key, value, mask)  # (batch, head, query, d_model)
        return attended.mean(dim=1)

    def weights(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The exact weights that `forward` uses: (batch, head, query, token)."""
        query, key = self._queries_and_keys(queries, tokens)
        return self.kernel.weights(query, key, mask)


class Layer(nn.Module):
    """Pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: NetworkConfig, seed: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = SelfAttention(config, seed)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.mlp = nn.Sequential(
            nn.Linear(config.d_model, config.mlp_ratio * config.d_model),
            nn.GELU(),
            nn.Linear(config.mlp_ratio * config.d_model, config.d_model),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, queries: int) -> Tensor:
        """x (batch, token, d_model), mask (batch, head, token) -> the first `queries` tokens after this layer."""
        normed = self.attention_norm(x)
        x = x[:, :queries] + self.dropout(self.attention(normed[:, :queries], normed, mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))  # type: ignore[no-any-return]

    def weights(self, x: Tensor, mask: Tensor, queries: int) -> Tensor:
        normed = self.attention_norm(x)
        return self.attention.weights(normed[:, :queries], normed, mask)


class AttentionNetwork(nn.Module):
    """Residual attention network on an anchor forecast.

    Parameters
    ----------
    config : NetworkConfig
    shapes : the token groups in token order. The first group is the forecast token's own (calendar, one token).
    horizons : number of horizons H
    levels : number of quantile levels Q (odd; the middle one is the median)
    """

    head_tokens: Tensor
    gate_of_token: Tensor
    base_tails: Tensor
    gate: nn.Parameter | None

    def __init__(
        self, config: NetworkConfig, shapes: Mapping[str, TokenShape], horizons: int, levels: int
    ) -> None:
        super().__init__()
        first = next(iter(shapes.values()))
        if first.tokens != 1:
            raise ValueError(
                f"the first token group has {first.tokens} tokens: expected 1, the forecast token"
            )
        if levels % 2 == 0:
            raise ValueError(
                f"{levels} quantile levels: expected an odd number, the median among them"
            )
        for group, shape in shapes.items():
            if shape.scale not in TOKEN_SCALES:
                raise ValueError(
                    f"scale {shape.scale!r} of token group {group!r}: expected one of"
                    f" {', '.join(TOKEN_SCALES)}"
                )
        self.config = config
        self.groups = tuple(shapes)
        self.horizons, self.levels = horizons, levels
        scales = [shape.scale for shape in shapes.values() for _ in range(shape.tokens)]
        seen = [
            [position == 0 or scale in HEAD_SCALES[own] for position, scale in enumerate(scales)]
            for own in config.head_scales
        ]
        self.register_buffer("head_tokens", torch.tensor(seen), persistent=False)  # (head, token)
        self.embed = nn.ModuleDict(
            {group: nn.Linear(shape.width, config.d_model) for group, shape in shapes.items()}
        )
        self.position = nn.Parameter(0.02 * torch.randn(len(scales), config.d_model))
        self.layers = nn.ModuleList(
            Layer(config, config.kernel_seed + layer) for layer in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(config.d_model)
        self.residual_head = nn.Linear(config.d_model, horizons)
        self.quantile_head = nn.Linear(config.d_model, horizons * levels)
        self.tail_head = nn.Linear(config.d_model, horizons * len(NORMAL))
        for head in (self.residual_head, self.quantile_head, self.tail_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.register_buffer("base_tails", torch.tensor(NORMAL).repeat(horizons, 1))  # (H, 4)
        self.gated = tuple(
            group
            for group, shape in shapes.items()
            if config.modality_gates and shape.scale in GATED_SCALES
        )
        gates = torch.full((len(self.gated),), GATE_START)
        self.register_parameter("gate", nn.Parameter(gates) if self.gated else None)
        owner = [group for group, shape in shapes.items() for _ in range(shape.tokens)]
        gate_of_token = [  # after the gates comes a 1, for tokens without any
            self.gated.index(group) if group in self.gated else len(self.gated) for group in owner
        ]
        self.register_buffer("gate_of_token", torch.tensor(gate_of_token), persistent=False)

    def set_base_quantiles(self, base: Tensor) -> None:
        """Start from these quantiles of log(realised / forecast), (H, Q), non-decreasing along Q."""
        middle = self.levels // 2
        steps = base.diff(dim=-1).clamp_min(1e-3)  # (H, Q - 1)
        raw = torch.cat([base[:, middle : middle + 1], torch.log(torch.expm1(steps))], dim=-1)
        with torch.no_grad():
            self.quantile_head.bias.copy_(raw.flatten())

    def set_base_tails(self, base: Tensor) -> None:
        """Start from these tails of log(realised / forecast): (H, 4), see tails.py."""
        self.base_tails.copy_(base)

    def gates(self) -> dict[str, Tensor]:
        """The factor on the attention to each gated group, >= 0: at 0 the forecast is that without the group, at 1 it has no gate."""
        if self.gate is None:
            return {}
        return dict(zip(self.gated, self.gate.relu(), strict=True))

    def gate_penalty(self) -> Tensor:
        """Sum of the gates, for the loss: it drives those that earn nothing to 0, and there they stay."""
        if self.gate is None:
            return self.position.new_zeros(())
        return self.gate.relu().sum()

    def tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Embedded tokens (batch, token, d_model), groups in their declared order."""
        embedded = [self.embed[group](inputs[group]) for group in self.groups]
        return torch.cat(embedded, dim=1) + self.position

    def _queries(self, layer: int, tokens: int) -> int:
        return 1 if layer == len(self.layers) - 1 else tokens  # only the forecast token is read

    def _keys(self, mask: Tensor) -> Tensor:
        """(batch, token) -> (batch, head, token): the tokens that are there and that the head may attend to, times their gates."""
        keys = mask[:, None] & self.head_tokens
        if self.gate is None:
            return keys
        gates = torch.cat([self.gate.relu(), self.gate.new_ones(1)])
        return keys * gates[self.gate_of_token]

    def forward(self, inputs: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """inputs: group -> (batch, tokens, width); mask (batch, token), True where a token is there.

        Returns the bounded residual (batch, H), and of log(realised / forecast) the quantiles (batch, H, Q) and the tails
        (batch, H, 4).
        """
        x = self.tokens(inputs)
        keys = self._keys(mask)
        for index, layer in enumerate(self.layers):
            x = layer(x, keys, self._queries(index, x.shape[1]))
        forecast_token = self.norm(x[:, 0])  # (batch, d_model)
        residual = self.config.residual_cap * torch.tanh(self.residual_head(forecast_token))
        raw = self.quantile_head(forecast_token).view(-1, self.horizons, self.levels)
        moves = self.tail_head(forecast_token).view(-1, self.horizons, len(NORMAL))
        return residual, monotone_quantiles(raw), moved(self.base_tails, moves)

    def attention(self, inputs: Mapping[str, Tensor], mask: Tensor) -> list[Tensor]:
        """Exact weights per layer, (batch, head, query, token), 0 outside a head's scale; the last layer has the forecast
        token's row only.
        """
        x = self.tokens(inputs)
        keys = self._keys(mask)
        weights: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            queries = self._queries(index, x.shape[1])
            weights.append(layer.weights(x, keys, queries))  # type: ignore[operator]
            x = layer(x, keys, queries)
        return weights


def monotone_quantiles(raw: Tensor) -> Tensor:
    """(batch, H, Q) free numbers -> non-decreasing quantiles: the median, then softplus steps up and down."""
    steps = functional.softplus(raw[..., 1:])  # (batch, H, Q - 1), the gap above quantile k
    below, above = steps.chunk(2, dim=-1)
    median = raw[..., :1]
    down = median - below.flip(-1).cumsum(-1).flip(-1)
    return torch.cat([down, median, median + above.cumsum(-1)], dim=-1)


def running_maximum(x: Tensor) -> Tensor:
    """The largest value so far along the last axis; in operations that every runtime has, as cummax is not."""
    step = 1
    while step < x.shape[-1]:
        later = torch.maximum(x[..., step:], x[..., :-step])
        x = torch.cat([x[..., :step], later], dim=-1)
        step *= 2
    return x


class ResidualForecaster(nn.Module):
    """An ensemble of trained networks, and what the validation block decided, as one function of tokens and anchor.

    Parameters
    ----------
    networks : one network per seed; residuals, quantile offsets and tails are averaged
    base : (H, Q) quantiles of log(realised / anchor), where the offsets started
    shrinkage, quantile_shrinkage : (H,) in [0, 1]; 0 gives the anchor, and the base quantiles and tails
    shift : (H, Q) split-conformal shifts
    base_tails : (H, 4) tails of log(realised / anchor), where the tails started
    tail_use : (H,) 1 where the outermost quantiles come from the tails, 0 where they are quantiles of the network; None: 0 everywhere
    """

    base: Tensor
    shrinkage: Tensor
    quantile_shrinkage: Tensor
    shift: Tensor
    base_tails: Tensor
    tail_use: Tensor

    def __init__(
        self,
        networks: Sequence[AttentionNetwork],
        base: Tensor,
        shrinkage: Tensor,
        quantile_shrinkage: Tensor,
        shift: Tensor,
        base_tails: Tensor | None = None,
        tail_use: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("base", base)
        self.register_buffer("shrinkage", shrinkage)
        self.register_buffer("quantile_shrinkage", quantile_shrinkage)
        self.register_buffer("shift", shift)
        if base_tails is None:
            base_tails = base.new_tensor(NORMAL).repeat(len(base), 1)
        tail_use = torch.zeros_like(shrinkage) if tail_use is None else tail_use
        self.register_buffer("base_tails", base_tails)
        self.register_buffer("tail_use", tail_use)
        self.reads_tails = bool(tail_use.any())  # else no graph computes them

    def forward(
        self, inputs: Mapping[str, Tensor], mask: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """anchor (batch, H) log variance -> log variance (batch, H) and its log quantiles (batch, H, Q)."""
        outputs = [network(inputs, mask) for network in self.networks]
        residual, offsets, tails = (
            torch.stack(part).mean(0) for part in zip(*outputs, strict=True)
        )
        point = anchor + self.shrinkage * residual
        return point, point[..., None] + self.spread(offsets, tails)

    def spread(self, offsets: Tensor, tails: Tensor) -> Tensor:
        """Log quantiles relative to the forecast, (batch, H, Q), non-decreasing: of averaged offsets (batch, H, Q) and tails (batch, H, 4)."""
        factor = self.quantile_shrinkage[:, None]
        offsets = self.base + factor * (offsets - self.base)
        if self.reads_tails:
            outer = outer_quantiles(self.base_tails + factor * (tails - self.base_tails))
            offsets = torch.where(self.tail_use[:, None] > 0, splice(offsets, outer), offsets)
        return running_maximum(offsets + self.shift)

    def attention(self, inputs: Mapping[str, Tensor], mask: Tensor) -> list[Tensor]:
        """Weights per layer, (batch, head, query, token); an ensemble's heads stand side by side."""
        per_network = [network.attention(inputs, mask) for network in self.networks]  # type: ignore[operator]
        return [torch.cat(layers, dim=1) for layers in zip(*per_network, strict=True)]
