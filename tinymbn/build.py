"""Builds a generated folder: compiles, links, holds the stack against its bound, and adds up the memories."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

from tinymbn.elf import Section, read_sections
from tinymbn.errors import PlanError, ToolError
from tinymbn.project_file import Project, Region
from tinymbn.toolchain import Toolchain

# Where the declared stack bounds hold whatever the layer: -O0 keeps everything on the stack, -O3 unrolls small layers.
BOUNDED_LEVELS = ("-O1", "-O2", "-Os")

_COMPILER_FILE = "compiler.txt"
_TIMEOUT_S = 600  # of one file; megabytes of weights take some seconds
# What the generator numbers in the schedule, and gcc may have split: of each kind one at a time is on the stack.
_SCHEDULE = re.compile(r"(trace_layer|trace|stream)_\d+(?:\..*)?")
_EXCEPTION_BYTES = 104 + 4  # what an exception stacks with an FPU, and its alignment
_RUNTIME_CALL_BYTES = 64  # of libgcc's multiplications and divisions, the deepest on a core without them


@dataclass(frozen=True)
class Usage:
    """How full a memory is."""

    name: str
    kind: str
    used: int
    size: int


@dataclass(frozen=True)
class StackCheck:
    """The deepest path by the compiler's account, and what is reserved; None: the compiler gave no account."""

    measured: int | None
    reserved: int


@dataclass(frozen=True)
class BuildResult:
    """What a build left.

    Attributes:
        target: the file.
        toolchain: by which.
        level: at which level.
        usage: of each memory; empty for a library or the host.
        stack: checked; None for a library or the host.
        warnings: what the compiler said.
    """

    target: Path
    toolchain: Toolchain
    level: str
    usage: tuple[Usage, ...]
    stack: StackCheck | None
    warnings: str

    @property
    def compiler(self) -> str:
        """Compiler and level in one line."""
        return f"{self.toolchain.version} {self.level}"


def build(
    project: Project,
    toolchain: Toolchain,
    *,
    level: str = "-O2",
    extra: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> BuildResult:
    """Compile and link a folder.

    Args:
        project: the folder.
        toolchain: the compiler.
        level: ``-O0`` to ``-O3`` or ``-Os``.
        extra: further flags of the compiler.
        progress: called with the number of files done and of all.

    Raises:
        ToolError: a file does not compile or link, or the stack bound is exceeded.
        PlanError: the linked firmware is larger than a memory.
    """
    plan = project.build
    folder = project.folder / "build"
    shutil.rmtree(folder, ignore_errors=True)
    project.target.unlink(missing_ok=True)
    objects = [folder / Path(source).with_suffix(".o") for source in plan.sources]
    is_gcc = toolchain.name == "gcc"
    target_flags = plan.gcc if is_gcc else plan.zig
    defines = [f"-D{define}" for define in plan.defines]
    common = [*target_flags, *plan.warnings, "-std=c11", level, "-g", *plan.flags, *defines, "-I.", *extra]
    common += ["-MMD", "-MP"]  # make goes on from here, and has to know of the headers

    def compile_one(source: str, made: Path) -> str:
        made.parent.mkdir(parents=True, exist_ok=True)
        relative = made.relative_to(project.folder)
        return _run([*toolchain.compiler, *common, "-c", "-o", str(relative), source], project.folder, source)

    said = []
    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        # The largest first, so that no core waits for it at the end.
        order = sorted(zip(plan.sources, objects, strict=True), key=lambda pair: -_size(project.folder / pair[0]))
        for done, text in enumerate(pool.map(lambda pair: compile_one(*pair), order), 1):
            said.append(text)
            progress(done, len(objects))
    names = [str(made.relative_to(project.folder)) for made in objects]
    if plan.library:
        _run([*toolchain.archiver, "rcs", plan.target, *names], project.folder, plan.target)
        return BuildResult(project.target, toolchain, level, (), None, "".join(said))
    link_flags, libraries = (plan.link, plan.libraries) if is_gcc else (plan.zig_link, ())
    stack = None if plan.host else _check_stack(project, folder, strict=is_gcc and level in BOUNDED_LEVELS)
    if stack is not None and stack.reserved != project.stack_bytes:
        link_flags = _with_stack(project, link_flags, stack.reserved)
    link = [*toolchain.compiler, *target_flags, *link_flags, "-o", plan.target, *names, *libraries]
    try:
        _run(link, project.folder, plan.target)
    except ToolError as error:
        raise _overflow(project, str(error)) or error from None
    usage = () if plan.host else memory_usage(read_sections(project.target), project.memory)
    result = BuildResult(project.target, toolchain, level, usage, stack, "".join(said))
    (folder / _COMPILER_FILE).write_text(f"{_sha256(project.target)} {result.compiler}\n", encoding="utf-8")
    return result


def read_compiler(folder: Path) -> str:
    """What built the ``.elf`` in a folder; empty where nobody knows, as after a ``make``."""
    try:
        built, _, compiler = (folder / "build" / _COMPILER_FILE).read_text(encoding="utf-8").strip().partition(" ")
        return compiler if built in [_sha256(elf) for elf in folder.glob("*.elf")] else ""
    except (OSError, UnicodeDecodeError):
        return ""


def memory_usage(sections: Sequence[Section], memory: Sequence[Region]) -> tuple[Usage, ...]:
    """How much of each memory the sections take, load images in flash included."""
    found = []
    for region in memory:
        used = sum(s.size for s in sections if region.base <= s.address < region.base + region.size)
        used += sum(
            s.size
            for s in sections
            if s.load_address not in (None, s.address) and region.base <= s.load_address < region.base + region.size
        )
        found.append(Usage(region.name, region.kind, used, region.size))
    return tuple(found)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _run(command: list[str], folder: Path, subject: str) -> str:
    """Run a tool in the folder; its warnings."""
    tool = "zig" if "ziglang" in command else Path(command[0]).name
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"{subject}: {tool} did not end within {_TIMEOUT_S} s") from None
    except OSError as error:
        raise ToolError(f"{subject}: {tool} does not run: {error.strerror}") from error
    if done.returncode != 0:
        raise ToolError(f"{subject}: {tool} failed: {_first_error(done.stderr)}")
    return done.stderr


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|undefined|overflowed|will not fit|not found", line)]
    return " ".join((telling or lines or ["without a word"])[:2])[:500]


