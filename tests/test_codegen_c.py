"""The generated C with every compiler, core and level: no warning, the same bytes, nothing needed from outside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.generated import (
    ONE_TO_ONE,
    SANITIZERS,
    SHA256,
    WARNINGS,
    Model,
    compile_c,
    expect_reference,
    generate,
    program,
    run,
    write,
)
from tests.graphs import classifier, every_kernel
from tests.random_mobilenets import random_chain, random_mobilenet
from tests.shared import CHECKOUT
from tests.test_codegen_layers import random_graphs
from tinymbn.graph import Quant
from tinymbn_codegen.constants import layer_symbol
from tinymbn_codegen.generate import link_file
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import PASSES, Options
from tinymbn_codegen.plan import make_plan

_ZIG = (sys.executable, "-m", "ziglang", "cc")
_ZIG_BARE = ("-target", "thumb-freestanding-eabi", "-fno-sanitize=all", f"-I{CHECKOUT / 'firmware_templates' / 'zig'}")

CORES = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")

# Of libgcc, and integer arithmetic alone: what a core has no instruction for.
_HELPERS = {f"__aeabi_{name}" for name in ("lmul", "idiv", "uidiv", "idivmod", "llsl", "lasr", "llsr")}
_HELPERS |= {f"__gnu_thumb1_case_{name}" for name in ("sqi", "uqi", "shi", "uhi", "si")}


def _gcc_for(core: str) -> tuple[str, ...]:
    return ("arm-none-eabi-gcc", f"-mcpu={core}", "-mthumb", "-ffunction-sections", "-fdata-sections")


def _need(compiler: str) -> None:
    if compiler == "ziglang":
        pytest.importorskip("ziglang", reason="no zig")
    elif shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")


@pytest.fixture(scope="module")
def models() -> list[Model]:
    """Every kernel: for cores without the DSP extension and with it, the plain ones; and all sorts of constants."""
    return [
        generate(every_kernel(), Options("every", kernels="armv7m")),
        generate(every_kernel(), Options("plain", frozenset(PASSES), "plain")),
        generate(classifier(), Options("tiny")),
        generate(random_mobilenet(95), Options("dsp")),
        generate(random_chain(53), Options("mve", kernels="mve")),
    ]


def test_the_models_have_every_kernel(models: list[Model]) -> None:
    assert {step.kernel.name for model in models for step in model.plan.steps if step.kernel} == set(KERNELS)


@pytest.mark.parametrize(
    ("compiler", "command"),
    [
        ("gcc", ("gcc", "-O2")),
        ("gcc", ("gcc", "-O3", "-Wstack-usage=1000")),
        ("clang", ("clang", "-O2", "-Wframe-larger-than=1000")),
        ("ziglang", (*_ZIG, "-O2")),
        *[("arm-none-eabi-gcc", (*_gcc_for(core), "-O2", "-Wstack-usage=400")) for core in CORES],
        ("arm-none-eabi-gcc", (*_gcc_for("cortex-m0"), "-Os")),
        ("arm-none-eabi-gcc", (*_gcc_for("cortex-m55"), "-O3", "-mfloat-abi=hard")),
        ("ziglang", (*_ZIG, *_ZIG_BARE, "-mcpu=cortex_m0plus", "-Os")),
        ("ziglang", (*_ZIG, *_ZIG_BARE, "-mcpu=cortex_m4", "-O2")),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[-3:]),
)
def test_no_compiler_warns(compiler: str, command: tuple[str, ...], models: list[Model], tmp_path: Path) -> None:
    _need(compiler)
    for source in (source for model in models for source in write(model, tmp_path)):
        compile_c([*command, *WARNINGS, "-c", "-o", str(tmp_path / "object.o"), str(source)])


@pytest.mark.parametrize("compiler", ["clang", "arm-none-eabi-gcc"])
def test_random_models_raise_no_warning(compiler: str, tmp_path: Path) -> None:
    _need(compiler)
    command = ("clang", "-O1") if compiler == "clang" else (*_gcc_for("cortex-m3"), "-O2")
    for i, graph in enumerate(random_graphs(1)):
        model = generate(graph, Options(f"m{i}"))
        unit = tmp_path / f"unit_{i}.c"
        unit.write_text("".join(f'#include "{source.name}"\n' for source in write(model, tmp_path)))
        compile_c([*command, *WARNINGS, "-c", "-o", str(tmp_path / "object.o"), str(unit)])


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", ("-O0",)),
        ("gcc", ("-Os",)),
        ("gcc", ("-O2",)),
        ("gcc", ("-O3", "-march=x86-64-v3")),
        ("clang", ("-O1", *SANITIZERS)),
        ("clang", ("-O3",)),
        ("ziglang", ("-O2",)),
    ],
)
def test_every_compiler_makes_the_same_bytes(
    compiler: str, flags: tuple[str, ...], models: list[Model], tmp_path: Path
) -> None:
    """Several models in one program, too: none gets in another's way."""
    _need(compiler)
    if "-march=x86-64-v3" in flags and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no AVX2")
    executable = program(models, tmp_path, *flags, compiler=_ZIG if compiler == "ziglang" else (compiler,))
    noise = np.random.default_rng(1)
    inputs = []
    for _ in range(3):
        for i, model in enumerate(models):
            inputs.append((i, noise.integers(-128, 128, model.plan.input.tensor.shape, dtype=np.int8)))
    for (i, x), ran in zip(inputs, run(executable, models, inputs), strict=True):
        expect_reference(models[i], x, ran)


