"""Names in a model file are text of strangers: none reaches an identifier, a comment or a string as it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.generated import WARNINGS, Model, compile_c, expect_reference, generate, program, run, write
from tests.graphs import every_kernel
from tinymbn.errors import OptionError
from tinymbn.graph import Graph
from tinymbn_codegen.names import identifier, plain
from tinymbn_codegen.options import Options

HOSTILE = (
    "*/ #include </etc/passwd> /*",
    "line\nint evil(void);",
    "carriage\rreturn",
    "backslash\\",
    "backslash-newline\\\nint evil(void);",
    "trigraph??/\nint evil(void);",
    "\"quotes\" and 'quotes'",
    "$(shell touch evil)",
    "`touch evil`",
    "${HOME} %d %s #define evil",
    "// one-line comment",
    "/",
    "/*",
    "*/",
    "long " * 500,
    "äöü\u2013\u202e\u2028\u0000\x1b[31m",
    "int",
    "while",
    "class",
    "???",
    "   ",
    "_",
    "__",
    "{{ 7 * 7 }}{% raw %}",
    "../../../etc/passwd",
    "0",
)


def _renamed(graph: Graph, names: tuple[str, ...]) -> Graph:
    """The graph whose model, tensors and layers have these names, in turn, each once."""
    used: set[str] = set()

    def fresh(index: int) -> str:
        name = names[index % len(names)]
        while name in used:
            name += "*/"
        used.add(name)
        return name

    new = {name: fresh(i) for i, name in enumerate(graph.tensors)}
    used.clear()
    layers = tuple(
        replace(layer, name=fresh(i), inputs=tuple(new[name] for name in layer.inputs), output=new[layer.output])
        for i, layer in enumerate(graph.layers)
    )
    return replace(
        graph,
        name=names[0],
        tensors={new[name]: replace(tensor, name=new[name]) for name, tensor in graph.tensors.items()},
        layers=layers,
        input=new[graph.input],
        outputs=tuple(new[name] for name in graph.outputs),
        constants={new[name]: values for name, values in graph.constants.items()},
    )


@pytest.fixture(scope="module")
def models() -> list[Model]:
    turned = (HOSTILE[i:] + HOSTILE[:i] for i in range(0, len(HOSTILE), 5))
    return [generate(_renamed(every_kernel(), names), Options(f"m{i}")) for i, names in enumerate(turned)]


def test_hostile_names_compile_without_a_warning_and_compute_the_same(models: list[Model], tmp_path: Path) -> None:
    executable = program(models, tmp_path, "-O0")
    noise = np.random.default_rng(0)
    inputs = [
        (i, noise.integers(-128, 128, model.plan.input.tensor.shape, dtype=np.int8)) for i, model in enumerate(models)
    ]
    for (i, x), ran in zip(inputs, run(executable, models, inputs), strict=True):
        expect_reference(models[i], x, ran)


def test_no_hostile_text_appears(models: list[Model]) -> None:
    marks = ("passwd>", "evil(", "$", "`", "\\", "??", '" and', "{", "#", "%")
    for model in models:
        for path, text in model.files.items():
            assert text.isascii()
            assert text.isprintable() or set(re.findall(r"[^ -~]", text)) == {"\n"}
            comments = "".join(re.findall(r"/\*.*?\*/", text, re.DOTALL))
            for mark in marks:
                assert mark not in comments, f"{mark!r} in {path}"
            # Comments are closed where they should be: the rest has none of their marks.
            rest = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
            assert "/*" not in rest
            assert "*/" not in rest
            assert "evil" not in re.sub(r"\bm\d+_(layer|constant)_\d+_[a-z0-9_]+", "", rest)


@given(st.text() | st.text("*/\\?\n\r\"'`$(){}#%-_. aZ0", max_size=60))
def test_any_text_is_harmless_in_a_comment(name: str) -> None:
    shown = plain(name)
    assert re.fullmatch(r"[A-Za-z0-9 _\-.:;,/]{0,40}", shown)
    assert "//" not in shown
    tail = identifier(name)
    assert re.fullmatch(r"([a-z0-9]+(_[a-z0-9]+)*)?", tail)
    assert len(tail) <= 40


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1st",
        "_model",
        "model_",
        "two__parts",
        "has space",
        "has-dash",
        "semi;colon",
        "$(shell)",
        "../up",
        "a/b",
        "ä",
        "new\nline",
        "model\n",
        "x" * 33,
        "tinymbn",
        "tinymbn_layers",
        "model_link",
        "board",
        "Main",
        "string",  # its header would hide the C library's
        "stdint",
        "Math",
    ],
)
def test_a_name_that_fits_no_c_is_refused(name: str) -> None:
    with pytest.raises(OptionError):
        Options(name)


@pytest.mark.parametrize(
    "name", ["a", "X", "OUT", "in", "int", "INT8", "kernel", "rows", "output", "input", "pixel", "x" * 32]
)
def test_a_name_that_the_c_uses_itself_compiles(name: str, tmp_path: Path) -> None:
    sources = write(generate(every_kernel(), Options(name)), tmp_path)
    for source in sources:
        compile_c(["gcc", *WARNINGS, "-I", str(tmp_path), "-fsyntax-only", str(source)])


def test_options_survive_as_text() -> None:
    for options in (Options(), Options("m2", frozenset({"overlap", "fold_padding"}), "plain")):
        assert Options.parse(options.text) == options


@pytest.mark.parametrize(
    "text", ["", "name=a", "name=a;kernels=chosen;without=none", "name=a;kernels=fast;without=", "name=a;kernels=plain"]
)
def test_text_that_is_no_options_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        Options.parse(text)
