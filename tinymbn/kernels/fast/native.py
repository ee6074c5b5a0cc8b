"""The one compiled function, as machine code: compiled once, kept on disk, and loaded without Numba.

Importing Numba takes longer than most inferences. What it compiles to is an object file that calls nothing but the C
library, so LLVM's own loader is enough.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
from llvmlite import binding

from tinymbn import fixedpoint
from tinymbn.kernels.cache import cache_directory
from tinymbn.kernels.fast import host

# Seven whole numbers, see ``operations.execute``.
Execute = Callable[[int, int, int, int, int, int, int], None]

FILE_NAME = "execute.bin"
_MAGIC = b"tinymbn kernels 1\n"
_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 7)


class ObjectFile(NamedTuple):
    """Machine code, and the name of the function in it."""

    symbol: str
    code: bytes


def is_compiled() -> bool:
    """Whether an earlier process has left machine code; if not, the first inference waits for it."""
    return _loaded.cache_info().currsize > 0 or _read() is not None


def execute() -> Execute:
    """The compiled ``operations.execute``; it lets other threads of Python run."""
    return _loaded()


@cache
def _loaded() -> Execute:
    found = _read()
    if found is None:
        from tinymbn.kernels.fast.compilation import compile_execute

        found = ObjectFile(*compile_execute())
        _write(found)
    return _load(found)


# ------------------------------------------------------------------------------------------------ the file


@cache
def folder() -> Path | None:
    """Where machine code for this processor is kept; None if nowhere can be written."""
    here = Path(__file__).parent
    sources = [Path(fixedpoint.__file__), here.parent / "jit.py", *sorted(here.glob("*.py"))]
    return cache_directory("fast", sources, [host.NAME, host.FEATURES, llvmlite.__version__, _numba_version()])


def _numba_version() -> str:
    """The version in Numba's own file: neither Numba nor the packages' metadata are imported for it."""
    numba = find_spec("numba")
    assert numba is not None
    assert numba.origin is not None
    return (Path(numba.origin).parent / "_version.py").read_text()


def _path() -> Path | None:
    place = folder()
    return None if place is None else place / FILE_NAME


def _read() -> ObjectFile | None:
    path = _path()
    return None if path is None else read_object(path)


def read_object(path: Path) -> ObjectFile | None:
    """What an earlier process left; None if there is no file, or it is not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    magic, digest, rest = data[: len(_MAGIC)], data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if magic != _MAGIC or hashlib.sha256(rest).digest() != digest:
        return None
    symbol, _, code = rest.partition(b"\n")
    return ObjectFile(symbol.decode(), code)


def _write(found: ObjectFile) -> None:
    """Leave it for the next process: the file appears whole or not at all; a full disk is no reason to stop."""
    path = _path()
    if path is None:
        return
    rest = found.symbol.encode() + b"\n" + found.code
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(rest).digest() + rest)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


# ------------------------------------------------------------------------------------------------ the code

_engines: list[Any] = []  # machine code lives as long as its engine


def _load(found: ObjectFile) -> Execute:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(found.code))
    engine.finalize_object()
    _engines.append(engine)
    function = _SIGNATURE(engine.get_function_address(found.symbol))

    # Numba's calling convention: where to leave the result and an exception, neither of which there is.
    nothing = (ctypes.c_void_p * 2)()
    result, problem = ctypes.addressof(nothing), ctypes.addressof(nothing) + ctypes.sizeof(ctypes.c_void_p)

    def call(*arguments: int) -> None:
        status = function(result, problem, *arguments)
        assert status == 0, (status, nothing)  # which so lives as long as this function

    return call
