"""Compiles ``operations.execute``, with all kernels in it, for this process' instruction set."""

from __future__ import annotations

from typing import Any

from numba import types

from tinymbn.kernels import jit  # noqa: F401 - makes fixedpoint's functions known to Numba
from tinymbn.kernels.fast import operations
from tinymbn.kernels.fast.memory import routine


def compile_execute() -> tuple[str, bytes]:
    """The function's name in the object file, and the file; takes some seconds."""
    signature = (types.int64,) * 7
    compiled: Any = routine(operations.execute)
    compiled.compile(signature)
    overload = compiled.overloads[signature]
    _, _, (code, _) = overload.library.serialize_using_object_code()
    return overload.fndesc.llvm_func_name, bytes(code)
