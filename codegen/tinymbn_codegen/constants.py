"""The constants of each layer, in the one order in which they are written, and in which their CRC runs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tinymbn.layers import Conv2D, Dense, Depthwise, Lookup, ResizeNearest, Shape
from tinymbn_codegen.names import identifier
from tinymbn_codegen.plan import Plan, Step


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash.

    Attributes:
        symbol: its C name.
        role: what the kernel's text calls it.
        values: int8, int16 or int32, C-contiguous.
        axes: what the axes are, such as ``(C_OUT, KERNEL_H, KERNEL_W, C_IN)``.
    """

    symbol: str
    role: str
    values: NDArray[Any]
    axes: str

    @property
    def type(self) -> str:
        """Of its elements, in C."""
        return f"int{8 * self.values.dtype.itemsize}_t"

    @property
    def bytes(self) -> bytes:
        """As they lie in flash: little-endian."""
        return self.values.astype(self.values.dtype.newbyteorder("<")).tobytes()


def layer_symbol(plan: Plan, step: Step) -> str:
    """The C name of a layer's function."""
    tail = identifier(step.layer.name)
    return f"{plan.options.name}_layer_{step.index:02}" + (f"_{tail}" if tail else "")


def constants_of(plan: Plan, step: Step) -> tuple[Constant, ...]:
    """What a layer reads from flash: its own arrays, then operands that are constants."""
    symbol = layer_symbol(plan, step)

    def own(role: str, values: NDArray[Any], axes: str) -> Constant:
        return Constant(f"{symbol}_{role}", role, values, axes)

    found: list[Constant] = []
    layer = step.layer
    if step.code is not None:
        found = [own(role, values, axes) for role, values, axes in step.code.constants]
    elif isinstance(layer, Conv2D | Depthwise | Dense):
        weights = layer.weights
        axes = {
            "conv2d": "(C_OUT, KERNEL_H, KERNEL_W, C_IN)",
            "depthwise": "(KERNEL_H, KERNEL_W, C_OUT)",
            "dense": "(C_OUT, C_IN)",
        }[layer.kind]
        found = [own("weights", weights.values, axes), own("bias", weights.bias, "(C_OUT)")]
        if isinstance(layer, Dense) and layer.steps is not None:
            found.append(own("steps", layer.steps, "(C_OUT, STEPS)"))
        else:
            found += [own("multiplier", weights.multiplier, "(C_OUT), Q31"), own("shift", weights.shift, "(C_OUT)")]
    elif isinstance(layer, Lookup):
        found = [own("table", layer.table, "(256), by value + 128")]
    elif isinstance(layer, ResizeNearest):
        found = [own("in_y", layer.rows, "(OUT_H)"), own("in_x", layer.columns, "(OUT_W)")]
    operands = dict.fromkeys(place.tensor.name for place in step.inputs if place.offset is None)
    return (*found, *(tensor_constant(plan, name) for name in operands))


def tensor_constant(plan: Plan, name: str) -> Constant:
    """A tensor that is a constant."""
    index = list(plan.graph.constants).index(name)
    tail = identifier(name)
    symbol = f"{plan.options.name}_constant_{index:02}" + (f"_{tail}" if tail else "")
    values = plan.graph.constants[name]
    return Constant(symbol, symbol, values, shape_axes(values.shape))


def shape_axes(shape: Shape) -> str:
    """A shape as axes of a comment."""
    return f"({', '.join(map(str, shape))})"


def all_constants(plan: Plan) -> tuple[Constant, ...]:
    """Every array in flash, once, in the order of the layers that read them."""
    found = {constant.symbol: constant for step in plan.steps for constant in constants_of(plan, step)}
    for place in plan.outputs:
        if place.offset is None:
            constant = tensor_constant(plan, place.tensor.name)
            found.setdefault(constant.symbol, constant)
    return tuple(found.values())


def constant_crcs(plan: Plan) -> tuple[int, ...]:
    """The CRC-32 of each layer's constants, one after the other; of a layer without any, 0."""
    return tuple(zlib.crc32(b"".join(c.bytes for c in constants_of(plan, step))) for step in plan.steps)


def weights_bytes(plan: Plan) -> int:
    """Flash that the constants take, alignment to 4 bytes included."""
    return sum(-(-len(constant.bytes) // 4) * 4 for constant in all_constants(plan))


def as_lines(values: NDArray[Any]) -> list[str]:
    """The numbers as lines of a C initialiser, at most 110 columns wide."""
    flat = values.ravel()
    width = {1: 5, 2: 7, 4: 13}[values.dtype.itemsize]
    numbers = ["(-2147483647 - 1)" if n == -(2**31) else str(n) for n in flat.tolist()]
    per_line = 106 // (width + 1)
    return [", ".join(numbers[i : i + per_line]) + "," for i in range(0, len(numbers), per_line)]
