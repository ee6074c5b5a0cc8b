"""Flashing with tools that are scripts and drives that are folders."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tinymbn.board import Board, known_boards, load_board
from tinymbn.errors import BoardError, DeviceError, FlashError, OptionError, ToolError
from tinymbn.flashing import FlashResult, Runner, choose_runner, command, drive, flash, runners, tool

STM32F7 = load_board("stm32f7")
PICO = load_board("pico")
FLASHED = [board for board in known_boards() if board.flash]
WAYS = [(board, number) for board in FLASHED for number in range(len(board.flash))]
TOOLS = ("openocd", "st-flash", "pyocd", "probe-rs", "picotool")

STM32_PARTS = ((0x08000000, b"vectors!"), (0x08000010, b"code"))
STM32_BINARY = b"vectors!" + b"\xff" * 8 + b"code"


def write_elf(path: Path, parts: tuple[tuple[int, bytes], ...]) -> Path:
    """A 32-bit ARM ELF file that has nothing but segments to load."""
    data, headers = b"", b""
    offset = 52 + 32 * len(parts)
    for address, part in parts:
        headers += struct.pack("<8I", 1, offset + len(data), address, address, len(part), len(part), 5, 4)
        data += part
    identity = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, parts[0][0], 52, 0, 0x05000400, 52, 32, len(parts), 40, 0, 0)
    path.write_bytes(identity + header + headers + data)
    return path


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    folder = tmp_path / "my firmware"
    folder.mkdir()
    return write_elf(folder / "firmware.elf", STM32_PARTS)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose folders are all drives that there are."""
    folder = tmp_path / "media"
    folder.mkdir()
    monkeypatch.setattr(drive, "PLACES", (f"{folder}/*",))
    monkeypatch.setattr(drive, "is_drive", Path.is_dir)
    monkeypatch.setattr(drive, "_LOOK_S", 0.01)
    return folder


def add(folder: Path, name: str, script: str = "") -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)


def flash_with(name: str, board: Board, elf: Path, timeout_s: float = 20.0) -> FlashResult:
    return flash(board, elf, choose_runner(board, wanted=name), timeout_s=timeout_s)


# Commands


@pytest.mark.parametrize(("board", "number"), WAYS, ids=lambda value: value.name if isinstance(value, Board) else None)
def test_every_way_of_every_board_makes_a_whole_command(board: Board, number: int, media: Path) -> None:
    way = board.flash[number]
    runner = runners(board)[number]
    text = command(runner, Path("firmware.elf").absolute())
    arguments = shlex.split(text)
    assert arguments[0] == ("cp" if way.tool == "copy" else way.tool)
    assert "{" not in text
    assert "}" not in text
    image = "firmware.elf" if runner.image == "elf" else f"build/firmware.{runner.image}"
    assert [image in argument.split() for argument in arguments].count(True) == 1
    if runner.image == "uf2":
        assert board.uf2_family is not None
    if way.tool == "copy":
        assert runner.labels
    if way.tool == "openocd" and board.reset == "system":
        assert arguments[-2:] == ["-c", f"program {image} verify reset exit"]
    if way.tool == "openocd" and board.reset == "restart":  # into RAM, and to the handler that the second vector names
        vector = board.region("code").base + 4
        assert arguments[-3:] == [
            *(f"load_image {image} ; verify_image {image}", "-c"),
            f"mww 0xE000EF50 0 ; resume [expr [mrw {vector:#x}] - 1] ; shutdown",  # ICIALLU
        ]
    if way.tool == "st-flash":  # it gets no addresses from the image
        assert int(arguments[-1], 0) == min(memory.base for memory in board.memory if memory.kind == "flash")


