"""Convolutions and dense layers as operations: weights packed, ranges proven."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import requantize, to_output
from tinymbn.host.placement import CHANNEL_MULTIPLE, Placement, round_up
from tinymbn.host.program import Address, Parameter, ProgramBuilder
from tinymbn.kernels.fast import packing
from tinymbn.kernels.fast.instruction_set import InstructionSet
from tinymbn.kernels.fast.parameters import CONVOLUTION, DEPTHWISE, ONCE, STEPS, TWICE, Code
from tinymbn.layers import Activation, Window

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Operand:
    """A tensor of a layer.

    Attributes:
        placement: of its elements.
        base: where they begin, the border included.
        zero_point: as an int8 value.
    """

    placement: Placement
    base: Address
    zero_point: int


@dataclass(frozen=True, eq=False)
class Scaling:
    """What turns accumulators into outputs.

    Attributes:
        differences: weights minus their zero point; (C_out, taps).
        bias, multiplier, shift: as in ``layers.Weights``.
        activation: the clamp.
    """

    differences: Integers
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    activation: Activation

    def settled(self, input_zero: int, output_zero: int) -> Scaling:
        """The same outputs, constant ones by small numbers.

        Quantisers give a channel without weights a bias as large as an int32 can be; and some channels' outputs are
        always rescaled to 0.
        """
        bias, multiplier, shift = self.bias.copy(), self.multiplier.copy(), self.shift.copy()
        for c in np.flatnonzero(~self.differences.any(axis=1)):
            rescaled = requantize(int(bias[c]), int(multiplier[c]), int(shift[c]))
            made = to_output(rescaled, output_zero, self.activation.low, self.activation.high)
            bias[c], multiplier[c], shift[c] = 2 * (made - output_zero), 2**30, 0
        small = replace(self, bias=bias, multiplier=multiplier, shift=shift)
        always_0 = small._largest_products(input_zero) < packing.half_step(shift)
        multiplier[always_0], shift[always_0] = 0, 0
        return small

    def fits_vectors(self, input_zero: int) -> bool:
        """Whether ``vectors.requantize`` is exact.

        There is no left shift, accumulators have 31 bits, and no sum passes 32 before the right shift.
        """
        if (self.shift > 0).any() or (self._largest_accumulators(input_zero) >= 2**30).any():
            return False
        zero = np.int64(256) << -self.shift.astype(np.int64)
        return bool((self._largest_products(input_zero) + packing.half_step(self.shift) + zero < 2**31).all())

    def _largest_accumulators(self, input_zero: int) -> Integers:
        farthest = max(127 - input_zero, 128 + input_zero)
        largest: Integers = np.abs(self.bias.astype(np.int64)) + np.abs(self.differences).sum(axis=1) * farthest
        return largest

    def _largest_products(self, input_zero: int) -> Integers:
        """With the multiplier, before the right shift."""
        accumulators = np.minimum(self._largest_accumulators(input_zero), 2**31)
        products: Integers = (accumulators * self.multiplier >> 31) + 1
        return products

    def bias_for(self, input_zero: int) -> Integers:
        """The bias of accumulators of elements, of which this one stands for nothing; modulo 2**32."""
        bias: Integers = self.bias - input_zero * self.differences.sum(axis=1)
        return bias

    def padded(self, channels: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Multiplier and shift, with channels that count for nothing after them."""
        more = channels - len(self.bias)
        return np.pad(self.multiplier, (0, more)), np.pad(self.shift, (0, more))


def output_range(isa: InstructionSet, made: Operand, activation: Activation) -> packing.OutputRange:
    """What an operation makes, as the elements stand in memory."""
    values = (made.zero_point, activation.low, activation.high)
    return packing.OutputRange(*(value + isa.offset for value in values))


def output_parameters(output: packing.OutputRange) -> dict[str, Parameter]:
    """The same for an operation's record."""
    return {"rectified": int(output.low >= output.zero), **output._asdict()}


def _scalar_constants(builder: ProgramBuilder, scaling: Scaling, bias: Integers) -> dict[str, Parameter]:
    return {
        "channels": len(bias),
        "bias": builder.constant(packing.wrap_int32(bias)),
        "multiplier": builder.constant(scaling.multiplier.astype(np.int32)),
        "shift": builder.constant(scaling.shift.astype(np.int8)),
    }


