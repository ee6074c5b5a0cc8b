"""Generates the C of models into a folder, compiles it, runs it and says what each layer made."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.random_graphs import describe
from tinymbn.graph import Graph
from tinymbn.interpreter import Interpreter
from tinymbn_codegen.generate import Files, model_files
from tinymbn_codegen.options import Options
from tinymbn_codegen.passes import without_edges
from tinymbn_codegen.plan import Plan, make_plan

Int8s = NDArray[np.int8]

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wpedantic", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SHA256 = "5a" * 32

ONE_TO_ONE = np.arange(-128, 128, dtype=np.int8)[None]  # a pixel less 128

_DRIVER = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
%(includes)s

typedef void (*on_rows)(int32_t, int32_t, const int8_t *, int32_t);
typedef struct {
    int8_t *arena, *(*input)(void);
    void (*run)(const int8_t *, int8_t *);
    void (*run_traced)(const int8_t *, int8_t *, on_rows);
    size_t arena_bytes, input_bytes, output_bytes;
} model;

static const model models[] = {
%(models)s
};

static void report(int32_t layer, int32_t row, const int8_t *data, int32_t bytes)
{
    const int32_t head[3] = {layer, row, bytes};
    fwrite(head, sizeof head, 1, stdout);
    if (bytes > 0) {
        fwrite(data, 1, (size_t)bytes, stdout);
    }
}

static void ignore(int32_t layer, int32_t row, const int8_t *data, int32_t bytes)
{
    (void)layer, (void)row, (void)data, (void)bytes;
}

/* Buffers of the exact size, so that a sanitizer sees a byte too many; an arena full of what no layer made. */
int main(void)
{
    uint32_t which;
    unsigned char filling = 0x5a;
    while (fread(&which, 4, 1, stdin) == 1) {
        const model *m = &models[which];
        int8_t *x = malloc(m->input_bytes), *given = malloc(m->input_bytes), *output = malloc(m->output_bytes);
        if (fread(x, 1, m->input_bytes, stdin) != m->input_bytes) {
            return 3;
        }
        for (int way = 0; way < 4; way++) {
            const int traced = way %% 2 == 0;
            const int8_t *from = given;
            memset(m->arena, filling += 37, m->arena_bytes);
            memset(output, filling, m->output_bytes);
            memcpy(given, x, m->input_bytes);
            if (way >= 2 && m->input != NULL) {
                from = memcpy(m->input(), x, m->input_bytes);
            }
            if (traced) {
                m->run_traced(from, output, way == 0 ? report : ignore);
            } else {
                m->run(from, output);
            }
            if (way == 0) {
                const int32_t end = -1;
                fwrite(&end, 4, 1, stdout);
            }
            fwrite(output, 1, m->output_bytes, stdout);
            if (memcmp(given, x, m->input_bytes) != 0) {
                fprintf(stderr, "model %%u: the input has changed\n", which);
                return 4;
            }
        }
        free(x), free(given), free(output);
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Model:
    """A model with its C.

    Attributes:
        graph: before all passes.
        plan: made from it.
        files: path to text.
    """

    graph: Graph
    plan: Plan
    files: Files

    @property
    def name(self) -> str:
        return self.plan.options.name


@dataclass(frozen=True)
class Ran:
    """What a model made of one input.

    Attributes:
        layers: the bytes of each layer of the plan, as ``run_traced`` reports them.
        outputs: of ``run_traced`` and ``run`` with the input elsewhere, and of both with it in the arena.
    """

    layers: tuple[bytes, ...]
    outputs: tuple[bytes, bytes, bytes, bytes]


def generate(graph: Graph, options: Options | None = None, pixels: Int8s = ONE_TO_ONE) -> Model:
    """The C of a model."""
    plan = make_plan(graph, options or Options(), SHA256)
    return Model(graph, plan, model_files(plan, pixels))


def write(model: Model, folder: Path) -> list[Path]:
    """Write the files; the paths of those that are compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in model.files.items():
        (folder / path).write_text(text, encoding="utf-8")
    return [folder / path for path in model.files if path.endswith(".c")]


def compile_c(command: Sequence[str], what: str = "") -> None:
    """Run a compiler; what it says is the failure's text."""
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{what}\n{' '.join(map(str, command))}\n{done.stderr[:4000]}"
    assert not done.stderr, f"{what}\n{done.stderr[:4000]}"


def program(models: Sequence[Model], folder: Path, *flags: str, compiler: Sequence[str] = ("gcc",)) -> Path:
    """One executable with all models, which have a name each; it answers ``run``."""
    units = []
    for model in models:
        # One unit of all its files compiles in half the time.
        unit = folder / f"unit_{model.name}.c"
        unit.write_text("".join(f'#include "{source.name}"\n' for source in write(model, folder)))
        units.append(unit)
    driver = folder / "driver.c"
    driver.write_text(_driver(models))
    target = folder / "program"
    compile_c([*compiler, *WARNINGS, *flags, "-I", str(folder), "-o", str(target), str(driver), *map(str, units)])
    return target


