"""Eight doubles in one register: a numba type whose + - * / act on all lanes at once.

In: kernels that hold one time series a lane. Out: vector instructions of whatever width the machine has.
Never: used outside compiled kernels; a lane never sees its neighbours, so results do not depend on who shares a register.

LLVM does not turn a loop over lanes into registers that live through a time loop (it reloads every accumulator a step);
a type of its own says it outright: `<8 x double>` is one AVX-512 register, two of AVX2 or four of NEON.
"""

# mypy: disable-error-code="no-untyped-call,untyped-decorator,no-untyped-def"

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

LANES = 8
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)


class LaneType(types.Type):
    """The type of a vector of `LANES` doubles in a kernel."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


lane = LaneType()


@register_model(LaneType)
class _LaneModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


def _define(symbol: Any, instruction: str) -> None:
    @infer_global(symbol)
    class _Template(ConcreteTemplate):
        cases = [signature(lane, lane, lane)]  # noqa: RUF012

    @lower_builtin(symbol, lane, lane)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_symbol, _instruction)


def _vector(generator: Any) -> Any:
    """An intrinsic, without a Python signature: kernels alone call it."""
    return intrinsic(generator)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), _DOUBLES.as_pointer())


@_vector
def load(typing: Any, array: Any, index: Any) -> Any:
    """Elements index .. index + 7 of a contiguous float64 array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found = builder.load(_pointer(context, builder, sig.args[0], *args))
        found.align = 8
        return found

    return lane(array, types.intp), generate


@_vector
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the lanes to elements index .. index + 7."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        stored = builder.store(args[2], _pointer(context, builder, sig.args[0], *args[:2]))
        stored.align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lane), generate


@_vector
def splat(typing: Any, value: Any) -> Any:
    """The same double in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.insert_element(
            ir.Constant(_DOUBLES, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0)
        )
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(_DOUBLES, ir.Undefined), mask)

    return lane(types.float64), generate


@_vector
def fma(typing: Any, left: Any, right: Any, added: Any) -> Any:
    """left * right + added, rounded once.

    Said outright, because letting LLVM contract products and sums as it likes would fuse a loop's body and its remainder
    differently, and a lane would feel where a pass pauses for its neighbours.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
        return builder.call(function, args)

    return lane(lane, lane, lane), generate


@_vector
def where_negative(typing: Any, value: Any, negative: Any, otherwise: Any) -> Any:
    """Per lane: `negative` where value < 0, else `otherwise`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), args[1], args[2])

    return lane(lane, lane, lane), generate


_BITS = ir.VectorType(ir.IntType(64), LANES)


def _bits(pattern: int) -> Any:
    return ir.Constant(_BITS, [pattern] * LANES)


@_vector
def exponent(typing: Any, value: Any) -> Any:
    """Per lane: k of value = m * 2**k with 1 <= m < 2, for positive normal numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shifted = builder.lshr(builder.bitcast(args[0], _BITS), _bits(52))
        return builder.sitofp(builder.sub(shifted, _bits(1023)), _DOUBLES)

    return lane(lane), generate


@_vector
def mantissa(typing: Any, value: Any) -> Any:
    """Per lane: m of value = m * 2**k with 1 <= m < 2, for positive normal numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kept = builder.and_(builder.bitcast(args[0], _BITS), _bits(0x000FFFFFFFFFFFFF))
        return builder.bitcast(builder.or_(kept, _bits(0x3FF0000000000000)), _DOUBLES)

    return lane(lane), generate
