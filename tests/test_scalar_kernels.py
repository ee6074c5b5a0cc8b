"""The kernels for cores without DSP instructions make the interpreter's bytes, and keep to what those cores have."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.command_line import Run
from tests.firmwares import DIGITS, PICTURES, firmware, require_tools, run_verify, verify_graph
from tests.generated import SANITIZERS, WARNINGS, Model, compile_c, expect_references, generate, write
from tests.shared import CHECKOUT
from tests.strategies import activations, windows, zero_points
from tinymbn.board import load_board
from tinymbn.firmware import write_firmware
from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    AnyLayer,
    Conv2D,
    Dense,
    Depthwise,
    Padding,
    Shape,
    Weights,
    Window,
    same_padding,
)
from tinymbn.workbench import build_folder
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import Options
from tinymbn_codegen.scalar import MOST_DEPTHWISE_TAPS, MOST_TAPS, scalar_constants, scalar_kernel, scalar_numbers

KERNEL_SETS: dict[Any, tuple[str, ...]] = {"armv7m": (), "armv6m": ("-DTINYMBN_HALVES=1",)}
"""Each with what makes the PC compute as its core does."""

_CHANNELS = st.integers(1, 9) | st.sampled_from([11, 12, 13, 16, 31, 32, 61, 64, 127, 128, 199, 300])
_MOST_MACS = 150_000  # of one layer
_BATCH = 50  # models in one program


def made_weights(seed: int, shape: Shape, count: int, *, most: int, zero_point: int = 0) -> Weights:
    """Noise; shifts of -12 to ``most``, and as it comes: biases of all 32 bits, a factor of 0."""
    noise = np.random.default_rng(seed)
    multiplier = noise.integers(2**30, 2**31, count)
    multiplier[noise.random(count) < 0.1] = 0
    small = noise.random() < 0.7
    return Weights(
        values=noise.integers(-128, 128, shape, dtype=np.int8),
        bias=noise.integers(*((-5000, 5000) if small else (-(2**31), 2**31)), count).astype(np.int32),
        multiplier=multiplier.astype(np.int32),
        shift=noise.integers(min(most, -12), most + 1, count).astype(np.int8),
        zero_point=zero_point,
    )


@st.composite
def _weights(draw: st.DrawFn, shape: Shape, count: int) -> Weights:
    # Both roundings in one, the same with a bit less, both as they are.
    most = draw(st.sampled_from([-2, -2, -1, 30]))
    seed, zero_point = draw(st.integers(0, 2**32 - 1)), draw(st.just(0) | zero_points)
    return made_weights(seed, shape, count, most=most, zero_point=zero_point)


def one_layer(layer: AnyLayer, shape: Shape, zero: int = 0, output_zero: int = 0) -> Graph:
    """A graph of a layer that reads "x" and makes "y"."""
    made = layer.output_shape(shape)
    tensors = {"x": Tensor("x", shape, Quant(0.5, zero)), "y": Tensor("y", made, Quant(0.5, output_zero))}
    return Graph("one layer", tensors, (layer,), "x", ("y",))


@st.composite
def _activation(draw: st.DrawFn, zero: int) -> Activation:
    """One of any sort, or one that lets nothing through that is less than 0."""
    return draw(activations() | st.integers(zero, 127).map(lambda high: Activation(zero, high)))


def _fits(kernel_macs: int, size: tuple[int, int]) -> bool:
    return kernel_macs * math.prod(size) <= _MOST_MACS


@st.composite
def pointwise(draw: st.DrawFn) -> Graph:
    c_in, c_out = draw(_CHANNELS), draw(_CHANNELS)
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 9)).filter(lambda size: _fits(c_in * c_out, size)))
    zero, made_zero = draw(zero_points), draw(zero_points)
    weights, activation = draw(_weights((c_out, 1, 1, c_in), c_out)), draw(_activation(made_zero))
    layer = Conv2D("l", ("x",), "y", weights=weights, activation=activation, window=Window((1, 1)))
    return one_layer(layer, (*size, c_in), zero, made_zero)


@st.composite
def _window(draw: st.DrawFn) -> tuple[tuple[int, int], Window]:
    """Mostly those of real networks."""
    if draw(st.booleans()):
        return draw(windows())
    kernel, stride = draw(st.sampled_from([3, 3, 5, 7])), draw(st.integers(1, 2))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 13)))
    return size, Window((kernel, kernel), (stride, stride), (1, 1), same_padding(size, (kernel,) * 2, (stride,) * 2))


@st.composite
def conv2d(draw: st.DrawFn) -> Graph:
    size, window = draw(_window())
    made = window.output_size(*size)
    c_in, c_out = draw(
        st.tuples(_CHANNELS, _CHANNELS).filter(lambda c: _fits(math.prod((*c, *window.kernel)), made))
        | st.tuples(st.integers(1, 5), st.integers(1, 9))
    )
    zero, made_zero = draw(zero_points), draw(zero_points)
    weights, activation = draw(_weights((c_out, *window.kernel, c_in), c_out)), draw(_activation(made_zero))
    return one_layer(
        Conv2D("l", ("x",), "y", weights=weights, activation=activation, window=window), (*size, c_in), zero, made_zero
    )


@st.composite
def depthwise(draw: st.DrawFn) -> Graph:
    size, window = draw(_window())
    c_in, per_input = draw(_CHANNELS), draw(st.sampled_from([1, 1, 1, 2, 3]))
    c_in = 1 if draw(st.integers(0, 4)) == 0 else c_in
    c_out = draw(_CHANNELS) if c_in == 1 else c_in * per_input
    zero, made_zero = draw(zero_points), draw(zero_points)
    weights, activation = draw(_weights((*window.kernel, c_out), c_out)), draw(_activation(made_zero))
    layer = Depthwise("l", ("x",), "y", weights=weights, activation=activation, window=window)
    return one_layer(layer, (*size, c_in), zero, made_zero)


@st.composite
def dense(draw: st.DrawFn) -> Graph:
    rows = draw(st.sampled_from([(), (), (1,), (3,), (2, 3)]))
    c_in, c_out = draw(_CHANNELS), draw(_CHANNELS)
    steps = None
    if draw(st.integers(0, 3)) == 0:
        noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        steps = noise.integers(1, 10 ** draw(st.integers(1, 9)), (c_out, DENSE_STEPS), np.int32)
        steps.sort(axis=1)
    weights, activation = draw(_weights((c_out, c_in), c_out)), draw(activations())
    layer = Dense("l", ("x",), "y", weights=weights, activation=activation, steps=steps)
    return one_layer(layer, (*rows, c_in), draw(zero_points), draw(zero_points))


KINDS: dict[str, Callable[[], st.SearchStrategy[Graph]]] = {
    "scalar_pointwise": pointwise,
    "scalar_conv2d": conv2d,
    "scalar_depthwise": depthwise,
    "scalar_dense": dense,
}


def _random_graphs(strategy: st.SearchStrategy[Graph], count: int) -> list[Graph]:
    found: list[Graph] = []

    @settings(max_examples=count, phases=[Phase.generate])
    @given(strategy)
    def collect(graph: Graph) -> None:
        found.append(graph)

    collect()
    return found


@pytest.mark.parametrize("kernels", KERNEL_SETS)
@pytest.mark.parametrize("name", KINDS)
def test_every_byte_is_the_references(name: str, kernels: Any, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    graphs = _random_graphs(KINDS[name](), max(1, pytestconfig.getoption("--examples") // 2))
    models = [generate(graph, Options(f"m{i}", frozenset(), kernels)) for i, graph in enumerate(graphs)]
    used = [step.kernel.name for model in models for step in model.plan.steps if step.kernel is not None]
    assert used.count(name) > len(models) / 3
    expect_references(models, tmp_path, _BATCH, "-O1", *SANITIZERS, *KERNEL_SETS[kernels])


def mixed() -> Graph:
    """Each kernel, with sizes that are no multiples of anything, and a legacy model's zero points of weights."""
    tensors = {"x": Tensor("x", (11, 13, 2), Quant(0.5, -7))}
    layers: list[AnyLayer] = []

    def add(
        kind: Any, weights_shape: Shape, channels: int, *, most: int = -8, weight_zero: int = 0, **own: Any
    ) -> None:
        name, read = f"y{len(layers)}", layers[-1].output if layers else "x"
        weights = made_weights(len(layers), weights_shape, channels, most=most, zero_point=weight_zero)
        layer = kind(f"l{len(layers)}", (read,), name, weights=weights, **own)
        shape = layer.output_shape(tensors[read].shape)
        tensors[name] = Tensor(name, shape, Quant(0.5, 3 * len(layers) - 11))
        layers.append(layer)

    any_value, positive = Activation(), Activation(-5, 100)
    around = Padding(1, 1, 1, 1)
    add(Conv2D, (7, 3, 3, 2), 7, activation=any_value, window=Window((3, 3), (1, 1), (1, 1), around))
    add(Depthwise, (5, 5, 14), 14, activation=positive, window=Window((5, 5), padding=Padding(2, 2, 2, 2)))
    add(Conv2D, (13, 1, 1, 14), 13, activation=any_value, window=Window((1, 1)), weight_zero=-31)
    add(Depthwise, (3, 3, 13), 13, activation=any_value, window=Window((3, 3), (2, 2), padding=Padding(0, 1, 0, 1)))
    add(Conv2D, (6, 3, 2, 13), 6, activation=any_value, window=Window((3, 2), (1, 2), (1, 2)), weight_zero=90)
    add(Depthwise, (3, 3, 6), 6, most=-1, activation=any_value, window=Window((3, 3), padding=around), weight_zero=5)
    add(Conv2D, (9, 1, 1, 6), 9, most=3, activation=any_value, window=Window((1, 1)))
    add(Dense, (10, 9), 10, activation=any_value)
    return Graph("mixed", tensors, tuple(layers), "x", (layers[-1].output,))


