"""Compiles kernels each on its own, without a model, and runs them: on the PC, or on a Cortex-M4 in QEMU.

Many kernels make one program, and one run of it many calls. A call has buffers of the exact size, so that a sanitizer
(on the PC) or guards around them (in QEMU) tell of a byte too many, and arguments that point into them.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.generated import WARNINGS, compile_c
from tests.shared import CHECKOUT
from tinymbn_codegen.constants import as_lines
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.templates import render

TEMPLATES = CHECKOUT / "firmware_templates"
M4 = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft")

_MOST_ROWS = 64  # pointers in one argument
_TYPES = {1: "int8_t", 2: "int16_t", 4: "int32_t"}

Place = tuple[int, int]
"""A buffer's index, and an offset in it."""


@dataclass(frozen=True)
class Call:
    """One call of a kernel.

    Attributes:
        kernel: its index among those of the program.
        buffers: what they hold before; what they hold afterwards is what ``run`` returns.
        arguments: for each parameter a place, or for an array of pointers several; None is NULL.
    """

    kernel: int
    buffers: tuple[bytes, ...]
    arguments: tuple[Place | tuple[Place | None, ...], ...]


@dataclass(frozen=True)
class Program:
    """What was compiled.

    Attributes:
        path: the executable or ELF file.
        emulated: it runs in QEMU, not on the PC.
    """

    path: Path
    emulated: bool


_ON_PC = r"""
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *text)
{
    fprintf(stderr, "%s\n", text);
    exit(3);
}

static uint8_t *read_calls(uint32_t *bytes)
{
    FILE *file = fopen("calls", "rb");
    fseek(file, 0, SEEK_END);
    *bytes = (uint32_t)ftell(file);
    fseek(file, 0, SEEK_SET);
    uint8_t *data = malloc(*bytes);
    if (fread(data, 1, *bytes, file) != *bytes) {
        fail("calls cannot be read");
    }
    fclose(file);
    return data;
}

static void write_answer(const uint8_t *data, uint32_t bytes)
{
    static FILE *file;
    if (file == NULL) {
        file = fopen("answer", "wb");
    }
    fwrite(data, 1, bytes, file);
    fflush(file);
}

/* Of the exact size: the address sanitizer sees a byte too many. */
static uint8_t *take(uint32_t bytes)
{
    return malloc(bytes > 0 ? bytes : 1);
}

static void give_back(uint8_t **buffers, const uint32_t *sizes, uint32_t count)
{
    (void)sizes;
    for (uint32_t i = 0; i < count; i++) {
        free(buffers[i]);
    }
}

static void end(void)
{
}
"""

_IN_QEMU = r"""
/* Files of the PC, by semihosting. */
enum { OPEN = 1, CLOSE = 2, WRITE0 = 4, WRITE = 5, READ = 6, LENGTH = 12, EXIT_WITH = 0x20 };

static int32_t host(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(uint32_t status)
{
    const uint32_t block[2] = {0x20026, status};
    host(EXIT_WITH, block);
    for (;;) {
    }
}

static void fail(const char *text)
{
    host(WRITE0, text);
    leave(3);
}

static int32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t block[3] = {(uint32_t)name, mode, length};
    return host(OPEN, block);
}

static uint8_t given[6 << 20] __attribute__((section(".large"), aligned(4)));
static uint8_t memory[8 << 20] __attribute__((section(".large"), aligned(4)));
static uint32_t used;
static int32_t answer; /* the file; 0: not open, it is never the first */
enum { GUARD = 64, FILLING = 0xA6 };

static uint8_t *read_calls(uint32_t *bytes)
{
    const int32_t file = open_file("calls", 5, 1);
    *bytes = (uint32_t)host(LENGTH, &file);
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)given, *bytes};
    if (file < 0 || *bytes > sizeof given || host(READ, block) != 0) {
        fail("calls cannot be read");
    }
    return given;
}

static void write_answer(const uint8_t *data, uint32_t bytes)
{
    if (answer == 0) {
        answer = open_file("answer", 6, 5);
    }
    const uint32_t block[3] = {(uint32_t)answer, (uint32_t)data, bytes};
    if (answer < 0 || host(WRITE, block) != 0) {
        fail("the answer cannot be written");
    }
}

static uint8_t *take(uint32_t bytes)
{
    const uint32_t room = GUARD + (bytes + 3) / 4 * 4 + GUARD;
    if (used + room > sizeof memory) {
        fail("out of memory");
    }
    uint8_t *buffer = memory + used + GUARD;
    memset(memory + used, FILLING, room);
    used += room;
    return buffer;
}

static void give_back(uint8_t **buffers, const uint32_t *sizes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < GUARD; k++) {
            if (buffers[i][-1 - (int32_t)k] != FILLING) {
                fail("a byte before a buffer was written");
            }
            if (buffers[i][sizes[i] + k] != FILLING) {
                fail("a byte behind a buffer was written");
            }
        }
    }
    used = 0;
}

static void end(void)
{
    if (answer > 0) {
        host(CLOSE, &answer);
    }
    leave(0);
}

int main(void);

static void fault(void)
{
    fail("a fault");
}

extern uint8_t stack_top[];
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)main, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
    (const void *)fault,
};
"""

