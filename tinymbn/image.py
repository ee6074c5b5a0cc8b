"""A picture file, or an array in a ``.npy`` file, becomes the input of a model."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tinymbn.errors import ImageError
from tinymbn.files import require_file
from tinymbn.graph import Graph
from tinymbn.kernels.quantize import dequantize, from_uint8, quantize, to_uint8
from tinymbn.preprocessing import Preprocessing, Resize

Array = NDArray[Any]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".npy")
MAX_PIXELS = 100_000_000

_FORMATS = ("PNG", "JPEG", "BMP")
_EXPECTED = "a PNG, JPEG or BMP picture, or a .npy array"
_MODES = {1: "L", 3: "RGB"}  # by channels of the model's input


def load_input(path: Path, graph: Graph) -> Array:
    """The model's input made of a file, of the input tensor's type and shape.

    A picture is prepared as ``graph.preprocessing`` says. An array in a ``.npy`` file that already has the
    input's type and shape, ``(H, W, C)``, ``(1, H, W, C)``, or ``(H, W)`` for one channel, is taken as it
    is; any other uint8 array ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` is a picture: grey, RGB, RGBA.

    Raises:
        ImageError: there is no such file, it is damaged or of another kind, or it does not fit the model.
    """
    require_file(path, ImageError, _EXPECTED)
    if path.suffix.lower() != ".npy":
        return to_input(load_picture(path), graph)
    array = _load_array(path)
    expected = graph.input_tensor
    shapes = [expected.shape, (1, *expected.shape)]
    if len(expected.shape) == 3 and expected.shape[2] == 1:
        shapes.append(expected.shape[:2])
    if array.dtype.newbyteorder("=") == np.dtype(expected.dtype) and array.shape in shapes:
        x = np.array(array, expected.dtype).reshape(expected.shape)
        if x.dtype == np.float32 and not np.isfinite(x).all():
            raise ImageError(f"{path}: infinite values or values that are not numbers; expected finite ones")
        return x
    return to_input(_picture_of(path, array, f"{expected.dtype} of shape {expected.shape}, or "), graph)


def load_picture(path: Path, data: bytes | None = None) -> Image.Image:
    """The first frame of a PNG, JPEG or BMP file, upright, as 8 bits grey ("L") or "RGB".

    EXIF rotation is applied. What is transparent becomes white. 16 bits of grey become 8, rounded to
    nearest. Colour profiles are ignored. A uint8 array in a ``.npy`` file is a picture, see ``load_input``.

    Args:
        path: of the file.
        data: the file's bytes, where it is part of another one; the path is its name in errors.

    Raises:
        ImageError: the file is damaged, no picture, or has over 100 megapixels.
    """
    if data is None and path.suffix.lower() == ".npy":
        return _picture_of(path, _load_array(path))
    # Pillow warns of what does not matter here, such as odd EXIF, and of large pictures, which are refused.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path if data is None else io.BytesIO(data), formats=_FORMATS) as file:
                _check_size(path, *file.size)
                file.load()
                return _eight_bits(path, ImageOps.exif_transpose(file))
        except ImageError:
            raise
        except PermissionError:
            raise ImageError(f"{path}: no permission to read it") from None
        except Image.DecompressionBombError:
            raise ImageError(f"{path}: over {MAX_PIXELS // 1_000_000} megapixels; make it smaller") from None
        except UnidentifiedImageError:
            raise ImageError(f"{path}: not a picture of a known kind; expected {_EXPECTED}") from None
        except Exception as error:  # a damaged file makes Pillow raise nearly anything, SyntaxError included
            raise ImageError(f"{path}: damaged picture ({_one_line(error)})") from error


def to_input(picture: Image.Image, graph: Graph) -> Array:
    """A picture as the model's input, of the input tensor's type and shape ``(H, W, C)``.

    First grey (ITU-R 601) or RGB, then resized (bilinear, averaging where it shrinks), then the channel
    order, then each pixel through ``pixel_table``.

    Args:
        picture: 8 bits grey ("L") or "RGB".
        graph: its input tensor and preprocessing count.

    Raises:
        ImageError: the model's input is not ``(H, W, 1)`` or ``(H, W, 3)``.
    """
    expected = graph.input_tensor
    if len(expected.shape) != 3 or expected.shape[2] not in _MODES:
        raise ImageError(
            f"the model's input has shape {expected.shape}, which no picture fits; "
            f"give it as a .npy array, {expected.dtype} of that shape"
        )
    height, width, channels = expected.shape
    pixels = to_pixels(picture, (height, width, channels), graph.preprocessing)
    x: Array = pixel_table(graph)[np.arange(channels), pixels]
    return x


def to_pixels(picture: Image.Image, shape: tuple[int, int, int], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A picture as pixels of a shape ``(H, W, C)``, C 1 or 3, with the channels in the model's order."""
    height, width, channels = shape
    resized = _resized(picture.convert(_MODES[channels]), (width, height), preprocessing.resize)
    pixels: NDArray[np.uint8] = np.asarray(resized, np.uint8).reshape(shape)
    return pixels[:, :, ::-1] if channels == 3 and preprocessing.channel_order == "bgr" else pixels


def pixel_table(graph: Graph) -> Array:
    """The input's value for each pixel value of each of the model's channels, (channels, 256).

    A quantised input without mean and std gets the pixels end to end, a float input the real values of those;
    otherwise real values are quantised as TensorFlow Lite does.
    """
    expected, inner = graph.input_tensor, graph.quantized_input
    real = graph.preprocessing.real_values(expected.shape[-1])
    if real is None:
        table: Array = np.arange(-128, 128).astype(np.int8)
        if expected.dtype == "float32":
            table = dequantize(table, inner.scale, inner.zero_point)
        elif expected.dtype == "uint8":
            table = to_uint8(table)
        return np.broadcast_to(table, (expected.shape[-1], 256))
    if expected.dtype == "float32":
        return real
    if expected.dtype == "uint8":  # int8 with a zero point 128 lower
        return to_uint8(quantize(real, expected.scale, expected.zero_point - 128))
    return quantize(real, expected.scale, expected.zero_point)


def int8_pixel_table(graph: Graph) -> NDArray[np.int8]:
    """What a chip's input is for each pixel value of each of the model's channels, (channels, 256)."""
    table = pixel_table(graph)
    if graph.input_tensor.dtype == "uint8":
        return from_uint8(table)
    inner = graph.quantized_input
    return quantize(table, inner.scale, inner.zero_point) if table.dtype == np.float32 else table


def _picture_of(path: Path, array: Array, expected: str = "") -> Image.Image:
    """The picture in a uint8 array; ``expected`` is what else might have been in the file."""
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageError(
            f"{path}: {array.dtype} of shape {array.shape}; expected {expected}a uint8 picture (H, W) or (H, W, 3)"
        )
    height, width = array.shape[:2]
    _check_size(path, width, height)
    pixels = np.ascontiguousarray(array)
    picture = Image.fromarray(pixels.reshape(height, width) if grey or array.shape[2] == 1 else pixels)
    return _eight_bits(path, picture)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width}x{height} is over {MAX_PIXELS // 1_000_000} megapixels; make it smaller")
    if width < 1 or height < 1:
        raise ImageError(f"{path}: {width}x{height} has no pixels")


def _eight_bits(path: Path, picture: Image.Image) -> Image.Image:
    """Any picture as "L" or "RGB", what is transparent over white."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _from_16_bits(path, picture)
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    if picture.mode in ("P", "RGB", "RGBX", "CMYK", "YCbCr"):
        return picture.convert("RGB")
    raise ImageError(
        f"{path}: pixels of kind {picture.mode!r}, whose range is unknown; expected 8 or 16 bits a channel"
    )


def _from_16_bits(path: Path, picture: Image.Image) -> Image.Image:
    values = np.array(picture, np.int64)  # (H, W)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{path}: pixels of over 16 bits; expected 8 or 16 bits a channel")
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = 65535
    # 255 / 65535 is 1 / 257; half of 257 is never reached, so there are no ties.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _resized(picture: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    if resize == "crop":
        picture = _centre(picture, size)
    return picture.resize(size, Image.Resampling.BILINEAR)


def _centre(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest centred part of the size's aspect ratio, in whole pixels."""
    width = max(1, min(picture.width, round(picture.height * size[0] / size[1])))
    height = max(1, min(picture.height, round(picture.width * size[1] / size[0])))
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _load_array(path: Path) -> Array:
    """The array of a ``.npy`` file, mapped and not read, so that a header that lies costs nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a shape whose size overflows; the error follows
        try:
            array: Array = np.lib.format.open_memmap(path, mode="r")
            return array
        except PermissionError:
            raise ImageError(f"{path}: no permission to read it") from None
        except Exception as error:  # ValueError, but SyntaxError, MemoryError and others as well
            raise ImageError(f"{path}: not a readable .npy array ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
