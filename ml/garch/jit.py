"""How every kernel of the family is compiled: ahead of nothing, kept on disk, without the interpreter's lock.

In: a Python function on arrays and floats. Out: the same, compiled by numba on its first call.
Never: fastmath that assumes numbers to be finite; a likelihood that overflows must be seen as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])
_FASTMATH = {"nsz", "arcp", "contract", "reassoc"}


def kernel(function: Function) -> Function:
    """Compile; `cache` keeps the machine code beside the source, `nogil` lets threads run kernels side by side."""
    compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath=_FASTMATH)(function)
    return cast(Function, compiled)
