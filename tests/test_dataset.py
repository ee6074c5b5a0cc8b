"""Labelled pictures on disk: both forms, and what is neither."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinymbn.dataset import Dataset, DatasetClass, open_dataset
from tinymbn.errors import DatasetError, TinymbnError


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2), grey).save(file, "PNG")
    return file.getvalue()


def members(*pictures: bytes, labels: Any) -> dict[str, Any]:
    """The arrays of a data set."""
    ends = np.cumsum([0, *(len(picture) for picture in pictures)])
    return {"jpeg": np.frombuffer(b"".join(pictures), np.uint8), "offsets": ends, "labels": np.array(labels)}


def read(dataset: Dataset) -> list[tuple[str, bytes | None, int]]:
    return [(one.path.name, one.data, one.dataset_class) for one in dataset.pictures()]


def folders(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(0))
    return path


# ------------------------------------------------------------------------------------------------------- folders


def test_folders_are_classes_and_their_pictures_come_by_name(tmp_path: Path) -> None:
    path = folders(tmp_path / "d", "dog/b.png", "dog/a.JPG", "07/x.bmp", "cat/c.npy", "cat/.hidden.png", ".git/x.png")
    (path / "README.md").write_text("about")
    (path / "cat" / "notes.txt").write_text("no picture")
    dataset = open_dataset(path)
    assert dataset.classes == (DatasetClass("07", 7), DatasetClass("cat", None), DatasetClass("dog", None))
    assert dataset.count == 4
    assert read(dataset) == [("x.bmp", None, 0), ("c.npy", None, 1), ("a.JPG", None, 2), ("b.png", None, 2)]
    assert read(dataset) == read(dataset)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "no class folders in it; expected a folder with a folder of pictures for each class"),
        (["a.png"], "no class folders in it"),
        (["cat/a.png", "b.png"], "b.png: a picture beside the folders of classes"),
        (["cat/a.png", "cat/more/b.png"], "cat: a folder 'more' in the folder of a class"),
        (["cat/a.png", "dog/notes.txt"], "dog: no pictures in this folder"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, names: list[str], problem: str) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(TinymbnError) as error:
        open_dataset(folders(tmp_path / "d", *names))
    assert problem in str(error.value)
    assert error.value.exit_code == 3


# ---------------------------------------------------------------------------------------------------------- .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_read_one_picture_after_the_other(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = members(png(1), png(2), b"", png(3), labels=np.array([5, -2, 5, 7], np.int8))
    save(tmp_path / "d.npz", **arrays)
    dataset = open_dataset(tmp_path / "d.npz")
    assert dataset.classes == (DatasetClass(None, -2), DatasetClass(None, 5), DatasetClass(None, 7))
    assert dataset.count == 4
    assert read(dataset) == [
        ("d.npz: picture 0", png(1), 1),
        ("d.npz: picture 1", png(2), 0),
        ("d.npz: picture 2", b"", 1),
        ("d.npz: picture 3", png(3), 2),
    ]


def test_an_npz_may_name_its_classes_and_begin_anywhere(tmp_path: Path) -> None:
    arrays = members(png(1), png(2), png(3), labels=[1, 1])
    arrays["offsets"] = arrays["offsets"][1:]
    np.savez(tmp_path / "d.npz", **arrays, classes=np.array(["cat", "dög"]), names=np.array(["a", "b"]))
    dataset = open_dataset(tmp_path / "d.npz")
    assert dataset.classes == (DatasetClass("dög", 1),)
    assert [data for _, data, _ in read(dataset)] == [png(2), png(3)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"jpeg": None}, "an archive of labels, offsets; expected a folder"),
        ({"jpeg": np.zeros(200, np.int8)}, "jpeg is int8; expected uint8"),
        ({"jpeg": np.zeros((100, 2), np.uint8)}, "jpeg is uint8 of shape (100, 2); expected one row"),
        ({"labels": np.zeros(2)}, "labels is float64; expected integers"),
        ({"labels": np.zeros(3, int)}, "3 offsets and 3 labels; expected one more offset"),
        ({"labels": np.zeros(0, int)}, "no pictures in it"),
        ({"labels": np.array([{}, {}])}, "labels is object of shape (2,)"),
        ({"offsets": np.array([0, 70, 60])}, "offsets that do not rise from 0 to at most"),
        ({"offsets": np.array([0, 70, 10**9])}, "offsets that do not rise from 0 to at most"),
        ({"offsets": np.array([-1, 0, 70])}, "offsets that do not rise from 0 to at most"),
        ({"offsets": np.array([[0], [1], [2]])}, "offsets is int64 of shape (3, 1)"),
        ({"classes": np.array(["a"])}, "labels 0 to 1, and names of 1 classes"),
        ({"classes": np.array(["a", "a"])}, "expected names, each another one"),
        ({"classes": np.array([1, 2])}, "classes is int64; expected names"),
    ],
)
def test_an_npz_of_another_form_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    arrays = members(png(1), png(2), labels=[0, 1]) | change
    np.savez(tmp_path / "d.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DatasetError) as error:
        open_dataset(tmp_path / "d.npz")
    assert str(error.value).startswith(str(tmp_path / "d.npz"))
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "damaged, or another kind of file; expected a folder"),
        (png(0), "damaged, or another kind of file"),
        (b"PK\3\4" + bytes(100) + b"PK\5\6" + bytes(18), "an archive of nothing"),
        (b"PK\5\6" + b"\0" * 8 + b"\xff\xff\xff\xff" + b"\0" * 6, "an archive of very many members"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DatasetError) as error:
        open_dataset(tmp_path / "d.npz")
    assert problem in str(error.value)


def test_a_missing_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such file"):
        open_dataset(tmp_path / "nowhere")


def test_a_header_that_lies_costs_nothing(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (1 << 60,)})
    np.savez(tmp_path / "d.npz", **{k: v for k, v in members(png(1), labels=[0]).items() if k != "offsets"})
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("offsets.npy", header.getvalue())
    with pytest.raises(DatasetError, match="offsets is int64 of shape"):
        open_dataset(tmp_path / "d.npz")


def test_bytes_that_are_damaged_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **members(b"x" * 5000, labels=[0]))
    data = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(data.replace(b"xxxx", b"xxxy", 1))
    dataset = open_dataset(tmp_path / "d.npz")
    with pytest.raises(DatasetError, match=r"d\.npz: damaged: Bad CRC-32"):
        read(dataset)


@pytest.mark.parametrize("cut", range(0, 900, 37))
def test_a_file_cut_short_or_flipped_is_one_error_or_none(tmp_path: Path, cut: int) -> None:
    np.savez(tmp_path / "d.npz", **members(png(1), png(2), labels=[0, 1]))
    data = bytearray((tmp_path / "d.npz").read_bytes())
    for damaged in (data[: len(data) - cut - 1], data[:cut] + bytes([data[cut] ^ 0x41]) + data[cut + 1 :]):
        (tmp_path / "d.npz").write_bytes(damaged)
        with suppress(DatasetError):  # any other error is a bug
            read(open_dataset(tmp_path / "d.npz"))