def test_the_headers_are_c_plus_plus_too(models: list[Model], tmp_path: Path) -> None:
    _need("g++")
    objects = []
    for model in models[:2]:
        for source in write(model, tmp_path):
            objects.append(source.with_suffix(".o"))
            compile_c(["gcc", *WARNINGS, "-c", "-o", str(objects[-1]), str(source)])
    main = tmp_path / "main.cpp"
    main.write_text(
        """
        #include "every.h"
        #include "every_traced.h"
        #include "plain.h"
        #include "plain_traced.h"
        #include <cstring>
        static void ignore(int32_t, int32_t, const int8_t *, int32_t) {}
        int main()
        {
            static int8_t input[EVERY_INPUT_BYTES], one[EVERY_OUTPUT_BYTES], two[PLAIN_OUTPUT_BYTES];
            every_run(input, one);
            plain_run_traced(input, two, ignore);
            return every_pixel(0) == -128 && plain_input() != every_input() ? std::memcmp(one, two, sizeof one) : 1;
        }
        """
    )
    for standard in ("c++11", "c++20"):
        flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        compile_c(["g++", *flags, "-o", str(tmp_path / "program"), str(main), *map(str, objects)])
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


def test_arena_and_weights_go_where_they_are_sent(models: list[Model], tmp_path: Path) -> None:
    _need("arm-none-eabi-gcc")
    places = [
        '-DEVERY_ARENA_SECTION=".dtcm"',
        "-DEVERY_ARENA_ALIGNMENT=32",
        '-DEVERY_WEIGHTS_SECTION=".external"',
        "-DEVERY_WEIGHTS_ALIGNMENT=16",
    ]
    found: dict[str, tuple[str, int]] = {}
    for source in write(models[0], tmp_path):
        target = source.with_suffix(".o")
        compile_c([*_gcc_for("cortex-m7"), *WARNINGS, *places, "-c", "-o", str(target), str(source)])
        with target.open("rb") as file:
            elf = ELFFile(file)
            for symbol in _symbols(elf):
                if isinstance(symbol["st_shndx"], int) and symbol["st_info"]["type"] == "STT_OBJECT":
                    section = elf.get_section(symbol["st_shndx"])
                    assert symbol["st_value"] % section["sh_addralign"] in (0, 16)
                    found[symbol.name] = section.name, section["sh_addralign"]
    assert found.pop("every_arena") == (".dtcm", 32)
    weights = [place for name, place in found.items() if name.startswith("every_")]  # not tables within kernels
    assert len(weights) > 20
    assert set(weights) == {(".external", 16)}


