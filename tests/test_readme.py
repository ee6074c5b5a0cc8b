"""What the README shows is what the commands print."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.shared import CHECKOUT
from tinymbn.cli import main

BLOCKS = re.findall(r"```console\n\$ tinymbn (.*)\n((?:.*\n)*?)```", (CHECKOUT / "README.md").read_text())


@pytest.mark.parametrize(("command", "shown"), BLOCKS)
def test_the_readme_shows_what_a_command_prints(
    command: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CHECKOUT)
    with pytest.raises(SystemExit) as done:
        main(shlex.split(command))
    assert done.value.code == 0
    assert capsys.readouterr().out == shown


def test_the_readme_shows_commands() -> None:
    assert len(BLOCKS) >= 2
