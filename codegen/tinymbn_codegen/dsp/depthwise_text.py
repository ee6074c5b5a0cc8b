"""The blocks of a depthwise row as text: assembler that uses all registers, and C for wherever that is not possible.

The fourteen registers are the six weights of three kernel rows, the pointers to input and output, four accumulators,
and two for data. What is needed once a block (bias, multiplier, addend) is loaded from the stack.

- The bias comes into one accumulator, and the first multiplication of each other adds to it: no moves.
- Loads are fast side by side. In the first row, accumulators that have not begun yet take single bytes.
- An offset reaches 4095 bytes forwards. Where rows are farther apart, the pointer moves from row to row, by a number of
  eight bits, which an addition takes as it is; there and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tinymbn_codegen.dsp.depthwise_block import SLOTS, WORD, Block, Geometry, Multiply, Source
from tinymbn_codegen.layouts import Layout

_FORWARDS, _BACKWARDS = 4095, 255  # what the offset of a load reaches
_A, _B = "%[a]", "%[b]"


@dataclass(frozen=True)
class Stores:
    """Where the outputs of a block go.

    Attributes:
        layout: of the output.
        pointer: the C variable.
        offsets: from there, of each output.
        advance: what the pointer moves by afterwards.
    """

    layout: Layout
    pointer: str
    offsets: tuple[int, ...]
    advance: int


@dataclass(frozen=True)
class Short:
    """The short requantisation.

    Attributes:
        shift: of the saturation.
        displaced: negative accumulators are displaced first.
    """

    shift: int
    displaced: bool


@dataclass
class BlockText:
    """A block, twice: as assembler and as C with the instructions as functions.

    Attributes:
        assembler: instructions.
        c: statements that do the same.
        after: statements that follow either.
    """

    assembler: list[str] = field(default_factory=list)
    c: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def add(self, assembler: str, c: str) -> None:
        """An instruction and its statement."""
        self.assembler.append(assembler)
        self.c.append(c)


def block_text(block: Block, geometry: Geometry, stores: Stores, short: Short | None) -> BlockText:
    """The text of a block; without the short form it is C that requantises and stores."""
    writer = _Writer(block, geometry)
    for slot in range(SLOTS):
        writer.row(slot)
    if short is None:
        writer.text.after += [*_general(block.count, stores.layout), *_c_stores(stores)]
    else:
        writer.requantise(short, stores.layout)
        writer.text.assembler += _assembler_stores(stores)
        writer.text.c += _c_stores(stores)
    return writer.text


class _Pointer:
    """A register with an address, and how far it has moved since the block began."""

    def __init__(self, text: BlockText, register: str, variable: str) -> None:
        self.text, self.register, self.variable, self.moved = text, register, variable, 0

    def reaches(self, offset: int) -> bool:
        return -_BACKWARDS <= offset - self.moved <= _FORWARDS

    def bring_near(self, least: int, greatest: int) -> None:
        """Move, so that these offsets are in reach."""
        while not (self.reaches(least) and self.reaches(greatest)):
            away = least - self.moved
            bits = max(abs(away).bit_length() - 8, 0)
            self.move_to(self.moved + (abs(away) >> bits << bits) * (1 if away > 0 else -1))

    def move_to(self, offset: int) -> None:
        if offset != self.moved:
            self.text.assembler += additions(self.register, offset - self.moved)
            self.text.c.append(_moved(self.variable, offset - self.moved))
            self.moved = offset

    def at(self, offset: int) -> tuple[str, str]:
        """An address that is in reach, for a load or store and in C."""
        here = offset - self.moved
        if here == 0:
            return f"[{self.register}]", self.variable
        return f"[{self.register}, #{here}]", f"({self.variable} {'-' if here < 0 else '+'} {abs(here)})"


def additions(register: str, value: int) -> list[str]:
    """As few instructions as add a number to a register."""
    operation, left = ("add", value) if value >= 0 else ("sub", -value)
    lines = []
    while left:
        bits = max(left.bit_length() - 8, 0)
        part = left if left < 4096 else left >> bits << bits
        lines.append(f"{operation} {register}, {register}, #{part}")
        left -= part
    return lines


class _Writer:
    """Writes one block."""

    def __init__(self, block: Block, geometry: Geometry) -> None:
        self.block, self.geometry = block, geometry
        self.text = BlockText()
        self.x = _Pointer(self.text, "%[x]", "x")
        # The accumulator that begins last has the bias until then.
        begins = list(dict.fromkeys(m.output for m in block.multiplies))
        self.bias, self.waiting = begins[-1], set(begins)
        offsets = [m.source.x for m in block.singles] + [WORD * word for word in block.words]
        self.least, self.greatest = min(offsets), max(offsets)

    def row(self, slot: int) -> None:
        """Load and multiply one row."""
        block = self.block
        if slot == 0:
            self.text.add(f"ldr {_y(self.bias)}, %[bias]", f"y{self.bias} = bias;")
        self.loads = len(block.words) + len(block.singles)
        early = block.singles if slot == 0 else block.singles[:1]
        late = block.singles[len(early) :]
        first_word = block.words[:1]
        for word in first_word:
            self._load_word(slot, word)
        registers = [self._load_byte(slot, m) for m in early]
        for m, register in zip(early, registers, strict=True):
            self._multiply(slot, m, register, _single_name(m.source))
        for word in block.words:
            if word not in first_word:
                self._load_word(slot, word)
            self._multiply_word(slot, word)
        for m in late:
            register = self._load_byte(slot, m)
            self._multiply(slot, m, register, _single_name(m.source))

    def _load_word(self, slot: int, word: int) -> None:
        offset = slot * self.geometry.slot_bytes + WORD * word
        advance = self.block.advance
        if slot == 0 and word == 0 and advance:
            # Here the move to the next block comes for nothing.
            self.text.add(f"ldr {_B}, [%[x]], #{advance}", "word = *(const tinymbn_word *)x;")
            self.text.c.append(_moved("x", advance))
            self.x.moved = advance
        else:
            assembler, c = self.x.at(offset)
            self.text.add(f"ldr {_B}, {assembler}", f"word = *(const tinymbn_word *){c};")
        self._loaded(slot)

    def _load_byte(self, slot: int, m: Multiply) -> str:
        register = _A if slot > 0 or m.output == self.bias else _y(m.output)
        assembler, c = self.x.at(slot * self.geometry.slot_bytes + m.source.x)
        self.text.add(f"ldrb {register}, {assembler}", f"{_single_name(m.source)} = *(const uint8_t *){c};")
        self._loaded(slot)
        return register

    def _loaded(self, slot: int) -> None:
        """After a row's last load the pointer goes on, well before it is needed."""
        self.loads -= 1
        if self.loads == 0:
            if slot + 1 < SLOTS:
                below = (slot + 1) * self.geometry.slot_bytes
                self.x.bring_near(below + self.least, below + self.greatest)
            else:
                self.x.move_to(self.block.advance)

    def _multiply_word(self, slot: int, word: int) -> None:
        multiplies = self.block.of_word(word)
        halves = {m.source.high for m in multiplies}
        if False in halves:
            self.text.add(f"uxtb16 {_A}, {_B}", "low = tinymbn_uxtb16(word);")
        if True in halves:
            self.text.add(f"uxtb16 {_B}, {_B}, ror #8", "high = tinymbn_uxtb16_odd(word);")
        for m in multiplies:
            self._multiply(slot, m, _B if m.source.high else _A, "high" if m.source.high else "low")

    def _multiply(self, slot: int, m: Multiply, register: str, variable: str) -> None:
        weights = f"w{m.weights}_{slot}"
        added = self.bias if m.output in self.waiting else m.output
        self.waiting.discard(m.output)
        self.text.add(
            f"{m.instruction} {_y(m.output)}, {register}, %[{weights}], {_y(added)}",
            f"y{m.output} = tinymbn_{m.instruction}({variable}, {weights}, y{added});",
        )

    def requantise(self, short: Short, layout: Layout) -> None:
        """From accumulators to bytes, in place."""
        saturate = "ssat" if layout == "nhwc" else "usat"
        outputs = range(self.block.count)
        if short.displaced:
            self.text.assembler.append(f"ldr {_A}, %[displacement]")
            for i in outputs:
                self.text.assembler += [f"and {_B}, {_A}, {_y(i)}, asr #31", f"sub {_y(i)}, {_y(i)}, {_B}"]
                self.text.c.append(f"y{i} = tinymbn_wrapping_subtract(y{i}, y{i} >> 31 & displacement);")
        self.text.assembler += [f"ldr {_A}, %[multiplier]", f"ldr {_B}, %[addend]"]
        for i in outputs:
            self.text.add(f"smmla {_y(i)}, {_y(i)}, {_A}, {_B}", f"y{i} = tinymbn_smmla(y{i}, multiplier, addend);")
        for i in outputs:
            self.text.add(
                f"{saturate} {_y(i)}, #8, {_y(i)}, asr #{short.shift}",
                f"y{i} = tinymbn_{saturate}8(y{i}, {short.shift});",
            )