def _symbols(elf: ELFFile) -> Iterator[Any]:
    (table,) = (section for section in elf.iter_sections() if isinstance(section, SymbolTableSection))
    return table.iter_symbols()


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("level", ["-Os", "-O2"])
def test_nothing_is_needed_from_outside_but_memcpy(core: str, level: str, models: list[Model], tmp_path: Path) -> None:
    _need("arm-none-eabi-gcc")
    needed: set[str] = set()
    own: set[str] = set()
    for source in write(models[0], tmp_path):
        target = source.with_suffix(".o")
        compile_c([*_gcc_for(core), *WARNINGS, level, "-c", "-o", str(target), str(source)])
        with target.open("rb") as file:
            for symbol in _symbols(ELFFile(file)):
                (needed if symbol["st_shndx"] == "SHN_UNDEF" else own).add(symbol.name)
    assert needed - own - _HELPERS - {""} <= {"memcpy"}
    layers = {name for name in own if re.fullmatch(r"every_layer_\d\d_[a-z0-9_]+?_\d+", name)}
    assert len(layers) == sum(step.kernel is not None for step in models[0].plan.steps)


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_no_layer_computes_in_floating_point(core: str, models: list[Model], tmp_path: Path) -> None:
    _need("arm-none-eabi-gcc")
    for source in write(models[0], tmp_path):
        target = source.with_suffix(".o")
        compile_c([*_gcc_for(core), "-mfloat-abi=hard", "-O2", *WARNINGS, "-c", "-o", str(target), str(source)])
        text = subprocess.run(["arm-none-eabi-objdump", "-d", target], capture_output=True, text=True, check=True)
        # Registers of the floating-point unit may hold integers that are spilled.
        used = set(re.findall(r"\tv[a-z0-9.]+", text.stdout))
        assert {name.split(".")[0].strip() for name in used} <= {"vmov", "vpush", "vpop", "vldr", "vstr"}


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_no_layer_takes_more_stack_than_its_kernel_declares(core: str, tmp_path: Path) -> None:
    """At the levels for which the bounds are meant; ``build`` looks at every firmware."""
    _need("arm-none-eabi-gcc")
    models = [generate(graph, Options(f"m{i}")) for i, graph in enumerate([every_kernel(), *random_graphs(1)])]
    limits = {}
    for model in models:
        write(model, tmp_path)
        for step in model.plan.steps:
            if step.kernel is not None:
                cost = step.kernel.armv6m if core == "cortex-m0" else step.kernel.armv7m
                limits[layer_symbol(model.plan, step)] = cost.stack_bytes
    unit = tmp_path / "unit.c"
    unit.write_text("".join(f'#include "{model.name}_layers.c"\n' for model in models))
    for level in ("-O1", "-O2", "-Os"):
        compile_c([*_gcc_for(core), level, "-fstack-usage", "-c", "-o", str(tmp_path / "unit.o"), str(unit)])
        lines = [line.split("\t") for line in (tmp_path / "unit.su").read_text().splitlines()]
        frames = {place.rsplit(":", 1)[1]: int(size) for place, size, _ in lines}
        assert frames.keys() >= limits.keys()
        too_large = {name: frames[name] for name, limit in limits.items() if frames[name] > limit}
        assert not too_large, level


@pytest.mark.parametrize(("scale", "expected"), [(1 / 256, 4096000), (5.0, 5242880000), (1e9, 2**43 - 1)])
def test_the_output_scale_of_the_link_is_bounded(scale: float, expected: int) -> None:
    graph = classifier()
    tensors = {**graph.tensors, "scores": replace(graph.tensors["scores"], quant=Quant(scale, -128))}
    plan = make_plan(replace(graph, tensors=tensors), Options(), SHA256)
    assert f".output_scale_q20 = {expected}," in link_file(plan, ONE_TO_ONE, frame_buffer=True)
