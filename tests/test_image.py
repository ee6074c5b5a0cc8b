from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tinymbn.errors import ImageError, ModelError
from tinymbn.graph import DType, Graph, Quant, Tensor
from tinymbn.image import _eight_bits, load_input, load_picture, pixel_table, to_input
from tinymbn.layers import Quantize
from tinymbn.preprocessing import Preprocessing

SCALE, ZERO_POINT = float(np.float32(0.02)), -3


def make_graph(
    shape: tuple[int, ...] = (4, 6, 3), dtype: DType = "int8", preprocessing: Preprocessing | None = None
) -> Graph:
    """A model that does nothing but take a picture."""
    inner = Tensor("q", shape, Quant(SCALE, ZERO_POINT))
    outer = {
        "int8": inner,
        "uint8": Tensor("x", shape, Quant(SCALE, ZERO_POINT + 128), "uint8"),
        "float32": Tensor("x", shape, None, "float32"),
    }[dtype]
    return Graph(
        name="picture",
        tensors={inner.name: inner, outer.name: outer},
        layers=() if dtype == "int8" else (Quantize("quantize", ("x",), "q"),),
        input=outer.name,
        outputs=("q",),
        preprocessing=preprocessing or Preprocessing(),
    )


def saved(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def colours(height: int = 4, width: int = 6) -> NDArray[np.uint8]:
    """RGB, all values distinct, (height, width, 3)."""
    return (np.arange(height * width * 3).reshape(height, width, 3) * 3 % 256).astype(np.uint8)


def load(path: Path, graph: Graph) -> NDArray[np.int64]:
    """The pixels 0 to 255 that the int8 model is given."""
    x: NDArray[np.int64] = load_input(path, graph).astype(np.int64) + 128
    return x


# ----------------------------------------------------------------------------------------- kinds of pictures


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_a_picture_of_the_inputs_size_is_taken_pixel_by_pixel(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"x.{suffix}", Image.fromarray(colours()))
    np.testing.assert_array_equal(load(path, make_graph()), colours())


def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", Image.fromarray(colours()))
    with Image.open(path) as file:
        np.testing.assert_array_equal(load(path, make_graph()), np.asarray(file))


def test_the_first_of_several_frames_counts(tmp_path: Path) -> None:
    first, second = Image.fromarray(colours()), Image.new("RGB", (6, 4), "white")
    for name, options in (("x.png", {}), ("x.jpg", {"format": "MPO", "quality": 100, "subsampling": 0})):
        path = saved(tmp_path / name, first, save_all=True, append_images=[second], **options)
        assert load(path, make_graph()).mean() < 200


def test_the_name_of_a_picture_does_not_matter(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", Image.fromarray(colours()), format="PNG")
    np.testing.assert_array_equal(load(path, make_graph()), colours())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    # The top right quarter white, as it should be seen.
    upright = np.zeros((32, 32), np.uint8)
    upright[:16, 16:] = 255
    as_stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"x.{suffix}", Image.fromarray(np.ascontiguousarray(as_stored)), exif=exif)
    np.testing.assert_allclose(load(path, make_graph((32, 32, 1)))[:, :, 0], upright, atol=20)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, 3:, 3] = 255  # black and opaque on the right, black and transparent on the left
    path = saved(tmp_path / "x.png", Image.fromarray(rgba))
    expected = np.full((4, 6, 3), 255)
    expected[:, 3:] = 0
    np.testing.assert_array_equal(load(path, make_graph()), expected)


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.new("LA", (6, 4), (0, 128)))
    np.testing.assert_array_equal(load(path, make_graph((4, 6, 1))), 127)


