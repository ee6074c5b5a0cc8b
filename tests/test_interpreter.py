"""What the interpreter takes and gives; what layers compute is in ``test_kernel_*``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import classifier
from tinymbn import Graph, ImageError, Interpreter
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import Dequantize, Quantize, Requantize

ONE = (2**30, 1)


def _edges(dtype: Any, quant: Quant | None) -> Graph:
    """Nothing but edges around one requantisation by 1, and the int8 tensor as a second output."""
    inner = Quant(0.5, -28)
    tensors = [
        Tensor("x", (2, 3), quant, dtype),
        Tensor("x/int8", (2, 3), inner),
        Tensor("y/int8", (2, 3), inner),
        Tensor("y", (2, 3), quant, dtype),
    ]
    return Graph(
        name="edges",
        tensors={tensor.name: tensor for tensor in tensors},
        layers=(
            Quantize("q", ("x",), "x/int8"),
            Requantize("r", ("x/int8",), "y/int8", *ONE),
            Dequantize("d", ("y/int8",), "y"),
        ),
        input="x",
        outputs=("y", "y/int8"),
    )


def test_a_batch_is_its_inputs_one_by_one() -> None:
    interpreter = Interpreter(classifier())
    batch = np.random.default_rng(0).integers(-128, 128, (3, 4, 5, 2), dtype=np.int8)
    together = interpreter.run(batch)
    assert together.shape == (3, 3)
    for one, expected in zip(batch, together, strict=True):
        assert interpreter.run(one).shape == (3,)
        assert np.array_equal(interpreter.run(one), expected)


def test_several_outputs_are_a_tuple_in_order() -> None:
    x = np.array([[100, 101, 102], [0, 1, 255]], np.uint8)
    outputs = Interpreter(_edges("uint8", Quant(0.5, 100))).run(x)
    assert isinstance(outputs, tuple)
    assert [output.dtype for output in outputs] == [np.uint8, np.int8]
    assert np.array_equal(outputs[0], x)
    assert np.array_equal(outputs[1], x.astype(np.int16) - 128)


def test_float_edges_divide_and_multiply_by_the_scale() -> None:
    x = np.array([[0.0, 0.25, -0.25], [0.24, 1000.0, -1000.0]], np.float32)
    real, quantized = Interpreter(_edges("float32", None)).run(x)
    # Ties go away from zero: 0.25 / 0.5 is half a step. What is out of range is clamped.
    assert quantized.tolist() == [[-28, -27, -29], [-28, 127, -128]]
    assert real.tolist() == [[0.0, 0.5, -0.5], [0.0, 77.5, -50.0]]


def test_steps_are_the_layers_in_order_with_their_outputs() -> None:
    graph = classifier()
    x = np.zeros((4, 5, 2), np.int8)
    steps = list(Interpreter(graph).steps(x))
    assert [layer for layer, _ in steps] == list(graph.layers)
    assert all(output.shape == graph.tensors[layer.output].shape for layer, output in steps)
    assert np.array_equal(steps[-1][1], Interpreter(graph).run(x))
    assert np.array_equal(list(Interpreter(graph).steps(x[None]))[-1][1], steps[-1][1])


def test_the_input_is_left_as_it_is() -> None:
    x = np.arange(40, dtype=np.int8).reshape(4, 5, 2)
    Interpreter(classifier()).run(x)
    assert np.array_equal(x.ravel(), np.arange(40))


def test_an_input_in_another_memory_order_is_the_same_input() -> None:
    interpreter = Interpreter(classifier())
    x = np.random.default_rng(0).integers(-128, 128, (4, 5, 2), dtype=np.int8)
    assert np.array_equal(interpreter.run(np.asfortranarray(x)), interpreter.run(x))
    assert np.array_equal(interpreter.run(x[::-1][::-1]), interpreter.run(x))


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (np.zeros((4, 5, 2), np.uint8), "uint8 of shape (4, 5, 2)"),
        (np.zeros((5, 4, 2), np.int8), "int8 of shape (5, 4, 2)"),
        (np.zeros((0, 4, 5, 2), np.int8), "int8 of shape (0, 4, 5, 2)"),
        (np.zeros((1, 1, 4, 5, 2), np.int8), "int8 of shape (1, 1, 4, 5, 2)"),
        ([[1, 2], [3, 4]], "list"),
    ],
)
def test_another_input_is_refused(x: Any, found: str) -> None:
    expected = f"input: {found}; the model takes int8 of shape (4, 5, 2)"
    for use in (Interpreter(classifier()).run, Interpreter(classifier()).steps):
        with pytest.raises(ImageError) as caught:
            use(x)
        assert str(caught.value) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    x = np.full((2, 3), value, np.float32)
    with pytest.raises(ImageError, match="not numbers"):
        Interpreter(_edges("float32", None)).run(x)


def test_the_largest_floats_are_clamped() -> None:
    x = np.full((2, 3), np.finfo(np.float32).max)
    x[1] = -x[1]
    assert Interpreter(_edges("float32", None)).run(x)[1].tolist() == [[127] * 3, [-128] * 3]
