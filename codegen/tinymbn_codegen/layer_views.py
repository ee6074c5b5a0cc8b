"""What the template of each layer kind is told: names and numbers, so that it has nothing to compute."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tinymbn.errors import UnsupportedError
from tinymbn.fixedpoint import ADD_LEFT_SHIFT, DENSE_STEPS
from tinymbn.layers import (
    MAX_RANK,
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Dequantize,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Quantize,
    Requantize,
    Reshape,
    ResizeNearest,
    Shape,
    Softmax,
    Transpose,
    Window,
)
from tinymbn.summary import kind_text
from tinymbn.terminal import shape_text
from tinymbn_codegen.constants import constants_of, layer_symbol
from tinymbn_codegen.names import plain
from tinymbn_codegen.plan import Plan, Step

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Numbers = dict[str, int]


@dataclass(frozen=True)
class ConstantView:
    """A constant at the head of a layer's function."""

    type: str
    role: str
    name: str
    shape: str


@dataclass(frozen=True)
class Operand:
    """One of several inputs: its parameter's name, and how many of its bytes are taken at a time."""

    name: str
    bytes: int


@dataclass(frozen=True)
class LayerView:
    """A layer's function.

    Attributes:
        template: of its body.
        title: what its comment says.
        function: its C name.
        parameters: of the function.
        numbers: lines of the enum at its head.
        constants: arrays it reads.
        operands: of kinds with any number of inputs.
        details: what else the template of a kernel for the DSP extension is told.
    """

    template: str
    title: str
    function: str
    parameters: str
    numbers: tuple[str, ...]
    constants: tuple[ConstantView, ...]
    operands: tuple[Operand, ...]
    details: Mapping[str, Any]


def layer_view(plan: Plan, step: Step) -> LayerView:
    """The view of a layer that has a kernel."""
    assert step.kernel is not None
    numbers = _numbers(step) if step.code is None else step.code.numbers
    own = [c for c in constants_of(plan, step) if c.role != c.symbol]
    operands = _operands(step)
    if step.code is not None:
        parameters = step.code.parameters
    elif step.kernel.rows:
        parameters = f"const int8_t *const rows[{step_window(step).kernel[0]}], int8_t *output"
    else:
        parameters = "".join(f"const int8_t *{operand.name}, " for operand in operands) + "int8_t *output"
    return LayerView(
        template=f"layers/{step.kernel.name}.c.j2" if step.code is None else step.code.template,
        title=title(step),
        function=layer_symbol(plan, step),
        parameters=parameters,
        numbers=_enum(numbers),
        constants=tuple(ConstantView(c.type, c.role, c.symbol, c.axes) for c in own),
        operands=operands,
        details=step.code.details if step.code is not None else {},
    )


def title(step: Step) -> str:
    """One line about a layer: number, the model's own name, kind, shapes."""
    shapes = ", ".join(shape_text(place.tensor.shape) for place in step.inputs)
    name = plain(step.layer.name)
    return f"{step.index} {name}: {kind_text(step.layer)}, {shapes} -> {shape_text(step.output.tensor.shape)}"


def step_window(step: Step) -> Window:
    """The window of a layer that a row kernel computes."""
    assert isinstance(step.layer, Conv2D | Depthwise | AveragePool | MaxPool)
    return step.layer.window


def _operands(step: Step) -> tuple[Operand, ...]:
    layer = step.layer
    if isinstance(layer, Add | Mul):
        return Operand("a", 0), Operand("b", 0)
    if isinstance(layer, Concat):
        return tuple(
            Operand(f"input_{i}", math.prod(place.tensor.shape[layer.axis :])) for i, place in enumerate(step.inputs)
        )
    return (Operand("input", 0),)


