"""Convolutions of any window for the DSP extension: geometries, one channel of depthwise layers, forms of constants."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.dsp_harness import M4, Call, called_functions, compile_kernels, program, run
from tests.dsp_layers import SORTS, Case, convolution, expect_oracle
from tests.generated import SANITIZERS
from tests.strategies import windows
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import Activation, Conv2D, Depthwise, Padding, Weights, Window
from tinymbn_codegen.dsp import conv2d
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout

_MOST_OUTPUTS = 1500  # of a map: the oracle is slow

_targets: st.SearchStrategy[Layout] = st.sampled_from(["planar", "nhwc"])
_kinds: st.SearchStrategy[type[Conv2D | Depthwise]] = st.sampled_from([Conv2D, Conv2D, Depthwise])


@st.composite
def conv2d_cases(draw: st.DrawFn) -> Case:
    (height, width), window = draw(windows(dilated=False))
    kind = draw(_kinds)
    c_in = 1 if kind is Depthwise else draw(st.sampled_from([1, 3]) | st.integers(1, 9) | st.integers(1, 300))
    width += draw(st.integers(0, 12) | st.integers(0, 90))
    rows, columns = window.output_size(height, width)
    c_out = min(draw(st.integers(1, 9) | st.integers(1, 300)), max(1, _MOST_OUTPUTS // (rows * columns)))
    sort, target = draw(st.sampled_from(SORTS)), draw(_targets)
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return convolution(chance, window, (height, width, c_in), c_out, sort=sort, target=target, kind=kind)


def random_cases(count: int) -> list[Case]:
    """Always the same."""
    found: list[Case] = []

    @settings(max_examples=count, phases=[Phase.generate])
    @given(conv2d_cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def case_of(
    shape: tuple[int, int, int],
    c_out: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (2, 2),
    padding: Padding | None = None,
    *,
    sort: str = "relu",
    target: Layout = "planar",
    kind: type[Conv2D | Depthwise] = Conv2D,
) -> Case:
    window = Window(kernel, stride, (1, 1), Padding() if padding is None else padding)
    chance = np.random.default_rng([*shape, c_out, SORTS.index(sort)])
    return convolution(chance, window, shape, c_out, sort=sort, target=target, kind=kind)


@cache
def kernel_of(case: Case) -> KernelCode:
    assert conv2d.supports(case.layer, case.input, case.output)
    return conv2d.kernel(case.layer, case.input, case.output, case.source, case.target)


def scratch_of(case: Case) -> int:
    return conv2d.scratch_bytes(case.layer, case.input, case.output, case.source)


VARIANTS = [
    *(case_of((7, 25, 3), 8, padding=Padding(0, 1, 0, 1), sort=sort) for sort in SORTS),
    case_of((7, 24, 1), 8, padding=Padding(1, 1, 1, 1), kind=Depthwise),
    case_of((5, 24, 3), 80),
    case_of((5, 24, 3), 81, target="nhwc"),
    case_of((4, 12, 12), 16, stride=(1, 1), padding=Padding(1, 1, 1, 1)),
    case_of((4, 14, 5), 5, kernel=(2, 4), stride=(1, 3), padding=Padding(1, 0, 3, 2), sort="linear"),
    case_of((4, 11, 7), 20, kernel=(3, 2), stride=(1, 1), sort="linear", target="nhwc"),  # steps of odd halfwords
    case_of((1, 40, 1), 6, kernel=(1, 5), stride=(1, 1), padding=Padding(0, 0, 2, 2)),
    case_of((9, 5, 2), 6, kernel=(9, 1), stride=(1, 1)),
    case_of((3, 9, 150), 4),  # pixels far apart: three, two, one at a time
    case_of((3, 15, 200), 4),
    case_of((3, 19, 300), 4),
    case_of((5, 27, 300), 3, kernel=(5, 3), stride=(3, 3), sort="linear"),
    case_of((3, 15, 350), 3),  # seven single pixels: the last word is cleared by the fifth, not by those behind it
    case_of((3, 27, 350), 3, sort="clamped", target="nhwc"),
]


def test_rows_are_the_oracles(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    cases = random_cases(pytestconfig.getoption("--examples"))
    expect_oracle(cases, kernel_of, scratch_of, tmp_path, "gcc", "-O0", *SANITIZERS)


def test_random_rows_on_a_cortex_m4(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    cases = random_cases(pytestconfig.getoption("--examples") // 2)
    expect_oracle(cases, kernel_of, scratch_of, tmp_path, *M4, "-O2")


def test_variants_on_the_pc(tmp_path: Path) -> None:
    expect_oracle(VARIANTS, kernel_of, scratch_of, tmp_path, "gcc", "-O0", *SANITIZERS)


@pytest.mark.parametrize("level", ["-O2", "-O0"])
def test_variants_on_a_cortex_m4(level: str, tmp_path: Path) -> None:
    """The assembler, and the same in C."""
    expect_oracle(VARIANTS, kernel_of, scratch_of, tmp_path, *M4, level)


def test_pixels_that_are_far_apart_make_smaller_tiles() -> None:
    """A load reaches 4095 bytes; with three rows and a step of two a pixel is twelve bytes a channel from the next."""
    sizes = [
        max(tile.size for tile in kernel_of(case_of((3, 27, c), 4)).details["tiles"]) for c in (100, 150, 200, 340)
    ]
    assert sizes == [4, 3, 2, 1]


def test_scratch_is_what_windows_cover() -> None:
    """Columns of all rows of a window and their channels, two bytes each; what no window covers is left out."""
    padding = Padding(0, 1, 0, 1)
    assert scratch_of(case_of((6, 10, 4), 2, padding=padding)) == 11 * 3 * 4 * 2  # nine columns, and one of padding
    assert scratch_of(case_of((6, 12, 4), 2, stride=(2, 3))) == 12 * 3 * 4 * 2
    assert scratch_of(case_of((6, 13, 4), 2, stride=(2, 3))) == 12 * 3 * 4 * 2
    # A window of 27 halfwords is read as 14 words.
    assert scratch_of(case_of((6, 10, 3), 2, padding=padding)) == 11 * 3 * 3 * 2 + 2


def test_an_example_worked_by_hand(tmp_path: Path) -> None:
    """A window of 2 x 2 in steps of two, over two rows of three and a column of padding; the second row is missing."""
    weights = Weights(
        values=np.array([[1, 2], [3, 4]], np.int8).reshape(1, 2, 2, 1),
        bias=np.array([7], np.int32),
        multiplier=np.array([2**30], np.int32),
        shift=np.array([1], np.int8),  # 2^30 / 2^31 * 2^1: the factor 1
    )
    layer = Conv2D(
        name="layer",
        inputs=("x",),
        output="y",
        window=Window((2, 2), (2, 2), (1, 1), Padding(0, 1, 0, 1)),
        weights=weights,
        activation=Activation(),
    )
    tensors = Tensor("x", (1, 3, 1), Quant(1.0, 5)), Tensor("y", (1, 2, 1), Quant(1.0, -3))
    made = program([conv2d.kernel(layer, *tensors, "nhwc", "nhwc")], tmp_path, "gcc")
    scratch = conv2d.scratch_bytes(layer, *tensors, "nhwc")
    call = Call(0, (bytes([10, 20, 30]), bytes(scratch), bytes(2)), (((0, 0), None), (1, 0), (2, 0)))
    ((_, _, row),) = run(made, [call])
    # Less their zero point, 5, 15, 25, and 0 in the padding: 7 + 5 + 2 * 15 - 3 = 39, 7 + 25 + 0 - 3 = 29.
    assert list(row) == [39, 29]


def test_what_is_supported() -> None:
    chance = np.random.default_rng(0)

    def supported(kind: type[Conv2D | Depthwise], window: Window, c_in: int) -> bool:
        case = convolution(chance, window, (9, 9, c_in), 2 * c_in, kind=kind)
        return conv2d.supports(case.layer, case.input, case.output)

    assert supported(Conv2D, Window((3, 3), (2, 1)), 3)
    assert supported(Conv2D, Window((1, 3), dilation=(2, 1)), 3)  # nothing lies between rows of a single row
    assert not supported(Conv2D, Window((3, 3), dilation=(2, 1)), 3)
    assert supported(Depthwise, Window((3, 3)), 1)
    assert not supported(Depthwise, Window((3, 3)), 2)


@pytest.mark.parametrize(
    "command",
    [
        ("gcc", "-O2"),
        ("clang", "-O1"),
        *[(*M4, level) for level in ("-O0", "-Og", "-O1", "-O2", "-O3", "-Os")],
        *[("arm-none-eabi-gcc", f"-mcpu=cortex-{core}", "-mthumb", "-O2") for core in ("m3", "m7", "m33", "m55")],
    ],
    ids=lambda command: " ".join(command[-3:]),
)
def test_no_compiler_warns_and_nothing_is_called(command: tuple[str, ...], tmp_path: Path) -> None:
    """Not even memcpy: a load of four bytes is an instruction."""
    assert not called_functions(compile_kernels([kernel_of(case) for case in VARIANTS[::3]], tmp_path, *command))
