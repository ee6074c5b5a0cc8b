"""What several operators read of their operands and options."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.lowering import Lowering, without_batch
from tinymbn.importers.tflite_file import Operator
from tinymbn.layers import Activation, Padding, Shape, Window, same_padding

# schema.fbs, enum ActivationFunctionType.
_ACTIVATIONS = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh", 5: "sign_bit"}
_SAME = 0  # schema.fbs, enum Padding


def option(op: Operator, name: str) -> Any:
    """An option that the operator cannot do without."""
    if name not in op.options:
        raise ModelError(f"its options have no {name}")
    return op.options[name]


def activation(low: Lowering, op: Operator, name: str | None = None) -> Activation:
    """The clamp of the output: a fused activation, or the one named."""
    if name is None:
        name = _ACTIVATIONS.get(op.options.get("FusedActivationFunction", 0), "unknown")
        if name in ("tanh", "sign_bit", "unknown"):
            raise UnsupportedError(f"fused activation {name}")
    quant = low.quant(op.outputs[0])
    return Activation(*fixedpoint.activation_range(name, quant.scale, quant.zero_point))


def map_shape(low: Lowering, index: int) -> tuple[int, int, int]:
    """(H, W, C) of a batch of one map.

    Raises:
        UnsupportedError: it is something else.
    """
    shape = low.file_shape(index)
    if len(shape) != 4 or shape[0] != 1:
        raise UnsupportedError(f"input of shape {shape}; expected (1, H, W, C)")
    return shape[1], shape[2], shape[3]


def window(op: Operator, size: tuple[int, int], kernel: tuple[int, int]) -> Window:
    """The window of a convolution or pool over a map of this size, SAME padding made explicit."""
    stride = (option(op, "StrideH"), option(op, "StrideW"))
    dilation = (op.options.get("DilationHFactor", 1), op.options.get("DilationWFactor", 1))
    if min(*stride, *dilation, *kernel, *size) < 1:
        raise ModelError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be 1 or more")
    padding = Padding()
    if option(op, "Padding") == _SAME:
        padding = same_padding(size, kernel, stride, dilation)
    return Window(kernel, stride, dilation, padding)


def constant(low: Lowering, index: int, what: str) -> NDArray[Any]:
    """The values of a constant operand."""
    values = low.values(index)
    if low.tensor(index).sparse:
        raise UnsupportedError(f"sparse {what}")
    if values is None:
        raise UnsupportedError(f"{what} not constant")
    return values


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def batches(shape: Shape) -> int:
    """Axes at the front that the graph's shape leaves out."""
    return len(shape) - len(without_batch(shape)) if shape else 0
