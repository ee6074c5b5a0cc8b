"""Builds and runs the fuzz target of the board's receiver: ``python -m tests.link_fuzz --seconds 600``."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.link_board import SANITIZERS, SOURCES, compile_c, lay_out
from tests.shared import CHECKOUT

_STATUS = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    clean: bool
    executions: int
    coverage: int  # edges
    log: str


def build_fuzzer(folder: Path) -> Path:
    """The target as a program."""
    sources = [*lay_out(folder), SOURCES / "fuzz_server.c"]
    output = folder / "fuzz_server"
    compile_c("clang", folder, sources, output, "-O1", "-g", "-fsanitize=fuzzer", *SANITIZERS)
    return output


def run_fuzzer(program: Path, corpus: Path, seconds: int) -> Outcome:
    """Fuzzes for so long, starting from what the corpus holds."""
    corpus.mkdir(parents=True, exist_ok=True)
    command = [
        str(program),
        str(corpus),
        f"-max_total_time={seconds}",
        "-max_len=1024",
        "-timeout=20",
        "-rss_limit_mb=1024",
        f"-dict={SOURCES / 'dictionary.txt'}",
        f"-artifact_prefix={corpus.parent}/",
        "-seed=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    status = _STATUS.search(done.stderr)
    counts = [int(group) for group in status.groups()] if status else [0, 0, 0]
    return Outcome(done.returncode == 0 and status is not None, counts[0], counts[1], done.stderr)


def has_fuzzer() -> bool:
    """Clang and its libFuzzer are there."""
    if shutil.which("clang") is None:
        return False
    source = "int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 9; }"
    command = ["clang", "-fsanitize=fuzzer", "-x", "c", "-", "-o", "/dev/null"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False).returncode == 0


def main() -> int:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=CHECKOUT / "build" / "fuzz")
    arguments = parser.parse_args()
    source = arguments.folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    outcome = run_fuzzer(build_fuzzer(source), arguments.folder / "corpus", arguments.seconds)
    print(outcome.log[-2000:])
    print(f"{outcome.executions} executions, {outcome.coverage} edges, {'clean' if outcome.clean else 'NOT CLEAN'}")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
