"""Passes: what they take out, what they leave alone, and that no byte of what remains changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.graphs import weights
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.layers import Activation, AnyLayer, Conv2D, Depthwise, MaxPool, Pad, Padding, Requantize, Window
from tinymbn_codegen.options import Options
from tinymbn_codegen.passes import optimise

QUANT = Quant(0.5, -3)
FOLDING = Options(without=frozenset({"dead_channels"}))


@dataclass
class Case:
    """A PAD and what reads it; each test changes one thing."""

    pads: tuple[tuple[int, int], ...] = ((0, 1), (2, 0), (0, 0))
    value: int = -3
    padded: Quant = QUANT
    readers: tuple[str, ...] = ("conv2d",)
    outputs: tuple[str, ...] = ("y0",)
    padding: Padding = Padding()
    kernel: tuple[int, int] = (3, 3)
    constant: bool = False

    def graph(self) -> Graph:
        source = "constant" if self.constant else "x"
        pad = Pad("pad", (source,), "padded", self.pads, self.value)
        tensors = {"x": Tensor("x", (6, 5, 2), QUANT)}
        constants = {}
        if self.constant:
            tensors["constant"] = Tensor("constant", (6, 5, 2), QUANT)
            constants["constant"] = np.arange(60, dtype=np.int8).reshape(6, 5, 2)
        tensors["padded"] = Tensor("padded", pad.output_shape((6, 5, 2)), self.padded)
        layers: list[AnyLayer] = [pad]
        for i, kind in enumerate(self.readers):
            layer = self._reader(kind, f"y{i}", tensors["padded"].shape[2])
            tensors[f"y{i}"] = Tensor(f"y{i}", layer.output_shape(tensors["padded"].shape), Quant(0.25, 5))
            layers.append(layer)
        return Graph("padded", tensors, tuple(layers), "x", self.outputs, constants)

    def _reader(self, kind: str, name: str, c_in: int) -> AnyLayer:
        window: dict[str, Any] = {"window": Window(self.kernel, (2, 1), padding=self.padding)}
        free = Activation()
        if kind == "conv2d":
            return Conv2D(name, ("padded",), name, weights(3, *self.kernel, c_in, channels=3), free, **window)
        if kind == "depthwise":
            w = weights(*self.kernel, 2 * c_in, channels=2 * c_in)
            return Depthwise(name, ("padded",), name, weights=w, activation=free, **window)
        if kind == "max_pool":
            return MaxPool(name, ("padded",), name, **window)
        return Requantize(name, ("padded",), name, 2**30, 1)


def _expect_the_same_bytes(before: Graph, after: Graph) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (6, 5, 2), dtype=np.int8)
    expected = {layer.output: output.tobytes() for layer, output in Interpreter(before).steps(x)}
    found = {layer.output: output.tobytes() for layer, output in Interpreter(after).steps(x)}
    assert found.items() <= expected.items()
    assert set(after.outputs) <= set(found)


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(readers=("depthwise",)),
        Case(readers=("conv2d", "depthwise"), outputs=("y0", "y1")),
        Case(padding=Padding(1, 0, 0, 2)),
        Case(pads=((2, 2), (2, 2), (0, 0))),
    ],
)
def test_a_pad_becomes_padding_of_the_convolutions_that_read_it(case: Case) -> None:
    graph = case.graph()
    after = optimise(graph, FOLDING)
    assert [layer.kind for layer in after.layers] == list(case.readers)
    assert "padded" not in after.tensors
    _expect_the_same_bytes(graph, after)


@pytest.mark.parametrize(
    "case",
    [
        Case(value=-2),
        Case(padded=Quant(0.5, -2), value=-2),
        Case(padded=Quant(0.25, -3)),
        Case(pads=((0, 1), (2, 0), (0, 1))),
        Case(pads=((3, 0), (0, 0), (0, 0))),  # a window wholly within the padding
        Case(pads=((2, 0), (0, 0), (0, 0)), padding=Padding(1, 0, 0, 0)),
        Case(pads=((0, 0), (0, 1), (0, 0)), kernel=(3, 1)),
        Case(readers=("max_pool",)),
        Case(readers=("requantize",)),
        Case(readers=("conv2d", "requantize"), outputs=("y0", "y1")),
        Case(readers=("conv2d",), outputs=("y0", "padded")),
        Case(readers=(), outputs=("padded",)),
        Case(constant=True),
    ],
)
def test_a_pad_that_counts_stays(case: Case) -> None:
    graph = case.graph()
    after = optimise(graph, FOLDING)
    assert [layer.kind for layer in after.layers] == ["pad", *case.readers]
    _expect_the_same_bytes(graph, after)


def test_a_pass_can_be_switched_off() -> None:
    graph = Case().graph()
    assert optimise(graph, Options(without=FOLDING.without | {"fold_padding"})) is graph
