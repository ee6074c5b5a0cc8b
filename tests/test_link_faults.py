"""The link on a bad line: the right result or a clear error in time, never a wrong result, never a hang.

``pytest tests/test_link_faults.py --examples 500`` runs 200 transactions.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter

import pytest

from tests.link_board import board_program
from tests.link_faults import Faults, FaultyLine
from tests.link_model import CONSTANTS, LAYER_BYTES, OUTPUT_BYTES, layers_of, random_input
from tinymbn.errors import DeviceError, LinkError
from tinymbn.link.exchange import BoardResetError
from tinymbn.link.messages import Region
from tinymbn.link.session import Session, open_session

LAYERS = len(LAYER_BYTES)
ONE_IN_1000 = Faults(drop=0.001, double=0.001, flip=0.001)
KINDS = {
    "bytes dropped": Faults(drop=0.001),
    "bytes doubled": Faults(double=0.001),
    "bits flipped": Faults(flip=0.001),
    "all three": ONE_IN_1000,
    "noise": Faults(noise=0.05),
    "half frames": Faults(half=0.05),
    "stale frames": Faults(stale=0.1),
    "resets": Faults(resets=(0.02, 0.06, 0.5)),
    "everything": Faults(0.001, 0.001, 0.001, noise=0.02, half=0.02, stale=0.02, resets=(0.1,)),
}
LONGEST_S = 60.0  # the stated time of one transaction
RIGHT_OF_TEN = 9


def _transaction(session: Session, seed: int) -> bool:
    """What a verification does with one input; True where every answer is right."""
    data = random_input(seed)
    outputs = layers_of(data)
    expected = [(len(output), zlib.crc32(output)) for output in outputs]
    right = session.constants(LAYERS) == CONSTANTS
    traced = session.infer(data, traced=True, expected_s=0.05)
    right &= [(r.bytes, r.crc32) for r in session.records(LAYERS)] == expected
    plain = session.infer(data, traced=False, expected_s=0.05)
    right &= session.read(Region.OUTPUT, 0, OUTPUT_BYTES) == outputs[-1]
    right &= traced.output_crc32 == plain.output_crc32 == zlib.crc32(outputs[-1])
    right &= session.dump(seed % 2, LAYER_BYTES[seed % 2], data, expected_s=0.05) == outputs[seed % 2]
    return right


def _with_restarts(session: Session, seed: int) -> bool:
    for _ in range(5):
        try:
            return _transaction(session, seed)
        except BoardResetError:
            session.sync()
    return _transaction(session, seed)


def run_one(faults: Faults, seed: int) -> tuple[str, float, int]:
    """``right``, ``wrong`` or the error's name, the seconds it took and the faults there were."""
    # Frames of 1 KiB seldom pass such a line: the host has to shorten them.
    with FaultyLine(board_program((128, 1024)[seed % 2], input_stays=seed % 4 < 2), faults, seed) as line:
        begin = time.monotonic()
        try:
            with open_session(line.port, 115200) as session:
                verdict = "right" if _with_restarts(session, seed) else "wrong"
        except (LinkError, DeviceError) as error:
            verdict = f"{type(error).__name__}: {error}"
        return verdict, time.monotonic() - begin, line.faults_made + line.resets_made


def test_on_a_bad_line_the_result_is_right_or_a_link_error_in_time(request: pytest.FixtureRequest) -> None:
    count = max(10, int(request.config.getoption("--examples")) * 2 // 5)
    verdicts: Counter[str] = Counter()
    longest_s, faults_made = 0.0, 0
    names = list(KINDS)
    for seed in range(count):
        verdict, took_s, faults = run_one(KINDS[names[seed % len(names)]], seed)
        verdicts[verdict] += 1
        longest_s = max(longest_s, took_s)
        faults_made += faults
        assert verdict != "wrong", f"seed {seed}"
        assert took_s < LONGEST_S, f"seed {seed}: {verdict}"
    print(f"{count} transactions: {dict(verdicts)}; longest {longest_s:.1f} s; {faults_made} faults")
    assert faults_made >= count  # else this proves nothing
    assert verdicts["right"] * 10 >= count * RIGHT_OF_TEN


def test_a_line_that_damages_every_frame_ends_in_an_error() -> None:
    verdict, took_s, _ = run_one(Faults(flip=0.2), 1)
    assert "Error: " in verdict
    assert took_s < 10
