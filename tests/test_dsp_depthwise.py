"""The depthwise kernel for the DSP extension: every row, in every layout and turn of its slots, is the oracle's."""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from tests import oracle
from tests.dsp_harness import M4, TEMPLATES, Call, called_functions, compile_kernels, program, run
from tests.generated import SANITIZERS
from tests.strategies import Int8s, limits, pads, weight_options
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import Activation, Depthwise, Padding, Weights, Window, same_padding
from tinymbn_codegen.dsp.depthwise import kernel, supports
from tinymbn_codegen.dsp.depthwise_block import Geometry, Multiply, blocks_of
from tinymbn_codegen.dsp.depthwise_text import additions
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, decode, encode, plane_bytes, row_bytes

_ZIG = (sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4")
ZIG = (*_ZIG, "-fno-sanitize=all", f"-I{TEMPLATES / 'zig'}")
LAYOUTS: tuple[Layout, ...] = ("pairs", "planar", "nhwc")
FORMS = ("short", "displaced", "general")


@dataclass(frozen=True)
class Case:
    """A layer with an input."""

    layer: Depthwise
    x: Int8s
    output_zero: int
    target: Layout

    @property
    def input(self) -> Tensor:
        return Tensor("x", self.x.shape, Quant(1.0, -128))

    @property
    def output(self) -> Tensor:
        return Tensor("y", self.layer.output_shape(self.x.shape), Quant(1.0, self.output_zero))

    @cached_property
    def kernel(self) -> KernelCode:
        assert supports(self.layer, self.input, self.output)
        return kernel(self.layer, self.input, self.output, "planar", self.target)

    @property
    def form(self) -> str:
        """Which of ``FORMS`` it took."""
        third, *more = self.kernel.details["names"][2:]
        return "general" if third == "shift" else "displaced" if more else "short"

    @cached_property
    def expected(self) -> Int8s:
        layer = self.layer
        return oracle.depthwise(
            self.x,
            layer.weights.values,
            layer.weights.bias.tolist(),
            stride=layer.window.stride,
            dilation=(1, 1),
            pads=pads(layer.window),
            input_zero=-128,
            output_zero=self.output_zero,
            limits=limits(layer.activation),
            **weight_options(layer.weights),
        )

    def calls(self, index: int, turn: int) -> list[Call]:
        """One an output row; input row r lies in slot (r + turn) % 3, and what lies elsewhere is noise."""
        row = row_bytes("planar", self.x.shape)
        planar = encode("planar", self.x)
        noise = np.random.default_rng(turn)
        window = self.layer.window
        made = []
        for y in range(self.output.shape[0]):
            slots = noise.integers(0, 256, (3, row), dtype=np.uint8)
            places: list[tuple[int, int] | None] = []
            for k in range(3):
                r = y * window.stride[0] - window.padding.top + k
                slot = (r + turn) % 3
                inside = 0 <= r < self.x.shape[0]
                if inside:
                    slots[slot] = planar[r]
                places.append((0, slot * row) if inside else None)
            before = noise.integers(0, 256, row_bytes(self.target, self.output.shape), dtype=np.uint8)
            made.append(Call(index, (slots.tobytes(), before.tobytes()), ((0, 0), tuple(places), (1, 0))))
        return made

    def check(self, rows: Sequence[bytes]) -> None:
        """Assert that these are the rows of the output."""
        shape = self.output.shape
        got = np.frombuffer(b"".join(rows), np.uint8).reshape(shape[0], -1)
        message = f"{self.layer.window} of {self.x.shape}, {self.target}, {self.form}"
        np.testing.assert_array_equal(decode(self.target, got, shape), self.expected, message)
        if self.target == "planar":
            real = plane_bytes(shape[1]) * shape[2]
            np.testing.assert_array_equal(got[:, :real], encode("planar", self.expected)[:, :real], message)


def make(
    seed: int, size: tuple[int, int, int], window: Window, form: str, target: Layout, weight_zero: int = 0
) -> Case:
    """A case whose outputs spread over their range and beyond; with "general" constants may be any."""
    noise = np.random.default_rng(seed)
    channels = size[2]
    values = noise.integers(-128, 128, (3, 3, channels))
    if noise.random() < 0.2:
        values = noise.choice([-128, -127, 127], values.shape)
    spread = 255 * int(np.abs(values - weight_zero).max()) * int(noise.choice([2, 4]))
    shift = 8 - spread.bit_length() + noise.integers(0, 2, channels)
    bias = noise.integers(-20000, 20000, channels)
    activation, output_zero = Activation(), -128 if form == "short" else int(noise.integers(-100, 100))
    if form == "general":
        shift = noise.integers(-31, 31, channels) if noise.random() < 0.5 else shift
        bias = noise.integers(-(2**31), 2**31, channels) if noise.random() < 0.5 else bias
        bias[0] = 2**31 - 1  # so that the sum wraps: nothing shorter does that
        low, high = sorted(noise.integers(-128, 128, 2).tolist())
        activation = Activation(low, high)
    multiplier = noise.integers(2**30, 2**31, channels)
    if form != "general":  # channels that real models have: nothing but a bias, and a scale of nothing
        dead = noise.random(channels) < 0.1
        values[:, :, dead], bias[dead], shift[dead] = weight_zero, noise.choice([-(2**30), 2**30]), -31
    weights = Weights(
        values.astype(np.int8),
        bias.astype(np.int32),
        multiplier.astype(np.int32),
        shift.astype(np.int8),
        weight_zero,
    )
    x = noise.integers(-128, 128, size) if noise.random() < 0.7 else noise.choice([-128, 127], size)
    return Case(Depthwise("layer", ("x",), "y", weights, activation, window), x.astype(np.int8), output_zero, target)


def some(count: int) -> list[Case]:
    """So many of each form and layout, of any window that the kernel takes; always the same."""
    found: list[Case] = []
    for i, form, target in itertools.product(range(count), FORMS, LAYOUTS):
        chance = np.random.default_rng(len(found))
        stride = int(chance.integers(1, 3))
        top, bottom, left, right = (int(chance.integers(0, most + 1)) for most in (2, 2, 1, 2))
        wide = i % 2 == 1  # the more pixels there are, the fewer rows and channels
        height = int(chance.integers(max(1, 3 - top - bottom), 5 if wide else 7))
        width = int(chance.integers(max(1, 3 - left - right), 46 if wide else 14))
        channels = int(chance.integers(1, 4 if wide else 10))
        window = Window((3, 3), (stride, stride), padding=Padding(top, bottom, left, right))
        weight_zero = int(chance.choice([0, 0, 0, -128, 5, 127]))
        found.append(make(len(found), (height, width, channels), window, form, target, weight_zero))
    return found


def sweep(target: Layout, output_zero: int) -> Case:
    """Every accumulator near zero, in channels of different scales: negative ones are rounded otherwise."""
    chance = np.random.default_rng(output_zero & 0xFF)
    values = np.zeros((3, 3, 8), np.int64)
    values[1, 1] = chance.choice([1, 2, 3], 8)
    weights = Weights(
        values.astype(np.int8),
        (-128 * values[1, 1] + chance.integers(-20, 20, 8)).astype(np.int32),
        chance.integers(2**30, 2**31, 8).astype(np.int32),
        chance.integers(-4, 0, 8).astype(np.int8),
    )
    layer = Depthwise("layer", ("x",), "y", weights, Activation(), Window((3, 3), padding=Padding(1, 1, 1, 1)))
    x = np.arange(-128, 128).reshape(1, 256, 1).repeat(8, axis=2)
    return Case(layer, x.astype(np.int8), output_zero, target)


def expect_all(chosen: Sequence[Case], folder: Path, *command: str) -> None:
    made = program([case.kernel for case in chosen], folder, *command)
    calls = [case.calls(i, i % 3) for i, case in enumerate(chosen)]
    ran = iter(run(made, [call for of_case in calls for call in of_case]))
    for case, of_case in zip(chosen, calls, strict=True):
        case.check([next(ran)[1] for _ in of_case])


@pytest.fixture(scope="module")
def handful() -> list[Case]:
    """Each form and layout, of rows with and without a loop over blocks, with strides of 1 and 2."""
    found: list[Case] = []
    for form, target in itertools.product(FORMS, LAYOUTS):
        for size, stride in (((2, 37, 2), (1, 1)), ((3, 14, 3), (2, 2))):
            window = Window((3, 3), stride, padding=same_padding(size[:2], (3, 3), stride))
            found.append(make(len(found), size, window, form, target))
    assert {(case.form, case.target) for case in found} == set(itertools.product(FORMS, LAYOUTS))
    return found


@pytest.mark.parametrize("command", [("gcc", "-O1", *SANITIZERS), (*M4, "-O2")], ids=["pc", "m4"])
def test_random_layers(command: tuple[str, ...], pytestconfig: pytest.Config, tmp_path: Path) -> None:
    chosen = some(max(1, pytestconfig.getoption("--examples") // 5))
    assert {(case.form, case.target) for case in chosen} == set(itertools.product(FORMS, LAYOUTS))
    for start in range(0, len(chosen), 50):
        expect_all(chosen[start : start + 50], tmp_path / str(start), *command)


@pytest.mark.parametrize("command", [("gcc", "-O1", *SANITIZERS), (*M4, "-O2")], ids=["pc", "m4"])
def test_every_accumulator_near_zero(command: tuple[str, ...], tmp_path: Path) -> None:
    chosen = [sweep(target, zero) for target in LAYOUTS for zero in (-128, -20, 0, 33)]
    assert {case.form for case in chosen if case.output_zero != -128} == {"displaced"}
    assert {case.form for case in chosen if case.output_zero == -128} == {"short"}
    expect_all(chosen, tmp_path, *command)


@pytest.mark.parametrize("flags", [("-O0",), ("-O1",), ("-Os",), ("-O3",), ("-O2", "-DTINYMBN_ASSEMBLER=0")], ids=str)
def test_a_handful_on_an_m4(flags: tuple[str, ...], handful: list[Case], tmp_path: Path) -> None:
    expect_all(handful, tmp_path, *M4, *flags)


@pytest.mark.parametrize(("width", "channels"), [(12, 341), (20, 300), (112, 64), (236, 280)])
def test_rows_that_lie_far_apart(width: int, channels: int, tmp_path: Path) -> None:
    """Beyond what an offset reaches, for the third row, for the second, by more than a halfword."""
    window = Window((3, 3), (2, 2), padding=Padding(0, 0, 1, 0))
    expect_all([make(0, (3, width, channels), window, "short", "pairs")], tmp_path, *M4, "-O2")
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    if width == 20:
        layers = [make(1, (1, width, channels), window, "displaced", target) for target in LAYOUTS]
        expect_all(layers, tmp_path, *M4, "-O2")


def test_a_depthwise_row_by_hand(tmp_path: Path) -> None:
    """One output row of two channels that are the same; the weights of the second are ten times those of the first."""
    x = np.arange(1, 10).reshape(3, 3, 1).repeat(2, axis=2) - 128
    weights = Weights(
        np.stack([np.arange(1, 10).reshape(3, 3), 10 * np.arange(1, 10).reshape(3, 3)], axis=2).astype(np.int8),
        np.array([0, 5], np.int32),
        np.array([2**30, 2**30], np.int32),
        np.array([-3, -6], np.int8),  # 1 / 16, 1 / 128
    )
    layer = Depthwise("layer", ("x",), "y", weights, Activation(), Window((3, 3), padding=Padding(0, 0, 1, 1)))
    # The middle: 1*1 + 2*2 + ... + 9*9 = 285. On either side 1*2 + 2*3 + 4*5 + 5*6 + 7*8 + 8*9 = 186.
    # 285 / 16 = 17.8, 186 / 16 = 11.6; (2850 + 5) / 128 = 22.3, (1860 + 5) / 128 = 14.6
    expected = (np.array([[[12, 15], [18, 22], [12, 15]]]) - 128).astype(np.int8)
    for target in LAYOUTS:
        case = Case(layer, x.astype(np.int8), -128, target)
        case.__dict__["expected"] = expected
        expect_all([case], tmp_path / target, "gcc", "-O1", *SANITIZERS)


@pytest.mark.parametrize(
    "command",
    [
        ("gcc", "-O0"),
        ("gcc", "-O3"),
        ("clang", "-O0"),
        ("clang", "-O2"),
        (*M4, "-O0"),
        (*M4, "-O2", "-Wstack-usage=200"),
        (*M4, "-Os"),
        *[
            ("arm-none-eabi-gcc", f"-mcpu={core}", "-mthumb", "-O2")
            for core in ("cortex-m7", "cortex-m33", "cortex-m55")
        ],
    ],
    ids=lambda command: "zig" if "ziglang" in command else " ".join(command),
)
def test_no_compiler_warns_or_calls_anything(command: tuple[str, ...], handful: list[Case], tmp_path: Path) -> None:
    if "ziglang" in command:
        pytest.importorskip("ziglang", reason="no zig")
    narrow = [
        make(0, (1, 1, 2), Window((3, 3), (stride, stride), padding=Padding(1, 1, left, 2 - left)), "short", "pairs")
        for stride in (1, 2)
        for left in (0, 1)
    ]
    called = called_functions(compile_kernels([case.kernel for case in (*handful, *narrow)], tmp_path, *command))
    assert called <= {"__aeabi_unwind_cpp_pr0", "__aeabi_unwind_cpp_pr1"}  # clang's, of its tables for unwinding


def test_what_it_does_not_take() -> None:
    case = make(0, (6, 6, 2), Window((3, 3), padding=Padding(1, 1, 1, 1)), "short", "pairs")
    layer, x, y = case.layer, case.input, case.output
    assert supports(layer, x, y)
    for other in (
        Window((3, 3), (1, 2)),
        Window((3, 3), (3, 3)),
        Window((3, 3), dilation=(2, 2)),
        Window((3, 3), padding=Padding(0, 0, 2, 0)),
    ):
        assert not supports(replace(layer, window=other), x, y)
    assert not supports(layer, replace(x, quant=Quant(1.0, -127)), y)
    assert not supports(layer, replace(x, shape=(6, 6, 1)), y)  # two outputs an input
    smaller = replace(layer.weights, values=layer.weights.values[:2])
    assert not supports(replace(layer, weights=smaller, window=Window((2, 3))), x, y)


# ------------------------------------------------------------------------------------- blocks, as they are planned


def factors(multiply: Multiply, start: int) -> list[tuple[int, int]]:
    """Which pixel is multiplied with which weight of a kernel row."""
    x = start + multiply.source.x
    weights = [int(digit) for digit in multiply.weights]
    if multiply.instruction == "smlad":
        return [(x, weights[0]), (x + 1, weights[1])]
    high_pixel, high_weight = (letter == "t" for letter in multiply.instruction[-2:])
    return [(x + high_pixel, weights[high_weight])]


@pytest.mark.parametrize(("stride", "pad_left"), [(1, 0), (1, 1), (2, 0), (2, 1)])
def test_a_block_multiplies_each_pixel_of_a_window_once(stride: int, pad_left: int) -> None:
    for width, pad_right in itertools.product(range(1, 27), (0, 1, 2)):
        outputs = (width + pad_left + pad_right - 3) // stride + 1
        if outputs >= 1:
            _expect_each_pixel_once(Geometry(width, outputs, stride, pad_left, 1000))


def _expect_each_pixel_once(geometry: Geometry) -> None:
    blocks = blocks_of(geometry)
    assert sum(block.advance for block in blocks) == plane_bytes(geometry.width)
    for block in blocks:
        start = block.first * geometry.stride
        found = Counter((multiply.output, *pair) for multiply in block.multiplies for pair in factors(multiply, start))
        in_padding = {key for key in found if key[1] >= geometry.width}
        assert all(x < plane_bytes(geometry.width) for _, x, _ in in_padding)  # they are zeros of the plane
        due: Counter[tuple[int, int, int]] = Counter()
        for output in range(block.count):
            for tap in range(3):
                x = (block.first + output) * geometry.stride - geometry.pad_left + tap
                if 0 <= x < geometry.width:
                    due[output, x, tap] += 1
        assert {key: n for key, n in found.items() if key not in in_padding} == due
        for multiply in block.multiplies:
            assert start + multiply.source.x < geometry.width  # nothing is loaded for padding alone


def test_a_middle_block_takes_eight_multiplications_a_row() -> None:
    for stride, left in itertools.product((1, 2), (0, 1)):
        block = blocks_of(Geometry(48, 48 // stride - 2, stride, left, 1000))[2]
        assert len(block.multiplies) == 8


@pytest.mark.parametrize("value", [0, 4, -4, 255, 4095, 4096, 6140, -6144, 65535, 66080, 1_000_001])
def test_additions_of_immediates(value: int) -> None:
    total = 0
    for line in additions("r0", value):
        found = re.fullmatch(r"(add|sub) r0, r0, #(\d+)", line)
        assert found
        number = int(found[2])
        low = number & -number
        assert number < 4096 or number // low < 256  # what the instruction takes
        total += number if found[1] == "add" else -number
    assert total == value
