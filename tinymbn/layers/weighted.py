"""The constants of layers with weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers.base import Activation, Shape, frozen_array
from tinymbn.layers.shapes import WeightedShape


@dataclass(frozen=True, eq=False)
class Weights:
    """Constants of a convolution or dense layer, requantisation included.

    Attributes:
        values: int8; (C_out, K_h, K_w, C_in), (K_h, K_w, C_out) or (C_out, C_in) by layer kind.
        bias: int32, (C_out,), in units of input scale * weight scale.
        multiplier: int32, (C_out,), Q31.
        shift: int8, (C_out,), a power of two, positive is left.
        zero_point: of the values; not 0 only where the file has them as uint8 or with a zero point: then
            ``value - zero_point`` needs 9 bits.
    """

    values: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    zero_point: int = 0


@dataclass(frozen=True, eq=False)
class Weighted(WeightedShape):
    """An int8 layer with weights."""

    weights: Weights
    activation: Activation

    def _check_weights(self) -> None:
        self._require_inputs(1)
        self._require_activation(self.activation)
        w = self.weights
        channels = w.values.shape[self.channel_axis] if w.values.ndim == self.rank else -1
        for field, dtype, rank in (
            ("values", np.int8, self.rank),
            ("bias", np.int32, 1),
            ("multiplier", np.int32, 1),
            ("shift", np.int8, 1),
        ):
            values = getattr(w, field)
            self._require(
                values.dtype == dtype and values.ndim == rank and values.size > 0,
                f"weights.{field} is {values.dtype} of shape {values.shape}; expected {np.dtype(dtype)} of rank {rank}",
            )
            if rank == 1:
                self._require(
                    values.shape == (channels,),
                    f"weights.{field} has {values.shape[0]} entries for {channels} output channels",
                )
            object.__setattr__(w, field, frozen_array(values))
        self._require(bool((w.multiplier >= 0).all()), "a multiplier is negative")
        self._require(bool(((w.shift >= -31) & (w.shift <= 30)).all()), "a multiplier's shift is not in [-31, 30]")
        self._require_whole_numbers([w.zero_point], -128, 127, "weight zero point")

    @property
    def weights_shape(self) -> Shape:
        return self.weights.values.shape