def _general(count: int, layout: Layout) -> list[str]:
    """Any requantisation, by the reference's functions."""
    stored = "" if layout == "nhwc" else " + 128"
    return [
        f"y{i} = tinymbn_general_output(y{i}, multiplier, shift, OUTPUT_ZERO, LOW, HIGH){stored};" for i in range(count)
    ]


def _assembler_stores(stores: Stores) -> list[str]:
    out = _Pointer(BlockText(), "%[out]", stores.pointer)
    lines = out.text.assembler
    if stores.layout == "planar":
        return [*_packed(len(stores.offsets)), f"str {_y(0)}, [%[out]], #{stores.advance}"]
    store = "strh" if stores.layout == "pairs" else "strb"
    for i, offset in enumerate(stores.offsets):
        if offset == out.moved == 0 and 0 < abs(stores.advance) <= _BACKWARDS:
            lines.append(f"{store} {_y(i)}, [%[out]], #{stores.advance}")
            out.moved = stores.advance
        else:
            out.bring_near(offset, offset)
            lines.append(f"{store} {_y(i)}, {out.at(offset)[0]}")
    out.move_to(stores.advance)
    return lines


def _packed(count: int) -> list[str]:
    """Bytes 0, 2, 1, 3 of a word from outputs 0, 1, 2, 3."""
    lines = [f"orr {_y(0)}, {_y(0)}, {_y(2)}, lsl #8"] if count > 2 else []
    lines += [f"orr {_y(1)}, {_y(1)}, {_y(3)}, lsl #8"] if count > 3 else []
    return lines + ([f"orr {_y(0)}, {_y(0)}, {_y(1)}, lsl #16"] if count > 1 else [])


def _c_stores(stores: Stores) -> list[str]:
    lines = []
    count = len(stores.offsets)
    if stores.layout == "planar":
        lines += ["y0 |= y2 << 8;"] if count > 2 else []
        lines += ["y1 |= y3 << 8;"] if count > 3 else []
        high = " | (uint32_t)y1 << 16" if count > 1 else ""
        lines.append(f"*(tinymbn_word *){stores.pointer} = (uint32_t)y0{high};")
    else:
        to, value = ("(tinymbn_half *)", "uint16_t") if stores.layout == "pairs" else ("", "int8_t")
        for i, offset in enumerate(stores.offsets):
            where = f"({stores.pointer} + {offset})" if offset else stores.pointer
            lines.append(f"*{to}{where} = ({value})y{i};")
    return [*lines, _moved(stores.pointer, stores.advance)] if stores.advance else lines


def _moved(variable: str, by: int) -> str:
    return f"{variable} {'-' if by < 0 else '+'}= {abs(by)};"


def _single_name(source: Source) -> str:
    return "before" if source.x < 0 else "behind"


def _y(output: int) -> str:
    return f"%[y{output}]"