def _overflow(project: Project, text: str) -> PlanError | None:
    """The linker's complaint of a full memory, in our words."""
    found = re.search(r"region [`']?(\w+)'?:? overflowed by (\d+) bytes", text)
    if found is None:
        return None
    return PlanError(f"{project.target}: {found[1]}: does not fit by {int(found[2]):,} bytes; see tinymbn plan")


def _check_stack(project: Project, objects: Path, *, strict: bool) -> StackCheck:
    """Hold the compiler's account of every function's frame against the plan's bounds.

    No function of the firmware calls itself, so no path takes more than all functions of main, link and board
    together, then one of each kind that the schedule numbers, then one layer, then an exception.

    Args:
        project: whose bounds.
        objects: where the compiler left its account.
        strict: the bounds are meant for this compiler and level; otherwise as much is reserved as it takes.
    """
    files = {path: _frames(path) for path in objects.rglob("*.su")}
    if not files:
        return StackCheck(None, project.stack_bytes)
    layers = {layer.symbol: layer.stack_bytes for layer in project.layers}
    around, deepest = 0, 0
    schedule: dict[str, int] = {}
    for frames in files.values():
        for function, size in frames.items():
            if function in layers:
                limit = layers[function]
                if size > limit and strict:
                    raise ToolError(f"{function}: takes {size} bytes of stack; its kernel declares {limit}")
                deepest = max(deepest, size)
            elif numbered := _SCHEDULE.fullmatch(function):
                schedule[numbered[1]] = max(size, schedule.get(numbered[1], 0))
            else:
                around += size
    measured = around + sum(schedule.values()) + deepest + _RUNTIME_CALL_BYTES + _EXCEPTION_BYTES
    if measured > project.stack_bytes and strict:
        raise ToolError(
            f"{project.target}: takes up to {measured} bytes of stack; the plan reserves {project.stack_bytes}"
        )
    return StackCheck(measured, max(project.stack_bytes, -(-measured // 8) * 8))


def _with_stack(project: Project, flags: Sequence[str], reserved: int) -> tuple[str, ...]:
    """The linker's flags with another stack: a copy of the script, as not every linker takes a symbol with a value."""
    script, own = "board/linker.ld", "build/linker.ld"
    text = (project.folder / script).read_text(encoding="utf-8")
    text = re.sub(r"(?m)^tinymbn_stack_bytes = \d+;$", f"tinymbn_stack_bytes = {reserved};", text)
    (project.folder / own).write_text(text, encoding="utf-8")
    return tuple(flag.replace(script, own) for flag in flags)


def _frames(path: Path) -> dict[str, int]:
    """Bytes of the frame of each function in a file that ``-fstack-usage`` left."""
    frames = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        where, size, sort = line.split("\t")
        if "dynamic" in sort and "bounded" not in sort:
            raise ToolError(f"{where}: its stack has no bound")
        frames[where.rsplit(":", 1)[-1]] = int(size)
    return frames
