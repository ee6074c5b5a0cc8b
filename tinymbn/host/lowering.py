"""From a graph to a program: each layer as operations of the fast kernels."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.graph import Graph
from tinymbn.host.placement import Placement
from tinymbn.host.program import Address, Parameter, Program, ProgramBuilder
from tinymbn.host.tensors import Tensors
from tinymbn.host.weighted import Operand, Scaling, WeightedLowering, output_parameters, output_range
from tinymbn.kernels.fast import packing
from tinymbn.kernels.fast.instruction_set import InstructionSet
from tinymbn.kernels.fast.parameters import (
    ADDITION,
    BORDER,
    LOOKUP,
    MEAN,
    MOVE,
    MULTIPLICATION,
    POOL,
    SOFTMAX,
    TRANSFER,
    Code,
)
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
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
    Padding,
    Quantize,
    Requantize,
    Reshape,
    ResizeNearest,
    Softmax,
    Transpose,
    Window,
)
from tinymbn.layers.shapes import reduced_shape

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Offsets = NDArray[np.int64]
_NO_SOURCE = -1  # in place of an offset: the element is a constant


@dataclass(frozen=True, eq=False)
class Lowered:
    """A graph as a program.

    Attributes:
        program: its operations.
        ends: of each layer, the operation after its last; those before the first layer's are in the first's.
        placements: of the int8 tensors.
        bases: where each int8 tensor begins: in the arena, or in the constants.
        inputs: for each array from outside that is read, the layer that quantises it; None for an int8 input.
        outputs: for each array from outside that is written, the tensor; they stand after the inputs.
    """

    program: Program
    ends: tuple[int, ...]
    placements: dict[str, Placement]
    bases: dict[str, Address]
    inputs: tuple[Quantize | None, ...]
    outputs: tuple[str, ...]


def lower(graph: Graph, isa: InstructionSet, threads: int) -> Lowered:
    """Turn a graph into a program for as many threads at most."""
    return _Lowering(graph, isa, threads).run()


class _Lowering:
    def __init__(self, graph: Graph, isa: InstructionSet, threads: int) -> None:
        self._graph, self._isa = graph, isa
        self._builder = ProgramBuilder(threads)
        self._tensors = Tensors(graph, isa, self._builder)
        self._weighted = WeightedLowering(isa, self._builder)
        self._size = isa.element.itemsize
        self._inputs: list[Quantize | None] = []

    def run(self) -> Lowered:
        graph, builder = self._graph, self._builder
        if graph.input_tensor.dtype == "int8":
            self._load(None, graph.input)
        ends = []
        for index, layer in enumerate(graph.layers):
            builder.layer = index
            self._lower(layer)
            ends.append(len(builder.operations))
        builder.layer = len(graph.layers)
        made_of = {layer.output: layer.inputs[0] for layer in graph.layers if isinstance(layer, Dequantize)}
        outputs: list[str] = []
        for name in graph.outputs:
            inner = made_of.get(name, name)
            if graph.tensors[inner].dtype == "int8":
                mask = 0x80 if graph.tensors[name].dtype == "uint8" else 0
                self._transfer(Code.SAVE, inner, len(self._inputs) + len(outputs), mask)
                outputs.append(name)
        placements = self._tensors.placements
        return Lowered(
            program=builder.finish(len(self._inputs) + len(outputs)),
            ends=tuple(ends),
            placements=placements,
            bases={name: self._tensors.base(name) for name in placements},
            inputs=tuple(self._inputs),
            outputs=tuple(outputs),
        )

    def _operand(self, name: str) -> Operand:
        zero_point = self._graph.tensors[name].zero_point
        return Operand(self._tensors.placements[name], self._tensors.base(name), zero_point)

    def _lower(self, layer: AnyLayer) -> None:
        if isinstance(layer, Dequantize):
            return
        if isinstance(layer, Quantize):
            self._load(layer, layer.output)
            return
        if self._tensors.shares_memory(layer):
            return
        self._border(self._operand(layer.output))
        match layer:
            case Conv2D():
                self._conv2d(layer)
            case Depthwise():
                self._depthwise(layer)
            case Dense():
                self._dense(layer)
            case AveragePool():
                offset = 128 if layer.unsigned else 0
                self._pool(Code.AVERAGE_POOL, layer, layer.activation, offset)
            case MaxPool():
                self._pool(Code.MAX_POOL, layer, layer.activation, 0)
            case Mean():
                self._mean(layer)
            case Add():
                self._add(layer)
            case Mul():
                self._mul(layer)
            case Lookup():
                self._look_up(layer, layer.table)
            case Requantize():
                self._look_up(layer, self._requantize_table(layer))
            case Softmax():
                self._softmax(layer)
            case Pad():
                inside = tuple(
                    slice(b, b + n) for (b, _), n in zip(layer.pads, self._shape(layer.inputs[0]), strict=True)
                )
                sources = np.full(self._shape(layer.output), _NO_SOURCE)
                sources[inside] = self._offsets(layer.inputs[0])
                self._move(layer.inputs[0], self._operand(layer.output), sources, layer.value)
            case Concat():
                self._concat(layer)
            case Reshape():
                sources = self._offsets(layer.inputs[0]).reshape(layer.shape)
                self._move(layer.inputs[0], self._operand(layer.output), sources)
            case Transpose():
                sources = self._offsets(layer.inputs[0]).transpose(layer.permutation)
                self._move(layer.inputs[0], self._operand(layer.output), sources)
            case ResizeNearest():
                sources = self._offsets(layer.inputs[0])[np.ix_(layer.rows, layer.columns)]
                self._move(layer.inputs[0], self._operand(layer.output), sources)
            case _:
                assert_never(layer)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._graph.tensors[name].shape

    def _offsets(self, name: str) -> Offsets:
        return self._tensors.placements[name].offsets()

    # ---------------------------------------------------------------------------------- edges and borders

    def _load(self, quantizer: Quantize | None, name: str) -> None:
        self._border(self._operand(name))
        mask = 0x80 if quantizer is not None and self._graph.input_tensor.dtype == "uint8" else 0
        self._transfer(Code.LOAD, name, len(self._inputs), mask)
        self._inputs.append(quantizer)

    def _transfer(self, code: Code, name: str, outside: int, mask: int) -> None:
        place = self._tensors.placements[name]
        self._builder.add(
            code,
            TRANSFER,
            place.rows,
            bytes=Address("outside", outside),
            elements=self._tensors.first(name),
            columns=place.columns,
            channels=place.channels,
            element_row=place.row,
            element_column=place.pixel,
            mask=mask,
        )

    def _border(self, made: Operand) -> None:
        place = made.placement
        if place.has_border:
            self._builder.add(
                Code.FILL_BORDER,
                BORDER,
                1,
                address=made.base,
                row=place.row,
                top=place.border.top,
                height=place.rows,
                bottom=place.border.bottom,
                left=place.border.left * place.pixel,
                right=place.border.right * place.pixel,
                value=made.zero_point + self._isa.offset,
            )

    # ---------------------------------------------------------------------------------- layers with weights

    def _conv2d(self, layer: Conv2D) -> None:
        weights = layer.weights
        self._weighted.convolution(
            weights.values,
            weights.zero_point,
            _scaling(layer, weights.values.reshape(len(weights.bias), -1)),
            layer.window,
            self._operand(layer.inputs[0]),
            self._operand(layer.output),
        )

    def _dense(self, layer: Dense) -> None:
        values = layer.weights.values
        self._weighted.convolution(
            values[:, None, None, :],
            layer.weights.zero_point,
            _scaling(layer, values),
            Window((1, 1)),
            self._operand(layer.inputs[0]),
            self._operand(layer.output),
            layer.steps,
            once=True,
        )

    def _depthwise(self, layer: Depthwise) -> None:
        weights = layer.weights
        read, made = self._operand(layer.inputs[0]), self._operand(layer.output)
        channels, c_out = read.placement.channels, made.placement.channels
        by_channel = weights.values.transpose(2, 0, 1)
        scaling = _scaling(layer, by_channel.reshape(c_out, -1))
        if c_out > channels == 1:
            values = np.ascontiguousarray(by_channel[..., None])
            self._weighted.convolution(values, weights.zero_point, scaling, layer.window, read, made)
            return
        if c_out > channels:
            # Each channel as often as it is read.
            shape = (*read.placement.shape[:-1], c_out)
            wider = self._temporary(Placement(shape, read.placement.border, made.placement.pixel), read.zero_point)
            self._border(wider)
            self._move(layer.inputs[0], wider, np.repeat(read.placement.offsets(), c_out // channels, axis=-1))
            read = wider
        self._weighted.depthwise(weights.values, weights.zero_point, scaling, layer.window, read, made)

    # ---------------------------------------------------------------------------------- pools and means

    def _pool(self, code: Code, layer: AveragePool | MaxPool, activation: Activation, offset: int) -> None:
        read, made = self._tensors.placements[layer.inputs[0]], self._tensors.placements[layer.output]
        window = layer.window
        self._builder.add(
            code,
            POOL,
            made.rows,
            input=self._tensors.first(layer.inputs[0]),
            input_row=read.row * self._size,
            input_column=read.pixel * self._size,
            height=read.rows,
            width=read.columns,
            channels=read.channels,
            kernel_height=window.kernel[0],
            kernel_width=window.kernel[1],
            stride_vertical=window.stride[0],
            stride_horizontal=window.stride[1],
            top=window.padding.top,
            left=window.padding.left,
            offset=offset,
            low=activation.low,
            high=activation.high,
            output=self._tensors.first(layer.output),
            output_row=made.row * self._size,
            output_column=made.pixel * self._size,
            output_columns=made.columns,
            scratch=self._builder.scratch(4 * read.channels * self._builder.threads),
        )

    def _mean(self, layer: Mean) -> None:
        name = layer.inputs[0]
        offsets = self._offsets(name)
        kept_axes = [axis for axis in range(offsets.ndim) if axis not in layer.axes]
        kept_count = math.prod(reduced_shape(offsets.shape, layer.axes, keep_dims=False))
        by_kept = offsets.transpose(*kept_axes, *layer.axes).reshape(kept_count, -1)
        # Strides add up: an element's offset is that of its place among the kept and that among the reduced.
        kept = by_kept[:, 0]
        self._builder.add(
            Code.MEAN,
            MEAN,
            1,
            input=self._tensors.base(name),
            kept=self._builder.table(kept),
            kept_count=len(kept),
            contiguous=int((np.diff(kept) == 1).all()),
            reduced=self._builder.table(by_kept[0] - kept[0]),
            reduced_count=by_kept.shape[1],
            multiplier=layer.multiplier,
            shift=layer.shift,
            input_zero=self._graph.tensors[name].zero_point,
            output_zero=self._graph.tensors[layer.output].zero_point,
            output=self._tensors.base(layer.output),
            output_offsets=self._builder.table(self._offsets(layer.output).ravel()),
            scratch=self._builder.scratch(4 * len(kept)),
        )

    # ---------------------------------------------------------------------------------- elementwise

    def _binary(self, layer: Add | Mul) -> tuple[Operand, Operand, Operand, dict[str, Parameter]]:
        """Both operands and the output, and where their rows stand."""
        (a, a_first), (b, b_first) = (self._whole(name, layer.output) for name in layer.inputs)
        made = self._operand(layer.output)
        rows: dict[str, Parameter] = {
            "a": a_first,
            "a_row": a.placement.row * self._size,
            "b": b_first,
            "b_row": b.placement.row * self._size,
            "output": self._tensors.first(layer.output),
            "output_row": made.placement.row * self._size,
            "run": made.placement.columns * made.placement.pixel,
        }
        return a, b, made, rows

    def _add(self, layer: Add) -> None:
        a, b, made, rows = self._binary(layer)
        output = output_range(self._isa, made, layer.activation)
        term = packing.OutputRange(0, 0, 0)  # a term is neither clamped nor an element
        scalings = (
            (layer.a_multiplier, layer.a_shift, term),
            (layer.b_multiplier, layer.b_shift, term),
            (layer.output_multiplier, layer.output_shift, output),
        )
        lanes = self._isa.lanes
        constants = [
            packing.scaling_constants(
                self._isa,
                np.zeros(lanes, np.int64),
                np.full(lanes, multiplier, np.int32),
                np.full(lanes, shift, np.int8),
                made_of_it,
                pairs=False,
            )
            for multiplier, shift, made_of_it in scalings
        ]
        self._builder.add(
            Code.ADD,
            ADDITION,
            made.placement.rows,
            **rows,
            a_zero=a.zero_point + self._isa.offset,
            b_zero=b.zero_point + self._isa.offset,
            constants=self._builder.constant(np.concatenate(constants)),
            **output_parameters(output),
            # 2**29 of both terms, half of 2**22 and a zero point of 255 * 2**22 have 31 bits.
            exactly=int(layer.output_shift < -22),
            a_multiplier=layer.a_multiplier,
            a_shift=layer.a_shift,
            b_multiplier=layer.b_multiplier,
            b_shift=layer.b_shift,
            multiplier=layer.output_multiplier,
            shift=layer.output_shift,
        )

    def _mul(self, layer: Mul) -> None:
        a, b, made, rows = self._binary(layer)
        self._builder.add(
            Code.MULTIPLY,
            MULTIPLICATION,
            made.placement.rows,
            **rows,
            a_zero=a.zero_point,
            b_zero=b.zero_point,
            multiplier=layer.multiplier,
            shift=layer.shift,
            zero=made.zero_point,
            low=layer.activation.low,
            high=layer.activation.high,
        )

    def _whole(self, name: str, output: str) -> tuple[Operand, Address]:
        """An operand of the output's shape and spacing, with its first element: itself, or a copy."""
        read, made = self._operand(name), self._tensors.placements[output]
        if read.placement.shape == made.shape and read.placement.pixel == made.pixel:
            return read, self._tensors.first(name)
        whole = self._temporary(Placement(made.shape, Padding(), made.pixel), read.zero_point)
        self._move(name, whole, np.broadcast_to(read.placement.offsets(), made.shape))
        return whole, whole.base

    def _look_up(self, layer: Lookup | Requantize, table: NDArray[np.int8]) -> None:
        (read, first), made = self._whole(layer.inputs[0], layer.output), self._tensors.placements[layer.output]
        self._builder.add(
            Code.LOOK_UP,
            LOOKUP,
            made.rows,
            input=first,
            input_row=read.placement.row * self._size,
            output=self._tensors.first(layer.output),
            output_row=made.row * self._size,
            run=made.columns * made.pixel,
            table=self._builder.constant((table.astype(np.int64) + self._isa.offset).astype(self._isa.element)),
        )

    def _requantize_table(self, layer: Requantize) -> NDArray[np.int8]:
        read, made = self._graph.tensors[layer.inputs[0]], self._graph.tensors[layer.output]
        low, high = layer.activation.low, layer.activation.high
        values = []
        for q in range(-128, 128):
            rescaled = fixedpoint.requantize(q - read.zero_point, layer.multiplier, layer.shift)
            values.append(fixedpoint.to_output(rescaled, made.zero_point, low, high))
        return np.array(values, np.int8)

    def _softmax(self, layer: Softmax) -> None:
        read, made = self._tensors.placements[layer.inputs[0]], self._tensors.placements[layer.output]
        exponentials = [
            fixedpoint.exp_on_negative(fixedpoint.requantize(-distance, layer.multiplier, layer.shift))
            if -distance >= layer.diff_min
            else -1
            for distance in range(256)
        ]
        self._builder.add(
            Code.SOFTMAX,
            SOFTMAX,
            read.rows * read.columns,
            input=self._tensors.base(layer.inputs[0]),
            input_offsets=self._builder.table(read.pixels() * self._size),
            output=self._tensors.base(layer.output),
            output_offsets=self._builder.table(made.pixels() * self._size),
            classes=read.channels,
            exponentials=self._builder.table(np.array(exponentials)),
        )

    # ---------------------------------------------------------------------------------- movement

    def _temporary(self, placement: Placement, zero_point: int) -> Operand:
        return Operand(placement, self._builder.scratch(placement.size * self._size), zero_point)

    def _concat(self, layer: Concat) -> None:
        targets = self._offsets(layer.output)
        first = 0
        for name in layer.inputs:
            count = self._shape(name)[layer.axis]
            part = targets.take(range(first, first + count), axis=layer.axis)
            self._move_to(name, self._operand(layer.output).base, part.ravel(), self._offsets(name).ravel(), 0)
            first += count

    def _move(self, name: str, made: Operand, sources: Offsets, value: int = 0) -> None:
        self._move_to(name, made.base, made.placement.offsets().ravel(), sources.ravel(), value)

    def _move_to(self, name: str, base: Address, targets: Offsets, sources: Offsets, value: int) -> None:
        runs = _runs(targets, sources)
        self._builder.add(
            Code.MOVE,
            MOVE,
            len(runs),
            input=self._tensors.base(name),
            output=base,
            runs=self._builder.table(runs),
            run_count=len(runs),
            value=value + self._isa.offset,
        )


def _scaling(layer: Conv2D | Depthwise | Dense, by_channel: NDArray[np.int8]) -> Scaling:
    weights = layer.weights
    differences = by_channel.astype(np.int64) - weights.zero_point
    return Scaling(differences, weights.bias, weights.multiplier, weights.shift, layer.activation)


def _runs(targets: Offsets, sources: Offsets) -> Offsets:
    """Elements in runs of neighbours: (runs, 3), to, from, count; from is ``_NO_SOURCE`` for a constant."""
    filled = sources == _NO_SOURCE
    steps = np.diff(sources)
    follows = (np.diff(targets) == 1) & np.where(filled[1:], filled[:-1], (steps == 1) & ~filled[:-1])
    starts = np.flatnonzero(np.concatenate([[True], ~follows]))
    counts = np.diff(np.append(starts, len(targets)))
    return np.stack([targets[starts], sources[starts], counts], axis=1)
