"""verify finds what is wrong in a firmware, names the layer that is, and tells what kind of fault it is.

``--examples 200`` flips bits of every array on every board, and makes the mistakes on every kind of board.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.command_line import Run
from tests.firmwares import DIGITS, EMULATED, STREAMED, copy, firmware, make, model, replace, run_verify
from tinymbn.board import load_board
from tinymbn.errors import LinkError
from tinymbn.verdict import Cause, Difference
from tinymbn_codegen.constants import all_constants, constants_of
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, make_plan

BOARD = "qemu-m3"
PLAIN = Options(kernels="plain")  # the mistakes are made in the C of these
STREAMING = Options(kernels="plain", optimize="ram")
FED = Options(kernels="plain", optimize="ram", input="rows")


@cache
def plan(name: str = DIGITS, options: Options = Options()) -> Plan:  # noqa: B008 - frozen
    return make_plan(model(name), options, "")


def difference(board: str, folder: Path, name: str = DIGITS, *, count: int) -> Difference:
    found = run_verify(board, folder, name, count=count).first_difference
    assert found is not None
    return found


# ----------------------------------------------------------------------------------------------- bits in flash


def places_of(elf: Path, symbols: set[str]) -> dict[str, tuple[int, int]]:
    """Where in the file each array lies, and its bytes."""
    with elf.open("rb") as file:
        found = ELFFile(file)
        sections = list(found.iter_sections())
        table = found.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        places = {}
        for symbol in table.iter_symbols():
            if symbol.name in symbols:
                section = sections[symbol["st_shndx"]]
                offset = section["sh_offset"] + symbol["st_value"] - section["sh_addr"]
                places[symbol.name] = (offset, symbol["st_size"])
        return places


def flip(elf: Path, place: tuple[int, int], chance: random.Random) -> None:
    data = bytearray(elf.read_bytes())
    data[place[0] + chance.randrange(place[1])] ^= 1 << chance.randrange(8)
    elf.write_bytes(data)


def plan_on(board: str) -> Plan:
    """Of the digits, with the kernels of the board's core."""
    return plan(options=Options().on(load_board(board).core))


def readers(board: str) -> dict[str, int]:
    """The first layer that reads each array."""
    found: dict[str, int] = {}
    for step in plan_on(board).steps:
        for constant in constants_of(plan_on(board), step):
            found.setdefault(constant.symbol, step.index)
    return found


def test_every_array_of_the_model_is_in_the_firmware_whole() -> None:
    for board in ("qemu-m0", "qemu-m3", "host"):
        sizes = {constant.symbol: len(constant.bytes) for constant in all_constants(plan_on(board))}
        places = places_of(firmware(board) / "firmware.elf", set(sizes))
        assert {symbol: size for symbol, (_, size) in places.items()} == sizes


def some_flips(count: int) -> Iterator[tuple[str, str, int]]:
    """Board, array and seed: every array as often as every other, the boards in turn."""
    for number in range(count):
        board = EMULATED[number % len(EMULATED)]
        symbols = sorted(readers(board))
        random.Random(7).shuffle(symbols)
        yield board, symbols[number % len(symbols)], number