def _numbers(step: Step) -> Numbers:
    """Every number of the layer, under the names of the template."""
    layer, made = step.layer, step.output.tensor
    read = [place.tensor for place in step.inputs]
    shape = read[0].shape
    match layer:
        case Conv2D():
            numbers = _windowed(layer.window, shape, made.shape)
            numbers |= {"C_IN": shape[2], "C_OUT": made.shape[2]}
            numbers |= _zeros(step) | {"WEIGHT_ZERO": layer.weights.zero_point} | _clamp(layer.activation)
        case Depthwise():
            channels = {"C_IN": shape[2], "C_OUT": made.shape[2], "PER_INPUT": made.shape[2] // shape[2]}
            numbers = _windowed(layer.window, shape, made.shape) | channels
            numbers |= _zeros(step) | {"WEIGHT_ZERO": layer.weights.zero_point} | _clamp(layer.activation)
        case Dense():
            numbers = {"ROWS": math.prod(shape[:-1]), "C_IN": shape[-1], "C_OUT": made.shape[-1]}
            numbers |= _zeros(step) | {"WEIGHT_ZERO": layer.weights.zero_point} | _clamp(layer.activation)
            if layer.steps is not None:
                numbers["STEPS"] = DENSE_STEPS
        case AveragePool():
            _check_sum(step, layer.window)
            numbers = _windowed(layer.window, shape, made.shape) | {"CHANNELS": shape[2]}
            numbers |= {"OFFSET": 128 if layer.unsigned else 0} | _clamp(layer.activation)
        case MaxPool():
            numbers = _windowed(layer.window, shape, made.shape) | {"CHANNELS": shape[2]} | _clamp(layer.activation)
        case Mean():
            numbers = _mean_axes(shape, layer.axes) | {"MULTIPLIER": layer.multiplier, "SHIFT": layer.shift}
            numbers |= _zeros(step) | _clamp(Activation())
        case Add():
            numbers = _elementwise(step) | {
                "LEFT_SHIFT": 1 << ADD_LEFT_SHIFT,
                "A_MULTIPLIER": layer.a_multiplier,
                "A_SHIFT": layer.a_shift,
                "B_MULTIPLIER": layer.b_multiplier,
                "B_SHIFT": layer.b_shift,
                "OUTPUT_MULTIPLIER": layer.output_multiplier,
                "OUTPUT_SHIFT": layer.output_shift,
            }
            numbers |= _operand_zeros(step) | _clamp(layer.activation)
        case Mul():
            numbers = _elementwise(step) | {"MULTIPLIER": layer.multiplier, "SHIFT": layer.shift}
            numbers |= _operand_zeros(step) | _clamp(layer.activation)
        case Requantize():
            numbers = {"ELEMENTS": made.elements, "MULTIPLIER": layer.multiplier, "SHIFT": layer.shift}
            numbers |= _zeros(step) | _clamp(layer.activation)
        case Softmax():
            numbers = {"ROWS": math.prod(shape[:-1]), "CLASSES": shape[-1]}
            numbers |= {"MULTIPLIER": layer.multiplier, "SHIFT": layer.shift, "LEAST_DIFFERENCE": layer.diff_min}
        case Lookup() | Reshape():
            numbers = {"ELEMENTS": made.elements}
        case Pad():
            pads = ((0, 0),) * (MAX_RANK - len(shape)) + layer.pads
            numbers = _indexed("SIZE", _four(shape))
            numbers |= _indexed("BEFORE", [before for before, _ in pads])
            numbers |= _indexed("AFTER", [after for _, after in pads]) | {"VALUE": layer.value}
        case Concat():
            numbers = {"COUNT": math.prod(made.shape[: layer.axis])}
        case Transpose():
            strides = _strides(shape)
            moved = [strides[axis] for axis in layer.permutation]
            numbers = _indexed("SIZE", _four(made.shape)) | _indexed("STRIDE", [0] * (MAX_RANK - len(moved)) + moved)
        case ResizeNearest():
            numbers = {"IN_W": shape[1], "OUT_H": made.shape[0], "OUT_W": made.shape[1], "CHANNELS": shape[2]}
        case Quantize() | Dequantize():
            raise AssertionError("the edges stay on the host")
        case _:
            assert_never(layer)
    return numbers


def _windowed(window: Window, shape: Shape, output: Shape) -> Numbers:
    numbers = {"IN_W": shape[1], "OUT_W": output[1]}
    numbers |= {"KERNEL_H": window.kernel[0], "KERNEL_W": window.kernel[1], "STRIDE_W": window.stride[1]}
    return numbers | {"DILATION_W": window.dilation[1], "PAD_LEFT": window.padding.left}


def _clamp(activation: Activation) -> Numbers:
    return {"LOW": activation.low, "HIGH": activation.high}


def _zeros(step: Step) -> Numbers:
    return {"INPUT_ZERO": step.inputs[0].tensor.zero_point, "OUTPUT_ZERO": step.output.tensor.zero_point}


def _operand_zeros(step: Step) -> Numbers:
    a, b = (place.tensor.zero_point for place in step.inputs)
    return {"A_ZERO": a, "B_ZERO": b, "OUTPUT_ZERO": step.output.tensor.zero_point}


def _elementwise(step: Step) -> Numbers:
    made = step.output.tensor
    if step.kernel is not None and not step.kernel.name.endswith("_broadcast"):
        return {"ELEMENTS": made.elements}
    numbers = _indexed("SIZE", _four(made.shape))
    for name, place in zip("AB", step.inputs, strict=True):
        sizes = _four(place.tensor.shape)
        repeated = [0 if size == 1 else stride for size, stride in zip(sizes, _strides(sizes), strict=True)]
        numbers |= _indexed(f"{name}_STRIDE", repeated)
    return numbers


def _mean_axes(shape: Shape, axes: Sequence[int]) -> Numbers:
    """Sizes and strides of the kept and the reduced axes, neighbours of one sort merged: at most two of each."""
    strides = _strides(shape)
    groups: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    for reduced, members in groupby(range(len(shape)), key=lambda axis: axis in axes):
        merged = list(members)
        groups[reduced].append((math.prod(shape[axis] for axis in merged), strides[merged[-1]]))
    numbers: Numbers = {}
    for reduced, name in ((False, "KEPT"), (True, "REDUCED")):
        pairs = [(1, 0)] * (2 - len(groups[reduced])) + groups[reduced]
        numbers |= _indexed(name, [size for size, _ in pairs])
        numbers |= _indexed(f"{name}_STRIDE", [stride for _, stride in pairs])
    return numbers


def _check_sum(step: Step, window: Window) -> None:
    height, width, _ = step.inputs[0].tensor.shape
    if min(window.kernel[0], height) * min(window.kernel[1], width) * 256 >= 2**31:
        raise UnsupportedError(f'layer "{step.layer.name}": a window of {window.kernel} has a sum beyond 32 bits')


def _four(shape: Shape) -> Shape:
    return (1,) * (MAX_RANK - len(shape)) + shape


def _strides(shape: Shape) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _indexed(name: str, values: Sequence[int]) -> Numbers:
    return {f"{name}_{i}": value for i, value in enumerate(values)}


def _enum(numbers: Numbers) -> tuple[str, ...]:
    """As many ``enum { ... };`` as it takes, one a line."""
    lines = [""]
    for name, value in numbers.items():
        item = f"{name} = {value}"
        if len(lines[-1]) + len(", ") + len(item) > 96:
            lines.append("")
        lines[-1] += f", {item}" if lines[-1] else item
    return tuple(f"enum {{ {line} }};" for line in lines)