class WeightedLowering:
    """Adds the operations of layers with weights to a program."""

    def __init__(self, isa: InstructionSet, builder: ProgramBuilder) -> None:
        self._isa, self._builder = isa, builder

    def convolution(
        self,
        weights: NDArray[np.int8],
        weight_zero: int,
        scaling: Scaling,
        window: Window,
        read: Operand,
        made: Operand,
        steps: NDArray[np.int32] | None = None,
        *,
        once: bool = False,
    ) -> None:
        """A convolution with ``weights (C_out, K_h, K_w, C_in)``.

        Args:
            weights: as stored.
            weight_zero: their zero point.
            scaling: of the accumulators.
            window: geometry.
            read: the input.
            made: the output.
            steps: of a dense layer that has them.
            once: whether rescaling rounds once, as of dense layers.
        """
        isa, builder = self._isa, self._builder
        size = isa.element.itemsize
        source, target = read.placement, made.placement
        segmented, offsets = _segments(weights.astype(np.int64), window, source)
        c_out, count, run = segmented.shape
        input_zero = read.zero_point + isa.offset
        if not once:
            scaling = scaling.settled(read.zero_point, made.zero_point)
        bias = scaling.bias_for(input_zero)
        vectorised = not once and scaling.fits_vectors(read.zero_point)

        stored = round_up(c_out, CHANNEL_MULTIPLE)
        channels = round_up(stored, isa.lanes if vectorised else 2 * isa.lanes)
        total = channels // isa.lanes
        wide, narrow = divmod(total, 2)
        # Groups of two have weights of 16 bits, and so the differences themselves.
        packed = segmented if isa.group == 4 else segmented - weight_zero
        packed = np.pad(packed, ((0, channels - c_out), (0, 0), (0, 0)))
        pixels = target.rows * target.columns
        # Threads share what is larger, so that the less is read by each of them.
        by_block = packed.size > pixels * run * count
        units = wide + narrow if by_block else pixels
        output = output_range(isa, made, scaling.activation)
        parameters: dict[str, Parameter] = {
            "by_block": int(by_block),
            "pixels": pixels,
            "input": read.base,
            "input_offsets": builder.table(_window_pixels(window, source, target) * size),
            "segments": builder.table(offsets * size),
            "segment_count": count,
            "groups": -(-run // isa.group),
            "weights": builder.constant(packing.convolution_weights(isa, packed, wide, ordered=not vectorised)),
            "run": run,
            "output": made.base,
            "output_offsets": builder.table(target.pixels() * size),
            **output_parameters(output),
        }
        if isa.group == 4 and weight_zero != 0:
            parameters["weight_zero"] = weight_zero
            parameters["corrections"] = builder.scratch(4 * (pixels + max(isa.narrow, *isa.tall)))
        if not vectorised:
            parameters |= _scalar_constants(builder, scaling, bias)
            parameters["scratch"] = builder.scratch(8 * isa.lanes * builder.threads)
            parameters["rounding"] = STEPS if steps is not None else ONCE if once else TWICE
            if steps is not None:
                parameters["steps"] = builder.constant(steps)
            builder.add(Code.CONVOLVE_EXACTLY, CONVOLUTION, units, **parameters)
            return
        multiplier, shift = scaling.padded(channels)
        padded_bias = np.pad(bias, (0, channels - c_out))
        middle = wide * 2 * isa.lanes
        constants = [
            packing.scaling_constants(isa, padded_bias[part], multiplier[part], shift[part], output, pairs=pairs)
            for part, pairs in ((slice(0, middle), True), (slice(middle, channels), False))
        ]
        parameters |= {
            "constants": builder.constant(np.concatenate(constants)),
            "wide": wide,
            "narrow": narrow,
            "half": int(stored < channels),
            "tile": _best_tile(isa.tall, pixels),
            "narrow_tile": isa.narrow if pixels >= isa.narrow else 1,
        }
        builder.add(Code.CONVOLVE, CONVOLUTION, units, **parameters)

    def depthwise(
        self,
        weights: NDArray[np.int8],
        weight_zero: int,
        scaling: Scaling,
        window: Window,
        read: Operand,
        made: Operand,
    ) -> None:
        """A depthwise convolution with ``weights (K_h, K_w, C)``, one output a channel."""
        isa, builder = self._isa, self._builder
        size = isa.element.itemsize
        source, target = read.placement, made.placement
        scaling = scaling.settled(read.zero_point, made.zero_point)
        bias = scaling.bias_for(read.zero_point + isa.offset)
        differences = weights.astype(np.int64) - weight_zero
        vectorised = scaling.fits_vectors(read.zero_point)
        stored = target.pixel
        at = source.first - window.padding.top * source.row - window.padding.left * source.pixel
        row, column = window.stride[0] * source.row, window.stride[1] * source.pixel
        step, columns = target.pixel, target.columns
        half = stored < isa.block
        same_window = window.kernel == (3, 3) and window.dilation[1] == 1 and window.stride[1] in (1, 2)
        terms = 1 if isa.group == 2 or (differences.min() > -129 and differences.max() < 128) else 2
        copies = 1
        if (
            vectorised
            and half
            and same_window
            and window.stride[1] == 1
            and columns % 2 == 0
            and columns // 2 >= isa.outputs[0]
        ):
            # Two pixels fill a block: a window of two columns of stride, as far as taps are concerned.
            copies, half = 2, False
            column, step, columns = 2 * column, 2 * step, columns // 2
        fast = vectorised and same_window and not half and columns >= isa.outputs[0]
        fast = fast and (isa.group == 2 or differences.max() <= 127 * terms)
        starts = (
            [0] if copies == 2 else sorted({min(at, max(stored - isa.block, 0)) for at in range(0, stored, isa.block)})
        )
        chosen = np.add.outer(starts, np.arange(isa.block)).ravel()
        if copies == 2:
            chosen %= stored

        def blocks(values: NDArray[Any]) -> NDArray[Any]:
            """The last axis' channels in blocks, zeros for those that are not there."""
            more = stored + isa.block - values.shape[-1]
            padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)])
            picked: NDArray[Any] = padded[..., chosen]
            return picked

        output = output_range(isa, made, scaling.activation)
        parameters: dict[str, Parameter] = {
            "input": read.base + at * size,
            "input_row": row * size,
            "input_column": column * size,
            "tap_row": window.dilation[0] * source.row * size,
            "tap_column": source.pixel * size,
            "columns": columns,
            "blocks": len(starts),
            "last_block": starts[-1] * size,
            "terms": terms,
            "output": made.base + target.first * size,
            "output_row": target.row * size,
            "output_column": step * size,
            "half": int(half),
            **output_parameters(output),
        }
        if vectorised:
            multiplier, shift = blocks(scaling.multiplier), blocks(scaling.shift)
            constants = packing.scaling_constants(isa, blocks(bias), multiplier, shift, output, pairs=True)
            parameters["constants"] = builder.constant(constants)
        if fast:
            parameters["weights"] = builder.constant(packing.window_weights(isa, blocks(differences), terms))
            parameters["outputs"] = _best_outputs(isa.outputs if terms == 1 else isa.outputs[:1], columns)
            builder.add(Code.DEPTHWISE_3X3, DEPTHWISE, target.rows, **parameters)
            return
        taps, tap_offsets = _taps(isa, blocks(differences), window, source)
        parameters["weights"] = builder.constant(packing.taps_weights(isa, taps))
        parameters["taps"] = builder.table(tap_offsets * size)
        parameters["tap_groups"] = len(tap_offsets) // isa.group
        if not vectorised:
            parameters |= _scalar_constants(builder, scaling, bias)
            parameters["scratch"] = builder.scratch(4 * isa.block * builder.threads)
        code = Code.DEPTHWISE_TAPS if vectorised else Code.DEPTHWISE_EXACTLY
        builder.add(code, DEPTHWISE, target.rows, **parameters)


