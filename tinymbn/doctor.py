"""What this computer has of all that tinymbn works with, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinymbn.board import Board, known_boards
from tinymbn.emulators.qemu import PROGRAM as QEMU
from tinymbn.errors import ToolError
from tinymbn.flashing.runners import INSTALL
from tinymbn.ports import group_problem
from tinymbn.terminal import printable
from tinymbn.toolchain import Toolchain, find_toolchain

_TIMEOUT_S = 20.0  # of each program that is asked; all but a first start of zig answer at once
_OLDEST_QEMU = (7, 2)
_PACKAGES = (
    *("numpy", "numba", "click", "Pillow", "flatbuffers", "tflite", "typing-extensions", "rich"),
    *("jinja2", "pyserial", "cobs", "pyelftools", "tomli"),
)
# Only older Pythons need them.
_ABSENT = ("typing-extensions", "tomli") if sys.version_info >= (3, 11) else ()
_HEADERS = "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
_SANITIZED = "int main(void) { return 0; }\n"
_VERSION_ARGUMENTS = {"picotool": ("version",)}
_SERIAL_GROUPS = ("dialout", "uucp")  # Debian, Fedora and openSUSE; Arch
_RULES = (
    Path("/etc/udev/rules.d"),
    Path("/run/udev/rules.d"),
    Path("/usr/lib/udev/rules.d"),
    Path("/lib/udev/rules.d"),
)
_RULES_BYTES = 1 << 20  # of one file; the longest known has 100 kB
_PROBES = {0x0483: "ST-LINK", 0x1366: "J-Link", 0x2E8A: "RP2040, RP2350 and Debug Probe"}

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    Attributes:
        name: what.
        state: "ok": it is there; "missing": it is not, and run, codegen, build or verify --emulate need it;
            "optional": it is not, and something else needs it.
        found: version, or what is wrong.
        advice: what it is good for and how to come by it; empty where it is there.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether something needed is not there."""
        return self.state == "missing"


def checks(boards: Sequence[Board] | None = None) -> tuple[Check, ...]:
    """All checks, in the order in which the commands need what is looked for.

    Args:
        boards: whose emulators, flash tools and probes to look for; None: all that ship.
    """
    known = known_boards() if boards is None else boards
    return (
        _python(),
        _packages(),
        _kernel_cache(),
        *_target_compilers(),
        _host_compiler(),
        _qemu(known),
        _unicorn(),
        *_flash_tools(known),
        *(_linux(known) if sys.platform == "linux" else ()),
    )


def require_all(found: Sequence[Check]) -> None:
    """Raise if something needed is not there.

    Raises:
        ToolError: naming it, and what to do about the first.
    """
    missing = [check for check in found if check.is_missing]
    if missing:
        names = ", ".join(check.name for check in missing)
        raise ToolError(f"missing: {names}; for {missing[0].name}: {missing[0].advice}")


def _python() -> Check:
    return Check("Python", "ok", ".".join(map(str, sys.version_info[:3])))  # an older one does not get this far