def test_one_flipped_bit_of_any_constant_is_found_and_its_layer_named(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    examples = int(request.config.getoption("--examples"))
    for board, symbol, seed in some_flips(max(4, examples * len(EMULATED) // 50)):
        folder = copy(firmware(board), tmp_path / str(seed))
        elf = folder / "firmware.elf"
        flip(elf, places_of(elf, {symbol})[symbol], random.Random(seed))
        found = difference(board, folder, count=1)
        told = f"{board}, {symbol}, seed {seed}: {found.text}"
        assert (found.cause, found.index) == ("constants", readers(board)[symbol]), told
        assert f"layer {found.index} " in found.text, told


def test_a_flipped_bit_is_exit_code_9_and_json_says_which_layer(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware(BOARD), tmp_path / "flipped")
    elf = folder / "firmware.elf"
    symbol = "model_layer_08_block4_pointwise_weights"
    flip(elf, places_of(elf, {symbol})[symbol], random.Random(1))
    done = run("verify", "--firmware", folder, "--json")
    assert done.code == 9
    values = json.loads(done.out)
    assert values["equal"] is False
    assert (values["layers_compared"], values["bytes_compared"]) == (0, 0)
    first = values["first_difference"]
    assert (first["layer"], first["name"], first["cause"]) == (8, "block4/pointwise", "constants")
    assert "its constants on the board are not those of the model (CRC " in first["text"]


# ------------------------------------------------------------------------------------------- mistakes in the C


@dataclass(frozen=True)
class Mistake:
    """A change of the generated sources, and what verify has to say of it."""

    edit: Callable[[Path], None]
    layer: int
    cause: Cause


Edit = Callable[[Path], None]


def edit_file(file: Path, pattern: str, new: str | Callable[[re.Match[str]], str]) -> None:
    """Replaces what occurs once."""
    text, found = re.subn(pattern, new, file.read_text())
    assert found == 1, f"{file.name}: {found} times: {pattern}"
    file.write_text(text)


def in_layer(symbol: str, old: str, new: str) -> Callable[[Path], None]:
    """An edit within one layer's function."""

    def edit(folder: Path) -> None:
        file = folder / "model_layers.c"
        head, name, tail = file.read_text().partition(f"TINYMBN_LAYER {symbol}(")
        body, end, rest = tail.partition("\n}\n")
        assert name
        assert old in body, f"{symbol}: {old}"
        file.write_text(head + name + body.replace(old, new) + end + rest)

    return edit


def rows_of(symbol: str, old: str, new: str) -> Edit:
    """Which rows a layer gets, in the schedule and in the traced one."""

    def edit(folder: Path) -> None:
        for file in (folder / "model.c", folder / "model_traced.c"):

            def change(call: re.Match[str], name: str = file.name) -> str:
                assert old in call[0], f"{name}: {call[0]}"
                return call[0].replace(old, new)

            edit_file(file, rf"tinymbn_(ring_)?rows\([^;]*;(?=\s*{symbol}\()", change)

    return edit


def after_row(layer: int, statement: str) -> Edit:
    """Something that happens behind each row of a layer of the traced run, once its bytes are reported."""

    def edit(folder: Path) -> None:
        pattern = rf"(static void trace_layer_{layer:02}\(int32_t y, [^}}]*)\}}"
        edit_file(folder / "model_traced.c", pattern, lambda found: f"{found[1]}    {statement}\n}}")

    return edit


def swap_vertical_strides(folder: Path) -> None:
    """Layer 1 goes down by 1 a row instead of 2, layer 3 by 2 instead of 1."""
    rows_of("model_layer_01_block1_depthwise", "y * 2,", "y,")(folder)
    rows_of("model_layer_03_block2_depthwise", "y - 1,", "y * 2 - 1,")(folder)


def swap_horizontal_strides(folder: Path) -> None:
    in_layer("model_layer_01_block1_depthwise", "STRIDE_W = 2", "STRIDE_W = 1")(folder)
    in_layer("model_layer_03_block2_depthwise", "STRIDE_W = 1", "STRIDE_W = 2")(folder)


def round_down(folder: Path) -> None:
    """Shifts right without rounding: one too few, now and then."""
    replace(
        folder / "tinymbn_fixed_point.h",
        "return (int32_t)(((int64_t)x + ((int64_t)1 << (bits - 1)) - (x < 0)) >> bits);",
        "return x >> bits;",
    )


def clobber(folder: Path) -> None:
    """Something changes the tensor of layer 7 once it is made, before layer 8 reads it."""
    at = offset_of(7)
    after_row(7, f"model_arena[{at} + 133] ^= (int8_t)(y == 3 ? 64 : 0);")(folder)


def offset_of(layer: int, name: str = DIGITS, options: Options = PLAIN) -> int:
    found = plan(name, options).steps[layer].output.offset
    assert found is not None
    return found


def break_run_alone(folder: Path) -> None:
    edit_file(folder / "model.c", r"(?=    memcpy\(output \+ 0,)", f"    model_arena[{offset_of(15)}] ^= 64;\n")


DEPTHWISE = "model_layer_03_block2_depthwise"
MISTAKES = {
    "vertical strides swapped": Mistake(swap_vertical_strides, 1, "kernel"),
    "horizontal strides swapped": Mistake(swap_horizontal_strides, 1, "kernel"),
    "rows padded at the wrong end": Mistake(rows_of(DEPTHWISE, "y - 1,", "y,"), 3, "kernel"),
    "columns padded at the wrong end": Mistake(in_layer(DEPTHWISE, "PAD_LEFT = 1", "PAD_LEFT = 0"), 3, "kernel"),
    "padding that adds something": Mistake(
        in_layer(DEPTHWISE, "continue; /* padding adds nothing */", "accumulator += 99; continue;"), 3, "kernel"
    ),
    "a wrong bias": Mistake(
        in_layer("model_layer_04_block2_pointwise", "bias[c_out]", "bias[(c_out + 1) % C_OUT]"), 4, "kernel"
    ),
    "requantisation off by one": Mistake(
        in_layer("model_layer_10_block5_pointwise", "shift[c_out]);", "shift[c_out]) + 1;"), 10, "kernel"
    ),
    "a shift that does not round": Mistake(round_down, 0, "kernel"),
    "a tensor that something else writes into": Mistake(clobber, 8, "memory"),
    "a plain run that differs from the traced one": Mistake(break_run_alone, 15, "run"),
}
POSITION = re.compile(
    r"layer (\d+) \S+ \(.+\): ([\d,]+) of ([\d,]+) bytes differ, largest difference (\d+), "
    r"first at \((y \d+, x \d+, )?c \d+\): board (-?\d+), reference (-?\d+); \S.*"
)
WHY = {
    "kernel": "the kernel is wrong by itself, not its input",
    "memory": "something else writes into its memory",
    "run": "the traced run is right: only the plain one differs",
}


def expect(board: str, folder: Path, name: str, mistake: Mistake) -> None:
    """Makes the mistake, and asserts that verify finds it and tells of it."""
    mistake.edit(folder)
    make(folder)
    found = difference(board, folder, name, count=5)
    assert (found.index, found.cause) == (mistake.layer, mistake.cause), f"{board}: {found.text}"
    told = POSITION.fullmatch(found.text)
    assert told, found.text
    assert WHY[found.cause] in found.text
    assert 0 < found.different <= found.total
    assert found.board != found.reference
    assert 0 < abs(found.board - found.reference) <= found.largest
    assert found.input


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_the_c_is_found_and_told(what: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    thorough = request.config.getoption("--examples") >= 100
    for board in EMULATED if thorough else (BOARD,):
        expect(board, copy(firmware(board, options=PLAIN), tmp_path / board), DIGITS, MISTAKES[what])


# ------------------------------------------------------------------------------------- mistakes where rows stream


def in_slot(layer: int, options: Options) -> Edit:
    """Something changes a byte of each row of a ring, before anybody reads it."""
    place = plan(STREAMED, options).steps[layer].output
    assert place.streams
    at = f"{offset_of(layer, STREAMED, options)} + y % {place.slots} * {place.row_bytes} + 7"
    return after_row(layer, f"model_arena[{at}] ^= 64;")


def one_slot_too_few(layer: int, options: Options) -> Edit:
    """A row is looked for where another one lies."""
    step = plan(STREAMED, options).steps[layer]
    (place,) = step.inputs
    assert place.streams
    assert place.slots > 1
    symbol, old = f"model_layer_{layer:02}_\\w+", f" {place.slots}, {place.row_bytes}, "
    return rows_of(symbol, old, f" {place.slots - 1}, {place.row_bytes}, ")


IN_STREAMS = {
    "a wrong bias": lambda options: Mistake(
        in_layer("model_layer_04_block2_pointwise", "bias[c_out]", "bias[(c_out + 1) % C_OUT]"), 4, "kernel"
    ),
    "padding that adds something": lambda options: Mistake(
        in_layer(
            "model_layer_05_block3_depthwise", "continue; /* padding adds nothing */", "accumulator += 99; continue;"
        ),
        5,
        "kernel",
    ),
    "a ring that has a slot too few for its reader": lambda options: Mistake(one_slot_too_few(5, options), 5, "kernel"),
    "something else writes into a row between two layers": lambda options: Mistake(in_slot(3, options), 4, "memory"),
    "something else writes into a ring": lambda options: Mistake(in_slot(4, options), 5, "memory"),
}


def test_the_streamed_firmware_streams_where_the_mistakes_are() -> None:
    for options in (STREAMING, FED):
        steps = plan(STREAMED, options).steps
        assert all(steps[k].output.streams for k in (3, 4, 5)), options.text
        assert steps[4].output.slots > 1


@pytest.mark.parametrize("options", [STREAMING, FED], ids=["frame", "rows"])
@pytest.mark.parametrize("what", IN_STREAMS)
def test_a_mistake_in_a_streamed_layer_is_found_and_told(
    what: str, options: Options, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    thorough = request.config.getoption("--examples") >= 100
    for board in EMULATED if thorough else ("host",):
        if board == "qemu-m0" and options is FED:
            continue  # no room for the frame of the link
        expect(board, copy(firmware(board, STREAMED, options), tmp_path / board), STREAMED, IN_STREAMS[what](options))


# ---------------------------------------------------------------------------------- firmware that does not answer

CRASH = "    *(volatile int32_t *)0x60000000 = 1;\n"  # nothing lies there on any board
HANG = "    for (volatile int32_t turn = 0; turn == 0;) {\n    }\n"
LONGEST_S = 45.0


def spoil_layer(folder: Path, symbol: str, statement: str) -> None:
    """A statement at the beginning of a layer's function."""
    file = folder / "model_layers.c"
    text, found = re.subn(rf"(TINYMBN_LAYER {symbol}\([^{{]*\)\n{{\n)", lambda m: m[1] + statement, file.read_text())
    assert found == 1
    file.write_text(text)
    make(folder)


def failure(board: str, folder: Path) -> str:
    begin = time.monotonic()
    with pytest.raises(LinkError) as raised:
        run_verify(board, folder, count=1)
    assert time.monotonic() - begin < LONGEST_S
    return str(raised.value)


@pytest.mark.parametrize("board", ["qemu-m0", "stm32f7", "host"])
def test_a_layer_that_crashes_is_an_error_that_names_it(
    board: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if board == "stm32f7" and request.config.getoption("--examples") < 100:
        pytest.skip("with --examples 100 or more")  # half a minute at the wrong baud rate, until the host gives up
    folder = copy(firmware(board), tmp_path / "firmware")
    spoil_layer(folder, "model_layer_09_block5_depthwise", CRASH)
    text = failure(board, folder)
    assert board in text
    if board == "host":
        assert "AddressSanitizer" in text
        assert "0x000060000000" in text
    else:
        assert "fault at PC 0x" in text
        assert "in model_layer_09_block5_depthwise" in text
    if board == "stm32f7":
        assert "write of 0x1, 4 bytes, to 0x60000000, where there is nothing" in text


@pytest.mark.parametrize("board", ["qemu-m3"])
def test_a_layer_that_never_ends_is_an_error_within_the_time_that_says_what_ran(
    board: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if request.config.getoption("--examples") < 100:
        pytest.skip("with --examples 100 or more")  # most of it is waiting
    folder = copy(firmware(board), tmp_path / "firmware")
    spoil_layer(folder, "model_layer_09_block5_depthwise", HANG)
    text = failure(board, folder)
    assert "no whole reply to RUN" in text
    assert "all-min, layer by layer" in text


def test_a_plain_run_that_never_ends_is_told_from_the_traced_one(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if request.config.getoption("--examples") < 100:
        pytest.skip("with --examples 100 or more")
    folder = copy(firmware(BOARD), tmp_path / "firmware")
    edit_file(folder / "model.c", r"    memcpy\(output \+ 0, .*\n", HANG)
    make(folder)
    assert "all-min, whole" in failure(BOARD, folder)