def test_a_palette_with_a_transparent_entry_is_read(tmp_path: Path) -> None:
    picture = Image.new("P", (6, 4), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((5, 3), 1)
    path = saved(tmp_path / "x.png", picture, transparency=1)
    expected = np.broadcast_to([10, 20, 30], (4, 6, 3)).copy()
    expected[3, 5] = 255
    np.testing.assert_array_equal(load(path, make_graph()), expected)


def test_black_and_white_is_0_and_255(tmp_path: Path) -> None:
    bits = np.arange(24).reshape(4, 6) % 3 == 0
    path = saved(tmp_path / "x.png", Image.fromarray(bits))
    np.testing.assert_array_equal(load(path, make_graph((4, 6, 1)))[:, :, 0], bits * 255)


def test_cmyk_is_read_as_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", Image.new("CMYK", (6, 4), (0, 255, 255, 0)), quality=100)
    np.testing.assert_allclose(load(path, make_graph()), np.broadcast_to([255, 0, 0], (4, 6, 3)), atol=3)


def test_16_bits_of_grey_are_rounded_to_8(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    path = saved(tmp_path / "x.png", Image.fromarray(values))
    expected = np.rint(values / 65535 * 255)
    np.testing.assert_array_equal(load(path, make_graph((4, 6, 1)))[:, :, 0], expected)
    # Older versions of Pillow open the same file with 32 bits a pixel.
    np.testing.assert_array_equal(_eight_bits(path, Image.fromarray(values.astype(np.int32))), expected)


def test_pixels_of_unknown_range_are_refused() -> None:
    for pixels in (np.full((4, 6), 65536, np.int32), np.full((4, 6), -1, np.int32), np.zeros((4, 6), np.float32)):
        with pytest.raises(ImageError, match="expected 8 or 16 bits a channel"):
            _eight_bits(Path("x"), Image.fromarray(pixels))


def test_a_transparent_value_of_16_bits_becomes_white(tmp_path: Path) -> None:
    values = np.full((4, 6), 1000, np.uint16)
    values[0, 0] = 2000
    path = saved(tmp_path / "x.png", Image.fromarray(values))
    data = path.read_bytes()
    body = b"tRNS" + struct.pack(">H", 1000)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])  # after the header
    pixels = load(path, make_graph((4, 6, 1)))
    assert pixels[0, 0, 0] == 8
    assert (pixels.ravel()[1:] == 255).all()


# --------------------------------------------------------------------------------------- size and channels


def test_grey_is_itu_r_601(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.new("RGB", (6, 4), (200, 100, 50)))
    np.testing.assert_array_equal(load(path, make_graph((4, 6, 1))), round(0.299 * 200 + 0.587 * 100 + 0.114 * 50))


def test_a_grey_picture_fills_three_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.new("L", (6, 4), 77))
    np.testing.assert_array_equal(load(path, make_graph()), 77)


def test_bgr_is_rgb_backwards(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(colours()))
    bgr = make_graph(preprocessing=Preprocessing(channel_order="bgr"))
    np.testing.assert_array_equal(load(path, bgr), colours()[:, :, ::-1])


def test_squash_takes_the_whole_picture_and_crop_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 16:32] = 255
    path = saved(tmp_path / "x.png", Image.fromarray(pixels))
    squashed = load(path, make_graph((4, 12, 1)))[:, :, 0]
    assert (squashed[:, 0] == 0).all()
    assert (squashed[:, -1] == 0).all()
    cropped = load(path, make_graph((4, 4, 1), preprocessing=Preprocessing(resize="crop")))[:, :, 0]
    np.testing.assert_array_equal(cropped, 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_any_size_fits(tmp_path: Path, size: tuple[int, int], resize: Any) -> None:
    path = saved(tmp_path / "x.png", Image.new("RGB", size, (1, 2, 3)))
    x = load(path, make_graph(preprocessing=Preprocessing(resize=resize)))
    np.testing.assert_array_equal(x, np.broadcast_to([1, 2, 3], (4, 6, 3)))


def test_a_model_that_takes_no_picture_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.new("L", (6, 4)))
    for shape in ((4, 6, 2), (24,)):
        with pytest.raises(ImageError, match=r"no picture fits.*\.npy"):
            load_input(path, make_graph(shape))


# ------------------------------------------------------------------------------------ from pixels to numbers


def test_pixels_cover_the_quantised_range_unless_the_model_says_otherwise() -> None:
    pixels = np.arange(256)
    np.testing.assert_array_equal(pixel_table(make_graph()), np.broadcast_to(pixels - 128, (3, 256)))
    np.testing.assert_array_equal(pixel_table(make_graph(dtype="uint8")), np.broadcast_to(pixels, (3, 256)))