def _packages() -> Check:
    versions = {name: _package(name) for name in _PACKAGES if name not in _ABSENT}
    absent = [name for name, version in versions.items() if not version]
    if absent:
        return Check("Python packages", "missing", f"no {', '.join(absent)}", f"pip install {' '.join(absent)}")
    return Check("Python packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _package(name: str) -> str:
    """The version of an installed distribution; empty where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _kernel_cache() -> Check:
    name = "cache of compiled kernels"
    try:
        from tinymbn.kernels.fast import native
    except ImportError as error:
        return Check(name, "optional", f"cannot be looked for: {error}", "install the Python packages first")
    if native.folder() is None:
        advice = "set TINYMBN_CACHE to a folder that can be written; without it each run compiles for some seconds"
        return Check(name, "optional", "cannot be written", advice)
    empty = "" if native.is_compiled() else ", empty: the next run compiles for some seconds"
    return Check(name, "ok", f"{native.folder()}{empty}")


def _target_compilers() -> tuple[Check, Check, Check]:
    """gcc, its headers, and zig; one of the two compilers is needed."""
    names = ("compiler arm-none-eabi-gcc", "C headers for arm-none-eabi-gcc", "compiler zig")
    gcc, zig = _toolchain(wanted="gcc"), _toolchain(wanted="zig")
    headers = _gcc_headers(gcc) if isinstance(gcc, Toolchain) else "no compiler"
    else_state: State = "optional" if isinstance(zig, Toolchain) else "missing"
    return (
        Check(names[0], "ok", gcc.version)
        if isinstance(gcc, Toolchain)
        else Check(names[0], else_state, "not installed", "sudo apt-get install gcc-arm-none-eabi"),
        Check(names[1], "ok", "found")
        if not headers
        else Check(names[1], else_state, headers, "sudo apt-get install libnewlib-arm-none-eabi"),
        Check(names[2], "ok", zig.version)
        if isinstance(zig, Toolchain)
        else Check(names[2], "optional", "not installed", "builds where there is no gcc: pip install ziglang"),
    )


def _toolchain(wanted: Literal["gcc", "zig"]) -> Toolchain | None:
    try:
        return find_toolchain(host=False, wanted=wanted)
    except ToolError:
        return None


def _gcc_headers(gcc: Toolchain) -> str:
    """What is wrong with the headers that firmware includes; empty: nothing."""
    done = _run([*gcc.compiler, "-x", "c", "-E", "-o", os.devnull, "-"], _HEADERS)
    if done is None:
        return "the compiler does not run"
    return "" if done.returncode == 0 else _line(done.stderr, "error")


def _host_compiler() -> Check:
    """The compiler that board "host" is built by, tried with its sanitizers."""
    name = "compiler for this computer, with sanitizers"
    try:
        compiler = find_toolchain(host=True, wanted="gcc")
    except ToolError:
        return Check(name, "optional", "not installed", 'for board "host": sudo apt-get install gcc')
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "program")
        flags = ["-fsanitize=address,undefined", "-x", "c", "-o", program, "-"]
        done = _run([*compiler.compiler, *flags], _SANITIZED)
        if done is not None and done.returncode == 0:
            done = _run([program])
    if done is None or done.returncode != 0:
        wrong = "does not run" if done is None else _line(done.stderr, "error|cannot find")
        advice = 'for board "host": install libasan and libubsan of this compiler, in Debian package libgcc-*-dev'
        return Check(name, "optional", f"sanitizers do not work: {wrong}", advice)
    return Check(name, "ok", compiler.version)


def _qemu(boards: Sequence[Board]) -> Check:
    advice = "sudo apt-get install qemu-system-arm"
    program = shutil.which(QEMU)
    if program is None:
        return Check(QEMU, "missing", "not installed", advice)
    said = _said([program, "--version"])
    match = re.search(r"version (\d+)\.(\d+)[.\d]*", said)
    if match is None:
        return Check(QEMU, "missing", "does not run", advice)
    oldest = ".".join(map(str, _OLDEST_QEMU))
    if (int(match[1]), int(match[2])) < _OLDEST_QEMU:
        return Check(QEMU, "missing", match[0], f"expected version {oldest} or newer; {advice}")
    machines = {line.split()[0] for line in _said([program, "-M", "help"]).splitlines() if line.strip()}
    wanted = sorted({b.emulator.machine or "" for b in boards if b.emulator is not None and b.emulator.kind == "qemu"})
    absent = [machine for machine in wanted if machine not in machines]
    if absent:
        return Check(QEMU, "missing", f"{match[0]}, without machine {', '.join(absent)}", advice)
    return Check(QEMU, "ok", f"{match[0]}, with {', '.join(wanted)}" if wanted else match[0])


def _unicorn() -> Check:
    version = _package("unicorn")
    if not version or importlib.util.find_spec("unicorn") is None:
        return Check("unicorn", "optional", "not installed", "for the virtual STM32F7: pip install tinymbn[emulator]")
    return Check("unicorn", "ok", version)


def _flash_tools(boards: Sequence[Board]) -> Iterator[Check]:
    """The programs that boards name, each with its version; one for a board is enough."""
    users: dict[str, list[str]] = {}
    for board in boards:
        for way in board.flash:
            if way.tool != "copy":
                users.setdefault(way.tool, []).append(board.name)
    for tool, names in users.items():
        program = shutil.which(tool)
        if program is None:
            yield Check(tool, "optional", "not installed", f"flashes {', '.join(names)}: {INSTALL[tool]}")
            continue
        done = _run([program, *_VERSION_ARGUMENTS.get(tool, ("--version",))])
        if done is None:
            yield Check(tool, "optional", "does not run", f"install it again: {INSTALL[tool]}")
        else:
            yield Check(tool, "ok", _line(done.stdout + done.stderr, r"\d+\.\d+") or "found")


def _linux(boards: Sequence[Board]) -> Iterator[Check]:
    """Whether this user may open serial ports and probes."""
    import grp

    known = {entry.gr_name for entry in grp.getgrall()}
    group = next((name for name in _SERIAL_GROUPS if name in known), None)
    if group is not None:
        wrong = group_problem(group)
        name = "permission to open serial ports"
        yield Check(name, "optional", f"not in group {group}", wrong) if wrong else Check(name, "ok", f"group {group}")
    vendors = _vendors_with_rules()
    for vid in sorted({probe.vid for board in boards for probe in board.probe}):
        name = f"udev rule for {_PROBES.get(vid, 'probe')} ({vid:04x})"
        if vid in vendors:
            yield Check(name, "ok", vendors[vid])
        elif os.geteuid() == 0:
            yield Check(name, "ok", "not needed by root")
        else:
            rule = f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vid:04x}", MODE="0660", TAG+="uaccess"'
            advice = (
                "the packages of openocd, stlink-tools and others bring one; or: "
                f"echo '{rule}' | sudo tee /etc/udev/rules.d/70-probe-{vid:04x}.rules; "
                "sudo udevadm control --reload; then plug it in again"
            )
            yield Check(name, "optional", "none, so only root may use it to flash", advice)


def _vendors_with_rules() -> dict[int, str]:
    """USB vendors that a udev rule names, each with the file's name."""
    found: dict[int, str] = {}
    for file in (file for folder in _RULES for file in sorted(folder.glob("*.rules"))):
        try:
            with file.open(encoding="utf-8", errors="replace") as opened:
                text = opened.read(_RULES_BYTES)
        except OSError:
            continue
        # Rules of the hardware database and of modem managers name vendors too, but give no access.
        for line in text.splitlines():
            if "MODE" in line or "uaccess" in line or "GROUP" in line:
                for digits in re.findall(r'idVendor}=="([0-9a-fA-F]{4})"', line):
                    found.setdefault(int(digits, 16), file.name)
    return found


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str] | None:
    """A program's answer; None where it cannot be started or does not end in time."""
    try:
        return subprocess.run(  # noqa: S603
            list(command),
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _said(command: Sequence[str]) -> str:
    done = _run(command)
    return done.stdout if done is not None and done.returncode == 0 else ""


def _line(text: str, pattern: str) -> str:
    """The first line with something in it, else the first."""
    lines = [printable(line.strip())[:200] for line in text.splitlines() if line.strip()]
    return next((line for line in lines if re.search(pattern, line)), lines[0] if lines else "")
