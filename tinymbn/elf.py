"""What a linked firmware holds: how much of each memory it takes, its symbols, and its image for flash tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinymbn.errors import ToolError


@dataclass(frozen=True)
class Segment:
    """Bytes that a flash tool writes."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Section:
    """A part of the program in memory."""

    name: str
    address: int
    size: int
    load_address: int | None  # where its bytes are kept in flash; None where it has none


def read_sections(path: Path) -> tuple[Section, ...]:
    """The sections that take room on the target.

    Raises:
        ToolError: the file is no ELF.
    """
    with _open(path) as elf:
        found = []
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        for section in elf.iter_sections():
            if not section["sh_flags"] & 2 or not section["sh_size"]:  # SHF_ALLOC
                continue
            load = None
            if section["sh_type"] != "SHT_NOBITS":
                for segment in loads:
                    inside = section["sh_addr"] - segment["p_vaddr"]
                    if inside >= 0 and inside + section["sh_size"] <= segment["p_filesz"]:
                        load = segment["p_paddr"] + inside
            found.append(Section(section.name, section["sh_addr"], section["sh_size"], load))
        return tuple(found)


def read_segments(path: Path) -> tuple[Segment, ...]:
    """What has to be loaded, by physical address.

    Raises:
        ToolError: the file is no ELF.
    """
    with _open(path) as elf:
        segments = [
            Segment(s["p_paddr"], s.data()) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
        ]
    return tuple(sorted(segments, key=lambda segment: segment.address))


def function_at(path: Path, address: int) -> str | None:
    """The name of the function that an address is in; None where no symbol says.

    Raises:
        ToolError: the file is no ELF.
    """
    with _open(path) as elf:
        table = elf.get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
            begin = symbol["st_value"] & ~1  # the lowest bit says Thumb
            if symbol["st_info"]["type"] == "STT_FUNC" and begin <= address < begin + symbol["st_size"]:
                return str(symbol.name)
    return None


def to_binary(segments: Sequence[Segment], path: Path) -> tuple[int, bytes]:
    """The image as flash holds it: address of its first byte, and bytes, gaps filled with 0xFF.

    Raises:
        ToolError: there is nothing, or so much between two segments that they are not one image.
    """
    if not segments:
        raise ToolError(f"{path}: it has nothing to load")
    start = segments[0].address
    end = max(segment.address + len(segment.data) for segment in segments)
    if end - start > 1 << 26:
        raise ToolError(f"{path}: its parts lie {end - start} bytes apart; no one image holds them")
    image = bytearray(b"\xff" * (end - start))
    for segment in segments:
        image[segment.address - start : segment.address - start + len(segment.data)] = segment.data
    return start, bytes(image)


class _open:  # noqa: N801 - used as a function
    """An ELF file for a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> ELFFile:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise ToolError(f"{self._path}: cannot be read: {error.strerror}") from error
        try:
            return ELFFile(self._file)
        except ELFError as error:
            self._file.close()
            raise ToolError(f"{self._path}: no ELF file: {error}") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()
