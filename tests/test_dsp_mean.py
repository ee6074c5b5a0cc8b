"""The averaging kernel for the DSP extension: MEAN and AVERAGE_POOL over planes are the oracle's."""

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
from tests.strategies import HALF, Int8s, activations, int8s, limits, multipliers, shifts, zero_points
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import AveragePool, Mean, Padding, Window
from tinymbn_codegen.dsp.average import kernel, supports
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import encode, pairs_of, plane_bytes


@dataclass(frozen=True)
class Case:
    """A layer with an input."""

    layer: AveragePool | Mean
    x: Int8s
    zero: int
    output_zero: int

    @property
    def kernel(self) -> KernelCode:
        x = Tensor("x", self.x.shape, Quant(1.0, self.zero))
        y = Tensor("y", self.layer.output_shape(self.x.shape), Quant(1.0, self.output_zero))
        assert supports(self.layer, x, y)
        return kernel(self.layer, x, y, "planar", "nhwc")

    @property
    def expected(self) -> bytes:
        layer = self.layer
        if isinstance(layer, Mean):
            return oracle.mean(
                self.x,
                axes=(0, 1),
                keep_dims=layer.keep_dims,
                input_zero=self.zero,
                output_zero=self.output_zero,
                multiplier=layer.multiplier,
                shift=layer.shift,
            ).tobytes()
        return oracle.average_pool(
            self.x,
            kernel=layer.window.kernel,
            stride=(1, 1),
            pads=((0, 0), (0, 0)),
            limits=limits(layer.activation),
            unsigned=layer.unsigned,
        ).tobytes()

    def call(self, index: int) -> Call:
        height, width, channels = self.x.shape
        planes = encode("planar", self.x).reshape(height, 2 * pairs_of(channels), plane_bytes(width)).copy()
        planes[:, channels:] = 0xA5  # no channel is there
        return Call(index, (planes.tobytes(), bytes([0xA5]) * channels), ((0, 0), (1, 0)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    x = draw(int8s((draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 5)))))
    layer: AveragePool | Mean
    if draw(st.booleans()):
        window = Window((x.shape[0], x.shape[1]), draw(st.sampled_from([(1, 1), (2, 3)])))
        layer = AveragePool("layer", ("x",), "y", window, draw(activations()), draw(st.booleans()))
    else:
        scaling = draw(multipliers), draw(shifts | st.integers(-9, -5))
        layer = Mean("layer", ("x",), "y", (0, 1), draw(st.booleans()), *scaling)
    return Case(layer, x, draw(zero_points), draw(zero_points))


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
def test_random_averages(command: tuple[str, ...], count: int, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    chosen = some(count * pytestconfig.getoption("--examples"))
    ran = run(
        program([case.kernel for case in chosen], tmp_path, *command), [case.call(i) for i, case in enumerate(chosen)]
    )
    for case, buffers in zip(chosen, ran, strict=True):
        assert buffers[1] == case.expected, case.layer


def test_averages_by_hand(tmp_path: Path) -> None:
    x = np.array([[[11, 21], [12, 22]]], np.int8)  # (1, 2, 2)
    pool = AveragePool("layer", ("x",), "y", Window((1, 2)))
    cases = [
        # Above the zero point 10: 1 + 2 = 3, 11 + 12 = 23; their halves are 1.5, 11.5, ties up; 5 is added.
        (Case(Mean("layer", ("x",), "y", (0, 1), False, *HALF), x, 10, 5), [7, 17]),
        (Case(pool, -x, 0, 0), [-12, -22]),  # -11.5, -21.5, away from zero
        (Case(replace(pool, unsigned=True), -x, 0, 0), [-11, -21]),  # 116.5, 106.5 are rounded
    ]
    made = program([case.kernel for case, _ in cases], tmp_path, "gcc", "-O1", *SANITIZERS)
    ran = run(made, [case.call(i) for i, (case, _) in enumerate(cases)])
    for (_, expected), buffers in zip(cases, ran, strict=True):
        assert np.frombuffer(buffers[1], np.int8).tolist() == expected


@pytest.mark.parametrize("command", [("gcc", "-O3"), ("clang", "-O1"), (*M4, "-O0"), (*M4, "-O2", "-Wstack-usage=200")])
def test_no_compiler_warns_or_calls_anything(command: tuple[str, ...], tmp_path: Path) -> None:
    kernels = [case.kernel for case in some(20)]
    assert not called_functions(compile_kernels(kernels, tmp_path, *command))


def test_what_it_does_not_take() -> None:
    x, y = Tensor("x", (4, 5, 2), Quant(1.0, 0)), Tensor("y", (1, 1, 2), Quant(1.0, 0))
    mean = Mean("layer", ("x",), "y", (0, 1), True, *HALF)
    pool = AveragePool("layer", ("x",), "y", Window((4, 5)))
    assert supports(mean, x, y)
    assert supports(pool, x, y)
    assert not supports(replace(mean, axes=(1,)), x, y)
    assert not supports(replace(mean, axes=(0, 1, 2)), x, y)
    assert not supports(mean, Tensor("x", (4, 5), Quant(1.0, 0)), y)
    assert not supports(mean, Tensor("x", (2048, 2048, 2), Quant(1.0, 0)), y)
    assert not supports(replace(pool, window=Window((4, 4))), x, y)
    assert not supports(replace(pool, window=Window((4, 5), padding=Padding(1, 0, 0, 0))), x, y)
