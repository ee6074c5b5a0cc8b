"""What a flash tool would write: the loadable segments of an ELF file, or a raw image, at their place in the flash."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from tinymbn.emulators.virtual_mcu.block_counter import Memory
from tinymbn.errors import ToolError

_ERASED = 0xFF
_ELF_MAGIC = b"\x7fELF"


def flash_image(path: Path, flash: Memory) -> bytes:
    """The whole content of the flash after the file was written to it; what the file leaves free is erased.

    Nothing but the segments' load addresses and bytes is read from an ELF file: no symbol, and no entry point.

    Raises:
        ToolError: the file cannot be read, or something in it lies outside the flash.
    """
    image = bytearray([_ERASED]) * flash.size_bytes
    try:
        with path.open("rb") as file:
            if file.read(len(_ELF_MAGIC)) != _ELF_MAGIC:
                file.seek(0)
                pieces = [(flash.base, file.read(flash.size_bytes + 1))]
            else:
                pieces = [
                    (int(segment["p_paddr"]), segment.data())
                    for segment in ELFFile(file).iter_segments("PT_LOAD")
                    if segment["p_filesz"]
                ]
    except (OSError, ELFError, ValueError) as cause:
        raise ToolError(f"{path}: cannot be loaded: {cause}") from cause
    for base, data in pieces:
        start = base - flash.base
        if start < 0 or start + len(data) > flash.size_bytes:
            raise ToolError(
                f"{path}: {len(data)} bytes at 0x{base:08X} lie outside the flash, "
                f"0x{flash.base:08X} to 0x{flash.base + flash.size_bytes - 1:08X}"
            )
        image[start : start + len(data)] = data
    return bytes(image)