_LINKER_SCRIPT = """
MEMORY {
    code (rx) : ORIGIN = 0x00000000, LENGTH = 4M
    ram (rw) : ORIGIN = 0x20000000, LENGTH = 4M
    psram (rw) : ORIGIN = 0x21000000, LENGTH = 16M
}
SECTIONS {
    .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > code
    .data : { *(.data*) } > ram
    ASSERT(SIZEOF(.data) == 0, "nothing copies .data")
    .bss : { *(.bss*) *(COMMON) } > ram
    .large (NOLOAD) : { *(.large) } > psram
    stack_top = ORIGIN(ram) + LENGTH(ram);
    /DISCARD/ : { *(.ARM.exidx*) }
}
"""

_MAIN = r"""
enum { MOST_BUFFERS = 16 };

typedef struct {
    int8_t *plain;
    const int8_t *rows[%(most_rows)d];
} argument;

%(adapters)s

static void (*const kernels[])(argument *) = {%(names)s};

static uint32_t next(const uint8_t **at)
{
    uint32_t word;
    memcpy(&word, *at, sizeof word);
    *at += sizeof word;
    return word;
}

static int8_t *next_place(const uint8_t **at, uint8_t **buffers)
{
    const uint32_t buffer = next(at);
    const uint32_t offset = next(at);
    return buffer == UINT32_MAX ? NULL : (int8_t *)buffers[buffer] + offset;
}

int main(void)
{
    static argument arguments[8];
    uint8_t *buffers[MOST_BUFFERS];
    uint32_t sizes[MOST_BUFFERS], bytes;
    uint8_t *const calls = read_calls(&bytes);
    const uint8_t *at = calls;
    for (uint32_t call = next(&at); call > 0; call--) {
        const uint32_t kernel = next(&at);
        const uint32_t count = next(&at);
        for (uint32_t i = 0; i < count; i++) {
            sizes[i] = next(&at);
            buffers[i] = take(sizes[i]);
            memcpy(buffers[i], at, sizes[i]);
            at += (sizes[i] + 3) / 4 * 4;
        }
        const uint32_t argument_count = next(&at);
        for (uint32_t i = 0; i < argument_count; i++) {
            const uint32_t rows = next(&at);
            if (rows == 0) {
                arguments[i].plain = next_place(&at, buffers);
            }
            for (uint32_t k = 0; k < rows; k++) {
                arguments[i].rows[k] = next_place(&at, buffers);
            }
        }
        kernels[kernel](arguments);
        for (uint32_t i = 0; i < count; i++) {
            write_answer(buffers[i], sizes[i]);
        }
        give_back(buffers, sizes, count);
    }
    if (at != calls + bytes) {
        fail("the calls are longer than what was read");
    }
    end();
#ifndef __arm__
    free(calls);
#endif
    return 0;
}
"""


def source_of(kernels: Sequence[KernelCode]) -> str:
    """C of all kernels, ``kernel_0`` and so on, with their constants and nothing else."""
    parts = ["#include <stddef.h>", "#include <stdint.h>", "#include <string.h>", ""]
    parts += [f'#include "tinymbn_{name}.h"' for name in ("dsp", "fixed_point", "layers")]
    for index, kernel in enumerate(kernels):
        symbol = f"kernel_{index}"
        for role, values, _ in kernel.constants:
            head = f"static const {_TYPES[values.itemsize]} {symbol}_{role}[{values.size}]"
            parts += ["", f"{head} __attribute__((aligned(4))) = {{", *as_lines(values), "};"]
        parts += ["", render(kernel.template, layer=_view(kernel, symbol))]
    return "\n".join(parts)


def _view(kernel: KernelCode, symbol: str) -> Mapping[str, Any]:
    """What ``layers/layer.c.j2`` and the kernel's own template read."""
    return {
        "title": symbol,
        "function": symbol,
        "parameters": kernel.parameters,
        "numbers": tuple(f"enum {{ {name} = {value} }};" for name, value in kernel.numbers.items()),
        "constants": tuple(
            {"type": _TYPES[values.itemsize], "role": role, "name": f"{symbol}_{role}", "shape": axes}
            for role, values, axes in kernel.constants
        ),
        "details": kernel.details,
    }


