"""What the templates are told of the schedule: which function is called with what, and when."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.layers import AveragePool, Conv2D, Depthwise, MaxPool
from tinymbn_codegen.constants import layer_symbol, tensor_constant
from tinymbn_codegen.layer_views import step_window, title
from tinymbn_codegen.layouts import groups
from tinymbn_codegen.plan import Place, Plan, Step
from tinymbn_codegen.requests import COUNTER_BYTES


@dataclass(frozen=True)
class WindowView:
    """How the rows of a row kernel are found.

    Attributes:
        kernel: how many.
        base: C expression of the first slot.
        height: of the map.
        slots: that there are; 0 where the map is whole.
        row_bytes: from one slot to the next.
        first: C expression of the first row's number.
        dilation: from one row to the next.
    """

    kernel: int
    base: str
    height: int
    slots: int
    row_bytes: int
    first: str
    dilation: int


@dataclass(frozen=True)
class RowsView:
    """How the bytes of a layer are reported.

    Attributes:
        layout: of its rows.
        data: C expression of row y, or of all.
        bytes: of a row as it is reported.
        width: of the map, in pixels.
        channels: of it.
        fours: pixels in groups of four, where rows lie in pairs.
        rest: pixels of each group behind them; at least 1.
    """

    layout: str
    data: str
    bytes: int
    width: int
    channels: int
    fours: int
    rest: int


@dataclass(frozen=True)
class StepView:
    """One layer in the schedule; the texts are C expressions, and ``y`` is the row that is made.

    Attributes:
        index: its number.
        number: the same as two digits.
        title: what its comment says.
        function: None where nothing is to be done.
        window: where it takes pointers to rows.
        arguments: of the function.
        calls: how many make the output.
        by_rows: a call makes a row.
        row_matters: the call needs to know which.
        report: of what was made.
        condition: in a segment that streams, whether the next row can be made; of ``made`` and ``given``.
        counter: in a segment that streams, which counter is its own.
    """

    index: int
    number: str
    title: str
    function: str | None
    window: WindowView | None
    arguments: tuple[str, ...]
    calls: int
    by_rows: bool
    row_matters: bool
    report: RowsView
    condition: str
    counter: int


@dataclass(frozen=True)
class SegmentView:
    """Layers that run together.

    Attributes:
        number: as two digits.
        steps: in order.
        streams: driven by the rows of a map.
        title: of one that streams.
        source_rows: of that map.
        passes: how often each layer gets its turn.
        counters: that it has.
    """

    number: str
    steps: tuple[StepView, ...]
    streams: bool
    title: str
    source_rows: int
    passes: int
    counters: int


def segment_views(plan: Plan) -> tuple[SegmentView, ...]:
    """Every segment, in running order."""
    found = []
    for number, segment in enumerate(plan.segments):
        streams = segment.source is not None
        steps = [plan.steps[k] for k in segment.layers]
        views = tuple(
            _step_view(plan, step, _condition(steps, i, segment.source) if streams else "", i)
            for i, step in enumerate(steps)
        )
        first, last = segment.layers[0], segment.layers[-1]
        found.append(
            SegmentView(
                number=f"{number:02}",
                steps=views,
                streams=streams,
                title=f"layers {first} to {last}" if last > first else f"layer {first}",
                source_rows=segment.source_rows,
                passes=segment.passes,
                counters=len(steps),
            )
        )
    return tuple(found)


def counters_expression(plan: Plan) -> str:
    """The counters of a segment that streams; empty where none does."""
    if plan.counters is None:
        return ""
    assert COUNTER_BYTES == 2, "tinymbn_half"
    return f"(tinymbn_half *)(void *)({_base(plan, plan.counters)})"


def expression(plan: Plan, place: Place) -> str:
    """Where a tensor begins."""
    if place.offset is None:
        return tensor_constant(plan, place.tensor.name).symbol
    return _base(plan, place.offset)


def row_expression(plan: Plan, place: Place, row: str) -> str:
    """Where a row of a map lies."""
    start = expression(plan, place)
    if place.slots == 1:
        return start
    slot = f"{row} % {place.slots}" if place.streams else row
    return f"{start} + {slot} * {place.row_bytes}"


def _base(plan: Plan, offset: int) -> str:
    return f"{plan.options.name}_arena" + (f" + {offset}" if offset else "")


def _step_view(plan: Plan, step: Step, condition: str, counter: int) -> StepView:
    by_rows = step.kernel is not None and step.kernel.rows
    output = row_expression(plan, step.output, "y") if by_rows else expression(plan, step.output)
    window = _window_view(plan, step) if by_rows and _takes_rows(step) else None
    arguments = []
    if step.kernel is not None and step.kernel.slots:
        arguments.append(_slots(step, plan))
    if window is not None:
        arguments.append("rows")
    else:
        inputs = [row_expression(plan, p, "y") if by_rows else expression(plan, p) for p in step.inputs]
        arguments += inputs
    if step.scratch is not None:
        arguments.append(_base(plan, step.scratch))
    return StepView(
        index=step.index,
        number=f"{step.index:02}",
        title=title(step),
        function=None if step.kernel is None else layer_symbol(plan, step),
        window=window,
        arguments=(*arguments, output),
        calls=step.output.rows if by_rows else 1,
        by_rows=by_rows,
        row_matters=window is not None or any(" y " in f" {argument} " for argument in (*arguments, output)),
        report=_rows_view(step.output, output, by_rows=by_rows),
        condition=condition,
        counter=counter,
    )


def _takes_rows(step: Step) -> bool:
    """Whether the kernel takes an array of pointers to rows; others read a single row of each input."""
    assert step.kernel is not None
    return step.kernel.name not in ("dsp_pointwise", "dsp_add", "mve_pointwise", "mve_add")


def _rows_view(place: Place, data: str, *, by_rows: bool) -> RowsView:
    shape = place.tensor.shape
    _, width, channels = shape if len(shape) == 3 else (1, 1, place.tensor.elements)
    sizes = groups(width)
    return RowsView(
        layout=place.layout,
        data=data,
        bytes=place.tensor.elements // place.rows if by_rows else place.tensor.elements,
        width=width,
        channels=channels,
        fours=4 * sizes.count(4),
        rest=sizes[-1] if sizes[-1] != 4 else 1,
    )


def _window_view(plan: Plan, step: Step) -> WindowView:
    place, window = step.inputs[0], step_window(step)
    stride = f"y * {window.stride[0]}" if window.stride[0] > 1 else "y"
    top = window.padding.top
    return WindowView(
        kernel=window.kernel[0],
        base=expression(plan, place),
        height=place.rows,
        slots=place.slots if place.streams else 0,
        row_bytes=place.row_bytes,
        first=f"{stride} - {top}" if top else stride,
        dilation=window.dilation[0],
    )


def _slots(step: Step, plan: Plan) -> str:
    """The first of the three slots that hold the rows under the window."""
    place = step.inputs[0]
    start = expression(plan, place)
    if place.streams or place.rows <= 3:
        return start
    window = _window_view(plan, step)
    return f"{start} + tinymbn_between({window.first}, 0, {place.rows - 3}) * {place.row_bytes}"


def _condition(steps: list[Step], i: int, source: str | None) -> str:
    """Whether layer ``i`` of a segment can make its next row: rows are left, and all that it reads is there."""
    step = steps[i]
    makers = {other.output.tensor.name: j for j, other in enumerate(steps[:i])}
    parts = [f"made[{i}] < {step.output.rows}"]
    for place in {place.tensor.name: place for place in step.inputs}.values():
        name = place.tensor.name
        if name not in makers and name != source:
            continue
        there = "given" if name not in makers else f"made[{makers[name]}]"
        parts.append(f"{_last_row(step, place, f'made[{i}]')} < {there}")
    return " && ".join(parts)


def _last_row(step: Step, place: Place, y: str) -> str:
    layer = step.layer
    if not isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
        return y
    window = layer.window
    beyond = window.extent[0] - 1 - window.padding.top
    row = f"{y} * {window.stride[0]}" if window.stride[0] > 1 else y
    row += f" + {beyond}" if beyond > 0 else f" - {-beyond}" if beyond < 0 else ""
    highest = (step.output.rows - 1) * window.stride[0] + beyond
    return f"tinymbn_least({row}, {place.rows - 1})" if highest > place.rows - 1 else row
