"""Handwritten digits: scikit-learn's 1797 bundled pictures, split once and for all, as 32x32 grey pictures.

``python examples/digits/dataset.py held-out`` writes the held-out ones as pictures, in folders by class.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
_SEED = 2024


class Digits(NamedTuple):
    """Pictures, uint8, (N, 32, 32), bright strokes on black; and the digit each shows, int64, (N,)."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load() -> tuple[Digits, Digits]:
    """The digits to train with, and the fifth held out: the same of each digit, the same on every machine."""
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)  # (1797, 64), values 0 to 16
    pictures = np.stack([enlarge(picture.reshape(8, 8)) for picture in small])
    generator = np.random.RandomState(_SEED)  # its stream is frozen, unlike default_rng's
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        shuffled = generator.permutation(np.flatnonzero(labels == digit))
        held_out[shuffled[: round(len(shuffled) / 5)]] = True
    return Digits(pictures[~held_out], labels[~held_out]), Digits(pictures[held_out], labels[held_out])


def enlarge(small: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An 8x8 picture of 0 to 16 as 32x32 of 0 to 255, as any picture is resized on its way into a model."""
    grey = np.round(small * (255 / 16)).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def write_held_out(folder: Path) -> None:
    """Write the held-out digits as ``folder/<digit>/<number>.png``, which is what ``tinymbn eval`` takes."""
    _, held_out = load()
    for number, (picture, digit) in enumerate(zip(held_out.pictures, held_out.labels, strict=True)):
        path = folder / str(digit) / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


if __name__ == "__main__":
    write_held_out(Path(sys.argv[1] if len(sys.argv) > 1 else "held-out"))
