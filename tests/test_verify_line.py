"""verify of a real firmware on a bad line: the right verdict or a clear link error in time, never a wrong one.

``pytest tests/test_verify_line.py --examples 1600 -s`` runs 200 verifications.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.firmwares import copy, firmware, make, model, replace
from tests.link_faults import Faults, FaultyLine
from tinymbn.board import load_board
from tinymbn.connection import connect_port
from tinymbn.errors import DeviceError, LinkError
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify, verify
from tinymbn_codegen.options import Options

KINDS = {
    "bytes dropped, bytes doubled, bits flipped": Faults(drop=0.001, double=0.001, flip=0.001),
    "a reset in the middle": Faults(resets=(0.6,)),
    "noise": Faults(noise=0.05),
    "everything": Faults(0.001, 0.001, 0.001, noise=0.02, half=0.02, stale=0.02, resets=(0.7,)),
    "stale frames": Faults(stale=0.1),
    "half frames": Faults(half=0.05),
    "bytes dropped": Faults(drop=0.001),
    "bytes doubled": Faults(double=0.001),
    "bits flipped": Faults(flip=0.001),
}
LONGEST_S = 90.0
BAD_LAYER = 4
BAD_EVERY = 4  # of so many firmwares, one has a mistake


@cache
def bad_firmware(folder: Path) -> Path:
    """A firmware whose layer 4 is wrong by itself."""
    bad = copy(firmware("host", options=Options(kernels="plain")), folder / "bad")
    file = bad / "model_layers.c"
    head, name, tail = file.read_text().partition("TINYMBN_LAYER model_layer_04_block2_pointwise(")
    body, end, rest = tail.partition("\n}\n")
    assert "bias[c_out]" in body
    file.write_text(head + name + body.replace("bias[c_out]", "bias[0]") + end + rest)
    replace(bad / "main.c", "/* The firmware", "/* A bad firmware")
    make(bad)
    return bad


def outcome(program: Path, faults: Faults, seed: int) -> tuple[str, int]:
    """``equal``, ``layer 4: kernel``, or the error; and how many faults there were."""
    board = load_board("host")
    with FaultyLine(program, faults, seed) as line:
        try:
            with connect_port(line.port, board.baud) as connection:
                verdict = verify(connection, identify(connection, model(), board), stimuli(model(), [], 3, seed))
        except (LinkError, DeviceError) as error:
            found = f"{type(error).__name__}: {error}"
        else:
            first = verdict.first_difference
            found = "equal" if first is None else f"layer {first.index}: {first.cause}"
        return found, line.faults_made + line.resets_made


def test_on_a_bad_line_the_verdict_is_right_or_there_is_a_link_error_in_time(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    count = max(BAD_EVERY, int(request.config.getoption("--examples")) // 8)
    tally: Counter[str] = Counter()
    longest_s, faults_made = 0.0, 0
    begin = time.monotonic()
    for seed in range(count):
        kind = list(KINDS)[seed % len(KINDS)]
        is_bad = seed % BAD_EVERY == BAD_EVERY - 1
        folder = bad_firmware(tmp_path) if is_bad else firmware("host")
        one = time.monotonic()
        found, faults = outcome(folder / "firmware.elf", KINDS[kind], seed)
        took_s = time.monotonic() - one
        right = f"layer {BAD_LAYER}: kernel" if is_bad else "equal"
        assert found == right or "Error: " in found, f"{kind}, seed {seed}: {found}"
        assert took_s < LONGEST_S, f"{kind}, seed {seed}: {found}"
        if found != right:
            print(f"{kind}, seed {seed}: {found}")
        tally["right" if found == right else "error"] += 1
        longest_s = max(longest_s, took_s)
        faults_made += faults
    told = f"{count} verifications in {time.monotonic() - begin:.0f} s: {dict(tally)}, longest {longest_s:.1f} s"
    print(f"{told}, {faults_made} faults")
    assert faults_made >= count  # else this proves nothing
    assert tally["right"] * 10 >= count * 9
