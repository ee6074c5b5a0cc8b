"""What of a linked firmware is the model: its code, its constants, its RAM; by the symbols of the ELF file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinymbn.errors import ToolError

# What codegen puts beside the model: of the firmware, and what verification alone calls.
_BESIDE = ("main.o", "model_link.o", "model_traced.o")
_LAYERS = "_layers.c"
_WRITABLE = 1  # SHF_WRITE


@dataclass(frozen=True)
class Footprint:
    """Bytes of the model in a firmware, what the linker threw away not counted.

    Attributes:
        code: of functions, with their literals.
        kernels: of these the layers' functions, and what they call that is not inlined.
        constants: weights, tables, initial values.
        ram: arena and variables.
    """

    code: int
    kernels: int
    constants: int
    ram: int

    @property
    def flash(self) -> int:
        """Code and constants."""
        return self.code + self.constants


def read_footprint(folder: Path, elf: Path) -> Footprint:
    """The model's part.

    Args:
        folder: of tinymbn codegen, built.
        elf: what was linked there.

    Raises:
        ToolError: the folder is not built, or the model's symbols are not there.
    """
    objects = [path for path in sorted((folder / "build").glob("*.o")) if path.name not in _BESIDE]
    sources = {path.with_suffix(".c").name: path for path in objects}
    ours = {symbol.name: source for source, path in sources.items() for symbol in _symbols(path) if symbol.file == ""}
    code = kernels = constants = ram = 0
    for symbol in _symbols(elf):
        source = symbol.file or ours.get(symbol.name, "")
        if source not in sources:
            continue
        if symbol.is_function:
            code += symbol.size
            kernels += symbol.size if source.endswith(_LAYERS) else 0
        else:
            constants += symbol.size if symbol.in_flash else 0
            ram += symbol.size if symbol.writable else 0
    if not (code and constants and ram):
        raise ToolError(f"{elf}: the model's symbols are not in it; expected a firmware that tinymbn build made")
    return Footprint(code, kernels, constants, ram)


def functions_of(elf: Path) -> frozenset[str]:
    """The names of all functions."""
    return frozenset(symbol.name for symbol in _symbols(elf) if symbol.is_function)


@dataclass(frozen=True)
class _Symbol:
    """A function or object.

    Attributes:
        name: of it.
        file: the source that it is local to; empty for a global one.
        size: in bytes.
        is_function: else it is data.
        in_flash: it has bytes in the file.
        writable: it is in RAM when the firmware runs.
    """

    name: str
    file: str
    size: int
    is_function: bool
    in_flash: bool
    writable: bool


def _symbols(path: Path) -> Iterator[_Symbol]:
    """Every function and object that is defined; local ones stand behind the name of their source."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        table = elf.get_section_by_name(".symtab")
        source = ""
        for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
            kind = symbol["st_info"]["type"]
            if kind == "STT_FILE":
                source = symbol.name
            if kind not in ("STT_FUNC", "STT_OBJECT") or not isinstance(symbol["st_shndx"], int):
                continue
            section = elf.get_section(symbol["st_shndx"])
            yield _Symbol(
                name=symbol.name,
                file=source if symbol["st_info"]["bind"] == "STB_LOCAL" else "",
                size=symbol["st_size"],
                is_function=kind == "STT_FUNC",
                in_flash=section["sh_type"] != "SHT_NOBITS",
                writable=bool(section["sh_flags"] & _WRITABLE),
            )
