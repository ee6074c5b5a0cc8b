"""Whatever bytes come, the board's receiver stays within its memory and ends.

``pytest tests/test_link_fuzz.py --examples 500`` fuzzes for a minute, as continuous integration does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.link_fuzz import build_fuzzer, has_fuzzer, run_fuzzer

CI_SECONDS = 60
EXAMPLES_A_SECOND = 8


def test_any_bytes_leave_the_receiver_sound(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not has_fuzzer():
        pytest.skip("no clang with libFuzzer here")
    examples = int(request.config.getoption("--examples"))
    seconds = CI_SECONDS if os.environ.get("CI") else max(3, examples // EXAMPLES_A_SECOND)
    outcome = run_fuzzer(build_fuzzer(tmp_path / "source"), tmp_path / "corpus", seconds)
    assert outcome.clean, outcome.log[-3000:]
    assert outcome.executions > 500 * seconds  # else nothing was fuzzed
    assert outcome.coverage > 300
