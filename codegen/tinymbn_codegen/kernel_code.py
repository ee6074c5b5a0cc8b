"""What the template of a kernel is told that is made for a set of cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class KernelCode:
    """One layer's function, all but its name.

    Attributes:
        template: of its body, below ``firmware_templates``.
        parameters: of the C function.
        numbers: of the enum at its head.
        details: whatever else the template needs, finished: it computes nothing.
        constants: arrays it reads: role, values (int8, int16 or int32), and what their axes are.
    """

    template: str
    parameters: str
    numbers: dict[str, int]
    details: Mapping[str, Any]
    constants: tuple[tuple[str, NDArray[Any], str], ...]


def as_int32(values: NDArray[Any]) -> NDArray[np.int32]:
    """Integers as int32 that wrap, as ``fixedpoint.wrap_int32`` does one."""
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
