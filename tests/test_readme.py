"""What the README shows is what the commands print, in the order in which it shows them."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from tests.shared import CHECKOUT
from tinymbn.cli import main

BLOCKS = re.findall(r"```console\n\$ tinymbn (.*)\n((?:.*\n)*?)```", (CHECKOUT / "README.md").read_text())

# What hangs on the compiler's version: its name, and the numbers beside what it built.
_COMPILED = re.compile(r"(?m)^(?=.*(?:arm-none-eabi|bytes reserved|\d of .* bytes$|bytes used$)).*\d.*$")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples, where one command leaves what the next one takes."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(CHECKOUT / "examples")
    if importlib.util.find_spec("sklearn") is not None:
        runpy.run_path(str(CHECKOUT / "examples" / "digits" / "dataset.py"))["write_held_out"](folder / "held-out")
    return folder


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_the_readme_shows_what_a_command_prints(
    command: str, shown: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.startswith(("build", "verify")) and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc")
    if "held-out" in command and not (folder / "held-out").is_dir():
        pytest.skip("no scikit-learn, whose digits are the held-out pictures")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as done:
        main(shlex.split(command))
    assert done.value.code == 0
    assert _steady(capsys.readouterr().out) == _steady(shown)


def _steady(text: str) -> str:
    text = re.sub(r"(?m)^remark .* bytes lost .*\n", "", text)  # on a computer that is too busy for the emulator
    text = re.sub(r"(?m)^(rate ).*", r"\1 ...", text)
    return _COMPILED.sub(lambda line: re.sub(r"arm-none-eabi-gcc.* -O|[\d.,=]+|\[.*\]", "#", line[0]), text)


def test_the_readme_shows_commands() -> None:
    assert len(BLOCKS) >= 7


def test_the_files_that_documents_name_are_there() -> None:
    documents = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").glob("*.md")]
    named = {
        name for file in documents for name in re.findall(r"\b(?:tests|scripts|tinymbn)/[\w/]+\.\w+", file.read_text())
    }
    assert len(named) > 20
    assert [name for name in sorted(named) if not (CHECKOUT / name).exists()] == []
