"""Runs a model over picture files, and looks at what its layers make and how long they take."""

from __future__ import annotations

import io
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ImageError
from tinymbn.files import write_file
from tinymbn.graph import Graph
from tinymbn.image import SUFFIXES, load_input
from tinymbn.interpreter import Interpreter
from tinymbn.layers import AnyLayer

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerOutput:
    """What one layer made of one input: enough to find the first layer in which two runs differ."""

    layer: AnyLayer
    shape: tuple[int, ...]
    low: float
    high: float
    crc32: int  # of the bytes, in array order


@dataclass(frozen=True, eq=False)
class PictureResult:
    """What a model made of one picture.

    Attributes:
        path: of the picture.
        input: the model's input made of it.
        outputs: of the output tensors' types and shapes, in the file's order.
        layers: what each layer made; empty if not asked for.
    """

    path: Path
    input: Array
    outputs: tuple[Array, ...]
    layers: tuple[LayerOutput, ...]


@dataclass(frozen=True)
class PictureError:
    """Why there is nothing to say of a picture."""

    path: Path
    error: ImageError


@dataclass(frozen=True)
class LayerTime:
    """How long one layer takes on this computer."""

    layer: AnyLayer
    seconds: float


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and in place of a folder the picture files in it, by name.

    Raises:
        ImageError: a folder holds no pictures or cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):  # unlike Path.is_dir, no error on a name that is too long
            found.append(path)
            continue
        try:
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
        # macOS leaves a "._name.png" that is no picture beside each file.
        inside = [file for file in inside if file.is_file() and not file.name.startswith(".")]
        if not inside:
            raise ImageError(f"{path}: no pictures in this folder; expected files ending in {', '.join(SUFFIXES)}")
        found += inside
    return found


def run_pictures(
    interpreter: Interpreter, paths: Sequence[Path], *, layers: bool = False
) -> Iterator[PictureResult | PictureError]:
    """The result of each picture, in order; one that cannot be read does not stop the others.

    Args:
        interpreter: of the model.
        paths: of pictures and ``.npy`` arrays.
        layers: sum up each layer's output as well.
    """
    for path in paths:
        try:
            x = load_input(path, interpreter.graph)
        except ImageError as error:
            yield PictureError(path, error)
            continue
        outputs = interpreter.run(x)
        yield PictureResult(
            path=path,
            input=x,
            outputs=outputs if isinstance(outputs, tuple) else (outputs,),
            layers=layer_outputs(interpreter, x) if layers else (),
        )


def layer_outputs(interpreter: Interpreter, x: Array) -> tuple[LayerOutput, ...]:
    """A summary of each layer's output, in running order.

    Args:
        interpreter: of the model.
        x: one input, of the input tensor's type and shape.
    """
    return tuple(
        LayerOutput(
            layer=layer,
            shape=output.shape,
            low=output.min().item(),
            high=output.max().item(),
            crc32=zlib.crc32(output.tobytes()),
        )
        for layer, output in interpreter.steps(x)
    )


def layer_times(interpreter: Interpreter, x: Array, most_s: float = 1.0) -> list[LayerTime]:
    """The median time of each layer, in running order.

    Args:
        interpreter: of the model.
        x: one input, of the input tensor's type and shape; the model has run before, so that all is compiled.
        most_s: no further run is begun after this time; there are at least 3 runs and at most 100.
    """
    import statistics  # not before it is needed: it takes longer than many inferences

    runs: list[list[float]] = []
    begin = time.perf_counter()
    while len(runs) < 3 or (len(runs) < 100 and time.perf_counter() - begin < most_s):
        runs.append(interpreter.layer_seconds(x))
    medians = [statistics.median(of_layer) for of_layer in zip(*runs, strict=True)]
    return [LayerTime(layer, s) for layer, s in zip(interpreter.graph.layers, medians, strict=True)]


def save_outputs(path: Path, graph: Graph, results: Sequence[PictureResult]) -> None:
    """Write the raw outputs of all pictures as ``.npz``; the file appears whole or not at all.

    Members: ``pictures`` (N,) and ``names`` (of the outputs), strings; ``output_0``, ``output_1``, ...:
    (N, ...), of the output tensors' types.

    Raises:
        OutputError: the file cannot be written.
    """
    members: dict[str, Array] = {
        "pictures": np.array([str(result.path) for result in results]),
        "names": np.array(graph.outputs),
    }
    for i in range(len(graph.outputs)):
        members[f"output_{i}"] = np.stack([result.outputs[i] for result in results])
    file = io.BytesIO()
    np.savez(file, **members)  # type: ignore[arg-type]
    write_file(path, file.getvalue())
