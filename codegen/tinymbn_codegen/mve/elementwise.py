"""The kernel for Helium that adds two maps of one shape, a row and four elements at a time.

As ``dsp.elementwise`` it takes a line, tried on all pairs of bytes, where there is one, and else rounds as often as the
reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tinymbn.fixedpoint import ADD_LEFT_SHIFT
from tinymbn.graph import Tensor
from tinymbn.layers import Add, AnyLayer
from tinymbn_codegen.dsp.elementwise import Line, find_line
from tinymbn_codegen.kernel_code import KernelCode

_STORED_ZERO = 128  # how the bytes of a line are above values
_FOUR = 4


def supports(layer: AnyLayer, inputs: Sequence[Tensor], output: Tensor) -> bool:
    """Whether the kernel computes this layer: a sum of two maps (H, W, C)."""
    return isinstance(layer, Add) and len(output.shape) == 3 and all(tensor.shape == output.shape for tensor in inputs)


def kernel(layer: AnyLayer, inputs: Sequence[Tensor], output: Tensor) -> KernelCode:
    """What is needed to write it, for a layer that it supports; all maps are ``nhwc``.

    A row may lie over that of either operand.
    """
    assert isinstance(layer, Add)
    a, b = inputs
    line = find_line(layer, a.zero_point, b.zero_point, output.zero_point)
    bounded = None if line is None else _of_values(line)
    size = output.shape[1] * output.shape[2]
    numbers = {"FOURS": size // _FOUR, "BYTES": size, "LOW": layer.activation.low, "HIGH": layer.activation.high}
    operands: tuple[str, ...]
    if bounded is not None:
        numbers |= {"A": bounded.a, "B": bounded.b, "C": bounded.c, "SHIFT": bounded.shift}
        operands = ("A", "B", "C")
        lines = list(_by_line(bounded))
    else:
        numbers |= {
            "A_ZERO": a.zero_point,
            "B_ZERO": b.zero_point,
            "OUTPUT_ZERO": output.zero_point,
            "LEFT_SHIFT": 1 << ADD_LEFT_SHIFT,
            "A_MULTIPLIER": layer.a_multiplier,
            "A_SHIFT": layer.a_shift,
            "B_MULTIPLIER": layer.b_multiplier,
            "B_SHIFT": layer.b_shift,
            "OUTPUT_MULTIPLIER": layer.output_multiplier,
            "OUTPUT_SHIFT": layer.output_shift,
        }
        operands = ("A_ZERO", "B_ZERO", "A_MULTIPLIER", "B_MULTIPLIER", "OUTPUT_MULTIPLIER", "OUTPUT_ZERO")
        lines = list(_exactly(layer))
    clamps = (layer.activation.low, layer.activation.high) != (-128, 127)
    details = {
        "line": bounded is not None,
        "lines": (*_begin(clamps=clamps), *lines, *_end(clamps=clamps)),
        "operands": (*operands, *(("LOW", "HIGH") if clamps else ())),
        "rest": size % _FOUR > 0,
        "fours": size >= _FOUR,
    }
    return KernelCode("layers/mve_add.c.j2", "const int8_t *a, const int8_t *b, int8_t *output", numbers, details, ())


def _of_values(line: Line) -> Line | None:
    """The line of values instead of stored bytes; None where it leaves int32."""
    c = line.c + _STORED_ZERO * (line.a + line.b) - (_STORED_ZERO << line.shift)
    sums = [c + 127 * (line.a + line.b), c - 128 * (line.a + line.b), c]
    return Line(line.a, line.b, c, line.shift) if all(-(2**31) <= s < 2**31 for s in sums) else None


def _begin(*, clamps: bool) -> Iterator[str]:
    if clamps:
        yield "vdup.32 q6, %[LOW]"
        yield "vdup.32 q7, %[HIGH]"
    yield "1:"
    yield "vldrb.s32 q0, [%[a]], #4"
    yield "vldrb.s32 q1, [%[b]], #4"


def _by_line(line: Line) -> Iterator[str]:
    yield "vmul.i32 q0, q0, %[A]"
    yield "vmla.s32 q0, q1, %[B]"
    yield "vadd.i32 q0, q0, %[C]"
    if line.shift:
        yield f"vshr.s32 q0, q0, #{line.shift}"


def _exactly(layer: Add) -> Iterator[str]:
    for q, name, shift in (("q0", "A", layer.a_shift), ("q1", "B", layer.b_shift)):
        yield f"vsub.i32 {q}, {q}, %[{name}_ZERO]"
        yield f"vshl.i32 {q}, {q}, #{ADD_LEFT_SHIFT}"
        yield f"vqrdmulh.s32 {q}, {q}, %[{name}_MULTIPLIER]"
        yield from _right(q, -shift)
    yield "vadd.i32 q0, q0, q1"
    yield "vqrdmulh.s32 q0, q0, %[OUTPUT_MULTIPLIER]"
    yield from _right("q0", -layer.output_shift)
    yield "vadd.i32 q0, q0, %[OUTPUT_ZERO]"


def _right(q: str, bits: int) -> Iterator[str]:
    """A shift to the right, ties away from zero."""
    if bits:
        yield f"vshr.s32 q2, {q}, #31"
        yield f"vadd.i32 {q}, {q}, q2"
        yield f"vrshr.s32 {q}, {q}, #{bits}"


def _end(*, clamps: bool) -> Iterator[str]:
    if clamps:
        yield "vmax.s32 q0, q0, q6"
        yield "vmin.s32 q0, q0, q7"
    yield "vqmovnb.s32 q0, q0"
    yield "vqmovnb.s16 q0, q0"
    yield "vstrb.32 q0, [%[output]], #4"
    yield "subs %[count], %[count], #1"
    yield "bne 1b"
