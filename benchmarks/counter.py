"""Counts what a function takes in QEMU, with a plugin that lies beside the project, not in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared import SHARED
from tinymbn.errors import ToolError

_TIMEOUT_S = 120  # the first call compiles the plugin

RUN = "model_run"
ROW = "model_feed_row"  # where the frame is not given whole: called once a row of the picture


@dataclass(frozen=True)
class Counts:
    """What one inference takes, from call to return.

    Attributes:
        instructions: executed, exact.
        cycles: estimated for a Cortex-M4 without wait states; means nothing of another core.
    """

    instructions: int
    cycles: int


@dataclass(frozen=True)
class Counter:
    """The plugin.

    Attributes:
        script: that builds it and prints the arguments for QEMU.
    """

    script: Path

    @property
    def version(self) -> str:
        """By its source, since it has no number."""
        source = self.script.with_suffix(".c")
        return f"{self.script.stem}, SHA-256 {hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"

    def arguments(self, elf: Path, functions: Collection[str], counts: Path) -> str:
        """What QEMU is to be given, for ``TINYMBN_QEMU_ARGS``; it writes ``counts`` when it ends.

        Args:
            elf: what will run.
            functions: all of them.
            counts: the file, for ``read_counts``.

        Raises:
            ToolError: the plugin cannot be built.
        """
        named = [name for name in (RUN, ROW) if name in functions]
        command = [sys.executable, os.fspath(self.script), "args", os.fspath(elf), *named, "-o", os.fspath(counts)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()
            raise ToolError(f"{self.script}: {said.splitlines()[-1] if said else 'it failed'}") from error
        return done.stdout.strip()


def find_counter(shared: Path = SHARED) -> Counter:
    """The plugin of ``../shared/tools``, or of ``$TINYMBN_SHARED/tools``.

    Raises:
        ToolError: it is not there.
    """
    script = shared / "tools" / "m4cost" / "m4cost.py"
    if not (script.is_file() and script.with_suffix(".c").is_file()):
        raise ToolError(
            f"{script}: not found, so no instruction is counted; TINYMBN_SHARED names the folder above tools"
        )
    return Counter(script)


def read_counts(counts: Path, functions: Collection[str], rows: int) -> Counts:
    """One inference, of what the plugin wrote: a call of RUN or, where there was none, of ROW for each row.

    Args:
        counts: the file.
        functions: as for ``Counter.arguments``.
        rows: of the picture.

    Raises:
        ToolError: there is no such file, or the functions were never called.
    """
    try:
        regions = json.loads(counts.read_text(encoding="utf-8"))["regions"]
    except (OSError, ValueError, KeyError) as error:
        raise ToolError(f"{counts}: the plugin wrote no counts: {error}") from error
    named = [name for name in (RUN, ROW) if name in functions]
    for number, name in enumerate(named, start=1):
        region = regions.get(str(number), {})
        calls = region.get("calls", 0)
        if calls:
            times = rows if name == ROW else 1
            return Counts(round(region["insn"] * times / calls), round(region["cyc"] * times / calls))
    raise ToolError(f"{counts}: {' and '.join(named) or RUN} never called; nothing was counted")
