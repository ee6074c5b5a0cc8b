"""Which vector instructions there are, and what they ask of the data: how wide a vector is, how a value is stored."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from llvmlite import binding


@dataclass(frozen=True)
class InstructionSet:
    """What the fast kernels are compiled for.

    A *group* is what one instruction multiplies with as many weights and sums into an int32: 32 bits of activations.

    Attributes:
        name: "avx512_vnni", "avx2", "sse2" or "generic".
        lanes: int32 values in a vector.
        element: the type of an activation in memory.
        offset: an activation in memory is its int8 value plus this.
        group: activations in a group.
        tall: pixels in a tile of two vectors of output channels, and others that may fit a map better.
        narrow: pixels in a tile of one vector; there is none where two vectors have 8 channels.
        outputs: neighbours that the depthwise 3x3 kernel makes at a time, the fewest first.
    """

    name: str
    lanes: int
    element: np.dtype[np.uint8] | np.dtype[np.int16]
    offset: int
    group: int
    tall: tuple[int, ...]
    narrow: int
    outputs: tuple[int, ...]

    @property
    def block(self) -> int:
        """Channels that depthwise and elementwise kernels take at a time."""
        return max(2 * self.lanes, 8) if self.group == 2 else self.lanes

    @property
    def pair_order(self) -> tuple[int, ...] | None:
        """Which of 16 channels stands in which lane of two vectors; None if they are in order.

        The instructions of AVX2 that unpack and pack stay within halves of 128 bits.
        """
        return (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15) if self.name == "avx2" else None

    @property
    def window_groups(self) -> int:
        """Groups of a depthwise 3x3 window: three columns, padded; or their upper pairs, and two of the last row."""
        return 3 if self.group == 4 else 5

    @property
    def constant_bytes(self) -> int:
        """Of the constants of a vector of output channels."""
        return len(CONSTANT_FIELDS) * 4 * self.lanes


# What rescaling a vector of output channels takes; a field has 4 bytes a lane, those of products 8 every other lane.
CONSTANT_FIELDS = (
    *("bias", "multiplier", "odd_multiplier", "even_rounding", "odd_rounding", "shift", "negative"),
    "clamp",  # its first half is the least element of the output again and again, its second the greatest
)

# VPDPBUSD multiplies unsigned activations with signed weights, four a lane.
AVX512_VNNI = InstructionSet("avx512_vnni", 16, np.dtype(np.uint8), 128, 4, (8, 7, 9), 12, (4, 7))
# VPMADDWD multiplies 16 bits with 16 bits, two a lane; VPMADDUBSW, which takes bytes, saturates.
AVX2 = InstructionSet("avx2", 8, np.dtype(np.int16), 0, 2, (6, 5), 12, (4,))
# The same on 128 bits: any PC of 64 bits.
SSE2 = InstructionSet("sse2", 4, np.dtype(np.int16), 0, 2, (4, 3), 6, (4,))
# Vectors of LLVM: whatever the processor has, NEON for one.
GENERIC = InstructionSet("generic", 4, np.dtype(np.int16), 0, 2, (4, 3), 6, (4,))


def processor() -> tuple[str, str]:
    """The processor's name and features, as LLVM spells them, with the same restrictions that Numba obeys.

    NUMBA_CPU_NAME alone changes what code is tuned for, but not which instructions it may use: those are what
    NUMBA_CPU_FEATURES says, or what the computer has.
    """
    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else binding.get_host_cpu_features().flatten()
    return name, features


def best(features: str) -> InstructionSet:
    """The fastest instruction set that a processor of these features (``+avx2,-avx512f,...``) has."""
    has = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    if {"avx512f", "avx512bw", "avx512vl", "avx512vnni"} <= has:
        return AVX512_VNNI
    if "avx2" in has:
        return AVX2
    return SSE2 if "sse2" in has else GENERIC