def test_the_command_says_where_it_runs(programs: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(programs, "openocd")
    runner = choose_runner(STM32F7)
    openocd = "openocd -f board/st_nucleo_f7.cfg -c 'program firmware.elf verify reset exit'"
    assert command(runner, elf) == f"cd '{elf.parent}' && {openocd}"
    monkeypatch.chdir(elf.parent)
    assert command(runner, Path("firmware.elf")) == openocd
    assert not (elf.parent / "build").exists()


@pytest.mark.parametrize("name", ["my firmware.elf", "fw[1].elf", "$fw.elf", "fw;exit.elf"])
def test_a_file_name_that_openocd_would_take_apart_is_refused(programs: Path, name: str) -> None:
    add(programs, "openocd")
    add(programs, "pyocd")
    with pytest.raises(FlashError, match="openocd takes no such file name"):
        command(choose_runner(STM32F7), Path(name))
    assert shlex.quote(name) in command(choose_runner(STM32F7, wanted="pyocd"), Path(name))


def test_a_file_name_is_never_an_option(programs: Path) -> None:
    add(programs, "pyocd")
    assert command(choose_runner(STM32F7), Path("-v.elf")).endswith(" ./-v.elf")


# Which tool


@pytest.mark.parametrize("board", [board for board in known_boards() if not board.flash], ids=lambda board: board.name)
def test_an_emulated_board_is_not_flashed(board: Board) -> None:
    with pytest.raises(BoardError, match=f"is emulated, nothing to flash; tinymbn verify --board {board.name} runs it"):
        choose_runner(board)


def test_the_first_that_is_installed_is_chosen(programs: Path, media: Path) -> None:
    add(programs, "probe-rs")
    (media / "NODE_F746ZG").mkdir()
    assert choose_runner(STM32F7).tool == "probe-rs"
    add(programs, "st-flash")
    assert choose_runner(STM32F7).tool == "st-flash"
    assert choose_runner(STM32F7, wanted="copy").path == media / "NODE_F746ZG"


def test_without_any_tool_it_is_said_what_would_do(programs: Path, media: Path) -> None:
    with pytest.raises(
        ToolError, match='board "pico": nothing here flashes it: no picotool, no drive RPI-RP2'
    ) as raised:
        choose_runner(PICO)
    assert raised.value.exit_code == 5
    for advice in ("sudo apt-get install openocd", "pip install pyocd", "https://probe.rs", "hold BOOTSEL"):
        assert advice in str(raised.value)
    with pytest.raises(ToolError, match="no st-flash; sudo apt-get install stlink-tools"):
        choose_runner(STM32F7, wanted="st-flash")


def test_a_tool_the_board_does_not_know_is_refused(programs: Path) -> None:
    add(programs, "picotool")
    with pytest.raises(OptionError, match="not flashed by picotool; expected one of openocd, st-flash"):
        choose_runner(STM32F7, wanted="picotool")


# Running a tool


@pytest.mark.parametrize("name", TOOLS)
def test_the_tool_gets_what_was_shown(programs: Path, elf: Path, name: str) -> None:
    board = PICO if name == "picotool" else STM32F7
    if board is PICO:
        write_elf(elf, ((0x10000000, b"boot"), (0x10000100, b"code")))
    seen = programs / "seen"
    add(
        programs,
        name,
        f'pwd > {seen}; printf "%s\\n" "$0" "$@" >> {seen}; for a; do [ -f "$a" ] && cat "$a"; done; true',
    )
    runner = choose_runner(board, wanted=name)
    result = flash(board, elf, runner)
    folder, program, *arguments = seen.read_text().splitlines()
    assert Path(folder) == elf.parent
    assert Path(program) == programs / name
    assert result.command == command(runner, elf) == f"cd '{folder}' && {shlex.join([name, *arguments])}"
    assert result.tool == name
    assert 0 < result.seconds < 20


def test_a_binary_image_has_the_bytes_of_the_flash(programs: Path, elf: Path) -> None:
    add(programs, "st-flash", "echo jolly good")
    result = flash_with("st-flash", STM32F7, elf)
    assert result.image == elf.parent / "build" / "firmware.bin"
    assert result.image.read_bytes() == STM32_BINARY
    assert result.image_bytes == len(STM32_BINARY)
    assert result.sha256 == hashlib.sha256(STM32_BINARY).hexdigest()
    assert result.output == "jolly good"


def test_an_elf_file_is_handed_over_as_it_is(programs: Path, elf: Path) -> None:
    add(programs, "pyocd")
    result = flash_with("pyocd", STM32F7, elf)
    assert result.image == elf
    assert result.sha256 == hashlib.sha256(elf.read_bytes()).hexdigest()
    assert not (elf.parent / "build").exists()


@pytest.mark.parametrize(
    "parts",
    [((0x10000000, b"pico"),), ((0x07FFFFFF, b"below"),), ((0x080FFFFE, b"above"),), ((0x20000000, b"RAM"),)],
)
def test_another_boards_firmware_is_refused(programs: Path, elf: Path, parts: tuple[tuple[int, bytes], ...]) -> None:
    add(programs, "openocd", f"touch {programs}/ran")
    write_elf(elf, parts)
    with pytest.raises(FlashError, match=r'the flash of board "stm32f7", 0x08000000 to 0x080fffff') as raised:
        flash_with("openocd", STM32F7, elf)
    assert raised.value.exit_code == 7
    assert not (programs / "ran").exists()


def test_a_binary_image_begins_where_the_flash_does(programs: Path, elf: Path) -> None:
    add(programs, "st-flash")
    write_elf(elf, ((0x08000100, b"late"),))
    with pytest.raises(FlashError, match="begins at 0x08000100"):
        flash_with("st-flash", STM32F7, elf)


def test_a_firmware_that_is_not_there_is_said_so(programs: Path, tmp_path: Path) -> None:
    add(programs, "openocd")
    with pytest.raises(ToolError, match=r"none\.elf: no such file"):
        flash_with("openocd", STM32F7, tmp_path / "none.elf")
    (tmp_path / "no.elf").write_bytes(b"text")
    with pytest.raises(ToolError, match="no ELF file"):
        flash_with("openocd", STM32F7, tmp_path / "no.elf")


@pytest.mark.parametrize(
    ("name", "said", "quoted"),
    [
        (
            "openocd",
            "Info : Unable to match requested speed 2000 kHz, using 1800 kHz\nError: open failed\nError: later",
            "openocd: Error: open failed (exit code 1)",
        ),
        (
            "st-flash",
            "st-flash 1.7.0\nCouldn't find any ST-Link devices",
            "st-flash: Couldn't find any ST-Link devices",
        ),
        (
            "pyocd",
            "0000310 W Board ID is not recognized\n0000319 C Target type stm32f767zi not recognized.",
            "Target type stm32f767zi not recognized. (exit code 1); pyOCD needs a pack",
        ),
        (
            "probe-rs",
            "WARN no ids found\nError: No connected probes were found.",
            "probe-rs: Error: No connected probes",
        ),
        ("openocd", "Error: libusb_open() failed with LIBUSB_ERROR_ACCESS", "(exit code 1); may you open the probe?"),
        ("st-flash", "strange words\nand more", "st-flash: and more (exit code 1)"),
        ("st-flash", "", "st-flash: it said nothing (exit code 1)"),
    ],
)
def test_a_failure_is_told_by_the_tools_own_line(programs: Path, elf: Path, name: str, said: str, quoted: str) -> None:
    add(programs, name, f"cat >&2 <<'END'\n{said}\nEND\nexit 1")
    with pytest.raises(FlashError) as raised:
        flash_with(name, STM32F7, elf)
    assert quoted in str(raised.value)


def test_bootsel_is_explained(programs: Path, elf: Path) -> None:
    write_elf(elf, ((0x10000000, b"boot"),))
    add(programs, "picotool", "echo No accessible RP2040 devices in BOOTSEL mode were found.; exit 249")
    with pytest.raises(FlashError, match=r"BOOTSEL mode were found\. \(exit code 249\); hold BOOTSEL"):
        flash_with("picotool", PICO, elf)


def test_success_after_a_failed_verification_is_none(programs: Path, elf: Path) -> None:
    add(programs, "openocd", "echo '** Verify Started **'; echo '** Verify Failed **'")
    with pytest.raises(FlashError, match=r"\*\* Verify Failed \*\*"):
        flash_with("openocd", STM32F7, elf)


def test_a_tool_that_was_killed_has_failed(programs: Path, elf: Path) -> None:
    add(programs, "openocd", "kill -9 $$")
    with pytest.raises(FlashError, match="ended by signal 9"):
        flash_with("openocd", STM32F7, elf)


def _is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


def test_a_tool_that_waits_for_ever_is_ended_with_its_children(programs: Path, elf: Path) -> None:
    child = programs / "child"
    add(programs, "pyocd", f"sleep 60 & echo $! > {child}; echo Waiting for a debug probe to be connected...; wait")
    begin = time.monotonic()
    with pytest.raises(FlashError, match=r"pyocd: did not end within 0.5 s.* it said: Waiting for a debug probe"):
        flash_with("pyocd", STM32F7, elf, timeout_s=0.5)
    assert time.monotonic() - begin < 5
    deadline = time.monotonic() + 5
    while _is_running(int(child.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_tool_that_does_not_want_to_end_is_killed(programs: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "_END_S", 0.2)
    add(programs, "pyocd", "trap '' TERM; while :; do sleep 0.05; done")
    with pytest.raises(FlashError, match="did not end"):
        flash_with("pyocd", STM32F7, elf, timeout_s=0.3)


def test_a_process_left_behind_does_not_hold_the_result(programs: Path, elf: Path) -> None:
    add(programs, "openocd", f"sleep 60 & echo $! > {programs}/child; echo done")
    begin = time.monotonic()
    try:
        assert flash_with("openocd", STM32F7, elf).output == "done"
        assert time.monotonic() - begin < 5
    finally:
        os.kill(int((programs / "child").read_text()), 9)


def test_a_flood_of_words_is_read_to_its_end(programs: Path, elf: Path) -> None:
    add(programs, "openocd", "yes progress | head -n 400000; echo Error: at last; exit 1")
    with pytest.raises(FlashError, match="openocd: Error: at last"):
        flash_with("openocd", STM32F7, elf)


def test_a_tool_gets_no_answer_to_a_question(programs: Path, elf: Path) -> None:
    add(programs, "openocd", 'read answer && echo "$answer" || echo "nobody answers"')
    ours, theirs = os.pipe()
    os.write(theirs, b"yes\n")
    before = os.dup(0)
    os.dup2(ours, 0)
    try:
        assert flash_with("openocd", STM32F7, elf).output == "nobody answers"
    finally:
        os.dup2(before, 0)
        for descriptor in (ours, theirs, before):
            os.close(descriptor)


def test_a_tool_that_cannot_be_started_is_no_failure_of_the_board(programs: Path, elf: Path) -> None:
    (programs / "openocd").write_text("#!/no/such/interpreter\n")
    (programs / "openocd").chmod(0o755)
    with pytest.raises(ToolError, match="openocd: cannot be started"):
        flash_with("openocd", STM32F7, elf)


def test_a_runner_without_its_tool_runs_nothing(elf: Path) -> None:
    with pytest.raises(ToolError, match="openocd: not here; sudo apt-get install openocd"):
        flash(STM32F7, elf, Runner("openocd", ("{elf}",), (), None))


# Drives


@pytest.mark.parametrize(
    ("label", "is_found"),
    [
        ("NODE_F746ZG", True),
        ("NODE_F767ZI", True),
        ("NODE_F722ZE", True),
        ("NODE_F746ZG1", True),
        ("NODE_H743ZI", False),
    ],
)
def test_drives_are_found_by_label(media: Path, label: str, is_found: bool) -> None:
    (media / label).mkdir()
    assert drive.find_drive(("NODE_F746ZG", "NODE_F767ZI", "NODE_F7*")) == (media / label if is_found else None)


def test_a_folder_left_over_from_a_drive_is_none(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(drive, "PLACES", (f"{media}/*",))
    (media / "RPI-RP2").mkdir()
    assert drive.find_drive(("RPI-RP2",)) is None
    assert drive.is_drive(Path("/"))


def test_of_two_drives_none_is_guessed(programs: Path, media: Path) -> None:
    for label in ("NODE_F746ZG", "NODE_F767ZI"):
        (media / label).mkdir()
    with pytest.raises(DeviceError, match=r"NODE_F746ZG, .*NODE_F767ZI: several drives"):
        choose_runner(STM32F7)
    add(programs, "openocd")
    assert choose_runner(STM32F7).tool == "openocd"


def copy(
    board: Board,
    elf: Path,
    monkeypatch: pytest.MonkeyPatch,
    *events: Callable[[], object],
    settle_s: float = 0.3,
    timeout_s: float = 20.0,
) -> FlashResult:
    """Flash by the board's drive, to which something happens each time it is looked for after the file is on it."""
    runner = choose_runner(board, wanted="copy")
    left = list(events)

    def look(path: Path) -> bool:
        if left:
            left.pop(0)()
        return path.is_dir()

    monkeypatch.setattr(drive, "is_drive", look)
    monkeypatch.setattr(drive, "SETTLE_S", settle_s)
    monkeypatch.setattr(drive, "RETURN_S", settle_s)
    result = flash(board, elf, runner, timeout_s=timeout_s)
    assert not left
    return result


@pytest.fixture
def nucleo(programs: Path, media: Path) -> Path:
    """The drive of an ST-LINK."""
    folder = media / "NODE_F746ZG"
    folder.mkdir()
    return folder


@pytest.fixture
def boot_loader(programs: Path, media: Path) -> Path:
    """The drive of a UF2 boot loader."""
    folder = media / "RPI-RP2"
    folder.mkdir()
    (folder / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\n")
    return folder


def test_a_drive_that_stays_is_read_back(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = copy(STM32F7, elf, monkeypatch)
    assert (nucleo / "firmware.bin").read_bytes() == STM32_BINARY
    assert result.outcome == "the file on the drive was read back and is the same"
    assert result.command == f"cd '{elf.parent}' && cp build/firmware.bin {nucleo}/"


def test_a_drive_that_changes_the_file_has_failed(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlashError, match="read back, it differs"):
        copy(STM32F7, elf, monkeypatch, lambda: (nucleo / "firmware.bin").write_bytes(b"other"))


def test_a_drive_that_swallows_the_file_has_taken_it(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = copy(STM32F7, elf, monkeypatch, (nucleo / "firmware.bin").unlink)
    assert "took the file away" in result.outcome


def _go(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _complain(folder: Path) -> None:
    folder.mkdir()
    (folder / "FAIL.TXT").write_text("The interface firmware FAILED\r\nto reset/halt the target MCU\r\n")


def _nothing() -> None:
    pass


def test_a_drive_that_goes_away_has_taken_the_file(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "went away with it" in copy(STM32F7, elf, monkeypatch, lambda: _go(nucleo)).outcome


def test_a_drive_that_comes_back_has_taken_the_file(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nucleo / "FAIL.TXT").write_text("of last time")
    result = copy(STM32F7, elf, monkeypatch, _nothing, lambda: _go(nucleo), _nothing, nucleo.mkdir, settle_s=20)
    assert "went away with it" in result.outcome
    assert result.seconds < 10


def test_the_complaint_of_a_drive_that_comes_back_is_quoted(
    nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        FlashError, match=r"says: The interface firmware FAILED to reset/halt the target MCU$"
    ) as raised:
        copy(STM32F7, elf, monkeypatch, lambda: _go(nucleo), _nothing, lambda: _complain(nucleo), settle_s=20)
    assert raised.value.exit_code == 7


def test_an_old_complaint_counts_while_the_drive_stays(
    nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nucleo / "FAIL.TXT").write_text("no target")
    with pytest.raises(FlashError, match="says: no target"):
        copy(STM32F7, elf, monkeypatch)


def test_a_full_drive_says_how_much_it_took(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nucleo / "firmware.bin").symlink_to("/dev/full")
    with pytest.raises(FlashError, match=rf"No space left on device, after 0 of {len(STM32_BINARY)} bytes"):
        copy(STM32F7, elf, monkeypatch)


def test_a_drive_that_takes_nothing_is_given_up(nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(nucleo / "firmware.bin")
    with pytest.raises(FlashError, match=r"did not take 20 bytes within 0\.2 s"):
        copy(STM32F7, elf, monkeypatch, timeout_s=0.2)
    os.close(os.open(nucleo / "firmware.bin", os.O_RDONLY | os.O_NONBLOCK))  # lets the writer go


def _lost(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_boot_loader_goes_away_with_the_file(boot_loader: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_elf(elf, ((0x10000000, b"boot" * 64), (0x10000100, b"code")))
    monkeypatch.setattr(os, "fsync", _lost)  # it restarts with the last block, before anyone is told so
    gone = boot_loader.with_name("gone")
    result = copy(PICO, elf, monkeypatch, _nothing, lambda: boot_loader.rename(gone), settle_s=20)
    data = (gone / "firmware.uf2").read_bytes()
    assert hashlib.sha256(data).hexdigest() == result.sha256
    assert result.image_bytes == len(data) == 16 * 512
    assert result.seconds < 10
    assert struct.unpack_from("<I", data, 28) == (PICO.uf2_family,)


def test_a_boot_loader_that_stays_has_not_taken_the_file(
    boot_loader: Path, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_elf(elf, ((0x10000000, b"boot"),))
    with pytest.raises(FlashError, match=r"the boot loader did not take firmware\.uf2"):
        copy(PICO, elf, monkeypatch)


def test_bytes_that_never_reached_a_drive_that_stays_are_a_failure(
    nucleo: Path, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _lost)
    with pytest.raises(FlashError, match="Input/output error, and the drive is still there"):
        copy(STM32F7, elf, monkeypatch)
