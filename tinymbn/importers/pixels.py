"""What a float network's first layer tells of the pixels that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize import AnyFloatLayer, BatchNorm

# What makes its input this much smaller is there for pixels of 0..255; 1/16 lies far from 1/255 and from 1.
_PIXEL_FACTOR = 1 / 16


def guessed_preprocessing(layers: Sequence[AnyFloatLayer]) -> Preprocessing:
    """Real values of 0..255, if the first layer brings such to a few units; else nothing."""
    first = layers[0] if layers else None
    if isinstance(first, BatchNorm) and np.abs(first.factor).max() < _PIXEL_FACTOR:
        return Preprocessing(mean=(0.0,), std=(1.0,))
    return Preprocessing()
