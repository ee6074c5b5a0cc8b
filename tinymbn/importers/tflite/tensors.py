"""What of a ``.tflite`` is known before anything runs: constants, integers computed from shapes, and shapes."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import FileTensor, TfliteFile
from tinymbn.layers import Shape


def without_batch(file_shape: Shape) -> Shape:
    """The shape without the batch of 1 in front; a scalar is one element."""
    if len(file_shape) >= 2 and file_shape[0] == 1:
        return file_shape[1:]
    return file_shape or (1,)


class FileTensors:
    """The tensors of a file whose operators are lowered one after another.

    Attributes:
        file: what is lowered.
    """

    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self._file_names = {tensor.name for tensor in file.tensors}
        self._shapes: dict[int, Shape] = {}  # of activations, as computed, with the batch
        self._folded: dict[int, NDArray[Any]] = {}  # constants computed from constants and shapes

    def tensor(self, index: int) -> FileTensor:
        """A tensor as the file has it."""
        return self.file.tensors[index]

    def values(self, index: int) -> NDArray[Any] | None:
        """A constant's values, or what was folded into one; None for activations."""
        return self._folded.get(index, self.tensor(index).values)

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """A small constant operand, such as axes or a shape.

        Raises:
            UnsupportedError: it is computed at run time.
        """
        values = self.values(index) if index >= 0 else None
        if values is None or values.dtype.kind != "i":
            raise UnsupportedError(f"{what} not constant")
        if values.size > 64:
            raise ModelError(f"{what} has {values.size} entries")
        return tuple(int(v) for v in values.ravel())

    def set_folded(self, index: int, values: NDArray[Any]) -> None:
        """Remember what an operator on constants computes."""
        self._folded[index] = values

    def file_shape(self, index: int) -> Shape:
        """The shape with the batch, as computed from the input on; the file's own for constants."""
        return self._shapes.get(index, self.tensor(index).shape)

    def new_name(self, base: str, taken: Collection[str]) -> str:
        """A name for a tensor that the file does not have."""
        name = base
        while name in taken or name in self._file_names:
            name = f"{base}/{len(taken)}" if name == base else f"{name}'"
        return name


def resolve_shape(elements: int, wanted: tuple[int, ...]) -> Shape:
    """A RESHAPE's target with its -1 filled in.

    Raises:
        ModelError: it does not have as many elements.
    """
    known = math.prod(size for size in wanted if size != -1)
    if wanted.count(-1) == 1 and known > 0 and elements % known == 0:
        wanted = tuple(elements // known if size == -1 else size for size in wanted)
    if any(size < 1 for size in wanted) or math.prod(wanted) != elements:
        raise ModelError(f"shape {wanted} does not have {elements} elements")
    return wanted
