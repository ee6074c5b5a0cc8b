"""Pointwise kernels for the DSP extension: rows in every layout, weights and requantisations of every form."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.dsp_harness import M4, TEMPLATES, Call, called_functions, compile_kernels, program, run
from tests.dsp_layers import SORTS, Case, convolution, expect_oracle
from tests.generated import SANITIZERS
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import Activation, Conv2D, Padding, Weights, Window
from tinymbn_codegen.dsp import pointwise
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout

_MOST_OUTPUTS = 2500  # of a row: the oracle is slow

_channels = st.integers(1, 20) | st.integers(1, 300) | st.sampled_from([8, 16, 31, 32, 64, 127, 128, 256])
_widths = st.integers(1, 14) | st.integers(1, 100)
_sources: st.SearchStrategy[Layout] = st.sampled_from(["pairs", "planar", "nhwc"])
_targets: st.SearchStrategy[Layout] = st.sampled_from(["planar", "nhwc"])


@st.composite
def pointwise_cases(draw: st.DrawFn) -> Case:
    width, c_in = draw(_widths), draw(_channels)
    c_out = min(draw(_channels), max(1, _MOST_OUTPUTS // width))
    sort, source, target = draw(st.sampled_from(SORTS)), draw(_sources), draw(_targets)
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (1, width, c_in)
    return convolution(chance, Window((1, 1)), shape, c_out, sort=sort, source=source, target=target)


def random_cases(count: int) -> list[Case]:
    """Always the same."""
    found: list[Case] = []

    @settings(max_examples=count, phases=[Phase.generate])
    @given(pointwise_cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def case_of(
    c_in: int, c_out: int, width: int, sort: str = "relu", source: Layout = "pairs", target: Layout = "planar"
) -> Case:
    chance = np.random.default_rng([c_in, c_out, width, SORTS.index(sort)])
    return convolution(chance, Window((1, 1)), (1, width, c_in), c_out, sort=sort, source=source, target=target)


@cache
def kernel_of(case: Case) -> KernelCode:
    assert isinstance(case.layer, Conv2D)
    assert pointwise.supports(case.layer, case.input, case.output)
    return pointwise.kernel(case.layer, case.input, case.output, case.source, case.target)


def scratch_of(case: Case) -> int:
    return pointwise.scratch_bytes(case.layer, case.input, case.output, case.source)


# Everything that instructions are made for: each form of constants, size of tile, loop, and place of outputs.
VARIANTS = [
    *(case_of(c_in, 24, 13, sort) for c_in in (7, 44, 150) for sort in SORTS),
    *(case_of(c_in, 40, width) for c_in in (30, 60, 256) for width in (1, 2, 3, 5, 6, 8)),
    *(case_of(c_in, 13, width, sort, target="nhwc") for c_in in (9, 150) for width in (1, 2, 7) for sort in SORTS[2:4]),
    *(case_of(50, 7, 10, sort, source, "nhwc") for sort in ("relu", "linear", "wild") for source in ("planar", "nhwc")),
    *(case_of(25, 16, width, "relu", source) for width in (2, 11) for source in ("planar", "nhwc")),
    *(case_of(44, 24, width, "left") for width in (2, 7)),
    case_of(20, 14, 5, target="nhwc"),
    case_of(2, 1400, 4, target="nhwc"),  # bytes beyond what a store reaches
    case_of(300, 16, 8, "large"),
]


def test_rows_are_the_oracles(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    cases = random_cases(pytestconfig.getoption("--examples"))
    expect_oracle(cases, kernel_of, scratch_of, tmp_path, "gcc", "-O0", *SANITIZERS)


def test_random_rows_on_a_cortex_m4(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    cases = random_cases(pytestconfig.getoption("--examples") // 2)
    expect_oracle(cases, kernel_of, scratch_of, tmp_path, *M4, "-O2")


def test_variants_have_every_form() -> None:
    details = [kernel_of(case).details for case in VARIANTS]
    forms = {(d["form"], d["wide"], d["delta"]) for d in details}
    assert forms >= {(form, wide, False) for form in ("short", "exact", "general") for wide in (False, True)}
    assert ("short", False, True) in forms
    tiles = [(d, tile) for d in details for tile in d["tiles"]]
    assert {(tile.size, tile.moves, tile.whole) for _, tile in tiles} >= {
        (size, moves, whole) for size in (1, 3, 4) for moves in (False, True) for whole in (False, True)
    }
    assert {(tile.size, tile.moves) for _, tile in tiles} >= {(2, False), (2, True)}
    assert {(bool(tile.lanes), bool(tile.clear), tile.whole) for _, tile in tiles} >= {
        (lanes, True, whole) for lanes in (False, True) for whole in (False, True)
    }
    assert {(d["alone"], d["planar"], tile.whole) for d, tile in tiles} >= {
        (alone, False, whole) for alone in (False, True) for whole in (False, True)
    }


def test_variants_on_the_pc(tmp_path: Path) -> None:
    expect_oracle(VARIANTS, kernel_of, scratch_of, tmp_path, "gcc", "-O0", *SANITIZERS)


@pytest.mark.parametrize("level", ["-O2", "-O0"])
def test_variants_on_a_cortex_m4(level: str, tmp_path: Path) -> None:
    """The assembler, and the same in C."""
    expect_oracle(VARIANTS, kernel_of, scratch_of, tmp_path, *M4, level)


def test_an_example_worked_by_hand(tmp_path: Path) -> None:
    """Three pixels of three channels: -128 is 0. Multiplier and shift are 1/2: 2^30 / 2^31, no shift."""
    weights = Weights(
        values=np.array([[1, 2, 3], [4, 5, -6]], np.int8).reshape(2, 1, 1, 3),
        bias=np.array([10, -20], np.int32),
        multiplier=np.array([2**30, 2**30], np.int32),
        shift=np.array([0, 0], np.int8),
    )
    layer = Conv2D(
        name="layer", inputs=("x",), output="y", window=Window((1, 1)), weights=weights, activation=Activation()
    )
    tensors = Tensor("x", (1, 3, 3), Quant(1.0, -128)), Tensor("y", (1, 3, 2), Quant(1.0, -128))
    # Above 128: (1, 2, 3), (4, 5, 6), (7, 8, 9). Pairs: channels 0 and 2, then 1 and none, of each pixel in turn.
    row = [1, 3, 4, 6, 7, 9, 2, 0, 5, 0, 8, 0]
    made = program([pointwise.kernel(layer, *tensors, "pairs", "planar")], tmp_path, "gcc")
    call = Call(0, (np.array(row, "<u2").tobytes(), bytes([99]) * 8), ((0, 0), (1, 0)))
    ((_, planes),) = run(made, [call])
    # (10 + 1 + 4 + 9) / 2 = 12, (10 + 4 + 10 + 18) / 2 = 21, (10 + 7 + 16 + 27) / 2 = 30; ties go up.
    # (-20 + 4 + 10 - 18) / 2 < 0, (-20 + 16 + 25 - 36) / 2 < 0, (-20 + 28 + 40 - 54) / 2 < 0: clamped.
    assert list(planes) == [12, 30, 21, 0, 0, 0, 0, 0]


def _form(case: Case) -> tuple[str, bool]:
    details = kernel_of(case).details
    return details["form"], details["wide"]


def test_constants_take_the_cheapest_form_that_is_proven() -> None:
    assert _form(case_of(64, 64, 8, "relu")) == ("short", False)
    assert _form(case_of(64, 64, 8, "dead")) == ("short", False)
    assert _form(case_of(64, 64, 8, "linear")) == ("exact", False)
    assert _form(case_of(64, 64, 8, "left")) == ("general", False)


def test_weights_are_wide_where_they_are_few_or_do_not_fit() -> None:
    assert _form(case_of(16, 64, 8, "relu")) == ("short", True)
    assert _form(case_of(32, 32, 8, "relu")) == ("short", True)
    assert _form(case_of(64, 64, 8, "full")) == ("short", True)
    assert _form(case_of(64, 64, 8, "legacy")) == ("short", True)
    assert _form(case_of(300, 16, 8, "large"))[1]


def _with_weights(a: int, b: int) -> Case:
    case = case_of(64, 64, 8)
    values = np.full((64, 1, 1, 64), 1, np.int8)
    values[:2, 0, 0, 5] = a, b
    w = case.layer.weights
    layer = Conv2D(
        name="layer",
        inputs=("x",),
        output="y",
        window=Window((1, 1)),
        weights=Weights(values, w.bias, w.multiplier, w.shift),
        activation=Activation(),
    )
    return Case(layer, case.input, case.output, "pairs", "planar", "relu")


def test_the_pairs_of_weights_that_do_not_fit_a_halfword() -> None:
    fits = [(127, 127), (-128, 127), (0, -128), (127, -128), (-128, -127)]
    assert not any(kernel_of(_with_weights(a, b)).details["wide"] for a, b in fits)
    assert all(kernel_of(_with_weights(a, -128)).details["wide"] for a in (-1, -128))


def test_scratch_is_a_row_of_pairs_unless_it_comes_as_one() -> None:
    case = case_of(5, 2, 7)
    sizes = [
        pointwise.scratch_bytes(case.layer, case.input, case.output, source) for source in ("pairs", "planar", "nhwc")
    ]
    assert sizes == [0, 84, 84]  # 7 pixels of 3 pairs of 4 bytes


def test_windows_of_one_pixel_alone_are_supported() -> None:
    case = case_of(3, 2, 7)
    assert pointwise.supports(case.layer, case.input, case.output)
    chance = np.random.default_rng(0)
    for window in (Window((1, 1), (1, 2)), Window((2, 1), padding=Padding(0, 1, 0, 0)), Window((1, 3))):
        other = convolution(chance, window, (3, 7, 3), 2)
        assert not pointwise.supports(other.layer, other.input, other.output)


_ZIG = (sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4")


@pytest.mark.parametrize(
    "command",
    [
        ("gcc", "-O2"),
        ("clang", "-O1"),
        (*_ZIG, "-fno-sanitize=all", f"-I{TEMPLATES / 'zig'}", "-O1"),
        *[(*M4, level) for level in ("-O0", "-Og", "-O1", "-O2", "-O3", "-Os")],
        *[("arm-none-eabi-gcc", f"-mcpu=cortex-{core}", "-mthumb", "-O2") for core in ("m3", "m7", "m33", "m55")],
        (*M4, "-O2", "-fno-omit-frame-pointer", "-DTINYMBN_ASSEMBLER=0"),
    ],
    ids=lambda command: " ".join(command[-2:]).rpartition("/")[2],
)
def test_no_compiler_warns_and_nothing_is_called(command: tuple[str, ...], tmp_path: Path) -> None:
    """Not even memcpy: a load of four bytes is an instruction."""
    if "ziglang" in command:
        pytest.importorskip("ziglang", reason="no zig")
    made = compile_kernels([kernel_of(case) for case in VARIANTS[::5]], tmp_path, *command)
    assert called_functions(made) <= {"__aeabi_unwind_cpp_pr1"}  # clang's, of its tables for unwinding


def test_kernels_are_small(tmp_path: Path) -> None:
    """Their code, in flash."""
    cases = [case_of(c_in, 128, width) for c_in in (8, 32, 64, 128, 256) for width in (12, 6, 7, 3)]
    made = compile_kernels([kernel_of(case) for case in cases], tmp_path, *M4, "-O2")
    listed = subprocess.run(["arm-none-eabi-nm", "-S", str(made)], capture_output=True, text=True, check=True).stdout
    sizes = [int(size, 16) for size in re.findall(r"^\w+ (\w+) T kernel_\d+$", listed, re.MULTILINE)]
    assert len(sizes) == len(cases)
    assert max(sizes) <= 1350
