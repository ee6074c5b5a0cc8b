"""How many random examples each test tries, and always the same ones; and commands, run in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.command_line import Outcome, Run
from tinymbn.cli import main


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--examples", type=int, default=25, help="random examples each test tries (default: 25)")
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden, to be reviewed as a diff")
    parser.addoption("--board", help="-m hardware: the board; it holds the firmware of tinymbn deploy --board B")
    parser.addoption("--port", help="-m hardware: where it is connected (default: found by its USB ids)")
    parser.addoption("--emulate", action="store_true", help="-m hardware: run in the board's emulator")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("-m") == "hardware" and config.getoption("--board") is None:
        raise pytest.UsageError("-m hardware: --board is missing: the board that is connected, see tinymbn boards")
    settings.register_profile(
        "tinymbn",
        max_examples=config.getoption("--examples"),
        # The same examples on every machine and run; a longer run continues the shorter one.
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile("tinymbn")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        return Outcome(done.value.code, *capsys.readouterr())

    return run
