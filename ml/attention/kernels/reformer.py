r"""Reformer: softmax attention among tokens that share a hash bucket, in O(N log N).

Queries and keys are one vector x; a token is matched with directions, k = x / |x|, and looks at itself only if it sees no other:

    a_ij = m_j exp(q_i' k_j / sqrt(d)) / (the same, summed over what token i sees),      j in the union over rounds r of V_i^r

V_i^r, what token i sees in round r: tokens of its bucket h_r(x_i) = argmax [x_i R_r; -x_i R_r], R_r a Gaussian matrix, that stand in its own
stretch of `bucket_size` tokens of that bucket or in one beside it (only earlier ones where causal). The rounds are combined by their
log-sum-exp, a token seen in n rounds counting 1/n in each, which gives the softmax over the union: `weights` and `reference` compute that
directly, `forward` round by round over sorted tokens.

So a weight of 0 means masked *or not seen*, and a seen token's weight is its softmax weight divided by the seen share of the softmax mass.
`coverage` reports that share. With up to `bucket_size` tokens there is one bucket, and the weights are those of shared-QK softmax exactly.

Stretches are counted within a bucket, in order of position, not over all sorted tokens as in the paper, where a later token
can move an earlier one's chunk border: here causal attention is causal. Hash matrices come from the seed and are kept in the state.
Source: Kitaev, Kaiser, Levskaya (2020), "Reformer: the efficient transformer", section 2 and equations 3 to 7.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ml.attention.kernels.interface import (
    AttentionKernel,
    allowed_pairs,
    log_factors,
    masked_softmax,
    ratio,
    token_factors,
)

DEFAULT_BUCKET_SIZE, DEFAULT_ROUNDS = 64, 4
MOST_BUCKETS = 256
"""Hash values per round at most; in a longer sequence buckets get fuller, and a token sees a smaller share of its own."""
SELF_PENALTY = 1e5
"""Taken from the logit of a token with itself (the paper's): its weight is 0 unless it sees no other."""
HASHED = 2048
"""Tokens that are hashed at a time."""
BLOCK = 32
"""Stretches that `forward` takes at a time; their weights are computed again in the backward pass."""


class ReformerKernel(AttentionKernel):
    """Multi-round LSH attention; `key` must be the vectors whose first rows `query` is (scaled alike)."""

    name: ClassVar[str] = "reformer"
    shares_query_key: ClassVar[bool] = True
    rotations: Tensor  # (round, head, d_head, MOST_BUCKETS / 2)

    def __init__(
        self,
        n_heads: int,
        d_head: int,
        seed: int = 0,
        bucket_size: int = DEFAULT_BUCKET_SIZE,
        rounds: int = DEFAULT_ROUNDS,
    ) -> None:
        super().__init__(n_heads, d_head, seed)
        if bucket_size < 1 or rounds < 1:
            raise ValueError(
                f"bucket_size {bucket_size}, rounds {rounds}: expected positive integers"
            )
        self.bucket_size, self.rounds = bucket_size, rounds
        generator = torch.Generator().manual_seed(seed)
        shape = (rounds, n_heads, d_head, MOST_BUCKETS // 2)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.register_buffer("rotations", drawn.to(torch.get_default_dtype()))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, causal: bool = False
    ) -> Tensor:
        if query.shape[2] < key.shape[2] or key.shape[2] <= self.bucket_size:
            return self.weights(query, key, key_mask, causal) @ value
        return self._by_rounds(query, key, value, key_mask, causal)

    def weights(self, query: Tensor, key: Tensor, key_mask: Tensor, causal: bool = False) -> Tensor:
        allowed = allowed_pairs(key_mask, query.shape[2], causal)
        seen = self.seen_pairs(key, key_mask, query.shape[2], causal)
        return masked_softmax(_logits(query, key, key_mask), allowed & seen)

    def seen_pairs(
        self, key: Tensor, key_mask: Tensor, n_queries: int, causal: bool = False
    ) -> Tensor:
        """(batch, head, query, token) bool: which tokens share a stretch with each query's token, masked ones among them."""
        place, _, _ = self._places(key, key_mask, causal)  # (round, batch, head, token)
        seen = torch.zeros(*place.shape[1:3], n_queries, place.shape[3], dtype=torch.bool)
        seen = seen.to(key.device)
        for one in place:
            seen |= (one[:, :, :n_queries, None] - one[:, :, None]).abs() <= 1
        return seen

    def coverage(
        self, query: Tensor, key: Tensor, key_mask: Tensor, causal: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(batch, head, query) shares of the shared-QK softmax's mass, and of the keys that are not masked, that each query
        could see; 1 where there is no key.
        """
        allowed = allowed_pairs(key_mask, query.shape[2], causal)
        seen = self.seen_pairs(key, key_mask, query.shape[2], causal)
        full = masked_softmax(_logits(query, key, key_mask), allowed)
        nothing = ~allowed.any(dim=-1)
        mass = (full * seen).sum(-1).masked_fill(nothing, 1.0)
        keys = (allowed & seen).sum(-1) / allowed.sum(-1).clamp_min(1)
        return mass, keys.masked_fill(nothing, 1.0)

    @torch.no_grad()
    def _places(self, key: Tensor, key_mask: Tensor, causal: bool) -> tuple[Tensor, Tensor, int]:
        """Where each token stands, (round, batch, head, token): a number that differs by at most 1 between tokens that share a
        stretch or stand in neighbouring ones, and by 2 or more between buckets; its slot among stretches of `bucket_size`; and their number.

        In a bucket, tokens stand in order of position; unless causal, masked ones come last and take no room from the others.
        """
        tokens, size = key.shape[2], self.bucket_size
        shape = (self.rounds, *key.shape[:3])
        buckets = _bucket_count(tokens, size)
        bucket = torch.zeros(shape, dtype=torch.long, device=key.device)
        if buckets > 1:
            rotations = self.rotations[..., : buckets // 2].to(key.dtype)
            for start in range(0, tokens, HASHED):  # in pieces: memory stays O(N)
                part = slice(start, start + HASHED)
                for one, rotation in zip(bucket, rotations, strict=True):
                    rotated = key[:, :, part] @ rotation
                    highest, where_high = rotated.max(dim=-1)
                    lowest, where_low = rotated.min(dim=-1)
                    one[:, :, part] = torch.where(
                        highest >= -lowest, where_high, where_low + buckets // 2
                    )
        order = bucket * 2 * tokens + torch.arange(tokens, device=key.device)
        if not causal:
            order = order + tokens * (token_factors(key_mask) == 0)
        order = order.argsort(dim=-1)
        count = torch.zeros(*shape[:3], buckets, dtype=torch.long, device=key.device)
        count = count.scatter_add_(-1, bucket, torch.ones_like(bucket))
        stretches = (count + size - 1) // size
        move = size * (stretches.cumsum(-1) - stretches) - (count.cumsum(-1) - count)
        in_order = torch.arange(tokens, device=key.device) + move.gather(
            -1, bucket.gather(-1, order)
        )
        slot = torch.empty_like(order).scatter_(-1, order, in_order)
        place = (slot // size + 2 * bucket).to(torch.int32)
        return place, slot, int(slot.max()) // size + 1

    def _by_rounds(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, causal: bool
    ) -> Tensor:
        """Attended values, one round after the other; numerators and denominators relative to each round's largest logit."""
        place, slot, stretches = self._places(key, key_mask, causal)
        value = value.expand(-1, query.shape[1], -1, -1)
        factors = token_factors(key_mask).expand(*key.shape[:3])[..., None].to(key.dtype)
        unit = functional.normalize(key, dim=-1) / math.sqrt(key.shape[-1])
        found = [
            self._one_round(query, unit, value, factors, place.roll(-r, 0), own, stretches, causal)
            for r, own in enumerate(slot)
        ]
        sums, largest = (torch.stack(part) for part in zip(*found, strict=True))
        overall = largest.amax(dim=0)  # (batch, head, token, 1)
        scale = torch.exp(largest - overall.masked_fill(torch.isneginf(overall), 0.0))
        total = (sums * scale).sum(dim=0)
        return ratio(total[..., :-1], total[..., -1:])

    def _one_round(
        self,
        query: Tensor,
        unit: Tensor,
        value: Tensor,
        factors: Tensor,
        place: Tensor,
        slot: Tensor,
        stretches: int,
        causal: bool,
    ) -> tuple[Tensor, Tensor]:
        """(sum of exp(logit) [v, 1] (batch, head, token, width + 1), largest logit (batch, head, token, 1)) of the round whose
        places come first and whose slots these are.
        """
        size, tokens = self.bucket_size, slot.shape[-1]
        # token in each slot; `tokens` = none. A stretch without tokens on either side, so that all have neighbours.
        owner = slot.new_full((*slot.shape[:2], (stretches + 2) * size), tokens)
        owner.scatter_(-1, slot + size, torch.arange(tokens, device=slot.device).expand_as(slot))
        everything = torch.cat([query, unit, value, factors], dim=-1)
        everything = functional.pad(everything, (0, 0, 0, 1))  # the token of empty slots: factor 0
        index = owner[..., None].expand(*owner.shape, everything.shape[-1])
        placed = everything.gather(2, index)
        placed = placed.view(*owner.shape[:2], stretches + 2, size, -1)
        places = functional.pad(place, (0, 1), value=-9)
        places = places.gather(-1, owner.expand(len(places), *owner.shape))
        places = places.view(*places.shape[:3], stretches + 2, size)
        owner = owner.view(*owner.shape[:2], stretches + 2, size)
        widths = [query.shape[-1], unit.shape[-1], value.shape[-1], 1]
        blocks = []
        for start in range(0, stretches, BLOCK):
            part = slice(start, min(start + BLOCK, stretches) + 2)
            given = (placed[:, :, part], places[:, :, :, part], owner[:, :, part], widths, causal)
            if torch.is_grad_enabled():
                blocks.append(checkpoint(_attend, *given, use_reentrant=False))
            else:
                blocks.append(_attend(*given))
        sums, largest = (torch.cat(part, dim=2).flatten(2, 3) for part in zip(*blocks, strict=True))
        back = slot[..., None]
        return sums.gather(2, back.expand(*slot.shape, sums.shape[-1])), largest.gather(2, back)


def _attend(
    placed: Tensor, places: Tensor, owner: Tensor, widths: list[int], causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention of the inner stretches to themselves and their neighbours.

    placed (batch, head, stretch + 2, slot, q + k + v + factor), places (round, batch, head, stretch + 2, slot), this round's first, owner
    (batch, head, stretch + 2, slot) token -> sums (batch, head, stretch, slot, width + 1) and largest logits (.., 1).
    """
    query = placed[:, :, 1:-1, :, : widths[0]]
    unit, value, factor = torch.split(_neighbours(placed[..., widths[0] :]), widths[1:], dim=-1)
    own, near = owner[:, :, 1:-1, :, None], _neighbours(owner)[..., None, :]
    rounds_seen = torch.zeros(*own.shape[:4], near.shape[-1], dtype=torch.int8, device=own.device)
    for place in places:
        rounds_seen += _side_by_side(place)  # a token seen in n rounds counts 1/n in each
    allowed = _side_by_side(places[0]) & (factor.transpose(-2, -1) > 0)
    if causal:
        allowed = allowed & (near <= own)
    logits = query @ unit.transpose(-2, -1)
    logits = logits + torch.log(torch.where(factor > 0, factor, 1.0)).transpose(-2, -1)
    logits = logits.masked_fill(near == own, -SELF_PENALTY).masked_fill(~allowed, -torch.inf)
    largest = logits.detach().amax(dim=-1, keepdim=True)
    share = torch.exp(logits - largest.masked_fill(torch.isneginf(largest), 0.0))
    share = share / rounds_seen.clamp_min(1)
    return share @ torch.cat([value, torch.ones_like(factor)], dim=-1), largest


def _side_by_side(place: Tensor) -> Tensor:
    """(batch, head, stretch, slot, 3 slots) bool: places that differ by at most 1."""
    return (place[:, :, 1:-1, :, None] - _neighbours(place)[..., None, :]).abs() <= 1


def _neighbours(x: Tensor) -> Tensor:
    """(batch, head, stretch + 2, slot, ...) -> (batch, head, stretch, 3 slots, ...): each inner stretch with those beside it."""
    return torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], dim=3)


def _logits(query: Tensor, key: Tensor, key_mask: Tensor) -> Tensor:
    """q'k / (|k| sqrt(d)) + log factor, less the penalty for oneself: (batch, head, query, token)."""
    unit = functional.normalize(key, dim=-1)
    logits = query @ unit.transpose(-2, -1) / math.sqrt(query.shape[-1])
    itself = torch.eye(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
    return logits + log_factors(key_mask, query.dtype) - SELF_PENALTY * itself


def _bucket_count(tokens: int, size: int) -> int:
    """1 for up to `size` tokens, else the even number of buckets that hold about `size` each."""
    if tokens <= size:
        return 1
    return min(MOST_BUCKETS, 2 * math.ceil(tokens / size / 2))
