"""The adding kernel for the DSP extension: every sum is the oracle's, by a line where there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.dsp_harness import M4, Call, called_functions, compile_kernels, program, run
from tests.generated import SANITIZERS
from tests.strategies import Int8s, activations, int8s, limits, multipliers, right_shifts, zero_points
from tinymbn.fixedpoint import multiplier_and_shift
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import Activation, Add
from tinymbn_codegen.dsp.elementwise import find_line, kernel, stored_outputs, supports
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, decode, encode, plane_bytes


@dataclass(frozen=True)
class Case:
    """A layer with its operands, of one row each."""

    layer: Add
    a: Int8s
    b: Int8s
    zeros: tuple[int, int, int]
    layout: Layout
    in_place: int | None  # which operand the output lies over

    @property
    def kernel(self) -> KernelCode:
        a, b, y = (Tensor(name, self.a.shape, Quant(1.0, zero)) for name, zero in zip("aby", self.zeros, strict=True))
        assert supports(self.layer, a, b, y)
        return kernel(self.layer, a, b, y, self.layout)

    @property
    def expected(self) -> Int8s:
        layer = self.layer
        return oracle.add(
            self.a,
            self.b,
            zeros=self.zeros,
            multipliers=(layer.a_multiplier, layer.b_multiplier, layer.output_multiplier),
            shifts=(layer.a_shift, layer.b_shift, layer.output_shift),
            limits=limits(layer.activation),
        )

    def call(self, index: int) -> Call:
        a, b = (encode(self.layout, values).tobytes() for values in (self.a, self.b))
        output = 2 if self.in_place is None else self.in_place
        return Call(index, (a, b, bytes([0xA5]) * len(a)), ((0, 0), (1, 0), (output, 0)))

    def check(self, buffers: tuple[bytes, ...]) -> None:
        got = np.frombuffer(buffers[2 if self.in_place is None else self.in_place], np.uint8).reshape(1, -1)
        np.testing.assert_array_equal(decode(self.layout, got, self.a.shape), self.expected)
        if self.layout == "planar":
            real = plane_bytes(self.a.shape[1]) * self.a.shape[2]
            np.testing.assert_array_equal(got[:, :real], encode("planar", self.expected)[:, :real])


def of_scales(a: float, b: float, output: float, activation: Activation = Activation()) -> Add:  # noqa: B008
    """As it is imported."""
    largest = 2 * max(a, b)
    scaled = (a / largest, b / largest, largest / (2**20 * output))
    return layer_of([multiplier_and_shift(factor) for factor in scaled], activation)


def layer_of(scalings: list[tuple[int, int]], activation: Activation = Activation()) -> Add:  # noqa: B008
    """With the multipliers and shifts of a, b and the output."""
    (a, a_shift), (b, b_shift), (output, output_shift) = scalings
    return Add("layer", ("a", "b"), "y", a, a_shift, b, b_shift, output, output_shift, activation)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape = (1, draw(st.integers(1, 9)), draw(st.integers(1, 7)))
    activation = draw(st.just(Activation()) | activations())
    if draw(st.booleans()):
        a, b, output = (draw(st.floats(0.2, 3)) for _ in range(3))
        layer = of_scales(a, b, output, activation)
    else:  # anything
        layer = layer_of([(draw(multipliers), draw(right_shifts)) for _ in range(3)], activation)
    return Case(
        layer,
        draw(int8s(shape)),
        draw(int8s(shape)),
        draw(st.tuples(zero_points, zero_points, zero_points)),
        draw(st.sampled_from(["nhwc", "planar"])),
        draw(st.sampled_from([None, 0, 1])),
    )


def some(count: int) -> list[Case]:
    """Always the same."""
    found: list[Case] = []

    @settings(max_examples=count, phases=[Phase.generate])
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


@pytest.mark.parametrize(("command", "count"), [(("gcc", "-O1", *SANITIZERS), 4), ((*M4, "-O2"), 2)], ids=["pc", "m4"])
def test_random_sums(command: tuple[str, ...], count: int, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    chosen = some(count * pytestconfig.getoption("--examples"))
    kernels = [case.kernel for case in chosen]
    assert {kernel.details["form"] for kernel in kernels} == {"line", "exact"}
    ran = run(program(kernels, tmp_path, *command), [case.call(i) for i, case in enumerate(chosen)])
    for case, buffers in zip(chosen, ran, strict=True):
        case.check(buffers)


def test_sums_by_hand(tmp_path: Path) -> None:
    """Of one scale, above their zero points; the output's steps are twice as large, and ties go away from zero."""
    a, b = np.array([[[3, -4], [9, 1], [-6, 2]]], np.int8), np.array([[[5, 5], [6, 2], [-2, 2]]], np.int8)
    # (3 - 1 + 5 - 2) / 2 = 2.5, (-5 + 3) / 2 = -1; (8 + 4) / 2 = 6, 0; (-7 - 4) / 2 = -5.5, 1 / 2 = 0.5
    expected = [[[13, 9], [16, 10], [4, 11]]]
    cases = [Case(of_scales(1, 1, 2), a, b, (1, 2, 10), layout, None) for layout in ("nhwc", "planar")]
    made = program([case.kernel for case in cases], tmp_path, "gcc", "-O1", *SANITIZERS)
    for case, buffers in zip(cases, run(made, [case.call(i) for i, case in enumerate(cases)]), strict=True):
        got = np.frombuffer(buffers[2], np.uint8).reshape(1, -1)
        assert decode(case.layout, got, a.shape).tolist() == expected


