"""Every operator that is imported, in random files of one to three, against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.litert import LiteRT, in_type_of
from tests.random_operators import OPERATORS, models_with
from tests.random_tflite import Case
from tests.tflite_writer import TfliteWriter
from tinymbn.importers.tflite.model import from_bytes
from tinymbn.interpreter import Interpreter


def assert_every_tensor_is_equal(case: Case) -> None:
    """Each tensor that an operator makes must be matched, but for what comes from shapes alone."""
    reference, x = LiteRT(case.model), case.x
    expected = reference.run(x)
    interpreter = Interpreter(from_bytes(case.model, "model.tflite"))
    made = {layer.output: output for layer, output in interpreter.steps(x[0])}
    made[interpreter.graph.input] = x[0]
    for index, name in reference.names.items():
        if index in reference.made and name not in case.folded:
            assert name in made, f"{name} is missing"
            np.testing.assert_array_equal(made[name].ravel(), in_type_of(made[name], expected[index]), name)
    outputs = interpreter.run(x[0])
    for index, output in zip(reference.outputs, outputs if isinstance(outputs, tuple) else [outputs], strict=True):
        assert output.dtype == expected[index].dtype
        np.testing.assert_array_equal(output.ravel(), expected[index].ravel())


@pytest.mark.parametrize("kind", sorted(OPERATORS))
@given(data=st.data())
def test_operator_equals_the_reference(kind: str, data: st.DataObject) -> None:
    assert_every_tensor_is_equal(data.draw(models_with(kind)))


@pytest.mark.parametrize("codes", ["both", "deprecated", "builtin"])
def test_operator_codes_may_stand_in_either_field(codes: Literal["both", "deprecated", "builtin"]) -> None:
    writer = TfliteWriter(codes)
    x = writer.tensor("x", (1, 4), scale=0.5, zero_point=3)
    y = writer.tensor("y", (1, 4), scale=0.25, zero_point=-3)
    writer.operator("RELU6", x, y)
    inputs = np.array([[-9, 3, 8, 100]], np.int8)
    assert_every_tensor_is_equal(Case(writer, writer.build(x, y), inputs))


@pytest.mark.parametrize("factor", [0.75, 1.5, 1024.0, 2.0**20])
def test_an_accumulator_that_overflows_wraps(factor: float) -> None:
    """Biases at the ends of int32, and factors over 1, which shift left: the reference's int32 wraps there."""
    writer = TfliteWriter()
    x = writer.tensor("x", (1, 1, 2, 1), scale=1.0, zero_point=0)
    y = writer.tensor("y", (1, 1, 2, 6), scale=1.0, zero_point=0)
    weights = np.array([1, 2, 127, -127, 1, -1], np.int8).reshape(6, 1, 1, 1)
    most = 2**31 - 1
    bias = np.array([0, 0, most, -most - 1, most - 60, -most + 60], np.int32)
    inputs = [
        x,
        writer.constant("weights", weights, scale=factor),
        writer.constant("bias", bias, scale=factor),
    ]
    writer.operator("CONV_2D", inputs, y, stride_h=1, stride_w=1, padding="VALID")
    model = writer.build(x, y)
    for values in ([3, -3], [127, -128], [64, 63]):
        pixels = np.array(values, np.int8).reshape(1, 1, 2, 1)
        assert_every_tensor_is_equal(Case(writer, model, pixels))


def test_the_zero_point_is_added_in_32_bits() -> None:
    """The largest accumulator times 1 - 2**-31, and 127 more: the reference's int32 wraps there too."""
    writer = TfliteWriter()
    nearly_one = 181 * 2**-23  # (1 + it) * (1 - it) = 1 - 2**-31
    x = writer.tensor("x", (1, 1, 1, 1), scale=1 + nearly_one, zero_point=0)
    y = writer.tensor("y", (1, 1, 1, 4), scale=1.0, zero_point=127)
    weights = writer.constant("weights", np.zeros((4, 1, 1, 1)), "int8", scale=1 - nearly_one)
    bias = np.array([2**31 - 1, 2**31 - 100, 2**31 - 140, -(2**31)], np.int32)
    inputs = [x, weights, writer.constant("bias", bias, scale=1.0)]
    writer.operator("CONV_2D", inputs, y, stride_h=1, stride_w=1, padding="VALID")
    assert_every_tensor_is_equal(Case(writer, writer.build(x, y), np.zeros((1, 1, 1, 1), np.int8)))


def test_softmax_of_steps_over_16_is_the_maximum_alone() -> None:
    writer = TfliteWriter()
    x = writer.tensor("x", (1, 4), scale=24.0, zero_point=3)
    y = writer.tensor("y", (1, 4), scale=1 / 256, zero_point=-128)
    writer.operator("SOFTMAX", x, y, beta=1.0)
    for values in ([5, 6, 7, 8], [9, 8, 9, 9], [-128, 127, 127, -128]):
        assert_every_tensor_is_equal(Case(writer, writer.build(x, y), np.array([values], np.int8)))