def _driver(models: Sequence[Model]) -> str:
    includes, entries = [], []
    for model in models:
        name, upper = model.name, model.name.upper()
        includes += [f'#include "{name}.h"', f'#include "{name}_layers.h"', f'#include "{name}_traced.h"']
        place = f"{name}_input" if model.plan.options.input == "frame" else "NULL"
        functions = f"{name}_arena, {place}, {name}_run, {name}_run_traced"
        entries.append(f"    {{{functions}, {upper}_ARENA_BYTES, {upper}_INPUT_BYTES, {upper}_OUTPUT_BYTES}},")
    return _DRIVER % {"includes": "\n".join(includes), "models": "\n".join(entries)}


def run(executable: Path, models: Sequence[Model], inputs: Sequence[tuple[int, Int8s]]) -> list[Ran]:
    """What the models made; each input comes with the index of its model."""
    sent = b"".join(struct.pack("<I", index) + x.tobytes() for index, x in inputs)
    done = subprocess.run([str(executable)], check=False, input=sent, capture_output=True, timeout=600)
    message = done.stderr.decode(errors="replace")[:4000]
    assert done.returncode == 0, f"exit code {done.returncode}\n{message}"
    answer, at = done.stdout, 0
    found = []
    for index, _ in inputs:
        plan = models[index].plan
        layers = [b""] * len(plan.steps)
        made = [0] * len(plan.steps)
        while (layer := struct.unpack_from("<i", answer, at)[0]) >= 0:
            _, row, size = struct.unpack_from("<3i", answer, at)
            at += 12
            if size == 0:  # made, and its bytes are to come
                assert row == made[layer], f"layer {layer}: row {row} comes out of turn"
                made[layer] += 1
            layers[layer] += answer[at : at + size]
            at += size
        at += 4
        size = plan.output_bytes
        outputs = tuple(answer[at + i * size : at + (i + 1) * size] for i in range(4))
        at += 4 * size
        found.append(Ran(tuple(layers), (outputs[0], outputs[1], outputs[2], outputs[3])))
    assert at == len(answer)
    return found


def expect_reference(model: Model, x: Int8s, ran: Ran) -> None:
    """Assert that every layer and every output is what the interpreter makes of the graph without any pass.

    A layer with fewer channels than there is held to the interpreter's run of the plan's graph.
    """
    whole, planned = without_edges(model.graph), model.plan.graph
    values = {whole.input: x.tobytes()} | {name: array.tobytes() for name, array in whole.constants.items()}
    values |= {layer.output: output.tobytes() for layer, output in Interpreter(whole).steps(x)}
    expected = b"".join(values[name] for name in whole.outputs)
    narrowed = {name for name, tensor in planned.tensors.items() if tensor.shape != whole.tensors[name].shape}
    if narrowed:
        assert "dead_channels" not in model.plan.options.without
        made = {layer.output: output.tobytes() for layer, output in Interpreter(planned).steps(x)}
        values |= {name: made[name] for name in narrowed - set(planned.constants)}
    for step, got in zip(model.plan.steps, ran.layers, strict=True):
        assert got == values[step.layer.output], f"layer {step.index}, {step.layer.name}, {model.plan.options.text}"
    assert ran.outputs == (expected,) * 4, f"outputs, {model.plan.options.text}"


def expect_references(models: Sequence[Model], folder: Path, batch: int, *flags: str, compiler: str = "gcc") -> None:
    """Assert it of models with a name each, ``batch`` of them in a program: on noise, and on the two extremes.

    ``folder`` keeps the programs, which run under sanitizers unless there are other flags.
    """
    noise = np.random.default_rng(0)
    for start in range(0, len(models), batch):
        together, place = models[start : start + batch], folder / str(start)
        place.mkdir(parents=True)
        executable = program(together, place, *(flags or ("-O1", *SANITIZERS)), compiler=(compiler,))
        inputs = []
        for i, model in enumerate(together):
            shape = model.plan.input.tensor.shape
            inputs.append((i, noise.integers(-128, 128, shape, dtype=np.int8)))
            inputs.append((i, noise.choice(np.array([-128, 127], np.int8), shape)))
        for (i, x), ran in zip(inputs, run(executable, together, inputs), strict=True):
            try:
                expect_reference(together[i], x, ran)
            except AssertionError as error:
                kernels = [step.kernel.name for step in together[i].plan.steps if step.kernel is not None]
                what = f"{together[i].name}, {kernels}: {error}\n{describe(together[i].graph)}\nin {place}"
                raise AssertionError(what) from None