@given(st.data())
def test_what_is_tried_is_the_oracles(data: st.DataObject) -> None:
    layer = layer_of([(data.draw(multipliers), data.draw(right_shifts)) for _ in range(3)], data.draw(activations()))
    zeros = data.draw(st.tuples(zero_points, zero_points, zero_points))
    a, b = data.draw(int8s((40,))), data.draw(int8s((40,)))
    case = Case(layer, a, b, zeros, "nhwc", None)
    stored = stored_outputs(layer, *zeros)[a.astype(int) + 128, b.astype(int) + 128]
    np.testing.assert_array_equal(stored - 128, case.expected)


@pytest.mark.parametrize("scales", [(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 2, 4), (1, 3, 2), (0.7, 1, 1.1), (1, 0.01, 1)])
@pytest.mark.parametrize("zeros", [(0, 0, 0), (-128, -128, -128), (3, -5, 7)])
def test_a_line_makes_all_sums_of_real_scales(scales: tuple[float, float, float], zeros: tuple[int, int, int]) -> None:
    layer = of_scales(*scales)
    line = find_line(layer, *zeros)
    assert line is not None
    assert line.fits_int32
    due = stored_outputs(layer, *zeros)
    np.testing.assert_array_equal(line.at(0, 255), due)
    assert not np.array_equal(replace(line, a=line.a + 2**14).at(0, 255), due)
    assert not replace(line, a=2**24).fits_int32


def test_no_line_is_found_where_there_is_none() -> None:
    """Of a MobileNet V2: two pairs of bytes contradict each other, whatever the slopes."""
    layer = layer_of([(1073741824, 0), (1921681490, -1), (1087021813, -18)])
    assert find_line(layer, -6, -31, -14) is None


@pytest.mark.parametrize("command", [("gcc", "-O3"), ("clang", "-O1"), (*M4, "-O0"), (*M4, "-O2", "-Wstack-usage=200")])
def test_no_compiler_warns_or_calls_anything(command: tuple[str, ...], tmp_path: Path) -> None:
    kernels = [case.kernel for case in some(20)]
    assert not called_functions(compile_kernels(kernels, tmp_path, *command))


def test_what_it_does_not_take() -> None:
    layer = of_scales(1, 1, 1)
    x, row, flat = (Tensor("x", shape, Quant(1.0, 0)) for shape in ((2, 3, 4), (1, 3, 4), (24,)))
    assert supports(layer, x, x, x)
    assert not supports(layer, row, x, x)
    assert not supports(layer, x, row, x)
    assert not supports(layer, flat, flat, flat)
