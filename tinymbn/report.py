"""Shows the results of pictures: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tinymbn import labels
from tinymbn.graph import Graph, Tensor
from tinymbn.inference import LayerOutput, LayerTime, PictureError, PictureResult
from tinymbn.summary import SCHEMA
from tinymbn.terminal import printable, shape_text, shorten, terminal_width

FIRST_VALUES = 8  # shown of an output that is no class scores
DEFAULT_TOP = 5


class JsonReport:
    """One JSON object, printed at the end.

    Args:
        graph: the model.
        top: classes to give of each picture; None: 5.
    """

    def __init__(self, graph: Graph, top: int | None) -> None:
        self._graph = graph
        self._top = top or DEFAULT_TOP
        self._pictures: list[dict[str, Any]] = []
        self._values: dict[str, Any] = {"schema": SCHEMA, "model": graph.name, "pictures": self._pictures}

    def add(self, result: PictureResult | PictureError) -> None:
        """Take the result of the next picture."""
        picture: dict[str, Any] = {"picture": str(result.path)}
        self._pictures.append(picture)
        if isinstance(result, PictureError):
            picture["error"] = str(result.error)
            return
        tensors = self._graph.output_tensors
        picture["outputs"] = [self._output(t, v) for t, v in zip(tensors, result.outputs, strict=True)]
        if result.layers:
            picture["layers"] = [_layer_output(i, summary) for i, summary in enumerate(result.layers)]

    def add_times(self, times: Sequence[LayerTime]) -> None:
        """Take how long the layers take."""
        self._values["profile"] = [
            {"index": index, "name": one.layer.name, "kind": one.layer.kind, "seconds": one.seconds}
            for index, one in enumerate(times)
        ]

    def finish(self) -> None:
        """Print the object."""
        print(json.dumps(self._values, indent=2))

    def _output(self, tensor: Tensor, values: NDArray[Any]) -> dict[str, Any]:
        output: dict[str, Any] = {"name": tensor.name, "type": tensor.dtype, "shape": list(tensor.shape)}
        if labels.class_count(self._graph, tensor.name):
            output["scores"] = [
                {"class": score.index, "label": score.label, "score": score.value, "raw": score.raw}
                for score in labels.top(values, tensor, self._graph.labels, self._top)
            ]
            return output
        real = labels.real_values(values, tensor)
        return output | {
            "min": float(real.min()),
            "max": float(real.max()),
            "first": [float(value) for value in real.flat[:FIRST_VALUES]],
            "first_raw": [int(value) for value in values.flat[:FIRST_VALUES]] if tensor.quant else None,
        }


def _layer_output(index: int, summary: LayerOutput) -> dict[str, Any]:
    return {
        "index": index,
        "name": summary.layer.name,
        "kind": summary.layer.kind,
        "shape": list(summary.shape),
        "min": summary.low,
        "max": summary.high,
        "crc32": f"{summary.crc32:08x}",
    }


class TextReport:
    """A line for each picture, or a block where there is more to say, printed at once.

    Args:
        graph: the model.
        paths: of all pictures, for the width of their column.
        top: classes to show of each; None: 5 of a single picture, 1 of each of several.
    """

    def __init__(self, graph: Graph, paths: Sequence[Path], top: int | None) -> None:
        self._graph = graph
        self._top = top or (DEFAULT_TOP if len(paths) == 1 else 1)
        scores = [labels.class_count(graph, name) > 0 for name in graph.outputs]
        self._in_lines = len(paths) > 1 and self._top == 1 and scores == [True]
        self._width = terminal_width()
        longest = max(len("picture"), *(len(printable(str(path))) for path in paths))
        if self._width is not None:
            beside = self._width - 25  # what the scores leave
            longest = min(longest, beside // 2 if graph.labels else beside)
        self._path_width = longest
        self._headed = False

    def add(self, result: PictureResult | PictureError) -> None:
        """Print the result of the next picture; errors are printed elsewhere, on standard error."""
        if isinstance(result, PictureError):
            return
        path = printable(str(result.path))
        if self._in_lines:
            self._add_line(shorten(path, self._path_width), result)
        else:
            self._add_block(path, result)
        if result.layers:
            from tinymbn import tables

            tables.print_layer_outputs(result.layers)
            self._headed = False

    def add_times(self, times: Sequence[LayerTime]) -> None:
        """Print how long the layers take."""
        from tinymbn import tables

        print()
        tables.print_layer_times(self._graph, times)

    def finish(self) -> None:
        """All has been printed."""

    def _add_line(self, path: str, result: PictureResult) -> None:
        (tensor,) = self._graph.output_tensors
        if not self._headed:
            self._print(f"{'picture':{self._path_width}}  {self._score_heading(tensor)}")
            self._headed = True
        for line in self._score_lines(tensor, result.outputs[0]):
            self._print(f"{path:{self._path_width}}  {line}")

    def _add_block(self, path: str, result: PictureResult) -> None:
        self._print(path)
        for tensor, values in zip(self._graph.output_tensors, result.outputs, strict=True):
            if len(result.outputs) > 1:
                self._print(f"  {printable(tensor.name)}")
            if labels.class_count(self._graph, tensor.name):
                for line in (self._score_heading(tensor), *self._score_lines(tensor, values)):
                    self._print(f"  {line}")
                continue
            real = labels.real_values(values, tensor)
            raw = f" ({tensor.dtype} {values.min()} to {values.max()})" if tensor.quant else ""
            self._print(f"  {shape_text(tensor.shape)}, {real.min():.4g} to {real.max():.4g}{raw}")
            self._print(f"  first values: {'  '.join(f'{value:.4g}' for value in real.flat[:FIRST_VALUES])}")

    def _score_heading(self, tensor: Tensor) -> str:
        raw = f"  {tensor.dtype:>5}" if tensor.quant else ""
        return f"  score{raw}  class{'  label' if self._labelled(tensor) else ''}"

    def _score_lines(self, tensor: Tensor, values: NDArray[Any]) -> Iterator[str]:
        # The label comes last: it may have letters of any width.
        percent = labels.is_probability(self._graph, tensor.name)
        for score in labels.top(values, tensor, self._graph.labels, self._top):
            value = f"{score.value * 100:.1f} %" if percent else f"{score.value:.4g}"
            raw = f"  {'' if score.raw is None else score.raw:>5}" if tensor.quant else ""
            label = f"  {printable(score.label)}" if self._labelled(tensor) else ""
            yield f"{value:>7}{raw}  {score.index:>5}{label}"

    def _labelled(self, tensor: Tensor) -> bool:
        return len(self._graph.labels) == labels.class_count(self._graph, tensor.name)

    def _print(self, line: str) -> None:
        print(line if self._width is None or len(line) <= self._width else f"{line[: self._width - 1]}…")
