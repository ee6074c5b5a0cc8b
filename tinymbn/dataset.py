"""Labelled pictures on disk: folders of classes, or one .npz; read one after the other, never all at once."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.archive import RECORD_BYTES, directory_bytes
from tinymbn.errors import DatasetError
from tinymbn.files import require_file
from tinymbn.image import SUFFIXES
from tinymbn.inference import find_pictures

_EXPECTED = "a folder with a folder of pictures for each class, or an .npz with jpeg, offsets and labels"
_MEMBERS = ("jpeg", "offsets", "labels")
_MAX_DIRECTORY_BYTES = 1 << 16
_MAX_NUMBERS_BYTES = 1 << 28  # of offsets or labels: 33 million pictures in 64 bits
_MAX_PICTURE_BYTES = 1 << 28
_SKIPPED_BYTES = 1 << 20  # at a time


@dataclass(frozen=True)
class DatasetClass:
    """A class, as the data set gives it.

    Attributes:
        name: None where it has a number alone.
        number: None where it has a name alone; a folder ``7`` has both.
    """

    name: str | None
    number: int | None


@dataclass(frozen=True)
class LabelledPicture:
    """A picture that has yet to be read.

    Attributes:
        path: of its file; where ``data`` are its bytes, its name in errors.
        data: the file's bytes, where it is part of another file.
        dataset_class: the index into the data set's ``classes``.
    """

    path: Path
    data: bytes | None
    dataset_class: int


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures.

    Attributes:
        path: of the folder or file.
        classes: those that have pictures.
        count: of pictures.
        pictures: yields them, always in the same order. Raises DatasetError where bytes cannot be read.
    """

    path: Path
    classes: tuple[DatasetClass, ...]
    count: int
    pictures: Callable[[], Iterator[LabelledPicture]]


def open_dataset(path: Path) -> Dataset:
    """The data set at a path.

    A folder holds a folder of pictures for each class, named as the class or with its number; names that begin
    with a dot, and files beside the folders that are no pictures, do not count. An ``.npz`` holds ``jpeg``
    (uint8: the bytes of all pictures in a row), ``offsets`` (N+1 integers; picture k is
    ``jpeg[offsets[k]:offsets[k+1]]``), ``labels`` (N integers), and ``classes`` (the names of labels 0, 1, ...)
    if it likes.

    Raises:
        DatasetError: there is nothing there, or something else.
        ImageError: a class without pictures.
    """
    return _open_folder(path) if os.path.isdir(path) else _open_npz(path)


# ------------------------------------------------------------------------------------------------------- folders


def _open_folder(path: Path) -> Dataset:
    try:
        inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        folders = [entry for entry in inside if entry.is_dir()]
        if not folders:
            raise DatasetError(f"{path}: no class folders in it; expected {_EXPECTED}")
        if len(folders) < len(inside):
            _require_no_pictures_beside(path, folders)
        count = 0
        for folder in folders:
            count += len(find_pictures([folder]))
            nested = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
            if nested:
                raise DatasetError(f"{folder}: a folder {min(nested)!r} in the folder of a class; expected pictures")
    except OSError as error:
        raise DatasetError(f"{error.filename or path}: cannot be read: {error.strerror}") from None

    def pictures() -> Iterator[LabelledPicture]:
        for index, folder in enumerate(folders):
            for picture in find_pictures([folder]):
                yield LabelledPicture(picture, None, index)

    return Dataset(path, tuple(DatasetClass(f.name, _number(f.name)) for f in folders), count, pictures)


def _require_no_pictures_beside(path: Path, folders: Sequence[Path]) -> None:
    for entry in sorted(path.iterdir()):
        if entry not in folders and entry.suffix.lower() in SUFFIXES and not entry.name.startswith("."):
            raise DatasetError(f"{entry}: a picture beside the folders of classes; expected it in one of them")


