"""What the templates of the model's own files are told; independent of the board."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.terminal import shape_text
from tinymbn_codegen.constants import (
    all_constants,
    as_lines,
    constants_of,
    shape_axes,
    weights_bytes,
)
from tinymbn_codegen.layer_views import LayerView, layer_view
from tinymbn_codegen.names import plain
from tinymbn_codegen.plan import Place, Plan
from tinymbn_codegen.requests import ALIGNMENT
from tinymbn_codegen.schedule_views import (
    SegmentView,
    counters_expression,
    expression,
    row_expression,
    segment_views,
)

Pixels = NDArray[np.int8]  # (channels, 256)


@dataclass(frozen=True)
class RowInputView:
    """The input where it comes row by row; ``place`` is a C expression of row y."""

    rows: int
    bytes: int
    place: str
    only_one: bool


@dataclass(frozen=True)
class TensorView:
    """The input or an output."""

    shape: str
    bytes: int
    offset: int
    place: str
    scale: str
    zero_point: int
    suffix: str


@dataclass(frozen=True)
class PixelView:
    """What becomes of a pixel, where all channels are alike; no table: 128 less."""

    text: str
    table: tuple[str, ...]


@dataclass(frozen=True)
class ChannelPixelView:
    """What becomes of a pixel of each channel."""

    text: str
    channels: int
    tables: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FunctionView:
    """A declaration."""

    name: str
    parameters: str


@dataclass(frozen=True)
class ArrayView:
    """A constant's definition."""

    type: str
    symbol: str
    count: int
    axes: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ModelView:
    """The model as a whole."""

    title: str
    facts: tuple[str, ...]
    layer_table: tuple[str, ...]
    layers: int
    arena_bytes: int
    alignment: int
    input: TensorView
    outputs: tuple[TensorView, ...]
    outputs_text: str
    output_bytes: int
    pixel: PixelView | None
    channel_pixel: ChannelPixelView | None
    functions: tuple[FunctionView, ...]
    segments: tuple[SegmentView, ...]
    after_input: tuple[SegmentView, ...]
    counters: str
    row_input: RowInputView | None


def model_view(plan: Plan, layers: tuple[LayerView, ...], pixels: Pixels) -> ModelView:
    """Everything the model's files say but the layers' bodies and the constants' values."""
    offset, outputs = 0, []
    segments = segment_views(plan)
    for i, place in enumerate(plan.outputs):
        outputs.append(_tensor_view(plan, place, offset, f"_{i}" if len(plan.outputs) > 1 else ""))
        offset += place.tensor.elements
    same = bool((pixels == pixels[0]).all())
    text = _pixel_text(plan)
    return ModelView(
        title=f"{plain(plan.graph.name)}: {len(plan.steps)} layers, {plan.graph.macs:,} MACs",
        facts=(
            f"RAM    {plan.arena_bytes:,} bytes for all activations, {_input_text(plan)} included",
            f"flash  {weights_bytes(plan):,} bytes of constants",
        ),
        layer_table=_layer_table(plan),
        layers=len(plan.steps),
        arena_bytes=plan.arena_bytes,
        alignment=ALIGNMENT,
        input=_tensor_view(plan, plan.input, 0, ""),
        outputs=tuple(outputs),
        outputs_text=", then ".join(output.shape for output in outputs) + ", int8",
        output_bytes=plan.output_bytes,
        pixel=PixelView(text, _pixel_table(pixels[0])) if same else None,
        channel_pixel=None
        if same
        else ChannelPixelView(text, len(pixels), tuple(tuple(as_lines(channel)) for channel in pixels)),
        functions=tuple(FunctionView(layer.function, layer.parameters) for layer in layers),
        segments=segments,
        after_input=segments[1:] if plan.options.input == "rows" else segments,
        counters=counters_expression(plan),
        row_input=_row_input_view(plan),
    )


def layer_views(plan: Plan) -> tuple[LayerView, ...]:
    """The functions of all layers that have one."""
    return tuple(layer_view(plan, step) for step in plan.steps if step.kernel is not None)


def array_views(plan: Plan) -> tuple[ArrayView, ...]:
    """The definitions of all constants."""
    return tuple(
        ArrayView(
            type=constant.type,
            symbol=constant.symbol,
            count=constant.values.size,
            axes=constant.axes,
            lines=tuple(as_lines(constant.values)),
        )
        for constant in all_constants(plan)
    )


def _row_input_view(plan: Plan) -> RowInputView | None:
    if plan.options.input == "frame":
        return None
    place = plan.input
    return RowInputView(place.rows, place.row_bytes, row_expression(plan, place, "y"), place.slots == 1)


def _tensor_view(plan: Plan, place: Place, offset: int, suffix: str) -> TensorView:
    tensor = place.tensor
    return TensorView(
        shape=shape_axes(tensor.shape),
        bytes=tensor.elements,
        offset=offset,
        place=expression(plan, place),
        scale=f"{tensor.scale:#.9g}",
        zero_point=tensor.zero_point,
        suffix=suffix,
    )


def _input_text(plan: Plan) -> str:
    if plan.input.streams:
        return f"{plan.input.slots} rows of the input's {plan.input.rows}"
    return f"the frame of {plan.input_bytes:,}"


def _pixel_text(plan: Plan) -> str:
    how = plan.graph.preprocessing
    colours = {3: f"channels in the order {how.channel_order}", 1: "grey"}
    return colours.get(plan.input.tensor.shape[-1], "any channel")


def _pixel_table(pixels: Pixels) -> tuple[str, ...]:
    return () if np.array_equal(pixels, np.arange(-128, 128)) else tuple(as_lines(pixels))


def _layer_table(plan: Plan) -> tuple[str, ...]:
    """Number, kind, shapes, arena offsets, MACs and the model's own name of each layer."""
    rows = [("layer", "kernel", "input at", "shape", "output at", "shape", "MACs", "name")]
    for step in plan.steps:
        rows.append(
            (
                str(step.index),
                step.kernel.name if step.kernel is not None else "(in place)",
                " ".join("flash" if place.offset is None else str(place.offset) for place in step.inputs),
                " ".join(shape_text(place.tensor.shape) for place in step.inputs),
                str(step.output.offset),
                shape_text(step.output.tensor.shape),
                str(step.macs),
                plain(step.layer.name),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return tuple("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


@dataclass(frozen=True)
class LinkView:
    """What the link's descriptor says."""

    sha256: tuple[str, ...]
    constants: tuple[tuple[str, int], ...]
    first_constant: tuple[str, ...]
    rows: tuple[str, ...]
    frame_buffer: bool
    options: str
    output_scale_q20: int


def link_view(plan: Plan, *, frame_buffer: bool) -> LinkView:
    """The descriptor of the model for the serial link, with or without a frame outside the arena."""
    each = [constants_of(plan, step) for step in plan.steps]
    first = np.cumsum([0, *(len(found) for found in each)]).astype(np.int32)
    digest = [f"0x{byte:02x}" for byte in bytes.fromhex(plan.sha256)]
    return LinkView(
        sha256=tuple(", ".join(digest[i : i + 16]) + "," for i in (0, 16)),
        constants=tuple((c.symbol, len(c.bytes)) for found in each for c in found),
        first_constant=tuple(as_lines(first)),
        rows=tuple(as_lines(np.array([step.calls for step in plan.steps], np.int32))),
        frame_buffer=frame_buffer,
        options=plan.options.text,
        output_scale_q20=min(round(plan.outputs[0].tensor.scale * 1000 * 2**20), 2**43 - 1),  # 255 of them fit the text
    )
