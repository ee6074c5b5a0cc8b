"""Verifies models on every emulated board that holds them, and prints a table for docs/verification.md.

    python scripts/verify_matrix.py MODEL... [--board B]... [--picture P]... [-n N]

Each row is one ``tinymbn verify``; a model that does not fit a board is left out with a remark on standard error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tinymbn.board import known_boards
from tinymbn.errors import PlanError

_DIFFERS = 9
_TIMEOUT_S = 1800


def main() -> int:
    """Print the table; 0 if all are equal."""
    parser = argparse.ArgumentParser(description="Verify models on every emulated board that holds them.")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--board", action="append", metavar="B", help="default: every emulated board")
    parser.add_argument("--picture", action="append", default=[], metavar="P")
    parser.add_argument("-n", type=int, default=5, metavar="N", help="made inputs, default 5")
    arguments = parser.parse_args()
    boards = arguments.board or [board.name for board in known_boards() if board.emulator is not None]
    print("| model | board | layers | inputs | bytes compared | verdict | stack used | seconds |")
    print("|---|---|--:|--:|--:|---|--:|--:|", flush=True)
    sound = True
    for model in arguments.models:
        for board in boards:
            row = _verify(model, board, arguments.picture, arguments.n)
            if row is not None:
                print(row, flush=True)
                sound = sound and "**equal**" in row
    return 0 if sound else 1


def _verify(model: str, board: str, pictures: list[str], count: int) -> str | None:
    """A row; None where the model does not fit."""
    command = [sys.executable, "-m", "tinymbn", "verify", model, *pictures, "--board", board, "--emulate", "--json"]
    begin = time.monotonic()
    done = subprocess.run(  # noqa: S603
        [*command, "-n", str(count)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    seconds = time.monotonic() - begin
    name = Path(model).stem
    if done.returncode == PlanError.exit_code:
        print(done.stderr.strip(), file=sys.stderr, flush=True)
        return None
    if done.returncode not in (0, _DIFFERS):
        return f"| {name} | {board} | | | | {done.stderr.strip()} | | {seconds:.0f} |"
    values: dict[str, Any] = json.loads(done.stdout)
    verdict = "**equal**" if values["equal"] else values["first_difference"]["text"]
    stack = values["stack"]
    used = f"{stack['used']:,} of {stack['reserved']:,}" if stack and stack["reserved"] else ""
    counts = f"{values['layers_compared']} | {len(values['inputs'])} | {values['bytes_compared']:,}"
    return f"| {name} | {board} | {counts} | {verdict} | {used} | {seconds:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
