"""The emulator of a processor with AVX-512: that it computes, and that it tells of what goes wrong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import bochs

_SOURCE = r"""
#include <immintrin.h>
#include <stddef.h>

void *memcpy(void *, const void *, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int sched_yield(void);

/* y[row][column] = offset + bias[column] + the sum over depth, a multiple of 64, of a[row] * b[column] */
int multiply(long long a, long long b, long long bias, long long y,
             long long rows, long long columns, long long depth, long long offset)
{
    for (long long row = 0; row < rows; row++) {
        for (long long column = 0; column < columns; column++) {
            const char *left = (const char *)a + row * depth;
            const char *right = (const char *)b + column * depth;
            __m512i sums = _mm512_setzero_si512();
            for (long long k = 0; k < depth; k += 64)
                sums = _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(left + k), _mm512_loadu_si512(right + k));
            ((int *)y)[row * columns + column] =
                (int)offset + ((const int *)bias)[column] + _mm512_reduce_add_epi32(sums);
        }
    }
    return 0;
}

int keep(long long a, long long b, long long c, long long d, long long e,
         long long f, long long g, long long h, long long i, long long y)
{
    long long all[] = {a, b, c, d, e, f, g, h, i, y};
    memcpy((void *)y, all, sizeof all);
    return (long long)__builtin_frame_address(0) % 16 != 0;
}

int move(long long data)
{
    char *bytes = (char *)data;
    memmove(bytes + 3, bytes, 100);
    memmove(bytes + 200, bytes + 205, 100);
    memset(bytes + 400, 0x1a5, 50);
    return sched_yield();
}

int refuse(void) { return 1; }
int stop(void) { __builtin_trap(); }
int store(long long address) { *(volatile char *)address = 1; return 0; }
int hang(void) { for (;;) __asm__ volatile(""); }
int recurse(long long n) { volatile char page[4096]; page[0] = (char)n; return recurse(n + 1) + page[0]; }
"""

_FLAGS = (
    "-O2 -mavx512f -mavx512vnni -mavx512bw -mavx512vl -c -ffreestanding -mno-red-zone -fno-pic -fno-stack-protector"
)

_LACKS = bochs.missing() or (None if shutil.which("gcc") else "gcc is not installed")
pytestmark = pytest.mark.skipif(_LACKS is not None, reason=str(_LACKS))

Random = np.random.Generator


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("code")
    (folder / "code.c").write_text(_SOURCE)
    subprocess.run(["gcc", *_FLAGS.split(), "-fno-optimize-sibling-calls", "code.c"], cwd=folder, check=True)
    return (folder / "code.o").read_bytes()


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(0)


def test_vnni_multiplies_as_numpy_does(code: bytes, random: Random) -> None:
    rows, columns, depth = 30, 20, 192
    a = random.integers(0, 256, (rows, depth), np.uint8)
    b = random.integers(-128, 128, (columns, depth), np.int8)
    bias = random.integers(-(10**6), 10**6, columns, np.int32)
    # Far apart, and the result's in no sector's beginning.
    at_a, at_b, at_bias, at_y = bochs.MEMORY, 0x1234_5678, 0x1800_0003, 0x1C00_0FFC
    memory = {at_a: a.tobytes(), at_b: b.tobytes(), at_bias: bias.tobytes(), at_y: bytes(4 * rows * columns)}
    arguments = [at_a, at_b, at_bias, at_y, rows, columns, depth, -7]
    y, unchanged = bochs.call(code, "multiply", arguments, memory, [(at_y, 4 * rows * columns), (at_b, b.size)])
    expected = a.astype(np.int32) @ b.T.astype(np.int32) + bias - 7
    assert np.array_equal(np.frombuffer(y, np.int32).reshape(rows, columns), expected)
    assert unchanged == b.tobytes()


def test_ten_arguments_arrive_on_an_aligned_stack(code: bytes) -> None:
    arguments = [-1, 2**63 - 1, -(2**63), *range(4, 10), bochs.MEMORY]
    (kept,) = bochs.call(code, "keep", arguments, {bochs.MEMORY: bytes(80)}, [(bochs.MEMORY, 80)])
    assert np.frombuffer(kept, np.int64).tolist() == arguments


def test_memory_functions(code: bytes, random: Random) -> None:
    before = random.bytes(500)
    (after,) = bochs.call(code, "move", [bochs.MEMORY], {bochs.MEMORY: before}, [(bochs.MEMORY, 500)])
    expected = bytearray(before)
    expected[3:103] = before[:100]
    expected[200:300] = before[205:305]
    expected[400:450] = b"\xa5" * 50
    assert after == expected


def test_megabytes_come_back(code: bytes, random: Random) -> None:
    data = random.bytes(40 << 20)
    end = bochs.MEMORY + len(data)
    kept = {end + 0x2000: bytes(80)}
    results = [(bochs.MEMORY + 1, 3 << 20), (end - 5, 5), (end, 0), (end - 1000, 1000)]
    read = bochs.call(code, "keep", [0] * 9 + [end + 0x2000], {bochs.MEMORY: data, **kept}, results)
    assert read == [data[1 : 1 + (3 << 20)], data[-5:], b"", data[-1000:]]


@pytest.mark.parametrize(
    ("symbol", "arguments", "message"),
    [
        ("refuse", [], "refuse returned 1"),
        ("stop", [], r"stop: invalid opcode .* in stop\+0x0"),
        ("store", [0], "store: page fault at 0x0 "),
        ("store", [bochs.MEMORY + 4096], r"store: page fault at 0x10001000 .* in store\+0x0"),
        ("store", [1 << 60], "store: general protection fault"),
        ("recurse", [0], "(?s)without a report, as an overflow of the stack does.*PANIC"),
        ("absent", [], "undefined.*absent|absent.*undefined"),
    ],
)
def test_what_goes_wrong_is_told(code: bytes, symbol: str, arguments: list[int], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        bochs.call(code, symbol, arguments, {bochs.MEMORY: bytes(4096)}, [])


def test_results_outside_of_memory_are_a_fault(code: bytes) -> None:
    with pytest.raises(RuntimeError, match=r"page fault at 0x11000000 .* in write_sector\+"):
        bochs.call(code, "move", [bochs.MEMORY], {bochs.MEMORY: bytes(500)}, [(0x1100_0000, 1)])


def test_endless_loops_are_ended(code: bytes) -> None:
    with pytest.raises(RuntimeError, match="hang ran for more than 1 s"):
        bochs.call(code, "hang", [], {}, [], timeout_s=1)
