"""The C of two small models, byte for byte; ``--update-golden`` rewrites it, and the diff is what is reviewed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.generated import generate
from tests.graphs import classifier, every_kernel
from tests.shared import CHECKOUT
from tinymbn.graph import Graph
from tinymbn.image import int8_pixel_table
from tinymbn_codegen.generate import Files
from tinymbn_codegen.options import PASSES, Options

GOLDEN = CHECKOUT / "tests" / "golden"

MODELS = {
    "classifier": (classifier, Options()),
    "every_kernel": (every_kernel, Options("every", frozenset(PASSES), "plain")),
}


def _files(name: str) -> Files:
    """Without those that are copied as they are."""
    make, options = MODELS[name]
    graph: Graph = make()
    files = generate(graph, options, int8_pixel_table(graph)).files
    return {path: text for path, text in files.items() if not path.startswith("tinymbn_")}


@pytest.mark.parametrize("name", MODELS)
def test_the_c_is_the_golden_c(name: str, pytestconfig: pytest.Config) -> None:
    folder, files = GOLDEN / name, _files(name)
    if pytestconfig.getoption("--update-golden"):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for path, text in files.items():
            (folder / path).write_text(text, encoding="utf-8", newline="\n")
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    for path, text in files.items():
        assert (folder / path).read_bytes() == text.encode(), f"{path}: see --update-golden"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_bytes_each_time(name: str) -> None:
    assert _files(name) == _files(name)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_tells_when_and_where_it_was_made(name: str) -> None:
    text = "".join(_files(name).values())
    assert str(Path.home()) not in text
    assert str(CHECKOUT) not in text
    assert not re.search(r"\b20\d\d-\d\d|__DATE__|__TIME__|/tmp/|/home/", text)


@pytest.mark.parametrize("name", MODELS)
def test_the_text_is_plain(name: str) -> None:
    for path, text in _files(name).items():
        assert text.isascii(), path
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert "\t" not in text, path
        assert "\r" not in text, path
        assert not re.search(r" \n|\n\n\n", text), path
