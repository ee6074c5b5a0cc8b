"""Random operators of .tflite files: each function draws shapes, scales, zero points and options of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.random_tflite import Case, RandomModel, Shape, Value

SIZES = st.integers(1, 9)
CHANNELS = st.integers(1, 5) | st.sampled_from([8, 11])


def _geometry(m: RandomModel, *, dilated: bool) -> tuple[tuple[int, int], Shape, dict[str, Any]]:
    """A kernel, the rows and columns it makes of the value, and the options."""
    _, height, width, _ = m.value.shape
    kernel = m.draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (1, 7), (7, 1), (2, 3), (4, 2)]))
    stride = m.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = m.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if dilated else (1, 1)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = m.draw(st.sampled_from(["SAME", "VALID"]))
    if extent[0] > height or extent[1] > width:
        padding = "SAME"
    valid = padding == "VALID"
    rows, columns = (
        -(-(size - (reach - 1 if valid else 0)) // step)
        for size, reach, step in zip((height, width), extent, stride, strict=True)
    )
    options = {"padding": padding, "stride_h": stride[0], "stride_w": stride[1]}
    if dilated:
        options |= {"dilation_h_factor": dilation[0], "dilation_w_factor": dilation[1]}
    return kernel, (rows, columns), options


def conv_2d(m: RandomModel) -> None:
    kernel, size, options = _geometry(m, dilated=True)
    c_in, c_out = m.value.shape[3], m.draw(CHANNELS)
    weights, scales = m.weights((c_out, *kernel, c_in), 0)
    scale = m.accumulated_scale(scales, math.prod(kernel) * c_in)
    inputs = [m.value.index, weights, m.bias(scales)]
    options["fused_activation_function"] = m.activation()
    m.operator("CONV_2D", (1, *size, c_out), scale, m.zero(), inputs=inputs, **options)


def depthwise_conv_2d(m: RandomModel) -> None:
    kernel, size, options = _geometry(m, dilated=True)
    multiplier = m.draw(st.sampled_from([1, 1, 2, 3]))
    c_out = m.value.shape[3] * multiplier
    weights, scales = m.weights((1, *kernel, c_out), 3)
    scale = m.accumulated_scale(scales, math.prod(kernel))
    inputs = [m.value.index, weights]
    if m.draw(st.integers(0, 4)):
        inputs.append(m.bias(scales))
    options |= {"fused_activation_function": m.activation(), "depth_multiplier": multiplier}
    m.operator("DEPTHWISE_CONV_2D", (1, *size, c_out), scale, m.zero(), inputs=inputs, **options)


def fully_connected(m: RandomModel) -> None:
    shape = m.value.shape
    keep = m.draw(st.booleans())
    # Without keep_num_dims the last axes may be flattened on the way.
    c_in = shape[-1] if keep or m.draw(st.booleans()) else math.prod(shape)
    units = m.draw(CHANNELS)
    weights, scales = m.weights((units, c_in), 0, own_zero=True)
    inputs = [m.value.index, weights]
    bias = m.draw(st.sampled_from(["bias", "bias", "none", "absent"]))
    if bias != "none":
        inputs.append(m.bias(scales) if bias == "bias" else -1)
    out = (*shape[:-1], units) if keep else (math.prod(shape) // c_in, units)
    scale = m.accumulated_scale(scales, c_in)
    options = {"keep_num_dims": keep, "fused_activation_function": m.activation()}
    m.operator("FULLY_CONNECTED", out, scale, m.zero(), inputs=inputs, **options)


def _pool(kind: str) -> Callable[[RandomModel], None]:
    def pool(m: RandomModel) -> None:
        kernel, size, options = _geometry(m, dilated=False)
        options |= {"filter_height": kernel[0], "filter_width": kernel[1]}
        options["fused_activation_function"] = m.activation()
        m.operator(kind, (1, *size, m.value.shape[3]), **options)

    return pool


def mean(m: RandomModel) -> None:
    shape = m.value.shape
    axes = m.draw(st.sets(st.integers(1, len(shape) - 1), min_size=1).map(list).flatmap(st.permutations))
    keep = m.draw(st.booleans())
    out = tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)
    written = [axis - len(shape) if m.draw(st.booleans()) else axis for axis in axes]
    scale = m.draw(st.sampled_from([m.value.scale, m.scale(m.value.scale)]))
    inputs = [m.value.index, m.writer.constant(f"axes{len(m.made)}", written)]
    m.operator("MEAN", out, scale, m.zero(), inputs=inputs, keep_dims=keep)


def _operand(m: RandomModel) -> Value:
    """What broadcasts with the value: itself, one of its shape made earlier, or a constant."""
    shape = m.value.shape
    alike = [value for value in m.made if value.shape == shape]
    choices: list[Shape] = [shape, (1,), ()]
    if len(shape) == 4:
        _, height, width, channels = shape
        choices += [(1, 1, width, channels), (1, height, 1, channels), (1, 1, 1, channels), (channels,)]
        choices += [(1, height, width, 1)]
    if len(alike) > 0 and m.draw(st.sampled_from([True, False])):
        return m.draw(st.sampled_from(alike))
    return m.other(m.draw(st.sampled_from(choices)))


def _elementwise(kind: str, typical: Callable[[Value, Value], float]) -> Callable[[RandomModel], None]:
    def elementwise(m: RandomModel) -> None:
        pair = [m.value, _operand(m)]
        shape = tuple(np.broadcast_shapes(pair[0].shape, pair[1].shape))
        scale = m.scale(typical(*pair))
        inputs = [value.index for value in m.draw(st.permutations(pair))]
        m.operator(kind, shape, scale, m.zero(), inputs=inputs, fused_activation_function=m.activation())

    return elementwise


def _pads(m: RandomModel) -> tuple[Shape, int]:
    pads = [[0, 0], *(m.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in m.value.shape[1:])]
    shape = tuple(size + sum(pair) for size, pair in zip(m.value.shape, pads, strict=True))
    dtype = m.draw(st.sampled_from(["int32", "int64"]))
    return shape, m.writer.constant(f"pads{len(m.made)}", pads, dtype)


def pad(m: RandomModel) -> None:
    shape, pads = _pads(m)
    m.operator("PAD", shape, inputs=[m.value.index, pads])


def padv2(m: RandomModel) -> None:
    shape, pads = _pads(m)
    filling = m.other(m.draw(st.sampled_from([(), (1,)])), m.value.scale, m.value.zero_point)
    m.operator("PADV2", shape, inputs=[m.value.index, pads, filling.index])


def concatenation(m: RandomModel) -> None:
    """On any axis but the batch; uint8 inputs may have scales of their own."""
    shape = m.value.shape
    axis = m.draw(st.integers(1, len(shape) - 1))
    parts = [m.value]
    for _ in range(m.draw(st.integers(0, 3))):
        grown = (*shape[:axis], m.draw(st.integers(1, 4)), *shape[axis + 1 :])
        if m.dtype == "uint8" and m.draw(st.booleans()):
            parts.append(m.other(grown))
        else:
            parts.append(m.draw(st.sampled_from([m.value, m.other(grown, m.value.scale, m.value.zero_point)])))
    parts = m.draw(st.permutations(parts))
    out = (*shape[:axis], sum(part.shape[axis] for part in parts), *shape[axis + 1 :])
    scale, zero_point = None, None
    if m.dtype == "uint8" and m.draw(st.booleans()):
        scale, zero_point = m.scale(), m.zero()
    written = axis if m.draw(st.booleans()) else axis - len(shape)
    inputs = [part.index for part in parts]
    m.operator("CONCATENATION", out, scale, zero_point, inputs=inputs, axis=written)


def _factors(m: RandomModel, elements: int, rank: int) -> Shape:
    sizes = []
    for _ in range(rank - 1):
        size = m.draw(st.sampled_from([n for n in range(1, elements + 1) if elements % n == 0]))
        sizes.append(size)
        elements //= size
    return (*sizes, elements)


def reshape(m: RandomModel) -> None:
    """The new shape is a tensor or an option, and may leave one size open."""
    shape = (1, *_factors(m, math.prod(m.value.shape), m.draw(st.integers(1, 4))))
    written = list(shape)
    if m.draw(st.booleans()):
        written[m.draw(st.integers(0, len(shape) - 1))] = -1
    inputs, options = [m.value.index], dict[str, Any]()
    where = m.draw(st.sampled_from(["tensor", "option", "both"]))
    if where != "option":
        inputs.append(m.writer.constant(f"shape{len(m.made)}", written))
    if where != "tensor":
        options = {"new_shape": written}
    m.operator("RESHAPE", shape, inputs=inputs, **options)


def flatten(m: RandomModel) -> None:
    """Keras' Flatten: the batch is read from the tensor's shape."""
    n = len(m.made)
    rank, rest = len(m.value.shape), math.prod(m.value.shape[1:])
    names = [f"{name}{n}" for name in ("shape", "batch", "target")]
    sizes, batch = m.writer.tensor(names[0], (rank,), "int32"), m.writer.tensor(names[1], (), "int32")
    target = m.writer.tensor(names[2], (2,), "int32")
    ends = [m.writer.constant(f"{name}{n}", [at]) for name, at in (("begin", 0), ("end", 1), ("step", 1))]
    length = m.writer.constant(f"length{n}", m.draw(st.sampled_from([rest, -1])))
    m.writer.operator("SHAPE", m.value.index, sizes, out_type="INT32")
    m.writer.operator("STRIDED_SLICE", [sizes, *ends], batch, shrink_axis_mask=1)
    m.writer.operator("PACK", [batch, length], target, values_count=2, axis=0)
    m.folded.update(names)
    m.operator("RESHAPE", (1, rest), inputs=[m.value.index, target])


def squeeze(m: RandomModel) -> None:
    shape = m.value.shape
    axes = [axis for axis, size in enumerate(shape) if size == 1 and axis > 0]
    axes = [axis for axis in axes if m.draw(st.booleans())]
    if not axes:  # all of size 1, the batch too
        out = tuple(size for size in shape if size != 1)
        if not out:
            return
    else:
        out = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    written = [axis - len(shape) if m.draw(st.booleans()) else axis for axis in axes]
    m.operator("SQUEEZE", out, squeeze_dims=written)


def expand_dims(m: RandomModel) -> None:
    shape = m.value.shape
    if len(shape) > 4:
        return
    axis = m.draw(st.integers(1, len(shape)))
    written = axis if m.draw(st.booleans()) else axis - len(shape) - 1
    scalar = m.draw(st.booleans())
    inputs = [m.value.index, m.writer.constant(f"axis{len(m.made)}", written if scalar else [written])]
    m.operator("EXPAND_DIMS", (*shape[:axis], 1, *shape[axis:]), inputs=inputs)


def resize_nearest_neighbor(m: RandomModel) -> None:
    size = m.draw(st.tuples(st.integers(1, 13), st.integers(1, 13)))
    options = {"align_corners": m.draw(st.booleans()), "half_pixel_centers": m.draw(st.booleans())}
    inputs = [m.value.index, m.writer.constant(f"size{len(m.made)}", list(size))]
    m.operator("RESIZE_NEAREST_NEIGHBOR", (1, *size, m.value.shape[3]), inputs=inputs, **options)


def softmax(m: RandomModel) -> None:
    beta = m.draw(st.sampled_from([1.0, 1.0, 0.5, 2.0, 0.3]))
    m.operator("SOFTMAX", m.value.shape, 1 / 256, m.low, beta=beta)


def logistic(m: RandomModel) -> None:
    m.operator("LOGISTIC", m.value.shape, 1 / 256, m.draw(st.just(m.low) | st.builds(m.zero)))


def hard_swish(m: RandomModel) -> None:
    m.operator("HARD_SWISH", m.value.shape, m.scale(m.value.scale), m.zero())


def _relu(kind: str) -> Callable[[RandomModel], None]:
    def relu(m: RandomModel) -> None:
        scale = m.draw(st.sampled_from([m.value.scale, m.scale(m.value.scale)]))
        m.operator(kind, m.value.shape, scale, m.zero())

    return relu


def quantize(m: RandomModel) -> None:
    m.operator("QUANTIZE", m.value.shape, m.scale(m.value.scale), m.zero())


def transpose(m: RandomModel) -> None:
    permutation = [0, *m.draw(st.permutations(range(1, len(m.value.shape))))]
    inputs = [m.value.index, m.writer.constant(f"permutation{len(m.made)}", permutation)]
    m.operator("TRANSPOSE", tuple(m.value.shape[axis] for axis in permutation), inputs=inputs)


# Those that take maps (1, H, W, C) alone.
OF_MAPS: dict[str, Callable[[RandomModel], None]] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
}

OPERATORS: dict[str, Callable[[RandomModel], None]] = {
    **OF_MAPS,
    "FULLY_CONNECTED": fully_connected,
    "MEAN": mean,
    "ADD": _elementwise("ADD", lambda a, b: a.scale + b.scale),
    "MUL": _elementwise("MUL", lambda a, b: a.scale * b.scale * 74),
    "PAD": pad,
    "PADV2": padv2,
    "CONCATENATION": concatenation,
    "RESHAPE": reshape,
    "FLATTEN": flatten,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand_dims,
    "SOFTMAX": softmax,
    "LOGISTIC": logistic,
    "HARD_SWISH": hard_swish,
    "RELU": _relu("RELU"),
    "RELU6": _relu("RELU6"),
    "RELU_N1_TO_1": _relu("RELU_N1_TO_1"),
    "QUANTIZE": quantize,
    "TRANSPOSE": transpose,
}


@st.composite
def models_with(draw: st.DrawFn, kind: str) -> Case:
    """A file with this operator and up to two others."""
    shape: Shape = (1, draw(SIZES), draw(SIZES), draw(CHANNELS))
    if kind not in OF_MAPS:
        shape = draw(st.sampled_from([shape, shape[:3], shape[:2], (1, draw(st.integers(1, 60)))]))
    m = RandomModel(draw, shape)
    others = draw(st.lists(st.sampled_from(sorted(OPERATORS)), max_size=2))
    before = draw(st.integers(0, len(others))) if kind not in OF_MAPS else 0
    for name in [*others[:before], kind, *others[before:]]:
        if name in OF_MAPS and (len(m.value.shape) != 4 or m.value.shape[0] != 1):
            continue
        if len(m.value.shape) >= 2 and m.value.shape[0] == 1:
            OPERATORS[name](m)
    model = m.end()
    return Case(m.writer, model, m.random_input(), m.folded)
