"""The layer kinds: frozen dataclasses that know their arguments, their output's shape and their cost.

All tensors are int8 but for those at the edges (``Quantize``, ``Dequantize``). Shapes leave out the batch of 1
and are in array order, ``(H, W, C)`` for maps. Zero points and scales belong to the tensors, see ``graph``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError

Shape = tuple[int, ...]

MAX_RANK = 4
_MAX_GEOMETRY = 1 << 16  # kernel, stride, dilation, padding: beyond any use, well within int32 arithmetic


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    """The same values, C-contiguous and read-only."""
    if values.flags.c_contiguous and not values.flags.writeable:
        return values
    copy = np.array(values, order="C", copy=True)
    copy.setflags(write=False)
    return copy


@dataclass(frozen=True)
class Layer(ABC):
    """What all layer kinds have.

    Attributes:
        name: unique in the graph; the name of the file it came from where there is one.
        inputs: names of the tensors read, activations and constants.
        output: name of the tensor written.
    """

    kind: ClassVar[str]

    name: str
    inputs: tuple[str, ...]
    output: str

    def _require(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ModelError(f'layer "{self.name}": {self.kind}: {problem}')

    def _require_inputs(self, count: int) -> None:
        self._require(len(self.inputs) == count, f"{len(self.inputs)} inputs; expected {count}")

    def _require_whole_numbers(self, numbers: Iterable[int], low: int, high: int, what: str) -> None:
        for number in numbers:
            whole = isinstance(number, int) and not isinstance(number, bool)
            self._require(whole and low <= number <= high, f"{what} {number!r} is not in [{low}, {high}]")

    def _freeze(self, field: str, dtype: type[np.generic], ndim: int) -> None:
        values = getattr(self, field)
        self._require(isinstance(values, np.ndarray), f"{field} is not an array")
        self._require(
            values.dtype == dtype and values.ndim == ndim and values.size > 0,
            f"{field} is {values.dtype} of shape {values.shape}; expected {np.dtype(dtype)} of rank {ndim}",
        )
        object.__setattr__(self, field, _frozen(values))

    def _require_multiplier(self, multiplier: int, shift: int, name: str = "multiplier") -> None:
        self._require_whole_numbers([multiplier], 0, 2**31 - 1, name)
        self._require_whole_numbers([shift], -31, 30, f"{name}'s shift")

    @abstractmethod
    def output_shape(self, *inputs: Shape) -> Shape:
        """The output's shape for these inputs' shapes.

        Raises:
            ModelError: the inputs do not fit the layer.
        """

    def macs(self, output: Shape) -> int:
        """Multiplications of an activation with a weight, one output of this shape."""
        return 0

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return 0


# --------------------------------------------------------------------------------------------- pieces


@dataclass(frozen=True)
class Padding:
    """Rows and columns of zero point around the input, decided when the model was imported."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


@dataclass(frozen=True)
class Window:
    """The geometry of a sliding window, each pair in the order (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding()

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that the kernel covers, dilation included."""
        return (
            (self.kernel[0] - 1) * self.dilation[0] + 1,
            (self.kernel[1] - 1) * self.dilation[1] + 1,
        )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the output; not positive where the window does not fit."""
        padded = (
            height + self.padding.top + self.padding.bottom,
            width + self.padding.left + self.padding.right,
        )
        rows, columns = ((p - e) // s + 1 for p, e, s in zip(padded, self.extent, self.stride, strict=True))
        return rows, columns


def same_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Padding:
    """The padding that TensorFlow calls SAME: ceil(size / stride) outputs, the odd row or column after.

    Source: tensorflow/lite/kernels/padding.h.
    """

    def one_axis(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size)
        return total // 2, total - total // 2

    top, bottom = one_axis(size[0], kernel[0], stride[0], dilation[0])
    left, right = one_axis(size[1], kernel[1], stride[1], dilation[1])
    return Padding(top, bottom, left, right)


@dataclass(frozen=True)
class Activation:
    """The clamp of a layer's output, in quantised units, both inclusive."""

    low: int = -128
    high: int = 127


@dataclass(frozen=True)
class _Windowed(Layer):
    """A layer that slides a window over a map ``(H, W, C)``."""

    window: Window

    def _check_window(self) -> None:
        w, p = self.window, self.window.padding
        self._require_whole_numbers((*w.kernel, *w.stride, *w.dilation), 1, _MAX_GEOMETRY, "kernel, stride or dilation")
        self._require_whole_numbers((p.top, p.bottom, p.left, p.right), 0, _MAX_GEOMETRY, "padding")
        # A window that lies wholly in the padding would have nothing to average.
        self._require(
            max(p.top, p.bottom) < w.extent[0] and max(p.left, p.right) < w.extent[1],
            f"padding {p} is not smaller than the kernel's extent {w.extent}",
        )

    def _map_size(self, shape: Shape) -> tuple[int, int]:
        self._require(len(shape) == 3, f"input of shape {shape}; expected (H, W, C)")
        rows, columns = self.window.output_size(shape[0], shape[1])
        self._require(rows >= 1 and columns >= 1, f"a kernel of extent {self.window.extent} does not fit input {shape}")
        return rows, columns