def _best_tile(tall: tuple[int, ...], pixels: int) -> int:
    """The tile that covers a map with the least work; the first of equals; 1 if none fits."""
    fitting = [tile for tile in tall if tile <= pixels]
    return min(fitting, key=lambda tile: -(-pixels // tile) * tile, default=1)


def _best_outputs(outputs: tuple[int, ...], columns: int) -> int:
    """How many outputs at a time make a row with the least work; what a window costs besides is about one output's."""
    fitting = [count for count in outputs if count <= columns]
    return min(fitting, key=lambda count: -(-columns // count) * (count + 1))


def _window_pixels(window: Window, source: Placement, target: Placement) -> Integers:
    """Where each output pixel's window begins."""
    rows = np.arange(target.rows)[:, None] * window.stride[0] - window.padding.top + source.border.top
    columns = np.arange(target.columns) * window.stride[1] - window.padding.left + source.border.left
    return (rows * source.row + columns * source.pixel).ravel()


def _segments(weights: Integers, window: Window, source: Placement) -> tuple[Integers, Integers]:
    """A window as runs of neighbouring elements: weights (C_out, segments, run), and the runs' offsets."""
    c_out, height, width, c_in = weights.shape
    rows = np.arange(height) * window.dilation[0] * source.row
    if width == 1 or (window.dilation[1] == 1 and source.pixel == c_in):
        return weights.reshape(c_out, height, width * c_in), rows
    columns = np.arange(width) * window.dilation[1] * source.pixel
    return weights.reshape(c_out, height * width, c_in), (rows[:, None] + columns).ravel()


def _taps(isa: InstructionSet, differences: Integers, window: Window, source: Placement) -> tuple[Integers, Integers]:
    """A window as taps: weights (taps, C) and their offsets, filled up to whole groups; large weights in parts."""
    rows = np.arange(window.kernel[0]) * window.dilation[0] * source.row
    columns = np.arange(window.kernel[1]) * window.dilation[1] * source.pixel
    offsets = (rows[:, None] + columns).ravel()
    weights = differences.reshape(len(offsets), -1)
    terms = 1
    while isa.group == 4 and not all(((part >= -128) & (part <= 127)).all() for part in packing.split(weights, terms)):
        terms += 1
    taps = np.concatenate(packing.split(weights, terms))
    offsets = np.tile(offsets, terms)
    more = -len(offsets) % isa.group
    return np.pad(taps, ((0, more), (0, 0))), np.pad(offsets, (0, more), mode="edge")
