"""A graph that exists is sound."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.graphs import classifier, weights
from tinymbn import Graph, ModelError
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv2D,
    Depthwise,
    Dequantize,
    MaxPool,
    Mean,
    Pad,
    Padding,
    Quantize,
    Reshape,
    Softmax,
    Transpose,
    Window,
    same_padding,
)

QUANT = Quant(0.5, 0)


def _changed(**changes: Any) -> Graph:
    return dataclasses.replace(classifier(), **changes)


def _with_tensor(name: str, **changes: Any) -> Graph:
    tensors = dict(classifier().tensors)
    tensors[name] = dataclasses.replace(tensors[name], **changes)
    return _changed(tensors=tensors)


def _one(layer: Any, source: Tensor, made: Tensor) -> Graph:
    return Graph("one", {source.name: source, made.name: made}, (layer,), source.name, (made.name,))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: _changed(input="none"), 'input "none" is not a tensor'),
        (lambda: _changed(outputs=()), "no outputs"),
        (lambda: _changed(outputs=("none",)), 'output "none" is not a tensor'),
        (lambda: _changed(layers=classifier().layers[::-1]), 'reads "logits", which nothing before it makes'),
        (lambda: _changed(layers=classifier().layers * 2), "two layers have one name"),
        (lambda: _changed(layers=classifier().layers[:-1]), 'nothing makes tensor "scores"'),
        (lambda: _changed(constants={}), 'reads "bias", which nothing before it makes'),
        (lambda: _changed(constants={"bias": np.zeros(2, np.int8)}), 'constant "bias" is int8 (2,)'),
        (lambda: _changed(labels=("a\nb",)), "a label has more than one line"),
        (lambda: _with_tensor("conv", shape=(2, 3, 4)), "makes shape (2, 3, 3); its output tensor says (2, 3, 4)"),
        (lambda: _with_tensor("conv", dtype="uint8", quant=Quant(0.5, 3)), "which is uint8"),
        (lambda: _with_tensor("conv", shape=()), "rank 0"),
        (lambda: _with_tensor("conv", shape=(1, 2, 3, 3, 3)), "rank 5"),
        (lambda: _with_tensor("conv", quant=None), "has no scale"),
        (lambda: _with_tensor("conv", quant=Quant(0.0, 0)), "scale 0.0"),
        (lambda: _with_tensor("conv", quant=Quant(float("inf"), 0)), "scale inf"),
        (lambda: _with_tensor("conv", quant=Quant(0.5, 128)), "zero point 128"),
    ],
)
def test_an_unsound_graph_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        make()
    assert text in str(caught.value)


def _conv(**changes: Any) -> Conv2D:
    arguments: dict[str, Any] = {
        "name": "c",
        "inputs": ("x",),
        "output": "y",
        "weights": weights(3, 2, 2, 1, channels=3),
        "activation": Activation(),
        "window": Window((2, 2)),
    }
    return Conv2D(**{**arguments, **changes})


def _with_weights(**changes: Any) -> Conv2D:
    return _conv(weights=dataclasses.replace(weights(3, 2, 2, 1, channels=3), **changes))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: _conv(window=Window((3, 2))), "weights (3, 2, 2, 1) do not fit kernel (3, 2)"),
        (lambda: _conv(window=Window((2, 2), stride=(0, 1))), "is not in [1, 65536]"),
        (lambda: _conv(window=Window((2, 2), padding=Padding(top=2))), "is not smaller than the kernel's extent"),
        (lambda: _conv(activation=Activation(5, 4)), "lets nothing through"),
        (lambda: _conv(activation=Activation(-129, 4)), "is not in [-128, 127]"),
        (lambda: _conv(inputs=("x", "z")), "2 inputs; expected 1"),
        (lambda: _with_weights(values=np.ones((3, 2, 2), np.int8)), "expected int8 of rank 4"),
        (lambda: _with_weights(values=np.ones((3, 2, 2, 1), np.int16)), "expected int8 of rank 4"),
        (lambda: _with_weights(bias=np.ones(4, np.int32)), "bias has 4 entries for 3 output channels"),
        (lambda: _with_weights(multiplier=np.full(3, -1, np.int32)), "a multiplier is negative"),
        (lambda: _with_weights(shift=np.full(3, 31, np.int8)), "is not in [-31, 30]"),
        (lambda: _with_weights(zero_point=200), "weight zero point 200"),
        (lambda: Add("a", ("x", "x"), "y", 0, 1, 0, 0, 0, 0), "a_shift is 1; expected 0 or less"),
        (lambda: Mean("m", ("x",), "y", (1, 0), False, 0, 0), "are not ascending"),
        (lambda: Mean("m", ("x",), "y", (), False, 0, 0), "are not ascending"),
        (lambda: Softmax("s", ("x",), "y", 2**30, -1, -1), "shift is -1"),
        (lambda: Softmax("s", ("x",), "y", 2**30, 30, -3), "diff_min -3"),
        (lambda: Pad("p", ("x",), "y", ((0, -1),), 0), "padding -1"),
        (lambda: Pad("p", ("x",), "y", ((0, 1),), 128), "value 128"),
        (lambda: Transpose("t", ("x",), "y", (0, 0)), "does not name each axis once"),
        (lambda: Concat("c", (), "y", 0), "no inputs"),
        (lambda: MaxPool("m", ("x",), "y", Window((2, 2), dilation=(2, 1))), "a pool has no dilation"),
    ],
)
def test_an_unsound_layer_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shapes", "text"),
    [
        (_conv(), [(4, 4, 2)], "weights (3, 2, 2, 1) do not fit input (4, 4, 2): expected 2 channels last"),
        (_conv(), [(1, 4, 1)], "does not fit input (1, 4, 1)"),
        (_conv(), [(4, 4)], "expected (H, W, C)"),
        (
            Depthwise("d", ("x",), "y", weights(2, 2, 3, channels=3), Activation(), Window((2, 2))),
            [(4, 4, 2)],
            "expected a multiple of 2 channels last",
        ),
        (Add("a", ("x", "z"), "y", 0, 0, 0, 0, 0, 0), [(2, 3), (4, 3)], "do not broadcast"),
        (Mean("m", ("x",), "y", (2,), False, 0, 0), [(3, 3)], "do not fit input (3, 3)"),
        (Concat("c", ("x", "z"), "y", 0), [(2, 3), (2, 4)], "differ in more than axis 0"),
        (Reshape("r", ("x",), "y", (5,)), [(2, 3)], "does not fit shape (5,)"),
        (Transpose("t", ("x",), "y", (1, 0)), [(2, 3, 4)], "does not fit input (2, 3, 4)"),
        (Pad("p", ("x",), "y", ((0, 1),), 0), [(2, 3)], "do not fit input (2, 3)"),
        (Softmax("s", ("x",), "y", 2**30, 0, 0), [(4096,)], "the reference's sum holds 4095"),
    ],
)
def test_inputs_that_do_not_fit_a_layer_are_refused(layer: Any, shapes: list[Any], text: str) -> None:
    with pytest.raises(ModelError) as caught:
        layer.output_shape(*shapes)
    assert text in str(caught.value)


def test_only_edges_have_other_types() -> None:
    inner, outer = Tensor("b", (2,), Quant(0.5, 0)), Tensor("a", (2,), Quant(0.5, 128), "uint8")
    assert _one(Quantize("q", ("a",), "b"), outer, inner).quantized_input == inner
    assert _one(Dequantize("d", ("b",), "a"), inner, outer).output_tensors == (outer,)
    with pytest.raises(ModelError, match="are not one quantisation 128 apart"):
        _one(Quantize("q", ("a",), "b"), dataclasses.replace(outer, quant=Quant(0.5, 127)), inner)
    with pytest.raises(ModelError, match="which is uint8"):
        _one(Reshape("r", ("a",), "b", (2,)), outer, inner)


def test_costs_are_counted_layer_by_layer() -> None:
    graph = classifier()
    # conv: 2x3 outputs of 3*3*2*2 weights; dense: 3 of 3.
    assert graph.macs == 2 * 3 * 36 + 9
    assert graph.parameters == 36 + 3 + 9 + 3


def test_arrays_cannot_be_changed_behind_the_graph() -> None:
    values = np.ones((3, 2, 2, 1), np.int8)
    layer = _with_weights(values=values)
    values[:] = 5
    assert (layer.weights.values == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        layer.weights.values[0] = 5


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        ((96, 96), (3, 3), (2, 2), Padding(0, 1, 0, 1)),  # even size at stride 2: nothing before, one after
        ((97, 95), (3, 3), (2, 2), Padding(1, 1, 1, 1)),
        ((5, 5), (5, 1), (1, 1), Padding(2, 2, 0, 0)),
        ((7, 7), (1, 1), (3, 3), Padding()),
        ((4, 6), (2, 4), (1, 1), Padding(0, 1, 1, 2)),
    ],
)
def test_same_padding_puts_the_odd_row_after(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], expected: Padding
) -> None:
    padding = same_padding(size, kernel, stride)
    assert padding == expected
    rows, columns = Window(kernel, stride, padding=padding).output_size(*size)
    assert (rows, columns) == (-(-size[0] // stride[0]), -(-size[1] // stride[1]))


def test_pools_keep_the_channels() -> None:
    for kind in (AveragePool, MaxPool):
        assert kind("p", ("x",), "y", Window((2, 3), (2, 1))).output_shape((5, 5, 7)) == (2, 3, 7)
