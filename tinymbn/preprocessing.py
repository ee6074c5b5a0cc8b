"""How a picture's pixels become the numbers of a model's input: one table of 256 entries a channel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError

Resize = Literal["squash", "crop"]
ChannelOrder = Literal["rgb", "bgr"]
Origin = Literal["guess", "file", "user"]


@dataclass(frozen=True)
class Preprocessing:
    """What to do to a picture before it is the input; the size is the input tensor's.

    Attributes:
        resize: "squash" scales both sides to the input's; "crop" takes the largest centred part of the
            input's aspect ratio first.
        channel_order: of three channels; a model of one channel gets grey (ITU-R 601).
        mean: subtracted from a pixel of 0..255, one a channel; None with ``std``: pixels 0..255 cover
            the int8 range end to end (pixel - 128).
        std: what the difference is divided by, > 0; the quotient is the real value of the input.
        origin: who says so; a "guess" is shown as one.
    """

    resize: Resize = "squash"
    channel_order: ChannelOrder = "rgb"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    origin: Origin = "guess"

    def __post_init__(self) -> None:
        def check(ok: bool, what: str) -> None:
            if not ok:
                raise ModelError(f"preprocessing: {what}")

        check(self.resize in ("squash", "crop"), f'resize is {self.resize!r}; expected "squash" or "crop"')
        check(
            self.channel_order in ("rgb", "bgr"),
            f'channel order is {self.channel_order!r}; expected "rgb" or "bgr"',
        )
        check(self.origin in ("guess", "file", "user"), f"origin is {self.origin!r}")
        check((self.mean is None) == (self.std is None), "mean and std go together; one is missing")
        if self.mean is not None and self.std is not None:
            check(len(self.mean) == len(self.std) >= 1, "mean and std have different lengths")
            check(all(math.isfinite(m) for m in self.mean), f"mean {self.mean} is not finite")
            check(all(math.isfinite(s) and s > 0 for s in self.std), f"std {self.std} is not > 0")
            largest = max((abs(m) + 255) / s for m, s in zip(self.mean, self.std, strict=True))
            check(largest < 1e36, f"mean {self.mean} and std {self.std} make pixels larger than a float32 holds")

    @staticmethod
    def of_range(low: float, high: float, origin: Origin = "user") -> Preprocessing:
        """Pixels 0..255 become real values from low to high.

        Raises:
            ModelError: low is not below high, or one is not finite.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ModelError(f"input range {low},{high}: expected two finite numbers, the lower first")
        std = 255.0 / (high - low)
        return Preprocessing(mean=(-low * std,), std=(std,), origin=origin)

    def then(self, factor: NDArray[np.float64], offset: NDArray[np.float64]) -> Preprocessing:
        """The same with each channel's real value times ``factor``, all > 0, and ``offset`` more."""
        assert self.mean is not None
        assert self.std is not None
        std = np.asarray(self.std) / factor
        mean = np.asarray(self.mean) - offset * std
        return replace(self, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def real_values(self, channels: int) -> NDArray[np.float32] | None:
        """The real value of each pixel value, (channels, 256); None where pixels cover the int8 range.

        Raises:
            ModelError: mean and std are for another number of channels.
        """
        if self.mean is None or self.std is None:
            return None
        if len(self.mean) not in (1, channels):
            raise ModelError(f"preprocessing: mean and std have {len(self.mean)} channels; the input has {channels}")
        mean = np.array(self.mean, np.float64).reshape(-1, 1)
        std = np.array(self.std, np.float64).reshape(-1, 1)
        real = ((np.arange(256)[None, :] - mean) / std).astype(np.float32)
        return np.ascontiguousarray(np.broadcast_to(real, (channels, 256)))
