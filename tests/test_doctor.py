"""What the doctor makes of computers that have everything, nothing, or something too old."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tinymbn import doctor
from tinymbn.board import known_boards, load_board
from tinymbn.doctor import Check
from tinymbn.errors import ToolError

BOARDS = (load_board("qemu-m3"), load_board("stm32f7"), load_board("pico"))
GCC = "compiler arm-none-eabi-gcc"
HEADERS = "C headers for arm-none-eabi-gcc"
ZIG = "compiler zig"
HOST = "compiler for this computer, with sanitizers"
QEMU = "qemu-system-arm"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and no zig from PyPI."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return folder


def add(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)


def found(name: str) -> Check:
    return next(check for check in doctor.checks(BOARDS) if check.name == name)


def test_a_bare_computer_lacks_compiler_and_emulator(tools: Path) -> None:
    checks = {check.name: check for check in doctor.checks(BOARDS)}
    missing = [check.name for check in checks.values() if check.is_missing]
    assert missing == [GCC, HEADERS, QEMU]
    assert checks[GCC].advice == "sudo apt-get install gcc-arm-none-eabi"
    assert all(check.advice for check in checks.values() if check.state != "ok")
    for optional in (ZIG, HOST, "unicorn", "openocd", "st-flash", "pyocd", "probe-rs", "picotool"):
        assert checks[optional].state == "optional", optional
    with pytest.raises(
        ToolError, match=r"missing: compiler arm.*, qemu-system-arm; for compiler arm.*apt-get"
    ) as raised:
        doctor.require_all(tuple(checks.values()))
    assert raised.value.exit_code == 5


def test_nothing_is_wrong_where_nothing_needed_is_missing() -> None:
    doctor.require_all((Check("a", "ok", "1"), Check("b", "optional", "not installed", "install b")))


def test_zig_does_for_gcc(tools: Path) -> None:
    add(tools, "zig", "echo 0.14.1")
    assert found(ZIG) == Check(ZIG, "ok", "zig 0.14.1")
    assert found(GCC).state == "optional"
    assert found(HEADERS).state == "optional"


def test_a_compiler_without_headers_is_told_apart(tools: Path) -> None:
    add(
        tools,
        "arm-none-eabi-gcc",
        '[ "$1" = --version ] && echo gcc 13.2 && exit; echo "<stdin>:4: fatal error: string.h" >&2; exit 1',
    )
    assert found(GCC) == Check(GCC, "ok", "gcc 13.2")
    assert found(HEADERS).state == "missing"
    assert "string.h" in found(HEADERS).found
    assert found(HEADERS).advice == "sudo apt-get install libnewlib-arm-none-eabi"


def test_sanitizers_are_tried_by_running_a_program(tools: Path) -> None:
    compile_to = 'while [ "$1" != -o ]; do shift; done; '
    version = '[ "$1" = --version ] && echo gcc 12 && exit; '
    add(tools, "gcc", f'{version}{compile_to}printf "#!/bin/sh\\nexit 0\\n" > "$2"; chmod +x "$2"')
    assert found(HOST) == Check(HOST, "ok", "gcc 12")
    add(
        tools,
        "gcc",
        f'{version}{compile_to}printf "#!/bin/sh\\necho ==1==ERROR: shadow >&2; exit 1\\n" > "$2"; chmod +x "$2"',
    )
    assert found(HOST).found == "sanitizers do not work: ==1==ERROR: shadow"
    add(tools, "gcc", f'{version}echo "/usr/bin/ld: cannot find libasan.so" >&2; exit 1')
    assert found(HOST).state == "optional"
    assert "cannot find libasan" in found(HOST).found


@pytest.mark.parametrize(
    ("version", "machines", "state", "says"),
    [
        ("7.2.22 (Debian)", "mps2-an385  MPS2", "ok", "version 7.2.22, with mps2-an385"),
        ("10.0.2", "mps2-an385  MPS2", "ok", "version 10.0.2"),
        ("6.2.0", "mps2-an385  MPS2", "missing", "version 6.2.0"),
        ("7.1", "mps2-an385  MPS2", "missing", "version 7.1"),
        ("7.2.0", "mps2-an386  MPS2", "missing", "without machine mps2-an385"),
        ("?", "mps2-an385  MPS2", "missing", "does not run"),
    ],
)
def test_qemu_needs_its_version_and_machines(tools: Path, version: str, machines: str, state: str, says: str) -> None:
    add(tools, QEMU, f'[ "$1" = --version ] && echo "QEMU emulator version {version}" || echo "{machines}"')
    assert found(QEMU).state == state
    assert says in found(QEMU).found


def test_every_flash_tool_of_every_board_can_be_installed(tools: Path) -> None:
    checks = {check.name: check for check in doctor.checks(known_boards())}
    for board in known_boards():
        for way in board.flash:
            if way.tool != "copy":
                assert board.name in checks[way.tool].advice


def test_versions_may_stand_on_either_stream(tools: Path) -> None:
    add(tools, "openocd", 'echo "Open On-Chip Debugger 0.12.0" >&2; echo "bug reports" >&2')
    add(tools, "picotool", '[ "$1" = version ] && echo "picotool v2.1.1"')
    assert found("openocd") == Check("openocd", "ok", "Open On-Chip Debugger 0.12.0")
    assert found("picotool") == Check("picotool", "ok", "picotool v2.1.1")


def test_a_tool_that_hangs_is_given_up(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 0.3)
    add(tools, "pyocd", "exec sleep 60")
    assert found("pyocd").found == "does not run"
    assert found("pyocd").state == "optional"


def test_a_missing_package_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package-of-tinymbn"))
    check = found("Python packages")
    assert check.is_missing
    assert check.advice == "pip install no-such-package-of-tinymbn"


def test_kernels_without_a_cache_are_no_fault(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinymbn.kernels.fast.native.folder", lambda: None)
    check = found("cache of compiled kernels")
    assert check.state == "optional"
    assert "TINYMBN_CACHE" in check.advice


@pytest.mark.skipif(sys.platform != "linux", reason="udev is Linux's")
def test_a_udev_rule_counts_if_it_gives_access(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setattr(doctor, "_RULES", (tmp_path / "none", tmp_path))
    (tmp_path / "60-probe.rules").write_text('ATTRS{idVendor}=="0483", ATTRS{idProduct}=="374b", TAG+="uaccess"\n')
    (tmp_path / "77-modem.rules").write_text('ATTRS{idVendor}=="2e8a", ENV{ID_MM_DEVICE_IGNORE}="1"\n')
    names = {check.name: check for check in doctor.checks(BOARDS)}
    assert names["udev rule for ST-LINK (0483)"] == Check("udev rule for ST-LINK (0483)", "ok", "60-probe.rules")
    absent = names["udev rule for RP2040, RP2350 and Debug Probe (2e8a)"]
    assert absent.state == "optional"
    assert 'ATTRS{idVendor}=="2e8a"' in absent.advice


@pytest.mark.skipif(sys.platform != "linux", reason="groups of serial ports are Linux's")
def test_the_serial_group_is_advised(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SERIAL_GROUPS", ("root",))
    monkeypatch.setattr(doctor, "group_problem", lambda group: f"join {group}")
    check = found("permission to open serial ports")
    assert (check.state, check.found, check.advice) == ("optional", "not in group root", "join root")


def test_a_failed_start_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("not executable")

    monkeypatch.setattr(subprocess, "run", refuse)
    board = replace(BOARDS[0], emulator=None)
    assert all(check.state != "ok" for check in doctor.checks((board,)) if check.name in (QEMU, HOST))
