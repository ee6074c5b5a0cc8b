"""The geometry of layers that slide a window over a map."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.layers.base import MAX_GEOMETRY, Layer, Shape


@dataclass(frozen=True)
class Padding:
    """Rows and columns of zero point around the input, decided when the model was imported."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __add__(self, other: Padding) -> Padding:
        """One around the other."""
        return Padding(
            self.top + other.top, self.bottom + other.bottom, self.left + other.left, self.right + other.right
        )


@dataclass(frozen=True)
class Window:
    """The geometry of a sliding window, each pair in the order (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding()

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that the kernel covers, dilation included."""
        return (
            (self.kernel[0] - 1) * self.dilation[0] + 1,
            (self.kernel[1] - 1) * self.dilation[1] + 1,
        )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the output; not positive where the window does not fit."""
        padded = (
            height + self.padding.top + self.padding.bottom,
            width + self.padding.left + self.padding.right,
        )
        rows, columns = ((p - e) // s + 1 for p, e, s in zip(padded, self.extent, self.stride, strict=True))
        return rows, columns


def same_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Padding:
    """The padding that TensorFlow calls SAME: ceil(size / stride) outputs, the odd row or column after.

    Source: tensorflow/lite/kernels/padding.h.
    """

    def one_axis(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size)
        return total // 2, total - total // 2

    top, bottom = one_axis(size[0], kernel[0], stride[0], dilation[0])
    left, right = one_axis(size[1], kernel[1], stride[1], dilation[1])
    return Padding(top, bottom, left, right)


@dataclass(frozen=True)
class Windowed(Layer):
    """A layer that slides a window over a map ``(H, W, C)``."""

    window: Window

    def _check_window(self) -> None:
        w, p = self.window, self.window.padding
        self._require_whole_numbers((*w.kernel, *w.stride, *w.dilation), 1, MAX_GEOMETRY, "kernel, stride or dilation")
        self._require_whole_numbers((p.top, p.bottom, p.left, p.right), 0, MAX_GEOMETRY, "padding")
        # A window that lies wholly in the padding would have nothing to average.
        self._require(
            max(p.top, p.bottom) < w.extent[0] and max(p.left, p.right) < w.extent[1],
            f"padding {p} is not smaller than the kernel's extent {w.extent}",
        )

    def _map_size(self, shape: Shape) -> tuple[int, int]:
        self._require(len(shape) == 3, f"input of shape {shape}; expected (H, W, C)")
        rows, columns = self.window.output_size(shape[0], shape[1])
        self._require(rows >= 1 and columns >= 1, f"a kernel of extent {self.window.extent} does not fit input {shape}")
        return rows, columns