def _number(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else None


# ---------------------------------------------------------------------------------------------------------- .npz


def _open_npz(path: Path) -> Dataset:
    require_file(path, DatasetError, _EXPECTED)
    with _archive(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if not names.issuperset(_MEMBERS):
            found = ", ".join(sorted(names)[:8]) or "nothing"
            raise DatasetError(f"{path}: an archive of {found}; expected {_EXPECTED}")
        offsets = _numbers(path, archive, "offsets")
        labels = _numbers(path, archive, "labels")
        class_names = _class_names(path, archive) if "classes" in names else ()
        with archive.open("jpeg.npy") as member:
            size = _jpeg_bytes(path, archive, member)
    if len(labels) == 0:
        raise DatasetError(f"{path}: no pictures in it")
    if len(offsets) != len(labels) + 1:
        raise DatasetError(f"{path}: {len(offsets)} offsets and {len(labels)} labels; expected one more offset")
    if int(offsets[0]) < 0 or (offsets[1:] < offsets[:-1]).any() or int(offsets[-1]) > size:
        raise DatasetError(f"{path}: offsets that do not rise from 0 to at most {size}, the bytes of jpeg")
    present, indexes = np.unique(labels, return_inverse=True)
    numbers = [int(number) for number in present]
    if class_names and not 0 <= numbers[0] <= numbers[-1] < len(class_names):
        raise DatasetError(f"{path}: labels {numbers[0]} to {numbers[-1]}, and names of {len(class_names)} classes")
    classes = tuple(DatasetClass(class_names[n] if class_names else None, n) for n in numbers)

    def pictures() -> Iterator[LabelledPicture]:
        with _archive(path) as archive, archive.open("jpeg.npy") as member:
            _jpeg_bytes(path, archive, member)
            skip = int(offsets[0])
            while skip > 0:
                skip -= len(member.read(min(skip, _SKIPPED_BYTES))) or skip
            for k, index in enumerate(indexes):
                wanted = int(offsets[k + 1]) - int(offsets[k])
                name = f"{path}: picture {k}"
                if wanted > _MAX_PICTURE_BYTES:
                    raise DatasetError(f"{name}: {wanted} bytes; expected at most {_MAX_PICTURE_BYTES}")
                yield LabelledPicture(Path(name), member.read(wanted), int(index))

    return Dataset(path, classes, len(labels), pictures)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open; what goes wrong in it as a DatasetError."""
    try:
        with path.open("rb") as file:
            file.seek(-min(RECORD_BYTES, path.stat().st_size), 2)
            directory = directory_bytes(file.read())
            if directory is None:
                raise DatasetError(f"{path}: damaged, or another kind of file; expected {_EXPECTED}")
            if directory > _MAX_DIRECTORY_BYTES:
                raise DatasetError(f"{path}: an archive of very many members; expected {_EXPECTED}")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise DatasetError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def _header(path: Path, archive: zipfile.ZipFile, member: IO[bytes], name: str) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an array, found to be as large as its member is before anything is allocated."""
    try:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(member)
    except Exception as error:  # ValueError, but SyntaxError, KeyError and others as well
        raise DatasetError(f"{path}: {name} is no array") from error
    length = archive.getinfo(f"{name}.npy").file_size - member.tell()
    if len(shape) != 1 or fortran or dtype.hasobject or shape[0] * dtype.itemsize != length:
        raise DatasetError(f"{path}: {name} is {dtype} of shape {shape}; expected one row of plain values, all there")
    return shape, dtype


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _header(path, archive, member, name)
        if shape[0] * dtype.itemsize > _MAX_NUMBERS_BYTES:
            raise DatasetError(f"{path}: {name} has {shape[0]} values, which is too many")
        return np.frombuffer(member.read(), dtype)


def _numbers(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    array = _array(path, archive, name)
    if array.dtype.kind not in "iu":
        raise DatasetError(f"{path}: {name} is {array.dtype}; expected integers")
    return array


def _class_names(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    array = _array(path, archive, "classes")
    if array.dtype.kind != "U" or len(set(array.tolist())) < len(array):
        raise DatasetError(f"{path}: classes is {array.dtype}; expected names, each another one")
    return tuple(array.tolist())


def _jpeg_bytes(path: Path, archive: zipfile.ZipFile, member: IO[bytes]) -> int:
    """How many bytes of pictures there are; what is read of the member after this is theirs."""
    (size,), dtype = _header(path, archive, member, "jpeg")
    if dtype != np.uint8:
        raise DatasetError(f"{path}: jpeg is {dtype}; expected uint8, the bytes of all pictures")
    return int(size)
