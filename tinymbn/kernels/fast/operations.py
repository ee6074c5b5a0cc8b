"""A program is a list of operations; one compiled function walks it."""

from __future__ import annotations

from typing import Any

from tinymbn.kernels.fast import vectors
from tinymbn.kernels.fast.convolution import convolve, convolve_exactly
from tinymbn.kernels.fast.depthwise import depthwise_3x3, depthwise_exactly, depthwise_taps
from tinymbn.kernels.fast.elementwise import add, look_up, multiply
from tinymbn.kernels.fast.memory import instruction, read_int64, routine
from tinymbn.kernels.fast.movement import fill_border, load_rows, move, save_rows
from tinymbn.kernels.fast.parameters import Code
from tinymbn.kernels.fast.pooling import average_pool, max_pool, mean
from tinymbn.kernels.fast.softmax import softmax

CONVOLVE, CONVOLVE_EXACTLY = int(Code.CONVOLVE), int(Code.CONVOLVE_EXACTLY)
DEPTHWISE_3X3, DEPTHWISE_TAPS = int(Code.DEPTHWISE_3X3), int(Code.DEPTHWISE_TAPS)
DEPTHWISE_EXACTLY, ADD, MULTIPLY = int(Code.DEPTHWISE_EXACTLY), int(Code.ADD), int(Code.MULTIPLY)
LOOK_UP, AVERAGE_POOL, MAX_POOL = int(Code.LOOK_UP), int(Code.AVERAGE_POOL), int(Code.MAX_POOL)
MEAN, SOFTMAX, MOVE = int(Code.MEAN), int(Code.SOFTMAX), int(Code.MOVE)
FILL_BORDER, LOAD, SAVE = int(Code.FILL_BORDER), int(Code.LOAD), int(Code.SAVE)

_SPINS = 2000  # some microseconds; longer waits give the core away


def execute(operations: int, first: int, last: int, thread: int, threads: int, barrier: int, arrived: int) -> None:
    """Run the operations from ``first`` to ``last``, this thread's share of each.

    Args:
        operations: address of int64, (operations, 3): code, address of the parameters, units of work.
        first: index of the first operation.
        last: index after the last.
        thread: which of the threads this is, from 0.
        threads: how many run this at the same time.
        barrier: address of an int64, which counts the arrivals of threads.
        arrived: how many it has counted before these.
    """
    for i in range(first, last):
        operation = operations + 24 * i
        code, parameters, units = read_int64(operation), read_int64(operation + 8), read_int64(operation + 16)
        begin, end = units * thread // threads, units * (thread + 1) // threads
        if begin < end:
            if code == CONVOLVE:
                convolve(parameters, begin, end)
            elif code == DEPTHWISE_3X3:
                depthwise_3x3(parameters, begin, end)
            elif code == DEPTHWISE_TAPS:
                depthwise_taps(parameters, begin, end)
            elif code == CONVOLVE_EXACTLY:
                convolve_exactly(parameters, begin, end, thread)
            elif code == DEPTHWISE_EXACTLY:
                depthwise_exactly(parameters, begin, end, thread)
            elif code == ADD:
                add(parameters, begin, end)
            elif code == MULTIPLY:
                multiply(parameters, begin, end)
            elif code == LOOK_UP:
                look_up(parameters, begin, end)
            elif code == AVERAGE_POOL:
                average_pool(parameters, begin, end, thread)
            elif code == MAX_POOL:
                max_pool(parameters, begin, end)
            elif code == MEAN:
                mean(parameters)
            elif code == SOFTMAX:
                softmax(parameters, begin, end)
            elif code == MOVE:
                move(parameters, begin, end)
            elif code == FILL_BORDER:
                fill_border(parameters)
            elif code == LOAD:
                load_rows(parameters, begin, end)
            elif code == SAVE:
                save_rows(parameters, begin, end)
        if threads > 1:
            _wait_for_all(barrier, arrived + threads * (i - first + 1))


@routine
def _wait_for_all(barrier: int, arrivals: int) -> None:
    """Count this thread in, and wait until so many have come."""
    _count_in(barrier)
    spins = 0
    while _arrived(barrier) < arrivals:
        spins += 1
        if spins > _SPINS:
            _give_way()


@instruction
def _count_in(b: Any, barrier: Any) -> Any:
    return b.atomic_rmw("add", b.inttoptr(barrier, vectors.I64.as_pointer()), vectors.constant(1), "seq_cst")


@instruction
def _arrived(b: Any, barrier: Any) -> Any:
    return b.load_atomic(b.inttoptr(barrier, vectors.I64.as_pointer()), "seq_cst", 8)


@instruction
def _give_way(b: Any) -> None:
    vectors.call(b, "sched_yield", vectors.I32, [])