def _require_activation(layer: Layer, activation: Activation) -> None:
    layer._require_whole_numbers((activation.low, activation.high), -128, 127, "activation")
    layer._require(activation.low <= activation.high, f"activation {activation} lets nothing through")


@dataclass(frozen=True, eq=False)
class Weights:
    """Constants of a convolution or dense layer, requantisation included.

    Attributes:
        values: int8; (C_out, K_h, K_w, C_in), (K_h, K_w, C_out) or (C_out, C_in) by layer kind.
        bias: int32, (C_out,), in units of input scale * weight scale.
        multiplier: int32, (C_out,), Q31.
        shift: int8, (C_out,), a power of two, positive is left.
        zero_point: of the values; not 0 in legacy models alone, where ``value - zero_point`` needs 9 bits.
    """

    values: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    zero_point: int = 0


@dataclass(frozen=True, eq=False)
class _Weighted(Layer):
    """A layer with weights; subclasses say the rank of the values and which axis is C_out."""

    _rank: ClassVar[int]
    _channel_axis: ClassVar[int]

    weights: Weights
    activation: Activation

    def _check_weights(self) -> None:
        self._require_inputs(1)
        _require_activation(self, self.activation)
        w = self.weights
        channels = w.values.shape[self._channel_axis] if w.values.ndim == self._rank else -1
        for field, dtype, rank in (
            ("values", np.int8, self._rank),
            ("bias", np.int32, 1),
            ("multiplier", np.int32, 1),
            ("shift", np.int8, 1),
        ):
            values = getattr(w, field)
            self._require(
                values.dtype == dtype and values.ndim == rank and values.size > 0,
                f"weights.{field} is {values.dtype} of shape {values.shape}; expected {np.dtype(dtype)} of rank {rank}",
            )
            if rank == 1:
                self._require(
                    values.shape == (channels,),
                    f"weights.{field} has {values.shape[0]} entries for {channels} output channels",
                )
            object.__setattr__(w, field, _frozen(values))
        self._require(bool((w.multiplier >= 0).all()), "a multiplier is negative")
        self._require(bool(((w.shift >= -31) & (w.shift <= 30)).all()), "a multiplier's shift is not in [-31, 30]")
        self._require_whole_numbers([w.zero_point], -128, 127, "weight zero point")

    @property
    def channels(self) -> int:
        """Output channels."""
        return int(self.weights.bias.size)

    @property
    def parameters(self) -> int:
        return int(self.weights.values.size + self.weights.bias.size)


# ---------------------------------------------------------------------------------------- convolutions


@dataclass(frozen=True, eq=False)
class Conv2D(_Windowed, _Weighted):
    """Convolution; weights ``(C_out, K_h, K_w, C_in)``."""

    kind = "conv2d"
    _rank, _channel_axis = 4, 0

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_window()
        shape = self.weights.values.shape
        self._require(shape[1:3] == self.window.kernel, f"weights {shape} do not fit kernel {self.window.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        rows, columns = self._map_size(inputs[0])
        shape = self.weights.values.shape
        self._require(
            inputs[0][2] == shape[3],
            f"weights {shape} do not fit input {inputs[0]}: expected {inputs[0][2]} channels last",
        )
        return (rows, columns, self.channels)

    def macs(self, output: Shape) -> int:
        return output[0] * output[1] * int(self.weights.values.size)


@dataclass(frozen=True, eq=False)
class Depthwise(_Windowed, _Weighted):
    """Depthwise convolution; weights ``(K_h, K_w, C_out)``; output c reads input ``c // multiplier``."""

    kind = "depthwise"
    _rank, _channel_axis = 3, 2

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_window()
        shape = self.weights.values.shape
        self._require(shape[:2] == self.window.kernel, f"weights {shape} do not fit kernel {self.window.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        rows, columns = self._map_size(inputs[0])
        self._require(
            self.channels % inputs[0][2] == 0,
            f"weights {self.weights.values.shape} do not fit input {inputs[0]}: "
            f"expected a multiple of {inputs[0][2]} channels last",
        )
        return (rows, columns, self.channels)

    def macs(self, output: Shape) -> int:
        return output[0] * output[1] * int(self.weights.values.size)


@dataclass(frozen=True, eq=False)
class Dense(_Weighted):
    """Fully connected over the last axis; weights ``(C_out, C_in)``."""

    kind = "dense"
    _rank, _channel_axis = 2, 0

    def __post_init__(self) -> None:
        self._check_weights()

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = self.weights.values.shape
        self._require(
            inputs[0][-1] == shape[1],
            f"weights {shape} do not fit input {inputs[0]}: expected {shape[1]} last",
        )
        return (*inputs[0][:-1], self.channels)

    def macs(self, output: Shape) -> int:
        return math.prod(output) * int(self.weights.values.shape[1])


# --------------------------------------------------------------------------------------------- pooling


@dataclass(frozen=True)
class AveragePool(_Windowed):
    """Average over a window, padding left out of sum and count.

    ``unsigned`` marks a legacy uint8 model: rounding is away from the zero of the *unsigned* values there.
    """

    kind = "average_pool"

    activation: Activation = Activation()
    unsigned: bool = False

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._check_window()
        _require_activation(self, self.activation)
        self._require(self.window.dilation == (1, 1), "a pool has no dilation")
        self._require(isinstance(self.unsigned, bool), "unsigned is neither true nor false")

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*self._map_size(inputs[0]), inputs[0][2])


@dataclass(frozen=True)
class MaxPool(_Windowed):
    """Maximum over a window, padding left out."""

    kind = "max_pool"

    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._check_window()
        _require_activation(self, self.activation)
        self._require(self.window.dilation == (1, 1), "a pool has no dilation")

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*self._map_size(inputs[0]), inputs[0][2])


