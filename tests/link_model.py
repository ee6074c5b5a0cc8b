"""What the network of tests/fuzz/fake_model.c computes, in Python."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

ROWS, ROW_BYTES = 12, 40
INPUT_BYTES = ROWS * ROW_BYTES
OUTPUT_BYTES = 5
LAYER_BYTES = (INPUT_BYTES, INPUT_BYTES, OUTPUT_BYTES)
WEIGHTS = np.array([3, -5, 7], np.int8)
TABLE = np.array([1, 4, 9, 16, 25, 36, 49, 64, 81, 100] + [0] * (ROW_BYTES - 10), np.uint8)
CONSTANTS = (zlib.crc32(WEIGHTS.tobytes()), 0, zlib.crc32(TABLE.tobytes() + WEIGHTS[:1].tobytes()))


def _wrapped(values: NDArray[np.int64]) -> NDArray[np.int8]:
    return (values & 255).astype(np.uint8).view(np.int8)


def layers_of(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The output of each layer for this input."""
    rows = np.frombuffer(data, np.int8).reshape(ROWS, ROW_BYTES).astype(np.int64)
    scaled = _wrapped(rows * int(WEIGHTS[0]) + np.arange(ROWS)[:, np.newaxis]).ravel()
    mixed = scaled ^ np.roll(scaled, -7)
    sums = np.array([mixed[k::OUTPUT_BYTES].astype(np.int64).sum() * int(WEIGHTS[2]) for k in range(OUTPUT_BYTES)])
    return scaled.tobytes(), mixed.tobytes(), _wrapped(sums).tobytes()


def scaled_rows(outputs: tuple[bytes, bytes, bytes], *rows: int) -> list[tuple[int, bytes]]:
    """Rows of the first layer's output, and where the second one reads them in the arena."""
    return [(INPUT_BYTES + y * ROW_BYTES, outputs[0][y * ROW_BYTES : (y + 1) * ROW_BYTES]) for y in rows]


def random_input(seed: int) -> bytes:
    """Noise as the network's input."""
    return np.random.default_rng(seed).integers(0, 256, INPUT_BYTES, dtype=np.uint8).tobytes()
