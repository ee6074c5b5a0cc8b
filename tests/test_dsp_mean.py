"""The averaging kernel for the DSP extension: MEAN and AVERAGE_POOL over planes are the oracle's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.dsp_harness import M4, Call, program, run
from tests.generated import SANITIZERS
from tests.strategies import Int8s, activations, int8s, limits, multipliers, shifts, zero_points
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import AveragePool, Mean, Window
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
