"""Runs a compiled function on a processor that this computer need not have: one of the emulator Bochs's, bare metal.

There is no operating system and no BIOS: Bochs loads all of the memory from one file, a ROM of a few instructions
(``bochs_start.S``) enters 64-bit mode and calls the function, and its results come back on a disk.
Only the pages that the caller gives (and the function's own) are mapped, so an access beside them is a fault.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

CPU = "tigerlake"

# Where things are. Callers have what lies from MEMORY on.
_RAM = 0x0E00_0000  # what is below is never touched
_CODE = 0x0E10_0000
_STACK = range(0x0F00_0000, 0x0F10_0000)
_PAGE_TABLES = 0x0F80_0000
MEMORY = 0x1000_0000
_MEMORY_END = 0x8000_0000  # devices and the ROM are further up
_ROM = 0xFFFF_0000

_MEGABYTE = 1 << 20
_PAGE = 4096
_PER_TABLE = 512
_PRESENT_WRITABLE = 3
_SECTOR = 512
_CYLINDER = 16 * 63 * _SECTOR

# As bochs_start.S has them.
_START = Path(__file__).with_name("bochs_start.S")
_ARGUMENTS = 10  # it passes so many, whether the function takes them or not
_RAM_MARK = struct.pack("<I", 0x6D626E21)
_MARKER = b"\0tinymbn"
_RETURNED = 0

# Of Debian's displays only `term` needs no screen and opens no port; a terminal's type is all that it asks for.
# The speaker is off because Debian's Bochs crashes where there is no sound card.
_CONFIGURATION = """\
cpu: model={cpu}, count=1, ips=100000000, reset_on_triple_fault=0
memory: guest={megabytes}, host={megabytes}
romimage: file=rom, address={rom:#x}
optramimage1: file=ram, address={ram:#x}
ata0-master: type=disk, path=disk, mode=flat, cylinders={cylinders}, heads=16, spt=63
display_library: term
port_e9_hack: enabled=1
plugin_ctrl: speaker=0
log: log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""

_LOG_LINES = 8
_PAGE_FAULT = 14
_FAULTS = {
    0: "division error",
    3: "breakpoint",
    6: "invalid opcode",
    7: "device not available",
    8: "double fault",
    12: "stack fault",
    13: "general protection fault",
    _PAGE_FAULT: "page fault",
    16: "x87 error",
    17: "misaligned access",
    19: "SIMD floating-point error",
}


@cache
def missing() -> str | None:
    """What this computer lacks for ``call``, in a line, or None."""
    for tool, package in (("bochs", "bochs"), ("as", "binutils"), ("ld", "binutils")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian's package {package})"
    if not list(Path("/usr/lib").glob("*/bochs/plugins/libbx_term_gui.so")):
        return "bochs has no display for terminals (Debian's package bochs-term)"
    models = subprocess.run(
        ["bochs", "--help", "cpu"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    return None if CPU in models.stdout + models.stderr else f"this bochs has no CPU model {CPU}; that of 2.7 has"


def call(
    code: bytes,
    symbol: str,
    arguments: Sequence[int],
    memory: Mapping[int, bytes],
    results: Sequence[tuple[int, int]],
    timeout_s: float = 120.0,
) -> list[bytes]:
    """Calls a function with AVX-512 enabled, and returns what it leaves in memory.

    Args:
        code: a relocatable ELF object. It may call memset, memcpy, memmove and sched_yield.
        symbol: the function, which takes integers or pointers, and returns an int that is 0.
        arguments: at most ten.
        memory: what lies at which address before, from ``MEMORY`` on. Nothing else is mapped, to the page.
        results: addresses and sizes.
        timeout_s: how long Bochs may run.

    Raises:
        RuntimeError: the function returned anything but 0, or a fault or the time ended it.
    """
    for address, block in memory.items():
        if not MEMORY <= address <= address + len(block) <= _MEMORY_END - _PAGE:
            raise ValueError(f"{len(block)} bytes at {address:#x} are outside of {MEMORY:#x} to {_MEMORY_END:#x}")
    end = max((address + len(block) for address, block in memory.items()), default=MEMORY) + len(_RAM_MARK)
    ram = range(_RAM, _up(end, _MEGABYTE))
    # Of whole sectors: these do not cross a page, where the next one may not be mapped.
    sectors = [range(address // _SECTOR * _SECTOR, _up(address + size, _SECTOR)) for address, size in results]
    with tempfile.TemporaryDirectory(prefix="bochs-") as name:
        folder = Path(name)
        program = _link(folder, code, symbol, arguments, ram, sectors)
        _write_images(folder, program, memory, ram)
        disk = folder / "disk"
        cylinders = 1 + sum(map(len, sectors)) // _CYLINDER
        with disk.open("wb") as file:
            file.truncate(cylinders * _CYLINDER)
        (folder / "bochsrc").write_text(
            _CONFIGURATION.format(cpu=CPU, megabytes=ram.stop // _MEGABYTE, rom=_ROM, ram=_RAM, cylinders=cylinders)
        )
        _check_end(symbol, program, _run_bochs(folder, symbol, timeout_s), folder)
        with disk.open("rb") as file:
            read = [file.read(len(whole)) for whole in sectors]
    return [
        data[address - whole.start :][:size]
        for data, whole, (address, size) in zip(read, sectors, results, strict=True)
    ]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _link(
    folder: Path, code: bytes, symbol: str, arguments: Sequence[int], ram: range, sectors: Sequence[range]
) -> ELFFile:
    """The object with the start-up and its tables."""
    if len(arguments) > _ARGUMENTS:
        raise ValueError(f"{len(arguments)} arguments are more than {_ARGUMENTS}")
    passed = [*arguments, *[0] * (_ARGUMENTS - len(arguments))]
    tables = [".globl arguments, results, results_end", ".data", "arguments:", *(f".quad {value}" for value in passed)]
    tables += ["results:", *(f".quad {whole.start}, {len(whole) // _SECTOR}" for whole in sectors), "results_end:"]
    tables += ['.section .note.GNU-stack, "", @progbits', ""]
    (folder / "tables.s").write_text("\n".join(tables))
    (folder / "code.o").write_bytes(code)
    values = {"called": symbol, "page_tables": _PAGE_TABLES, "stack_top": _STACK.stop}
    values |= {"ram": ram.start, "ram_end": ram.stop}
    options = ["-static", "-z", "norelro", "-e", "real_mode", f"-Ttext={_CODE:#x}", f"--section-start=.rom={_ROM:#x}"]
    options += [f"--defsym={name}={value}" for name, value in values.items()]
    for command in (
        ["as", "--64", "-o", "start.o", str(_START), "tables.s"],
        ["ld", *options, "-o", "program", "start.o", "code.o"],
    ):
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        if run.returncode != 0:
            raise RuntimeError(run.stderr.strip())
    return ELFFile(BytesIO((folder / "program").read_bytes()))


def _write_images(folder: Path, program: ELFFile, memory: Mapping[int, bytes], ram: range) -> None:
    """Writes the files of the ROM and the RAM."""
    segments = {segment["p_paddr"]: segment for segment in program.iter_segments("PT_LOAD")}
    (folder / "rom").write_bytes(segments.pop(_ROM).data())
    pieces = {address: segment.data() for address, segment in segments.items()} | dict(memory)
    mapped = [_STACK, *(range(address, address + segment["p_memsz"]) for address, segment in segments.items())]
    if max(code.stop for code in mapped[1:]) > _STACK.start:
        raise ValueError("the code reaches into its stack")
    mapped += [range(address, address + len(block)) for address, block in memory.items()]
    pieces[_PAGE_TABLES] = _page_tables(mapped)
    pieces[ram.stop - len(_RAM_MARK)] = _RAM_MARK
    with (folder / "ram").open("wb") as image:  # sparse: most of it is no one's
        for address, piece in pieces.items():
            image.seek(address - ram.start)
            image.write(piece)


def _page_tables(mapped: Sequence[range]) -> bytes:
    """Tables of four levels that map each page to itself, or not at all.

    Of small pages, because a large one would hide an access up to 2 MB beside a block.
    """
    gigabytes = _MEMORY_END >> 30
    tables = np.zeros((2 + gigabytes + gigabytes * _PER_TABLE, _PER_TABLE), np.uint64)
    entries = np.arange(len(tables), dtype=np.uint64) * _PAGE + (_PAGE_TABLES + _PRESENT_WRITABLE)
    tables[0, 0] = entries[1]
    tables[1, :gigabytes] = entries[2 : 2 + gigabytes]
    tables[2 : 2 + gigabytes] = entries[2 + gigabytes :].reshape(gigabytes, _PER_TABLE)
    pages = tables[2 + gigabytes :].reshape(-1)
    for addresses in mapped:
        numbers = np.arange(addresses.start // _PAGE, _up(addresses.stop, _PAGE) // _PAGE, dtype=np.uint64)
        pages[numbers] = numbers * _PAGE + _PRESENT_WRITABLE
    return tables.tobytes()


def _run_bochs(folder: Path, symbol: str, timeout_s: float) -> bytes:
    """What comes to PORT_OUT, from the marker on."""
    with (folder / "errors").open("wb") as errors:
        try:
            # Debian's has the debugger, which asks what to do first; one without does not read its input.
            # It always ends with a panic, be it about the shutdown that it was asked for: its status tells nothing.
            run = subprocess.run(
                ["bochs", "-q", "-f", "bochsrc"],
                cwd=folder,
                env={**os.environ, "TERM": "xterm"},
                input=b"continue\n",
                stdout=subprocess.PIPE,
                stderr=errors,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{symbol} ran for more than {timeout_s:g} s in Bochs{_last_lines(folder)}") from None
    return run.stdout.partition(_MARKER)[2]


def _check_end(symbol: str, program: ELFFile, sent: bytes, folder: Path) -> None:
    if len(sent) < 2 * 8:
        raise RuntimeError(
            f"{symbol} ended Bochs without a report, as an overflow of the stack does{_last_lines(folder)}"
        )
    if struct.unpack_from("<Q", sent)[0] != _RETURNED:
        raise RuntimeError(f"{symbol}: {_fault(program, sent)}{_last_lines(folder)}")
    (returned,) = struct.unpack_from("<i", sent, 8)  # an int: the upper half of the register is anything
    if returned != 0:
        raise RuntimeError(f"{symbol} returned {returned}")


def _fault(program: ELFFile, sent: bytes) -> str:
    """What the processor tells of an exception, in a line."""
    _, touched, vector, error, at = struct.unpack_from("<5Q", sent)
    symbols = [
        (entry["st_value"], entry.name)
        for table in program.iter_sections()
        for entry in (table.iter_symbols() if isinstance(table, SymbolTableSection) else ())
        if entry.name not in ("", "called") and entry["st_shndx"] != "SHN_ABS" and entry["st_value"] <= at
    ]
    start, nearest = max(symbols, default=(0, "0"))
    what = _FAULTS.get(vector, "exception") + (f" at {touched:#x}" if vector == _PAGE_FAULT else "")
    return f"{what} (vector {vector}, error code {error:#x}) in {nearest}+{at - start:#x}"


def _last_lines(folder: Path) -> str:
    """The errors (e) and panics (p) at the log's end, and what a crash of Bochs itself leaves outside of the log."""
    log, errors = (
        path.read_text(errors="replace").splitlines() if path.exists() else []
        for path in (folder / "log", folder / "errors")
    )
    told = [line for line in log if line[11:12] in ("e", "p") and "Shutdown port" not in line]
    if not log or "quit_sim" not in log[-1]:
        told += [line for line in errors if line[11:12] != "i"]
    return "".join(f"\n  {line}" for line in told[-_LOG_LINES:])
