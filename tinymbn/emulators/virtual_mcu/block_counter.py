"""Native hooks: count executed instructions, see floating point before the FPU is on, and unaligned multiple accesses.

Unicorn calls one hook at the start of each block of straight code, with its address and size, and the other at each
access to memory. Python would be twenty times slower than the code it watches, so they are machine code, compiled by
Numba; and as Thumb instructions have two sizes, the first decodes each block of the flash once and remembers its count.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import types
from numba.np.numpy_support import carray
from numpy.typing import NDArray
from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_XPSR
from unicorn.unicorn_const import (
    UC_ERR_OK,
    UC_HOOK_BLOCK,
    UC_HOOK_MEM_READ,
    UC_HOOK_MEM_WRITE,
    UC_PROT_ALL,
    UC_PROT_EXEC,
    UC_PROT_READ,
)
from unicorn.unicorn_py3.unicorn import Uc, UcError, uclib

# 64-bit words at the start of the hook's memory.
_REGISTER = 0  # read and written by Unicorn
_COUNT = 1
_FPU_ENABLED = 2
_FPU_TOO_EARLY = 3  # address of the first block that used it; 0 if none did
_UNALIGNED_PC = 4  # of the first unaligned access that a core refuses; 0 if there was none
_UNALIGNED_ADDRESS = 5
_REGIONS = 6
_REGION = 8  # first word of the regions: base, bytes, place in the hook's memory, whether it never changes
_REGION_WORDS = 4
_HEADER_BYTES = 4096

_SIZE_BITS = 15  # of a remembered block: its bytes, its instructions, one bit for floating point
_BLOCK_LIMIT = (1 << _SIZE_BITS) - 1


@numba.cfunc(types.void(types.voidptr, types.uint64, types.uint32, types.voidptr), nogil=True)
def _on_block(engine: Any, address: int, size: int, memory: Any) -> None:  # pragma: no cover
    words = carray(memory, 1 << 12, np.int64)
    half_words = carray(memory, 1 << 30, np.uint16)
    blocks = carray(memory, 1 << 29, np.uint32)
    place = -1
    remembered = -1
    for region in range(words[_REGIONS]):
        at = _REGION + region * _REGION_WORDS
        offset = np.int64(address) - words[at]
        if 0 <= offset < words[at + 1]:
            place = words[at + 2] + offset
            if words[at + 3] != 0:
                remembered = (words[at + 3] >> 2) + (offset >> 1)
            break
    if place < 0 or size > _BLOCK_LIMIT:
        words[_COUNT] += size >> 1
        return
    if remembered >= 0:
        block = np.int64(blocks[remembered])
        if (block & _BLOCK_LIMIT) == size:
            words[_COUNT] += block >> _SIZE_BITS & _BLOCK_LIMIT
            if block >> (2 * _SIZE_BITS) != 0 and words[_FPU_ENABLED] == 0 and words[_FPU_TOO_EARLY] == 0:
                words[_FPU_TOO_EARLY] = np.int64(address)
            return
    at_half = place >> 1
    end = (place + size) >> 1
    count = 0
    fpu = 0
    while at_half < end:
        first = np.int64(half_words[at_half])
        count += 1
        if first >= 0xE800:  # the first half of a 32-bit instruction; ARMv7-M manual, A5.1
            # Coprocessors 10 and 11 are the FPU; A5.3.18.
            if (first & 0xEC00) == 0xEC00 and (np.int64(half_words[at_half + 1]) >> 9 & 7) == 5:
                fpu = 1
            at_half += 2
        else:
            at_half += 1
    words[_COUNT] += count
    if fpu != 0 and words[_FPU_ENABLED] == 0 and words[_FPU_TOO_EARLY] == 0:
        words[_FPU_TOO_EARLY] = np.int64(address)
    if remembered >= 0:
        blocks[remembered] = np.uint32(size | count << _SIZE_BITS | fpu << (2 * _SIZE_BITS))


_read_register = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(("uc_reg_read", uclib))
_write_register = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(
    ("uc_reg_write", uclib)
)
_PC_REGISTER = int(UC_ARM_REG_PC)
_XPSR_REGISTER = int(UC_ARM_REG_XPSR)
_IT_BITS = 0x0600FC00  # of XPSR: ARMv7-M manual, B1.4.2


@numba.cfunc(types.void(types.voidptr, types.int32, types.uint64, types.int32, types.int64, types.voidptr), nogil=True)
def _on_access(engine: Any, kind: int, address: int, size: int, value: int, memory: Any) -> None:  # pragma: no cover
    words = carray(memory, 1 << 12, np.int64)
    # Unicorn 2.1.4 brings the IT bits up to date for this call, and forgets them in its registers when the IT block
    # ends: the next block would skip instructions. Its translated code has them in itself and does not read them here.
    words[_REGISTER] = 0
    _read_register(engine, _XPSR_REGISTER, memory)
    if words[_REGISTER] & _IT_BITS:
        words[_REGISTER] &= ~_IT_BITS
        _write_register(engine, _XPSR_REGISTER, memory)
    if (address & 3) == 0 or size != 4:
        return
    # Single loads and stores may be unaligned; LDRD, LDM, PUSH, LDREX, VLDR and their like fault.
    # ARMv7-M manual, A3.2.1.
    half_words = carray(memory, 1 << 30, np.uint16)
    if words[_UNALIGNED_PC] != 0:
        return
    _read_register(engine, _PC_REGISTER, memory)
    pc = words[_REGISTER] & 0xFFFFFFFE
    for region in range(words[_REGIONS]):
        at = _REGION + region * _REGION_WORDS
        offset = pc - words[at]
        if 0 <= offset < words[at + 1]:
            first = np.int64(half_words[(words[at + 2] + offset) >> 1])
            if (
                (first & 0xFE00) == 0xE800
                or (first & 0xF000) == 0xC000
                or (first & 0xF600) == 0xB400
                or (first & 0xEE00) == 0xEC00
            ):
                words[_UNALIGNED_ADDRESS] = np.int64(address)
                words[_UNALIGNED_PC] = pc
            return


@dataclass(frozen=True)
class Memory:
    """A piece of the chip's memory.

    Attributes:
        name: as in the chip's manual.
        base: first address.
        size_bytes: multiple of 4096.
        is_flash: it can be read and executed, not written.
    """

    name: str
    base: int
    size_bytes: int
    is_flash: bool = False


class BlockCounter:
    """The chip's memories, and a count of the instructions that an engine executes in them.

    Args:
        memories: none of them overlap.
    """

    def __init__(self, memories: tuple[Memory, ...]) -> None:
        memory_bytes = sum(memory.size_bytes for memory in memories)
        flash_bytes = sum(memory.size_bytes for memory in memories if memory.is_flash)
        # Header, memories, one 32-bit word for each half-word of flash; host pages are 4096 bytes or a multiple.
        self._bytes: NDArray[np.uint8] = np.zeros(_HEADER_BYTES + memory_bytes + 2 * flash_bytes + 4096, np.uint8)
        skip = -self._bytes.ctypes.data % 4096
        self._bytes = self._bytes[skip:]
        self._words = self._bytes[:_HEADER_BYTES].view(np.int64)
        self._count = ctypes.c_int64.from_address(self._bytes.ctypes.data + 8 * _COUNT)  # quicker to read than an array
        self._access_hook: ctypes.c_size_t | None = None
        self._places: dict[str, tuple[Memory, int]] = {}
        place, remembered = _HEADER_BYTES, _HEADER_BYTES + memory_bytes
        self._words[_REGIONS] = len(memories)
        # Flash first: nearly all code runs there.
        for index, memory in enumerate(sorted(memories, key=lambda memory: not memory.is_flash)):
            at = _REGION + index * _REGION_WORDS
            self._words[at : at + 4] = memory.base, memory.size_bytes, place, remembered if memory.is_flash else 0
            self._places[memory.name] = (memory, place)
            place += memory.size_bytes
            remembered += 2 * memory.size_bytes if memory.is_flash else 0

    def attach(self, engine: Uc) -> None:
        """Map the memories into an engine and count what it executes."""
        start = self._bytes.ctypes.data
        for memory, place in self._places.values():
            allowed = UC_PROT_READ | UC_PROT_EXEC if memory.is_flash else UC_PROT_ALL
            engine.mem_map_ptr(memory.base, memory.size_bytes, allowed, start + place)
        # The second also keeps the engine's PC exact in the callbacks of registers, which report it.
        for kind, hook in ((UC_HOOK_BLOCK, _on_block), (UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, _on_access)):
            handle = ctypes.c_size_t()
            everywhere = ctypes.c_uint64(1), ctypes.c_uint64(0)  # begin after end
            status = uclib.uc_hook_add(
                engine._uch,
                ctypes.byref(handle),
                kind,
                ctypes.c_void_p(hook.address),
                ctypes.c_void_p(start),
                *everywhere,
            )
            if status != UC_ERR_OK:
                raise UcError(status)
            self._access_hook = handle

    def relax(self, engine: Uc) -> None:
        """Look at memory accesses no more, while the engine is not running: it is then seven times faster."""
        if self._access_hook is not None:
            status = uclib.uc_hook_del(engine._uch, self._access_hook)
            if status != UC_ERR_OK:
                raise UcError(status)
            engine.ctl_flush_tb()  # translated code has the calls in it
            self._access_hook = None

    @property
    def is_strict(self) -> bool:
        """Whether memory accesses are looked at, and the engine's PC is exact in the callbacks of registers."""
        return self._access_hook is not None

    def content(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a memory, shared with the engine."""
        memory, place = self._places[name]
        return self._bytes[place : place + memory.size_bytes]

    @property
    def count(self) -> int:
        """Instructions executed so far, to a block."""
        return self._count.value

    def enable_fpu(self, enabled: bool) -> None:
        """Say whether floating-point instructions are allowed."""
        self._words[_FPU_ENABLED] = enabled

    def fpu_too_early(self) -> int | None:
        """Address of a block that used the FPU while it was not enabled; None if none did."""
        return int(self._words[_FPU_TOO_EARLY]) or None

    def unaligned(self) -> tuple[int, int] | None:
        """PC and address of an unaligned access that a core refuses; None if there was none."""
        pc = int(self._words[_UNALIGNED_PC])
        return (pc, int(self._words[_UNALIGNED_ADDRESS])) if pc else None