def test_a_float_model_gets_the_real_values_of_the_int8_range() -> None:
    table = pixel_table(make_graph(dtype="float32"))
    assert table.dtype == np.float32
    expected = np.float32(SCALE) * (np.arange(-128, 128) - ZERO_POINT).astype(np.float32)
    np.testing.assert_array_equal(table, np.broadcast_to(expected, (3, 256)))


def test_mean_and_std_give_real_values_and_these_are_quantised() -> None:
    how = Preprocessing(mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0))
    real = pixel_table(make_graph(dtype="float32", preprocessing=how))
    assert real[1, 80] == 1.0
    assert real[2, 30] == 0.0
    int8 = pixel_table(make_graph(preprocessing=how))
    assert int8.dtype == np.int8
    assert int8[1, 80] == round(1.0 / 0.02) - 3
    assert int8[2, 30] == -3
    assert int8[0, 255] == 127  # 4.9 / 0.02 is beyond the range
    uint8 = pixel_table(make_graph(dtype="uint8", preprocessing=how))
    assert uint8.dtype == np.uint8
    np.testing.assert_array_equal(uint8, int8.astype(np.int64) + 128)


def test_ties_are_rounded_away_from_zero() -> None:
    # 0.5 steps a pixel: real = pixel - 100, scale 2.
    tensor = Tensor("q", (1, 1, 1), Quant(2.0, 0))
    how = Preprocessing(mean=(100.0,), std=(1.0,))
    table = pixel_table(Graph("ties", {"q": tensor}, (), "q", ("q",), preprocessing=how))
    assert [int(table[0, pixel]) for pixel in (97, 99, 100, 101, 103)] == [-2, -1, 0, 1, 2]


def test_mean_of_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ModelError, match="2 channels; the input has 3"):
        pixel_table(make_graph(preprocessing=Preprocessing(mean=(1.0, 2.0), std=(1.0, 1.0))))


def test_a_picture_goes_through_the_table_channel_by_channel() -> None:
    how = Preprocessing(mean=(0.0, 100.0, 200.0), std=(1.0, 1.0, 1.0), channel_order="bgr")
    x = to_input(Image.new("RGB", (6, 4), (1, 2, 3)), make_graph(dtype="float32", preprocessing=how))
    np.testing.assert_array_equal(x, np.broadcast_to(np.array([3, -98, -199], np.float32), (4, 6, 3)))


# --------------------------------------------------------------------------------------------------- arrays


def npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_an_array_of_the_inputs_type_and_shape_is_taken_as_it_is(tmp_path: Path, dtype: DType) -> None:
    graph = make_graph(dtype=dtype, preprocessing=Preprocessing(mean=(9.0,), std=(9.0,), channel_order="bgr"))
    x = (np.arange(72).reshape(4, 6, 3) - (0 if dtype == "uint8" else 36)).astype(dtype)
    for array in (x, x[None], np.asfortranarray(x), x.astype(x.dtype.newbyteorder(">"))):
        loaded = load_input(npy(tmp_path / "x.npy", array), graph)
        assert loaded.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(loaded, x)


def test_one_channel_may_be_left_out(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.int8).reshape(4, 6)
    np.testing.assert_array_equal(load_input(npy(tmp_path / "x.npy", x), make_graph((4, 6, 1)))[:, :, 0], x)


def test_a_model_of_any_rank_takes_an_array(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.int8)
    np.testing.assert_array_equal(load_input(npy(tmp_path / "x.npy", x), make_graph((24,))), x)


