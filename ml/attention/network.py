"""The attention network: token groups and an anchor go in, a log variance and its quantiles come out.

Reads top to bottom: embed every token group, let the tokens attend to each other, read the forecast token. Every head
belongs to a scale and attends to the tokens of that scale and to the forecast token: the few context tokens do not compete
with the many price tokens for one head's attention.

    log f_h     = anchor_h + cap * tanh(w_h' x)                            x: the forecast token after the last layer
    log q_h(p)  = log f_h + c_h(x) +/- cumulative sums of softplus(s_h(x))   (monotone in p by construction)

w, and the weights of c and s, start at zero: the untrained network is exactly the anchor, with the quantiles
given by `set_base_quantiles`. The residual can never exceed `residual_cap`, so the forecast can never blow up.
The network reads no panel, knows no dates and no coin names, and keeps no state between calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.attention.kernels import attention_kernel, softmax_attention_weights

HEAD_SCALES = ("daily", "hourly", "context", "all")
"""What a head may belong to; 'all' attends to every token."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network."""

    d_model: int = 16  # width of a token
    n_heads: int = 4  # attention heads per layer; must divide d_model
    # The scale of each head, out of `HEAD_SCALES`.
    head_scales: tuple[str, ...] = ("daily", "hourly", "context", "context")
    n_layers: int = 1  # attention layers; the last one is computed for the forecast token only
    mlp_ratio: int = 2  # hidden width of a layer's MLP, in multiples of d_model
    dropout: float = 0.3  # on each layer's attention and MLP output, while training
    kernel: str = "softmax"  # attention kernel, by name (ml/attention/kernels.py)
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
        attention_kernel(self.kernel)


@dataclass(frozen=True)
class TokenShape:
    """How many tokens a group has, how many inputs each of them carries, and the scale that they belong to."""

    tokens: int
    width: int
    scale: str  # 'forecast' | 'daily' | 'hourly' | 'context'


class SelfAttention(nn.Module):
    """Multi-head attention over the tokens that each head may attend to: mask (batch, head, token)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.kernel = attention_kernel(config.kernel)
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key_value = nn.Linear(config.d_model, 2 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)

    def _split(self, x: Tensor) -> Tensor:
        heads = x.view(*x.shape[:2], self.n_heads, -1)  # (batch, token, head, d_head)
        return heads.transpose(1, 2)  # (batch, head, token, d_head)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        key, value = (self._split(part) for part in self.key_value(tokens).chunk(2, dim=-1))
        attended = self.kernel(self._split(self.query(queries)), key, value, mask)
        return self.output(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def weights(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The exact weights that `forward` uses: (batch, head, query, token)."""
        key = self._split(self.key_value(tokens).chunk(2, dim=-1)[0])
        return softmax_attention_weights(self._split(self.query(queries)), key, mask)


class Layer(nn.Module):
    """Pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = SelfAttention(config)
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
        self.config = config
        self.groups = tuple(shapes)
        self.horizons, self.levels = horizons, levels
        scales = [shape.scale for shape in shapes.values() for _ in range(shape.tokens)]
        seen = [
            [position == 0 or own in (scale, "all") for position, scale in enumerate(scales)]
            for own in config.head_scales
        ]
        self.register_buffer("head_tokens", torch.tensor(seen), persistent=False)  # (head, token)
        self.embed = nn.ModuleDict(
            {group: nn.Linear(shape.width, config.d_model) for group, shape in shapes.items()}
        )
        self.position = nn.Parameter(0.02 * torch.randn(len(scales), config.d_model))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.residual_head = nn.Linear(config.d_model, horizons)
        self.quantile_head = nn.Linear(config.d_model, horizons * levels)
        for head in (self.residual_head, self.quantile_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def set_base_quantiles(self, base: Tensor) -> None:
        """Start from these quantiles of log(realised / forecast), (H, Q), non-decreasing along Q."""
        middle = self.levels // 2
        steps = base.diff(dim=-1).clamp_min(1e-3)  # (H, Q - 1)
        raw = torch.cat([base[:, middle : middle + 1], torch.log(torch.expm1(steps))], dim=-1)
        with torch.no_grad():
            self.quantile_head.bias.copy_(raw.flatten())

    def tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Embedded tokens (batch, token, d_model), groups in their declared order."""
        embedded = [self.embed[group](inputs[group]) for group in self.groups]
        return torch.cat(embedded, dim=1) + self.position

    def _queries(self, layer: int, tokens: int) -> int:
        return 1 if layer == len(self.layers) - 1 else tokens  # only the forecast token is read

    def _keys(self, mask: Tensor) -> Tensor:
        """(batch, token) -> (batch, head, token): the tokens that are there and that the head may attend to."""
        return mask[:, None] & self.head_tokens

    def forward(self, inputs: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """inputs: group -> (batch, tokens, width); mask (batch, token), True where a token is there.

        Returns the bounded residual (batch, H) and the quantiles of log(realised / forecast) (batch, H, Q).
        """
        x = self.tokens(inputs)
        keys = self._keys(mask)
        for index, layer in enumerate(self.layers):
            x = layer(x, keys, self._queries(index, x.shape[1]))
        forecast_token = self.norm(x[:, 0])  # (batch, d_model)
        residual = self.config.residual_cap * torch.tanh(self.residual_head(forecast_token))
        raw = self.quantile_head(forecast_token).view(-1, self.horizons, self.levels)
        return residual, monotone_quantiles(raw)

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


class ResidualForecaster(nn.Module):
    """An ensemble of trained networks, and what the validation block decided, as one function of tokens and anchor.

    Parameters
    ----------
    networks : one network per seed; residuals and quantile offsets are averaged
    base : (H, Q) quantiles of log(realised / anchor), where the offsets started
    shrinkage, quantile_shrinkage : (H,) in [0, 1]; 0 gives the anchor, and the base quantiles
    shift : (H, Q) split-conformal shifts
    """

    base: Tensor
    shrinkage: Tensor
    quantile_shrinkage: Tensor
    shift: Tensor

    def __init__(
        self,
        networks: Sequence[AttentionNetwork],
        base: Tensor,
        shrinkage: Tensor,
        quantile_shrinkage: Tensor,
        shift: Tensor,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("base", base)
        self.register_buffer("shrinkage", shrinkage)
        self.register_buffer("quantile_shrinkage", quantile_shrinkage)
        self.register_buffer("shift", shift)

    def forward(
        self, inputs: Mapping[str, Tensor], mask: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """anchor (batch, H) log variance -> log variance (batch, H) and its log quantiles (batch, H, Q)."""
        outputs = [network(inputs, mask) for network in self.networks]
        residual = torch.stack([output[0] for output in outputs]).mean(0)
        offsets = torch.stack([output[1] for output in outputs]).mean(0)
        point = anchor + self.shrinkage * residual
        offsets = self.base + self.quantile_shrinkage[:, None] * (offsets - self.base)
        quantiles = point[..., None] + offsets + self.shift
        return point, torch.cummax(quantiles, dim=-1).values

    def attention(self, inputs: Mapping[str, Tensor], mask: Tensor) -> list[Tensor]:
        """Weights per layer, (batch, head, query, token); an ensemble's heads stand side by side."""
        per_network = [network.attention(inputs, mask) for network in self.networks]  # type: ignore[operator]
        return [torch.cat(layers, dim=1) for layers in zip(*per_network, strict=True)]
