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
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.command_line import Run
from tests.firmwares import EMULATED, copy, firmware, make, model, replace, run_verify
from tinymbn.errors import LinkError
from tinymbn.verdict import Cause, Difference
from tinymbn_codegen.constants import all_constants, constants_of
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, make_plan

BOARD = "qemu-m3"


def plan() -> Plan:
    return make_plan(model(), Options(), "")


def difference(board: str, folder: Path, *, count: int) -> Difference:
    found = run_verify(board, folder, count=count).first_difference
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


def readers() -> dict[str, int]:
    """The first layer that reads each array."""
    found: dict[str, int] = {}
    for step in plan().steps:
        for constant in constants_of(plan(), step):
            found.setdefault(constant.symbol, step.index)
    return found


def test_every_array_of_the_model_is_in_the_firmware_whole() -> None:
    sizes = {constant.symbol: len(constant.bytes) for constant in all_constants(plan())}
    for board in ("qemu-m0", "qemu-m3", "host"):
        places = places_of(firmware(board) / "firmware.elf", set(sizes))
        assert {symbol: size for symbol, (_, size) in places.items()} == sizes


def some_flips(count: int) -> Iterator[tuple[str, str, int]]:
    """Board, array and seed: every array as often as every other, the boards in turn."""
    symbols = sorted(readers())
    random.Random(7).shuffle(symbols)
    for number in range(count):
        yield EMULATED[number % len(EMULATED)], symbols[number % len(symbols)], number


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
        assert (found.cause, found.index) == ("constants", readers()[symbol]), told
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


def in_both_runs(old: str, new: str) -> Callable[[Path], None]:
    """The schedule, where all that runs a layer has it."""

    def edit(folder: Path) -> None:
        replace(folder / "model.c", old, new)
        replace(folder / "model_traced.c", old, new)

    return edit


def swap_vertical_strides(folder: Path) -> None:
    """Layer 1 goes down by 1 a row instead of 2, layer 3 by 2 instead of 1."""
    in_both_runs("model_arena + 200, 16, 128, y * 2, 1);", "model_arena + 200, 16, 128, y, 1);")(folder)
    in_both_runs("model_arena + 704, 8, 256, y - 1, 1);", "model_arena + 704, 8, 256, y * 2 - 1, 1);")(folder)


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
    replace(
        folder / "model_traced.c",
        "        on_rows(7, y, 1, model_arena + 2048 + y * 128, 128);\n    }\n",
        "        on_rows(7, y, 1, model_arena + 2048 + y * 128, 128);\n    }\n    model_arena[2048 + 133] ^= 64;\n",
    )


def break_run_alone(folder: Path) -> None:
    replace(
        folder / "model.c",
        "    model_layer_13_average(model_arena + 608, model_arena + 544);\n",
        "    model_layer_13_average(model_arena + 608, model_arena + 544);\n    model_arena[544] ^= 64;\n",
    )


DEPTHWISE = "model_layer_03_block2_depthwise"
MISTAKES = {
    "vertical strides swapped": Mistake(swap_vertical_strides, 1, "kernel"),
    "horizontal strides swapped": Mistake(swap_horizontal_strides, 1, "kernel"),
    "rows padded at the wrong end": Mistake(
        in_both_runs("model_arena + 704, 8, 256, y - 1, 1);", "model_arena + 704, 8, 256, y, 1);"), 3, "kernel"
    ),
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


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_the_c_is_found_and_told(what: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    mistake = MISTAKES[what]
    thorough = request.config.getoption("--examples") >= 100
    for board in EMULATED if thorough else (BOARD,):
        folder = copy(firmware(board), tmp_path / board)
        mistake.edit(folder)
        make(folder)
        found = difference(board, folder, count=5)
        assert (found.index, found.cause) == (mistake.layer, mistake.cause), f"{board}: {found.text}"
        told = POSITION.fullmatch(found.text)
        assert told, found.text
        assert WHY[found.cause] in found.text
        assert 0 < found.different <= found.total
        assert found.board != found.reference
        assert 0 < abs(found.board - found.reference) <= found.largest
        assert found.input


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
    replace(folder / "model.c", "    memcpy(output + 0, model_arena + 532, 10);\n", HANG)
    make(folder)
    assert "all-min, whole" in failure(BOARD, folder)
