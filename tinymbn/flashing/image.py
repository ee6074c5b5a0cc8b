"""The file that a flash tool or drive takes, made from the ELF file and held against the board's memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinymbn.board import Board
from tinymbn.elf import Segment, read_segments, to_binary
from tinymbn.errors import BoardError, FlashError, OutputError, ToolError
from tinymbn.files import read_file, write_file
from tinymbn.uf2 import to_uf2

ImageKind = Literal["elf", "bin", "uf2"]

_MOST_BYTES = 1 << 28  # of an ELF file; debug information makes most of it


@dataclass(frozen=True)
class Image:
    """A file to be handed over: where it is, its size in bytes, and its SHA-256 in hexadecimal."""

    path: Path
    size: int
    sha256: str


def image_path(elf: Path, kind: ImageKind) -> Path:
    """Where the image of a firmware is, or will be."""
    return elf if kind == "elf" else elf.parent / "build" / f"{elf.stem}.{kind}"


def make_image(board: Board, elf: Path, kind: ImageKind) -> Image:
    """The firmware as a file of the kind, written unless it is the ELF file itself.

    Raises:
        ToolError: there is no such firmware, or it is no ELF file.
        FlashError: it is not for this board.
        OutputError: the image cannot be written.
    """
    data = read_file(elf, ToolError, _MOST_BYTES, "a linked firmware")
    segments = read_segments(elf)
    _require_in_flash(board, elf, segments)
    path = image_path(elf, kind)
    if kind == "bin":
        data = _binary(board, elf, segments)
    elif kind == "uf2":
        if board.uf2_family is None:
            raise BoardError(f'board "{board.name}": no uf2_family in {board.folder}, so no UF2 file can be made')
        data = to_uf2(segments, board.uf2_family)
    if path != elf:
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent}: cannot be made: {error.strerror}") from error
        write_file(path, data)
    return Image(path, len(data), hashlib.sha256(data).hexdigest())


def _require_in_flash(board: Board, elf: Path, segments: Sequence[Segment]) -> None:
    """Refuse what the tool would write elsewhere, or not at all: most often another board's firmware."""
    if not segments:
        raise FlashError(f"{elf}: it has nothing to load; expected a linked firmware")
    # Memories that touch are one: a boot loader's page and the rest of its flash.
    spans: list[list[int]] = []
    for memory in sorted((m for m in board.memory if m.kind == "flash"), key=lambda m: m.base):
        if spans and spans[-1][1] == memory.base:
            spans[-1][1] = memory.end
        else:
            spans.append([memory.base, memory.end])
    for segment in segments:
        end = segment.address + len(segment.data)
        if not any(low <= segment.address and end <= high for low, high in spans):
            flash = " or ".join(f"0x{low:08x} to 0x{high - 1:08x}" for low, high in spans)
            raise FlashError(
                f"{elf}: bytes for 0x{segment.address:08x} to 0x{end - 1:08x}; expected the flash of board "
                f'"{board.name}", {flash}; is it another board\'s firmware?'
            )


def _binary(board: Board, elf: Path, segments: Sequence[Segment]) -> bytes:
    """The image as bytes without addresses; whatever takes it writes it to the beginning of the flash."""
    start, data = to_binary(segments, elf)
    first = min(memory.base for memory in board.memory if memory.kind == "flash")
    if start != first:
        raise FlashError(
            f"{elf}: begins at 0x{start:08x}; expected the beginning of the flash, 0x{first:08x}, for a binary image"
        )
    return data
