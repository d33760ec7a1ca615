"""How every kernel of the family is compiled: on its first call, kept on disk, without the interpreter's lock.

In: a Python function on arrays and floats. Out: the same, compiled by numba.
Never: fastmath that assumes numbers to be finite (a likelihood that overflows must be seen as such), or machine code of an
older source: numba looks at the file of a kernel alone, while here any change in the package makes all of them compile anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])
_FASTMATH = {"nsz", "arcp", "contract", "reassoc"}


def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCE_STAMP = _sources()
"""sha256 of the package's sources; machine code on disk is used only under the same stamp."""


def kernel(function: Function) -> Function:
    """Compile; machine code is kept beside the source (or in the user's cache), `nogil` lets threads run kernels side by side."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FASTMATH}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write: compile in every process
        return cast(Function, njit(**options)(function))
    cast(Any, compiled)._cache._cache_file._source_stamp = SOURCE_STAMP
    return cast(Function, compiled)
