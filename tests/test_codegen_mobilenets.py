"""Random MobileNets through the whole generator: every set of kernels, whole frames and rows."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.firmwares import expect_equal, require_tools
from tests.generated import WARNINGS, Model, compile_c, expect_references, generate, write
from tests.random_mobilenets import random_mobilenet
from tinymbn.board import load_board
from tinymbn.errors import PlanError
from tinymbn.firmware import write_firmware
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import Input, KernelSet, Optimize, Options

_SEEDS = (91, 95, 29)  # small, with every kernel for the DSP extension; weights of 8 bits among them
_HELIUM_DENSE = 145
_SETS: tuple[KernelSet, ...] = ("mve", "dsp", "armv7m", "armv6m", "plain")


def _models(seeds: Iterable[int]) -> list[Model]:
    made = []
    for seed in seeds:
        kernels: KernelSet = _SETS[seed % len(_SETS)]
        rows: Input = "rows" if seed % 3 == 0 else "frame"
        optimize: Optimize = ("speed", "balanced", "ram")[seed % 7 % 3]
        options = Options(f"m{seed}", frozenset(), kernels, optimize, rows)
        made.append(generate(random_mobilenet(seed), options))
    return made


def test_every_layer_equals_the_references(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """With C models of the DSP instructions, under sanitizers."""
    seeds = {*range(max(20, pytestconfig.getoption("--examples") // 2)), *_SEEDS, _HELIUM_DENSE}
    models = _models(sorted(seeds))
    expect_references(models, tmp_path, 10)
    used = {step.kernel.name for model in models for step in model.plan.steps if step.kernel is not None}
    special = {name for name in KERNELS if name.startswith(("mve_", "dsp_", "scalar_"))}
    assert special <= used, f"never used: {special - used}"


@pytest.mark.parametrize("rows", ["frame", "rows"])
@pytest.mark.parametrize("board_name", ["qemu-m0", "qemu-m3", "qemu-m4", "qemu-m7", "qemu-m33", "qemu-m55"])
def test_cores_make_the_references_bytes(
    board_name: str, rows: Input, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """Small networks; the M0 faults where an access is not aligned."""
    require_tools(board_name)
    count = pytestconfig.getoption("--examples")
    board = load_board(board_name)
    for seed in (*_SEEDS, *range(1000, 1000 + count // 20 if count >= 100 else 1000)):
        graph, folder = random_mobilenet(seed), tmp_path / str(seed)
        try:
            write_firmware(graph, board, Options(input=rows), folder)
        except PlanError:
            continue  # too large for the board
        expect_equal(board_name, folder, graph, seed)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3"])
def test_cores_without_them_get_no_dsp_instructions_and_no_kernel_calls_memcpy(core: str, tmp_path: Path) -> None:
    """QEMU's Cortex-M3 would execute SMLAD."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc")
    listing = _listing(core, tmp_path, Options().on(core))
    assert not re.search(r"\t(smla[bdtw]|smlald|smmla|smmul|smuad|[us]xtb16|pkh|[us]sat16)", listing)
    assert "memcpy" not in listing


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_cores_with_the_dsp_extension_use_it(core: str, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc")
    listing = _listing(core, tmp_path, Options(kernels="dsp"))
    for instruction in ("smlad", "smmla", "usat", "sxtb16", "uxtb16"):
        assert f"\t{instruction}" in listing, instruction
    assert "memcpy" not in listing


def _listing(core: str, folder: Path, options: Options) -> str:
    """The instructions of all layers."""
    found = []
    for seed in _SEEDS:
        model = generate(random_mobilenet(seed), options)
        write(model, folder / str(seed))
        target = folder / f"{seed}.o"
        flags = (f"-mcpu={core}", "-mthumb", "-O2", *WARNINGS, "-c")
        compile_c(["arm-none-eabi-gcc", *flags, "-o", str(target), str(folder / str(seed) / "model_layers.c")])
        command = ["arm-none-eabi-objdump", "-dr", str(target)]
        found.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return "\n".join(found)
