"""Random draws that depend on the seed, the stream, the key and the day, and on nothing else.

In: a seed. Out: arrays of draws for any range of days. Never: keeps a position, so what is drawn
for a day is the same whatever was drawn before it, whatever other coins there are and wherever the
market ends.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

BLOCK_DAYS = 32
"""Days that share a generator. Blocks lie on the calendar (days since 1970), not on the start of
the market.
"""

FloatArray = NDArray[np.float64]


class Draws:
    """Draws by (stream, key) and day. A range of days always gives the rows of its blocks."""

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed}: expected a number that is not negative")
        self.seed = seed

    def normal(self, stream: str, key: str, first: int, last: int, width: int) -> FloatArray:
        """Standard normals for the days ``first`` to ``last`` (inclusive, days since 1970): (days,
        width).
        """
        blocks = [
            self._generator(stream + ".normal", key, block).standard_normal((BLOCK_DAYS, width))
            for block in _blocks(first, last)
        ]
        return _days_of(blocks, first, last)

    def uniform(self, stream: str, key: str, first: int, last: int, width: int) -> FloatArray:
        """Uniforms in the open interval (0, 1), shaped as ``normal``."""
        blocks = [
            self._generator(stream + ".uniform", key, block).random((BLOCK_DAYS, width))
            for block in _blocks(first, last)
        ]
        return np.maximum(_days_of(blocks, first, last), 1e-12)

    def _generator(self, stream: str, key: str, block: int) -> np.random.Generator:
        name = int.from_bytes(hashlib.sha256(f"{stream}|{key}".encode()).digest()[:8], "big")
        return np.random.default_rng([self.seed, name, block])


def _blocks(first: int, last: int) -> range:
    if first < 0 or last < first:
        raise ValueError(f"days {first} to {last} since 1970: expected a range after 1970")
    return range(first // BLOCK_DAYS, last // BLOCK_DAYS + 1)


def _days_of(blocks: list[FloatArray], first: int, last: int) -> FloatArray:
    offset = first % BLOCK_DAYS
    joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return joined[offset : offset + last - first + 1]
