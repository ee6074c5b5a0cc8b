"""Random MobileNets through the whole generator: every set of kernels, whole frames and rows."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.firmwares import require_tools
from tests.generated import SANITIZERS, WARNINGS, Model, compile_c, expect_reference, generate, program, run, write
from tests.random_mobilenets import random_mobilenet
from tinymbn.board import load_board
from tinymbn.errors import PlanError
from tinymbn.firmware import write_firmware
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify, verify
from tinymbn.workbench import Request, build_folder, open_bench
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import Input, KernelSet, Optimize, Options

_BATCH = 10  # models in one program
_SETS: tuple[KernelSet, ...] = ("dsp", "dsp", "armv7m", "armv6m", "plain")


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
    count = max(20, pytestconfig.getoption("--examples") // 2)
    noise = np.random.default_rng(0)
    used: Counter[str] = Counter()
    for start in range(0, count, _BATCH):
        batch = _models([*range(start, start + _BATCH), *([95] if start == 0 else [])])  # one has every kernel
        used.update(step.kernel.name for model in batch for step in model.plan.steps if step.kernel is not None)
        folder = tmp_path / str(start)
        folder.mkdir()
        executable = program(batch, folder, "-O1", *SANITIZERS)
        inputs = []
        for i, model in enumerate(batch):
            shape = model.plan.input.tensor.shape
            inputs.append((i, noise.integers(-128, 128, shape, dtype=np.int8)))
            inputs.append((i, noise.choice(np.array([-128, 127], np.int8), shape)))
        for (i, x), ran in zip(inputs, run(executable, batch, inputs), strict=True):
            try:
                expect_reference(batch[i], x, ran)
            except AssertionError as error:
                pytest.fail(f"seed {start + i}, {batch[i].plan.options.text}: {error}\nin {folder}")
    special = {name for name in KERNELS if name.startswith(("dsp_", "scalar_"))}
    assert special <= set(used), f"never used: {special - set(used)}"


@pytest.mark.parametrize("rows", ["frame", "rows"])
@pytest.mark.parametrize("board_name", ["qemu-m0", "qemu-m3", "qemu-m4", "qemu-m7", "qemu-m33", "qemu-m55"])
def test_cores_make_the_references_bytes(
    board_name: str, rows: Input, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """Small networks with every kernel for the DSP extension; the M0 faults where an access is not aligned."""
    require_tools(board_name)
    count = pytestconfig.getoption("--examples")
    board = load_board(board_name)
    for seed in (91, 95) if count < 100 else (91, 95, *range(1000, 1000 + count // 20)):
        graph, folder = random_mobilenet(seed), tmp_path / str(seed)
        try:
            write_firmware(graph, board, Options(input=rows), folder)
        except PlanError:
            continue  # too large for the board
        build_folder(folder)
        request = Request(graph=graph, board=board, folder=folder, emulate=True)
        with open_bench(request) as bench:
            verdict = verify(bench.connection, identify(bench.connection, graph, board), stimuli(graph, (), 4, seed))
        assert verdict.equal, f"seed {seed}: {verdict.first_difference and verdict.first_difference.text}"
        assert verdict.stack is not None
        assert verdict.stack.used_bytes <= verdict.stack.reserved_bytes


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
    listing = _listing(core, tmp_path, Options().on(core))
    for instruction in ("smlad", "smmla", "usat", "sxtb16", "uxtb16"):
        assert f"\t{instruction}" in listing, instruction
    assert "memcpy" not in listing


def _listing(core: str, folder: Path, options: Options) -> str:
    """The instructions of all layers of two networks."""
    found = []
    for seed in (91, 95):
        model = generate(random_mobilenet(seed), options)
        write(model, folder / str(seed))
        target = folder / f"{seed}.o"
        flags = (f"-mcpu={core}", "-mthumb", "-O2", *WARNINGS, "-c")
        compile_c(["arm-none-eabi-gcc", *flags, "-o", str(target), str(folder / str(seed) / "model_layers.c")])
        command = ["arm-none-eabi-objdump", "-dr", str(target)]
        found.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return "\n".join(found)