def _adapter(kernel: KernelCode, index: int) -> str:
    """Calls a kernel with the arguments it has, whatever they are."""
    given = (
        f"a[{i}].{'rows' if '[' in parameter else 'plain'}" for i, parameter in enumerate(kernel.parameters.split(","))
    )
    return f"static void call_{index}(argument *a)\n{{\n    kernel_{index}({', '.join(given)});\n}}\n"


def _main(kernels: Sequence[KernelCode], system: str) -> str:
    head = "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n" + system
    head += "".join(f"void kernel_{i}({kernel.parameters});\n" for i, kernel in enumerate(kernels))
    return head + _MAIN % {
        "most_rows": _MOST_ROWS,
        "adapters": "\n".join(_adapter(kernel, i) for i, kernel in enumerate(kernels)),
        "names": ", ".join(f"call_{i}" for i in range(len(kernels))),
    }


def write_kernels(kernels: Sequence[KernelCode], folder: Path) -> Path:
    """``kernels.c`` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kernels.c"
    path.write_text(source_of(kernels))
    return path


def compile_kernels(kernels: Sequence[KernelCode], folder: Path, *command: str) -> Path:
    """The object of all kernels, made with a compiler and its flags; a warning fails."""
    need(command[0])
    target = folder / "kernels.o"
    source = write_kernels(kernels, folder)
    compile_c([*command, *WARNINGS, f"-I{TEMPLATES / 'runtime'}", "-c", "-o", str(target), str(source)])
    return target


def program(kernels: Sequence[KernelCode], folder: Path, *command: str) -> Program:
    """All kernels in one program.

    Args:
        kernels: any number.
        folder: for the files.
        command: the compiler and its flags; with ``arm-none-eabi-gcc`` the program runs in QEMU.
    """
    emulated = command[0].startswith("arm-none-eabi-")
    kernel_object = compile_kernels(kernels, folder, *command)
    main = folder / "main.c"
    main.write_text(_main(kernels, _IN_QEMU if emulated else _ON_PC))
    target = folder / ("program.elf" if emulated else "program")
    # Kernels are entered by a call, never a jump: what counts their instructions looks for the return.
    sources, flags = [str(main), str(kernel_object)], ["-std=gnu11", "-fno-optimize-sibling-calls"]
    if emulated:
        script = folder / "program.ld"
        script.write_text(_LINKER_SCRIPT)
        sources += [str(TEMPLATES / "board" / "memory.c"), "-lgcc"]
        flags += [f"-I{TEMPLATES / 'board'}", "-nostdlib", f"-Wl,-T,{script}"]
    compile_c([*command, *flags, "-o", str(target), *sources])
    return Program(target, emulated)


def run(made: Program, calls: Sequence[Call], *emulator_arguments: str) -> list[tuple[bytes, ...]]:
    """The buffers after each call."""
    folder = made.path.parent
    (folder / "answer").unlink(missing_ok=True)
    (folder / "calls").write_bytes(struct.pack("<I", len(calls)) + b"".join(map(_packed, calls)))
    command = [str(made.path)]
    if made.emulated:
        need("qemu-system-arm")
        command = ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(made.path), *emulator_arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[:4000]}"
    answer = (folder / "answer").read_bytes()
    found, at = [], 0
    for call in calls:
        after = []
        for buffer in call.buffers:
            after.append(answer[at : at + len(buffer)])
            at += len(buffer)
        found.append(tuple(after))
    assert at == len(answer)
    return found


def _packed(call: Call) -> bytes:
    parts = [struct.pack("<II", call.kernel, len(call.buffers))]
    for buffer in call.buffers:
        parts += [struct.pack("<I", len(buffer)), buffer, bytes(-len(buffer) % 4)]
    parts.append(struct.pack("<I", len(call.arguments)))
    for argument in call.arguments:
        if _is_place(argument):
            parts.append(struct.pack("<III", 0, *argument))
            continue
        parts.append(struct.pack("<I", len(argument)))
        for place in argument:
            parts.append(struct.pack("<II", *(place if isinstance(place, tuple) else (0xFFFFFFFF, 0))))
    return b"".join(parts)


def _is_place(argument: Place | tuple[Place | None, ...]) -> bool:
    return len(argument) == 2 and all(isinstance(part, int) for part in argument)


def need(compiler: str) -> None:
    """Skip the test where there is no such program."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")


def called_functions(kernel_object: Path) -> set[str]:
    """What an object wants from outside: of kernels nothing but integer functions of libgcc."""
    tool = "arm-none-eabi-nm" if kernel_object.read_bytes()[18:20] == b"\x28\x00" else "nm"
    listed = subprocess.run([tool, "-u", str(kernel_object)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines() if line.strip()}