@pytest.mark.parametrize(
    ("compiler", "flags"), [("gcc", ("-O0",)), ("gcc", ("-O3",)), ("clang", ("-O2",)), ("clang", ("-O1", *SANITIZERS))]
)
def test_every_compiler_makes_the_same_bytes(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    for kernels, own in KERNEL_SETS.items():
        model = generate(mixed(), Options("mixed", frozenset(), kernels))
        assert {step.kernel.name for step in model.plan.steps if step.kernel} == set(KINDS)
        expect_references([model], tmp_path / kernels, 1, *flags, *own, compiler=compiler)


# ------------------------------------------------------------------------------------------------ from sums to bytes

_RESCALING = r"""
#include "tinymbn_scalar.h"
#include <math.h>
#include <stdio.h>

static uint64_t state = 1;

static uint32_t noise(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static long compared;

static void compare(int32_t x, int32_t multiplier, int32_t n, tinymbn_rescaling to)
{
    const int32_t most = to.right == 1 ? INT32_MAX - 512 : INT32_MAX; /* of what the generator lets through */
    if (x > most || x < -most - 1) {
        return;
    }
    const int32_t expected = tinymbn_requantize(x, multiplier, -n);
    const int8_t byte = tinymbn_to_output(expected, to.zero, to.low, to.high);
    if (tinymbn_rescale(x, multiplier, n - to.right, to) != byte) {
        printf("x %d multiplier %d n %d right %d relu %d zero %d\n", x, multiplier, n, to.right, to.relu, to.zero);
    }
    compared++;
}

static void try_all(tinymbn_rescaling to)
{
    static const int32_t ends[] = {INT32_MIN, INT32_MIN + 1, -(1 << 30), -65537, -65536, -65535, -32769, -2, -1,
                                   0, 1, 2, 32767, 32768, 65535, 65536, 1 << 30, INT32_MAX - 1, INT32_MAX};
    static const int32_t multipliers[] = {0, 1, 65535, 65536, 1 << 30, (1 << 30) + 1, INT32_MAX - 65535, INT32_MAX};
    for (int32_t n = to.right; n <= 31; n++) {
        for (int32_t i = 0; i < 40; i++) {
            const int32_t known = i < 8 ? multipliers[i] : (int32_t)((1u << 30) + (noise() >> 2));
            for (size_t e = 0; e < sizeof ends / sizeof *ends; e++) {
                compare(ends[e], known, n, to);
            }
            for (int32_t q = -260; q <= 260 && known > 0; q += 1 + (int32_t)(noise() % 7)) {
                /* Where the output steps from q - 1 to q, and just beside. */
                const double step = (2 * q - 1) * (double)(1LL << (30 + n)) / known;
                const int64_t x = fabs(step) < 1e10 ? (int64_t)step : 0;
                for (int64_t near = x - 3; near <= x + 3; near++) {
                    if (near >= INT32_MIN && near <= INT32_MAX) {
                        compare((int32_t)near, known, n, to);
                    }
                }
            }
            compare((int32_t)noise(), known, n, to);
            compare((int32_t)(noise() >> 8), known, n, to);
        }
    }
}

int main(void)
{
    for (int32_t right = 1; right <= 2; right++) {
        try_all((tinymbn_rescaling){right, false, -128, -128, 127});
        try_all((tinymbn_rescaling){right, false, 127, -128, 127});
        try_all((tinymbn_rescaling){right, false, 5, -100, 90});
        try_all((tinymbn_rescaling){right, true, -128, -128, 127});
        try_all((tinymbn_rescaling){right, true, -3, -3, 127});
        try_all((tinymbn_rescaling){right, true, 127, 127, 127});
        try_all((tinymbn_rescaling){right, true, 0, 1, 6});
    }
    printf("%ld\n", compared);
    return 0;
}
"""


@pytest.mark.parametrize("halves", [0, 1])
def test_both_roundings_in_one_are_both_roundings(halves: int, tmp_path: Path) -> None:
    """At all steps of the output, at the ends of 32 bits, and in between."""
    source, target = tmp_path / "rescaling.c", tmp_path / "rescaling"
    source.write_text(_RESCALING)
    runtime = CHECKOUT / "firmware_templates" / "runtime"
    flags = (*WARNINGS, "-O1", *SANITIZERS, f"-DTINYMBN_HALVES={halves}", f"-I{runtime}")
    compile_c(["gcc", *flags, "-o", str(target), str(source)])
    done = subprocess.run([str(target)], capture_output=True, text=True, check=True, timeout=120)
    *wrong, compared = done.stdout.splitlines()
    assert not wrong, "\n".join(wrong[:10])
    assert int(compared) > 100_000


def test_a_bias_at_the_end_of_32_bits_leaves_both_roundings() -> None:
    """One bit to the right is not enough to keep the sum of the upper half and the zero point within 32 bits."""
    for bias, right in ((0, 1), (2**31 - 2**12, 0), (-(2**31), 0)):
        weights = made_weights(0, (2, 1, 1, 3), 2, most=-1)
        weights = Weights(
            weights.values, np.full(2, bias, np.int32), np.full(2, 2**30, np.int32), np.full(2, -1, np.int8)
        )
        layer = Conv2D("l", ("x",), "y", weights=weights, activation=Activation(), window=Window((1, 1)))
        graph = one_layer(layer, (2, 2, 3))
        numbers = scalar_numbers(layer, graph.tensors["x"], graph.tensors["y"], armv6m=False)
        assert numbers["RIGHT"] == right


# ------------------------------------------------------------------------------------------- which kernel, what data


def _of(layer: AnyLayer, shape: Shape) -> str | None:
    graph = one_layer(layer, shape)
    return scalar_kernel(layer, graph.tensors["x"], graph.tensors["y"])


def test_windows_that_are_too_large_are_left_to_the_general_kernels() -> None:
    def convolution(kernel: int) -> AnyLayer:
        weights = made_weights(0, (4, kernel, kernel, 3), 4, most=-2)
        return Conv2D("l", ("x",), "y", weights=weights, activation=Activation(), window=Window((kernel, kernel)))

    def one_channel(kernel: int, c_in: int = 3) -> AnyLayer:
        weights = made_weights(0, (kernel, kernel, 3), 3, most=-2)
        around = Padding(*[kernel // 2] * 4)
        window = Window((kernel, kernel), padding=around)
        return Depthwise("l", ("x",), "y", weights=weights, activation=Activation(), window=window)

    assert 5 * 5 <= MOST_TAPS < 6 * 6
    assert MOST_DEPTHWISE_TAPS == 7
    shape = (20, 20, 3)
    assert _of(convolution(1), shape) == "scalar_pointwise"
    assert [_of(convolution(kernel), shape) for kernel in (2, 5, 6)] == ["scalar_conv2d", "scalar_conv2d", None]
    assert [_of(one_channel(kernel), shape) for kernel in (3, 5, 7, 9)] == [*["scalar_depthwise"] * 3, None]
    assert [_of(one_channel(kernel), (20, 20, 1)) for kernel in (3, 5, 7)] == ["scalar_conv2d", "scalar_conv2d", None]


def test_a_row_with_many_kinds_of_pixels_is_left_to_the_general_kernel() -> None:
    weights = made_weights(0, (1, 7, 3), 3, most=-2)
    window = Window((1, 7), (1, 1), (1, 3), Padding(0, 0, 18, 18))
    layer = Depthwise("l", ("x",), "y", weights=weights, activation=Activation(), window=window)
    assert _of(layer, (1, 40, 3)) is None


def test_weights_lie_in_the_order_in_which_they_are_read() -> None:
    values = np.arange(6 * 3, dtype=np.int8).reshape(6, 1, 1, 3)
    weights = Weights(values, np.zeros(6, np.int32), np.full(6, 2**30, np.int32), np.array([-2, -3] * 3, np.int8), 2)
    layer = Conv2D("l", ("x",), "y", weights=weights, activation=Activation(), window=Window((1, 1)))
    graph = one_layer(layer, (1, 1, 3), zero=10)
    x, y = graph.tensors["x"], graph.tensors["y"]
    found = {role: values.tolist() for role, values, _ in scalar_constants(layer, x, y, armv6m=False)}
    assert found["weights"] == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13, 14, 15, 16, 17]
    assert found["bias"] == [-10 * (sum(range(3 * c, 3 * c + 3)) - 3 * 2) for c in range(6)]
    assert found["shift"] == [0, 1] * 3
    biased = {role: values for role, values, _ in scalar_constants(layer, x, y, armv6m=True)}
    assert [w + 128 for w in biased["weights"].tolist()] == found["weights"]
    assert scalar_numbers(layer, x, y, armv6m=True)["WEIGHT_ZERO"] == 2 + 128


# ------------------------------------------------------------------------------------------------------ on the cores

_CORES: dict[str, Any] = {
    "cortex-m0": "armv6m",
    "cortex-m3": "armv7m",
    "cortex-m4": "armv7m",
    "cortex-m55": "armv7m",
}
# Of libgcc: what a core has no instruction for.
_HELPERS = {f"__aeabi_{name}" for name in ("lmul", "llsl", "lasr", "llsr", "idiv", "idivmod")}
_DSP = re.compile(
    r"\t(smla[bt][bt]|smlad|smlsd|smlald|smmla|smmls|smmul|smuad|smul[bt][bt]|smla?w|sxtab|uxtab|sxtb16|uxtb16|pkh"
    r"|[suq](add|sub)(8|16)|qd?add|qd?sub|ssat16|usat16|sel|usada?8)"
)


@pytest.fixture(scope="module")
def mixed_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Model, Path]]:
    """The layers alone, by core and level."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc")
    made = {}
    for core, kernels in _CORES.items():
        folder = tmp_path_factory.mktemp(core)
        model = generate(mixed(), Options("mixed", frozenset(), kernels))
        write(model, folder)
        for level in ("-O1", "-O2", "-Os"):
            target = folder / f"layers{level}.o"
            gcc = ("arm-none-eabi-gcc", f"-mcpu={core}", "-mthumb", level, *WARNINGS, "-fstack-usage")
            compile_c([*gcc, "-c", "-o", str(target), str(folder / "mixed_layers.c")])
            made[core, level] = model, target
    return made


def test_nothing_is_called_but_what_a_core_lacks(
    mixed_objects: dict[tuple[str, str], tuple[Model, Path]],
) -> None:
    for (core, level), (_, target) in mixed_objects.items():
        with target.open("rb") as file:
            tables = [s for s in ELFFile(file).iter_sections() if isinstance(s, SymbolTableSection)]
            symbols = [symbol for table in tables for symbol in table.iter_symbols()]
        needed = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"} - {""}
        needed = {name for name in needed if not name.startswith("mixed_layer_")}
        assert needed <= (_HELPERS if core == "cortex-m0" else set()), (core, level)


def test_a_core_without_dsp_instructions_gets_none(
    mixed_objects: dict[tuple[str, str], tuple[Model, Path]],
) -> None:
    for level in ("-O1", "-O2", "-Os"):
        text = subprocess.run(
            ["arm-none-eabi-objdump", "-d", mixed_objects["cortex-m3", level][1]],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "\tmla\t" in text
        assert not _DSP.findall(text)


def test_no_kernel_takes_more_stack_than_it_declares(
    mixed_objects: dict[tuple[str, str], tuple[Model, Path]],
) -> None:
    for (core, level), (model, target) in mixed_objects.items():
        lines = [line.split("\t") for line in target.with_suffix(".su").read_text().splitlines()]
        frames = {place.rsplit(":", 1)[1]: int(size) for place, size, _ in lines}
        for step in model.plan.steps:
            assert step.kernel is not None
            cost = KERNELS[step.kernel.name].cost(load_board("qemu-m0" if core == "cortex-m0" else "qemu-m3"))
            (frame,) = [size for name, size in frames.items() if f"_layer_{step.index:02}" in name]
            assert frame <= cost.stack_bytes, (core, level, step.kernel.name)


@pytest.mark.parametrize(("board", "kernels"), [("qemu-m0", "armv6m"), ("qemu-m3", "armv7m")])
def test_the_emulated_core_makes_the_same_bytes(board: str, kernels: Any, tmp_path: Path) -> None:
    """Armv6-M faults where a load is not aligned."""
    require_tools(board)
    graph, folder = mixed(), tmp_path / "firmware"
    write_firmware(graph, load_board(board), Options("mixed", frozenset(), kernels), folder)
    build_folder(folder)
    assert verify_graph(board, folder, graph).equal
    assert run_verify(board, firmware(board, DIGITS, Options(kernels=kernels))).equal


@pytest.mark.parametrize(
    ("board", "kernels", "faster"),
    [("qemu-m0", "armv6m", 2.4), ("qemu-m3", "armv7m", 3.4), ("qemu-m4", "armv7m", 3.4)],
)
def test_far_fewer_instructions_are_run(run: Run, board: str, kernels: Any, faster: float) -> None:
    def instructions(options: Options) -> int:
        folder = firmware(board, DIGITS, options)
        return int(json.loads(run("profile", PICTURES[0], "--firmware", folder, "--json").out)["total"])

    assert instructions(Options(kernels="plain")) >= faster * instructions(Options(kernels=kernels))
