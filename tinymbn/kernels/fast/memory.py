"""Memory as the fast kernels see it: addresses, records of parameters, single values.

Numba's arrays would do as well, but each is a handful of functions to compile.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numba.extending
from llvmlite import ir
from numba import types

from tinymbn.kernels.fast import host, vectors
from tinymbn.kernels.fast.vectors import ELEMENT, ELEMENT_BYTES, I8, I32, I64, Value

Function = TypeVar("Function", bound=Callable[..., Any])

OFFSET = host.SET.offset


_njit: Any = numba.njit  # its types do not know all that it takes
_intrinsic: Any = numba.extending.intrinsic


carray: Any = vars(numba)["carray"]


def routine(function: Function) -> Function:
    """A part of the one compiled function, or that itself: no way in from Python, and not kept by itself."""
    compiled: Function = _njit(
        function, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )
    return compiled


def instruction(generate: Callable[..., Value]) -> Any:
    """A function for routines, of int64 to int64, that is written in LLVM's instructions.

    Args:
        generate: takes a builder and the arguments' values; returns the result's, or None for 0.
    """
    names = list(inspect.signature(generate).parameters)[1:]

    def code(_context: Any, b: Any, _signature: Any, arguments: Any) -> Value:
        result = generate(b, *arguments)
        return vectors.constant(0) if result is None else result

    def declare(_context: Any, *_arguments: Any) -> Any:
        return types.int64(*[types.int64] * len(names)), code

    # Numba looks at the parameters one by one.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("context", *names)]
    declare.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return _intrinsic(declare)


def _record(_context: Any, _address: Any, kind: Any) -> Any:
    def code(context: Any, b: Any, _signature: Any, arguments: Any) -> Value:
        return b.inttoptr(arguments[0], context.get_value_type(kind.dtype))

    return kind.dtype(types.int64, kind), code


# The record of a type at an address: record(address, type).
record: Any = _intrinsic(_record)


def _pointer(_context: Any, _address: Any) -> Any:
    def code(_context: Any, b: Any, _signature: Any, arguments: Any) -> Value:
        return b.inttoptr(arguments[0], I8.as_pointer())

    return types.voidptr(types.int64), code


# An address as Numba's carray takes it.
pointer: Any = _intrinsic(_pointer)


def _reader(kind: Any, *, signed: bool = True) -> Any:
    def read(b: Any, address: Value) -> Value:
        value = vectors.load(b, address, kind)
        return value if kind == I64 else (b.sext if signed else b.zext)(value, I64)

    return instruction(read)


def _writer(kind: Any) -> Any:
    def write(b: Any, address: Value, value: Value) -> None:
        vectors.store(b, b.trunc(value, kind), address)

    return instruction(write)


# All numbers are int64 once they are read, whatever they were in memory: fewer types, fewer functions to compile.
read_int64 = _reader(I64)
read_int32 = _reader(I32)
read_int8 = _reader(I8)
read_byte = _reader(I8, signed=False)
write_int32 = _writer(I32)
write_byte = _writer(I8)
# An element as it stands in memory: an int8 value plus OFFSET.
load_element = _reader(ELEMENT, signed=OFFSET == 0)
store_element = _writer(ELEMENT)


@routine
def write_value(address: int, value: int) -> None:
    """Store an int8 value as an element."""
    store_element(address, value + OFFSET)


_EIGHT = ir.VectorType(ELEMENT, 8)
_EIGHT_BYTES = 8 * ELEMENT_BYTES


@instruction
def _copy_eight(b: Any, source: Value, target: Value) -> None:
    vectors.store(b, vectors.load(b, source, _EIGHT), target)


@instruction
def _fill_eight(b: Any, target: Value, value: Value) -> None:
    vectors.store(b, vectors.splat(b, b.trunc(value, ELEMENT), _EIGHT), target)


@routine
def copy_elements(source: int, target: int, count: int) -> None:
    """Copy so many elements; mostly they are eights."""
    end = count * ELEMENT_BYTES
    at = 0
    while at + _EIGHT_BYTES <= end:
        _copy_eight(source + at, target + at)
        at += _EIGHT_BYTES
    while at < end:
        store_element(target + at, load_element(source + at))
        at += ELEMENT_BYTES


@routine
def fill_elements(target: int, count: int, value: int) -> None:
    """Write one element so many times; mostly they are eights."""
    end = count * ELEMENT_BYTES
    at = 0
    while at + _EIGHT_BYTES <= end:
        _fill_eight(target + at, value)
        at += _EIGHT_BYTES
    while at < end:
        store_element(target + at, value)
        at += ELEMENT_BYTES
