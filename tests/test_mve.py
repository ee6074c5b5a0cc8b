"""The kernels for Helium: layers of any shape on the emulated Cortex-M55, and what compilers do around them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.firmwares import expect_equal, require_tools
from tests.generated import WARNINGS, compile_c, expect_references, generate, write
from tests.random_mobilenets import DILATED, random_chain, random_mobilenet
from tinymbn.board import load_board
from tinymbn.firmware import write_firmware
from tinymbn.fixedpoint import multiplier_and_shift
from tinymbn.layers import Activation
from tinymbn_codegen.dsp.short_form import Reference
from tinymbn_codegen.mve.requantization import requantization_of
from tinymbn_codegen.options import Input, Options

BOARD = "qemu-m55"
KERNELS = {"mve_pointwise", "mve_conv2d", "mve_depthwise", "mve_add", "mve_mean", "mve_dense"}
_FLAGS = ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard")


def _count(config: pytest.Config, share: int, least: int) -> int:
    return max(least, int(config.getoption("--examples")) // share)


def test_every_layer_of_a_chain_is_the_references(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """With the model of the kernels in plain C, under sanitizers."""
    models = []
    count = _count(pytestconfig, 1, 12)
    for seed in (*range(count), *range(DILATED, DILATED + count // 2)):
        rows: Input = "rows" if seed % 3 == 1 else "frame"
        models.append(generate(random_chain(seed), Options(f"m{seed}", kernels="mve", input=rows)))
    used = {step.kernel.name for model in models for step in model.plan.steps if step.kernel is not None}
    assert used >= KERNELS, f"never used: {KERNELS - used}"
    expect_references(models, tmp_path, 6)


def test_the_emulated_core_makes_the_same_bytes(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """Seed 31 has rows whose masks gcc 12 gets wrong where it vectorises by itself, seed 48 windows of 912 bytes."""
    require_tools(BOARD)
    board = load_board(BOARD)
    used = set()
    for seed in sorted({31, 48, DILATED, *range(_count(pytestconfig, 2, 6))}):
        graph, folder = random_chain(seed), tmp_path / str(seed)
        plan = write_firmware(graph, board, Options(), folder)
        used |= {step.kernel.name for step in plan.steps if step.kernel is not None}
        expect_equal(BOARD, folder, graph, seed)
    assert used >= KERNELS, f"never used: {KERNELS - used}"


@pytest.mark.parametrize("form", ["plain", "ties", "general"])
def test_the_form_is_the_references_for_every_accumulator(form: str) -> None:
    chance, found = np.random.default_rng(0), 0
    for _ in range(200):
        channels = 4
        linear = form != "plain"
        multipliers, shifts = zip(
            *(
                multiplier_and_shift(float(2.0 ** -chance.integers(1, 12) * chance.uniform(0.5, 1)))
                for _ in range(channels)
            ),
            strict=True,
        )
        lo = -chance.integers(1, 3000, channels)
        hi = lo + chance.integers(0, 6000, channels)
        shift = np.array(shifts) + (chance.integers(0, 4, channels) if form == "general" else 0)
        zero_point = int(chance.integers(-100, 100)) if linear else -128
        reference = Reference(np.array(multipliers), shift, zero_point, Activation(), lo, hi)
        if not reference.monotone.all():
            continue
        made = requantization_of(reference, np.zeros(channels, np.int64))
        if made.form != form:
            continue
        found += 1
        for channel, (first, last) in enumerate(zip(lo, hi, strict=True)):
            x = np.arange(first, last + 1)
            _, multiplier, right, *more = made.parameters[channel]
            left, ties = more if more else (0, form == "ties")
            high = ((x << left) * multiplier + (1 << 30)) >> 31
            high -= (high < 0) & bool(ties)
            got = np.clip(((high + ((1 << -right) >> 1)) >> -right) + zero_point, -128, 127)
            every = np.broadcast_to(x, (channels, len(x)))
            assert np.array_equal(got, reference.at(every)[channel]), (multiplier, right, left, ties)
    assert found >= 20


def _gcc() -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc")


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3", "-Os", "-O2 -funroll-loops"])
def test_gcc_finds_registers_for_every_block_of_assembler(level: str, tmp_path: Path) -> None:
    _gcc()
    for name, graph in (("chain", random_chain(48)), ("network", random_mobilenet(8))):
        model = generate(graph, Options(kernels="mve"))
        write(model, tmp_path / name)
        source = tmp_path / name / "model_layers.c"
        target = tmp_path / f"{name}.s"
        flags = (*_FLAGS, *level.split(), *WARNINGS)
        compile_c(["arm-none-eabi-gcc", *flags, "-c", "-o", str(tmp_path / "object"), str(source)])
        compile_c(["arm-none-eabi-gcc", *flags, "-S", "-o", str(target), str(source)])
        assert ("vmladava.s8" in target.read_text()) == (level != "-O0")


def test_gcc_vectorises_nothing_by_itself(tmp_path: Path) -> None:
    """Its masks are wrong, with gcc 12: the rows of chain 31 beyond a map's end were taken for rows within."""
    require_tools(BOARD)
    folder = tmp_path / "firmware"
    write_firmware(random_chain(31), load_board(BOARD), Options(), folder)
    done = subprocess.run(
        ["make", "-C", str(folder), "OPTIMISE=-O2 -save-temps=obj"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    files = sorted((folder / "build").rglob("*.s"))
    assert len(files) > 10
    for file in files:
        vectors = re.findall(r"(?m)^\s*v\w+(?:\.\w+)?\s.*\bq\d.*", file.read_text())
        assert bool(vectors) == (file.name == "model_layers.s"), f"{file.name}: {vectors[:1]}"


_STORES = """
#include <arm_mve.h>
void store(int16_t *p, int16x8_t all, int16x8_t six)
{
    vstrhq_s16(p, all);
    vstrhq_p_s16(p, six, vctp16q(6));
}
"""


def test_a_compiler_that_deletes_the_store_before_a_predicated_one_is_known(tmp_path: Path) -> None:
    """gcc 12 takes the second store for a whole one, unless -fno-dse is said; so kernels are assembler."""
    _gcc()
    source, target = tmp_path / "stores.c", tmp_path / "stores.s"
    source.write_text(_STORES)
    compile_c(["arm-none-eabi-gcc", *_FLAGS, "-O2", "-fno-dse", "-S", "-o", str(target), str(source)])
    assert len(re.findall(r"\tvstrht?\.16\t", target.read_text())) == 2
    # No kernel has what it happens to.
    model = generate(random_chain(31), Options(kernels="mve"))
    assert "vpst" not in model.files["model_layers.c"]
    assert "arm_mve.h" not in "".join(model.files.values())