def test_a_uint8_array_is_a_picture_to_other_models(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load(npy(tmp_path / "x.npy", colours()), make_graph()), colours())
    dtypes: tuple[DType, ...] = ("int8", "uint8", "float32")
    for graph in (make_graph(dtype=dtype) for dtype in dtypes):
        x = load_input(npy(tmp_path / "x.npy", np.full((40, 60, 3), 200, np.uint8)), graph)
        np.testing.assert_array_equal(x, pixel_table(graph)[:, 200] * np.ones((4, 6, 1)))


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3), (8, 9, 4)])
def test_a_picture_array_may_be_grey_rgb_or_rgba(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = load(npy(tmp_path / "x.npy", np.full(shape, 255, np.uint8)), make_graph())
    np.testing.assert_array_equal(x, 255)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 6, 3), np.float64),
        np.zeros((4, 6, 3), np.float32),
        np.zeros((4, 5, 3), np.int8),
        np.zeros((2, 4, 6, 3), np.int8),
        np.zeros((8, 9, 2), np.uint8),
        np.zeros((7,), np.uint8),
        np.array(3, np.uint8),
        np.zeros((4, 6, 3), np.bool_),
        np.array(["a", "b"]),
        np.zeros(3, [("a", "i4")]),
    ],
)
def test_any_other_array_is_refused_with_its_shape(tmp_path: Path, array: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"x\.npy: .*expected int8 of shape \(4, 6, 3\)"):
        load_input(npy(tmp_path / "x.npy", array), make_graph())


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ImageError, match="not numbers"):
            load_input(npy(tmp_path / "x.npy", np.full((4, 6, 3), value, np.float32)), make_graph(dtype="float32"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match=r"x\.npy: not a readable \.npy array"):
        load_input(tmp_path / "x.npy", make_graph())


def npy_header(text: str, version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode("latin1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK\3\4",
        b"something else altogether",
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000, 4000000000)}\n"),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 3)}\n"),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1" + 40 * "0" + ",)}\n"),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -6, 3)}\n") + bytes(72),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 6, 3)}\n") + bytes(71),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 6, 3)}\n"),
        npy_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (4, 6, 3)}\n") + bytes(72),
        npy_header("(" * 9000),
        npy_header("{'descr': '|u1'}\n"),
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 6, 3)}\n", b"\7\7") + bytes(72),
    ],
)
def test_a_damaged_array_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ImageError, match=r"x\.npy: ") as error:
        load_input(tmp_path / "x.npy", make_graph())
    assert "\n" not in str(error.value)


# -------------------------------------------------------------------------------------------- what is refused


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("L", (2, 2)).save(tmp_path / "x.gif")
    for name in ("text.png", "empty.png", "x.gif"):
        with pytest.raises(ImageError, match=r"not a picture of a known kind; expected a PNG, JPEG or BMP"):
            load_input(tmp_path / name, make_graph())
    with pytest.raises(ImageError, match="no such file"):
        load_input(tmp_path / "missing.png", make_graph())
    with pytest.raises(ImageError, match="not a file"):
        load_input(tmp_path, make_graph())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_truncated_picture_is_refused(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(noise).save(file, kind)
    data = file.getvalue()
    for length in (20, 60, len(data) // 2, len(data) - 100):
        (tmp_path / "x").write_bytes(data[:length])
        with pytest.raises(ImageError) as error:
            load_picture(tmp_path / "x")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [(10001, 10000), (14000, 14000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_over_100_megapixels_are_refused_before_they_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    path = saved(tmp_path / "x.png", Image.new("L", (1, 1)))
    data = path.read_bytes()
    body = b"IHDR" + struct.pack(">II", *size) + data[24:29]
    path.write_bytes(data[:12] + body + struct.pack(">I", zlib.crc32(body)) + data[33:])
    with pytest.raises(ImageError, match="over 100 megapixels"):
        load_input(path, make_graph())


def test_mutated_pictures_give_a_picture_or_an_error(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "BMP"):
        file = io.BytesIO()
        Image.fromarray(colours(20, 30)).save(file, kind, **({} if kind == "BMP" else {"exif": exif}))
        original = np.frombuffer(file.getvalue(), np.uint8)
        for _ in range(150):
            mutated = original.copy()
            mutated[random.integers(0, min(len(mutated), 400), 3)] = random.integers(0, 256, 3)
            (tmp_path / "x").write_bytes(mutated.tobytes())
            with suppress(ImageError):
                assert load_input(tmp_path / "x", make_graph()).shape == (4, 6, 3)
