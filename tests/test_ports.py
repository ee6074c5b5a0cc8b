"""Which port a board is at; no port is opened, none has to be there."""

from __future__ import annotations

import fcntl
import grp
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports as pyserial_ports

from tinymbn import ports
from tinymbn.board import load_board
from tinymbn.errors import DeviceError

STM32F7 = load_board("stm32f7")
NRF52840 = load_board("nrf52840dk")


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What is said to be connected: empty until a test adds to it."""
    connected: list[SimpleNamespace] = []
    monkeypatch.setattr(pyserial_ports, "comports", lambda: list(connected))
    return connected


@pytest.fixture
def terminal() -> Iterator[str]:
    """The path of a pseudo-terminal, which is as good as a serial port here."""
    ours, theirs = pty.openpty()
    yield os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def port(device: str, vid: int | None = None, pid: int | None = None, product: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(device=device, vid=vid, pid=pid, product=product, serial_number="066B" if vid else None)


def test_ports_are_listed_by_number_with_the_boards_they_may_be(connect: list[SimpleNamespace]) -> None:
    connect += [port("/dev/ttyX10", 0x1366, 0x1015, "J-Link"), port("/dev/ttyX9", 0x0483, 0x374B, "STM32 STLink")]
    connect += [port("/dev/ttyX1")]
    plain, st_link, j_link = ports.list_ports()
    assert (plain.device, plain.boards, plain.vid, plain.product) == ("/dev/ttyX1", (), None, "")
    assert (st_link.device, st_link.vid, st_link.pid, st_link.serial_number) == ("/dev/ttyX9", 0x0483, 0x374B, "066B")
    assert "stm32f7" in st_link.boards
    assert "nucleo-f446re" in st_link.boards
    assert j_link.boards == ("ek-ra8d1", "nrf52840dk")
    assert str(st_link) == "/dev/ttyX9 (0483:374b STM32 STLink, 066B)"
    assert str(plain) == "/dev/ttyX1"


def test_what_a_device_calls_itself_cannot_steer_a_terminal(connect: list[SimpleNamespace]) -> None:
    connect.append(port("/dev/ttyX0", 0x0483, 0x374B, "\x1b[2JSTLink\n"))
    assert ports.list_ports((STM32F7,))[0].product == r"\x1b[2JSTLink\n"


def test_the_option_comes_before_the_variable(terminal: str) -> None:
    assert ports.find_port(STM32F7, port=terminal, environ={"TINYMBN_PORT": "/dev/other"}) == terminal


def test_the_variable_comes_before_the_ids(connect: list[SimpleNamespace], terminal: str) -> None:
    connect.append(port("/dev/ttyX0", 0x0483, 0x374B))
    assert ports.find_port(STM32F7, environ={"TINYMBN_PORT": terminal}) == terminal


@pytest.mark.parametrize("pid", [0x374B, 0x3752])
def test_the_only_port_with_an_id_of_the_board_is_its(connect: list[SimpleNamespace], pid: int) -> None:
    connect += [port("/dev/ttyX0"), port("/dev/ttyX1", 0x0483, pid), port("/dev/ttyX2", 0x1366, 0x0105)]
    assert ports.find_port(STM32F7, environ={}) == "/dev/ttyX1"
    assert ports.find_port(NRF52840, environ={}) == "/dev/ttyX2"


def test_another_product_of_the_same_vendor_is_not_taken(connect: list[SimpleNamespace]) -> None:
    connect.append(port("/dev/ttyX0", 0x0483, 0x5740, "Virtual COM Port"))
    with pytest.raises(DeviceError, match=r"no NUCLEO-F746ZG .*0483:374b, 0483:3752\) is connected") as raised:
        ports.find_port(STM32F7, environ={})
    assert "connected ports: /dev/ttyX0 (0483:5740 Virtual COM Port, 066B)" in str(raised.value)
    assert raised.value.exit_code == 6


def test_an_empty_variable_is_none(connect: list[SimpleNamespace]) -> None:
    with pytest.raises(DeviceError, match=r"\(1366:\*\) is connected; no serial port is connected"):
        ports.find_port(NRF52840, environ={"TINYMBN_PORT": ""})


def test_of_several_none_is_guessed(connect: list[SimpleNamespace]) -> None:
    connect += [port("/dev/ttyX0", 0x0483, 0x374B), port("/dev/ttyX1", 0x0483, 0x374B)]
    with pytest.raises(DeviceError, match=r"2 ports may be its: /dev/ttyX0 .*, /dev/ttyX1 .*name one with --port"):
        ports.find_port(STM32F7, environ={})


def test_a_board_without_ids_has_its_port_named(connect: list[SimpleNamespace]) -> None:
    connect.append(port("/dev/ttyX0", 0x0483, 0x374B))
    with pytest.raises(DeviceError, match="no USB id tells its port"):
        ports.find_port(load_board("qemu-m3"), environ={})


def test_a_named_port_has_to_be_there(connect: list[SimpleNamespace], tmp_path: Path) -> None:
    connect.append(port("/dev/ttyX0"))
    with pytest.raises(DeviceError, match="/dev/ttyX7: no such port; connected ports: /dev/ttyX0"):
        ports.find_port(STM32F7, port="/dev/ttyX7", environ={})
    with pytest.raises(DeviceError, match="/dev/ttyX8, which TINYMBN_PORT names: no such port"):
        ports.find_port(STM32F7, environ={"TINYMBN_PORT": "/dev/ttyX8"})
    with pytest.raises(DeviceError, match="not a serial port"):
        ports.find_port(STM32F7, port=str(tmp_path), environ={})


def test_a_free_port_has_no_problem(terminal: str) -> None:
    assert ports.problem(terminal) == ""


def test_a_port_that_another_has_locked_is_in_use(terminal: str) -> None:
    locked = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert ports.problem(terminal) == f"in use by process {os.getpid()}; close it there"
    finally:
        os.close(locked)
    assert ports.problem(terminal) == ""


def test_a_lock_file_counts_while_its_process_lives(
    terminal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_LOCK_FILES", (tmp_path,))
    lock = tmp_path / f"LCK..{Path(terminal).name}"
    lock.write_text(f"{os.getpid():10}\n")
    assert ports.problem(terminal) == f"in use by process {os.getpid()}; close it there"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock.write_text(f"{ended.pid:10}\n")
    assert ports.problem(terminal) == ""
    lock.write_text("nonsense")
    assert ports.problem(terminal) == ""


def _as_user(monkeypatch: pytest.MonkeyPatch, groups: list[int], members: list[str]) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 1234)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    monkeypatch.setattr("pwd.getpwuid", lambda number: SimpleNamespace(pw_name="ada"))
    entry = grp.struct_group(("dialout", "x", 20, members))
    monkeypatch.setattr("grp.getgrnam", lambda name: entry)
    monkeypatch.setattr("grp.getgrgid", lambda number: entry)


def _status(mode: int, group: int) -> os.stat_result:
    return os.stat_result((0o020000 | mode, 5, 6, 1, 0, group, 0, 0, 0, 0))


def test_whoever_lacks_the_group_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_user(monkeypatch, groups=[1234], members=[])
    monkeypatch.setattr(os, "stat", lambda path: _status(0o660, 20))
    expected = "no permission to open it; join its group, sudo usermod -aG dialout ada, and log in again"
    assert ports.problem("/dev/ttyACM0") == expected


def test_whoever_has_just_joined_the_group_logs_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_user(monkeypatch, groups=[1234], members=["ada"])
    assert ports.group_problem("dialout") == "you are in group dialout, but not since this session began; log in again"
    _as_user(monkeypatch, groups=[1234, 20], members=["ada"])
    assert ports.group_problem("dialout") == ""


def test_no_group_helps_where_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_user(monkeypatch, groups=[1234], members=[])
    monkeypatch.setattr(os, "stat", lambda path: _status(0o600, 0))
    assert ports.problem("/dev/ttyS0") == "no permission to open it; only root may; see who owns it"