@dataclass(frozen=True)
class Mean(Layer):
    """Mean over axes; the division by the count is part of ``multiplier`` (Q31) and ``shift``."""

    kind = "mean"

    axes: tuple[int, ...]
    keep_dims: bool
    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require_whole_numbers(self.axes, 0, MAX_RANK - 1, "axis")
        self._require(
            len(self.axes) > 0 and list(self.axes) == sorted(set(self.axes)),
            f"axes {self.axes} are not ascending",
        )
        self._require(isinstance(self.keep_dims, bool), "keep_dims is neither true nor false")
        self._require_multiplier(self.multiplier, self.shift)

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(self.axes[-1] < len(inputs[0]), f"axes {self.axes} do not fit input {inputs[0]}")
        if self.keep_dims:
            return tuple(1 if axis in self.axes else size for axis, size in enumerate(inputs[0]))
        return tuple(size for axis, size in enumerate(inputs[0]) if axis not in self.axes) or (1,)


# ----------------------------------------------------------------------------------------- elementwise


def _broadcast(layer: Layer, a: Shape, b: Shape) -> Shape:
    try:
        return tuple(np.broadcast_shapes(a, b))
    except ValueError:
        layer._require(False, f"shapes {a} and {b} do not broadcast")
        raise AssertionError from None


@dataclass(frozen=True)
class Add(Layer):
    """Sum of two tensors, NumPy broadcasting; multipliers are Q31."""

    kind = "add"

    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    output_multiplier: int
    output_shift: int
    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(2)
        for which in ("a", "b", "output"):
            multiplier, shift = getattr(self, f"{which}_multiplier"), getattr(self, f"{which}_shift")
            self._require_multiplier(multiplier, shift, f"{which}_multiplier")
            self._require(shift <= 0, f"{which}_shift is {shift}; expected 0 or less")
        _require_activation(self, self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        return _broadcast(self, *inputs)


@dataclass(frozen=True)
class Mul(Layer):
    """Product of two tensors, NumPy broadcasting; the multiplier is Q31."""

    kind = "mul"

    multiplier: int
    shift: int
    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(2)
        self._require_multiplier(self.multiplier, self.shift)
        _require_activation(self, self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        return _broadcast(self, *inputs)


@dataclass(frozen=True)
class Requantize(Layer):
    """The same real values in another scale and zero point; with a clamp it is RELU or RELU6 on its own."""

    kind = "requantize"

    multiplier: int
    shift: int
    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require_multiplier(self.multiplier, self.shift)
        _require_activation(self, self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Lookup(Layer):
    """A function of one int8, as a table made at import: LOGISTIC, HARD_SWISH, a legacy CONCATENATION's rescaling.

    Attributes:
        function: "logistic", "hard_swish" or "rescale".
        table: int8, (256,), indexed by ``q + 128``.
    """

    kind = "lookup"

    function: str
    table: NDArray[np.int8]

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require(
            self.function in ("logistic", "hard_swish", "rescale"),
            f'function {self.function!r} is not "logistic", "hard_swish" or "rescale"',
        )
        self._freeze("table", np.int8, 1)
        self._require(self.table.shape == (256,), f"table has {self.table.size} entries; expected 256")

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class Softmax(Layer):
    """Softmax over the last axis; multiplier (Q31), left shift and least difference of ``fixedpoint``."""

    kind = "softmax"

    multiplier: int
    shift: int
    diff_min: int

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require_multiplier(self.multiplier, self.shift)
        self._require(self.shift >= 0, f"shift is {self.shift}; expected 0 or more")
        # Any difference that counts must fit int32 after the shift.
        self._require_whole_numbers([self.diff_min], -(2**31 >> self.shift), 0, "diff_min")

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(inputs[0][-1] <= 4095, f"{inputs[0][-1]} classes; the reference's sum holds 4095")
        return inputs[0]


# ---------------------------------------------------------------------------------------- data movement


@dataclass(frozen=True)
class Pad(Layer):
    """Constant rows, columns, ... around a tensor: ``pads`` has (before, after) for each axis."""

    kind = "pad"

    pads: tuple[tuple[int, int], ...]
    value: int

    def __post_init__(self) -> None:
        self._require_inputs(1)
        for pair in self.pads:
            self._require(len(pair) == 2, f"pads {self.pads} are not pairs")
            self._require_whole_numbers(pair, 0, _MAX_GEOMETRY, "padding")
        self._require_whole_numbers([self.value], -128, 127, "value")

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(len(self.pads) == len(inputs[0]), f"pads {self.pads} do not fit input {inputs[0]}")
        return tuple(b + size + a for (b, a), size in zip(self.pads, inputs[0], strict=True))


@dataclass(frozen=True)
class Concat(Layer):
    """Tensors one after another along an axis."""

    kind = "concat"

    axis: int

    def __post_init__(self) -> None:
        self._require(len(self.inputs) >= 1, "no inputs")
        self._require_whole_numbers([self.axis], 0, MAX_RANK - 1, "axis")

    def output_shape(self, *inputs: Shape) -> Shape:
        first, axis = inputs[0], self.axis
        fit = axis < len(first) and all(
            len(s) == len(first) and s[:axis] == first[:axis] and s[axis + 1 :] == first[axis + 1 :] for s in inputs
        )
        self._require(fit, f"shapes {', '.join(map(str, inputs))} differ in more than axis {axis}")
        return (*first[:axis], sum(s[axis] for s in inputs), *first[axis + 1 :])


@dataclass(frozen=True)
class Reshape(Layer):
    """The same bytes in another shape: RESHAPE, SQUEEZE, EXPAND_DIMS, Flatten."""

    kind = "reshape"

    shape: Shape

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(
            math.prod(inputs[0]) == math.prod(self.shape),
            f"input {inputs[0]} does not fit shape {self.shape}",
        )
        return self.shape


@dataclass(frozen=True)
class Transpose(Layer):
    """Output axis i is input axis ``permutation[i]``."""

    kind = "transpose"

    permutation: tuple[int, ...]

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require(
            sorted(self.permutation) == list(range(len(self.permutation))),
            f"permutation {self.permutation} does not name each axis once",
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(
            len(self.permutation) == len(inputs[0]),
            f"permutation {self.permutation} does not fit input {inputs[0]}",
        )
        return tuple(inputs[0][axis] for axis in self.permutation)


@dataclass(frozen=True, eq=False)
class ResizeNearest(Layer):
    """Nearest-neighbour resize: output (y, x) is input ``(rows[y], columns[x])``, decided at import."""

    kind = "resize_nearest"

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._freeze("rows", np.int32, 1)
        self._freeze("columns", np.int32, 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(len(inputs[0]) == 3, f"input of shape {inputs[0]}; expected (H, W, C)")
        for indices, size in ((self.rows, inputs[0][0]), (self.columns, inputs[0][1])):
            inside = bool(((indices >= 0) & (indices < size)).all())
            self._require(inside, f"an index lies outside input {inputs[0]}")
        return (int(self.rows.size), int(self.columns.size), inputs[0][2])


# ----------------------------------------------------------------------------------------------- edges


@dataclass(frozen=True)
class Quantize(Layer):
    """Float32 or uint8 to int8, at the graph's input: stays on the host."""

    kind = "quantize"

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class Dequantize(Layer):
    """Int8 to float32 or uint8, at a graph's output: stays on the host."""

    kind = "dequantize"

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


AnyLayer = (
    Conv2D
    | Depthwise
    | Dense
    | AveragePool
    | MaxPool
    | Mean
    | Add
    | Mul
    | Requantize
    | Lookup
    | Softmax
    | Pad
    | Concat
    | Reshape
    | Transpose
    | ResizeNearest
    | Quantize
    | Dequantize
)
