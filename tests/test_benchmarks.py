"""The benchmarks: their networks, what they choose to measure, and what they say of it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cortex_m, fit_costs, fit_measure
from benchmarks import measurement as measurement_module
from benchmarks import networks as made
from benchmarks.cases import BALANCED, BOARDS, CHOICES, MODELS, PLAIN, RAM, SPEED, SPEED_KEPT, Case, choose_cases
from benchmarks.counter import Counter, Counts, find_counter, read_counts
from benchmarks.document import (
    MadeNetwork,
    Run,
    measurement_table,
    replace_part,
    target_table,
    write_document,
)
from benchmarks.fit_formulas import Fit, costs_text, document, fit, read_fit
from benchmarks.fit_formulas import Run as FittedRun
from benchmarks.footprint import Footprint, functions_of, read_footprint
from benchmarks.measurement import Measurement, Model, measure
from benchmarks.targets import TARGETS
from tests.firmwares import PICTURES, firmware, model, model_file, require_tools
from tests.shared import needs_shared
from tinymbn.architectures import nearest_multiple
from tinymbn.errors import PlanError, ToolError
from tinymbn.graph import Graph
from tinymbn.layers import Add, Conv2D, Depthwise
from tinymbn_codegen.constants import weights_bytes
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import make_plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# ------------------------------------------------------------------------------------------------------ networks


def channels_of(graph: Graph) -> list[int]:
    """Of every convolution but the depthwise ones."""
    return [graph.tensors[layer.output].shape[-1] for layer in graph.layers if isinstance(layer, Conv2D)]


def test_channel_counts_are_cut_or_rounded_to_a_divisor_but_not_far_down() -> None:
    bases = (32, 64, 128, 256, 512, 1024)
    assert [nearest_multiple(base * 0.35, 1) for base in bases] == [11, 22, 44, 89, 179, 358]
    assert [nearest_multiple(base * 0.25, 8) for base in bases] == [8, 16, 32, 64, 128, 256]
    # MobileNetV2 0.35 as published: 8 would be more than a tenth below 32 * 0.35 = 11.2.
    assert [nearest_multiple(base * 0.35, 8) for base in (32, 16, 24, 64, 96, 160, 320)] == [
        *(16, 8, 8, 24, 32, 56, 112)
    ]


def test_mobilenet_v1_has_the_layers_and_macs_of_the_architecture() -> None:
    graph = made.mobilenet_v1(0.35, 36, 33, 3, 5, divisor=1)
    assert channels_of(graph) == [11, 22, 44, 44, 89, 89, *(179,) * 6, 358, 358]
    assert all(graph.tensors[name].shape == (5,) for name in graph.outputs)
    height, width, read = 18, 17, 11
    macs = height * width * read * 9 * 3
    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for base, stride in blocks:
        height, width = -(-height // stride), -(-width // stride)
        macs += height * width * read * 9 + height * width * read * int(base * 0.35)
        read = int(base * 0.35)
    assert graph.macs == macs + read * 5


def test_mobilenet_v2_has_the_layers_and_macs_of_the_architecture() -> None:
    graph = made.mobilenet_v2(0.35, 32, 32, 3, 5)
    assert sum(isinstance(layer, Add) for layer in graph.layers) == 10
    assert sum(isinstance(layer, Depthwise) for layer in graph.layers) == 17
    size, read, macs = 16, 16, 16 * 16 * 16 * 9 * 3
    blocks = [(1, 8, 1), *[(6, 8, s) for s in (2, 1)], *[(6, 16, s) for s in (2, 1, 1)]]
    blocks += [*[(6, 24, s) for s in (2, 1, 1, 1)], *[(6, 32, s) for s in (1, 1, 1)]]
    blocks += [*[(6, 56, s) for s in (2, 1, 1)], (6, 112, 1)]
    for expansion, channels, stride in blocks:
        wide = expansion * read
        macs += size * size * read * wide if expansion > 1 else 0
        size = -(-size // stride)
        macs += size * size * wide * (9 + channels)
        read = channels
    assert graph.macs == macs + size * size * 112 * 1280 + 1280 * 5


def test_bottlenecks_have_no_activation_and_all_else_has_relu6() -> None:
    graph = made.mobilenet_v2(0.1, 32, 32, 1, 3, divisor=1)
    for layer in graph.layers:
        if isinstance(layer, Conv2D | Depthwise):
            quant = graph.tensors[layer.output].quant
            assert quant is not None
            assert (quant.zero_point == -128) == (not layer.name.endswith("/project")), layer.name


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(lambda: made.mobilenet_v1(0.25, 48, 48, 1, 4), id="v1"),
        pytest.param(lambda: made.mobilenet_v2(0.35, 48, 48, 3, 4), id="v2"),
    ],
)
def test_activations_neither_die_nor_saturate(graph: Callable[[], Graph]) -> None:
    found = made.statistics(graph())
    assert 0.1 < found.low < 0.6
    assert found.high < 0.02
    assert found.dead < 0.02


def test_a_dead_channel_is_seen() -> None:
    graph = made.mobilenet_v1(0.25, 32, 32, 1, 2)
    first = graph.layers[0]
    assert isinstance(first, Conv2D)
    values, bias = first.weights.values.copy(), first.weights.bias.copy()
    values[0], bias[0] = 0, 0
    first = replace(first, weights=replace(first.weights, values=values, bias=bias))
    before, after = made.statistics(graph), made.statistics(replace(graph, layers=(first, *graph.layers[1:])))
    assert after.dead > before.dead


def test_the_seed_makes_the_network() -> None:
    first, same, other = (made.mobilenet_v1(0.1, 16, 16, 1, 2, divisor=1, seed=seed) for seed in (3, 3, 4))
    for left, right, another in zip(first.layers, same.layers, other.layers, strict=True):
        if isinstance(left, Conv2D):
            assert isinstance(right, Conv2D)
            assert isinstance(another, Conv2D)
            assert np.array_equal(left.weights.values, right.weights.values)
            assert not np.array_equal(left.weights.values, another.weights.values)


def test_pictures_use_the_whole_range_and_are_smooth() -> None:
    pictures = made.smooth_pictures((24, 40, 3), 4, np.random.default_rng(0))
    assert pictures.shape == (4, 24, 40, 3)
    assert np.allclose(pictures.min(axis=(1, 2, 3)), -1)
    assert np.allclose(pictures.max(axis=(1, 2, 3)), 1)
    assert np.abs(np.diff(pictures, axis=2)).mean() < 0.1


def test_a_network_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def make() -> Graph:
        asked.append(1)
        return made.mobilenet_v1(0.1, 16, 16, 1, 2, divisor=1)

    monkeypatch.setattr(made, "NETWORKS", {"small": make})
    file = made.network_file("small", tmp_path)
    assert made.network_file("small", tmp_path) == file
    assert file.is_file()
    assert len(asked) == 1


# ---------------------------------------------------------------------------------------------- what is measured


def test_every_choice_is_measured_and_what_targets_need_beyond_them_once() -> None:
    needed = [case for target in TARGETS for case in target.cases]
    assert {case.model for case in needed} <= set(MODELS)
    cases = choose_cases(MODELS, BOARDS, needed)
    assert len(set(cases)) == len(cases)
    assert set(needed) <= set(cases)
    assert {Case(m, v, b) for m in MODELS for v in CHOICES for b in BOARDS} <= set(cases)
    assert [case.model for case in cases] == sorted((case.model for case in cases), key=MODELS.index)
    assert cases[:3] == tuple(Case(MODELS[0], variant, BOARDS[0]) for variant in (SPEED, BALANCED, RAM))


def test_a_quick_run_measures_what_targets_need_of_its_models_and_boards() -> None:
    needed = [Case("a", SPEED, "x"), Case("a", PLAIN, "y"), Case("b", SPEED, "x"), Case("a", SPEED, "x")]
    assert choose_cases(["a"], ["x"], needed, quick=True) == (Case("a", SPEED, "x"),)


def test_a_plain_run_measures_plain_kernels_alone() -> None:
    assert choose_cases(["a"], ["x", "y"], [Case("a", SPEED, "x")], plain=True) == (
        Case("a", PLAIN, "x"),
        Case("a", PLAIN, "y"),
    )


# -------------------------------------------------------------------------------------------------------- tables


def measurement(
    case: Case,
    *,
    cycles: int = 9_000_000,
    activation_bytes: int = 19_000,
    dsp_activation_bytes: int | None = 19_000,
    difference: str = "",
) -> Measurement:
    return Measurement(
        case=case,
        macs=7_500_000,
        activation_bytes=activation_bytes,
        dsp_activation_bytes=dsp_activation_bytes,
        footprint=Footprint(code=30_000, kernels=21_000, constants=240_000, ram=activation_bytes + 8),
        flash_bytes=290_000,
        stack_bytes=400,
        counts=Counts(8_000_000, cycles),
        difference=difference,
        compiler="gcc 12 -O2",
    )


PERSON = Case("person_detect", SPEED, "qemu-m4")


def rows_of(table: str) -> dict[str, list[str]]:
    """Cells by the first of their row."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return {cells[0]: cells[1:] for cells in lines}


def test_a_target_is_met_missed_or_not_measured() -> None:
    rows = rows_of(target_table({PERSON: measurement(PERSON)}))
    assert rows["person_detect, M4, cycles"] == ["speed", "26.94 M", "<= 9.20 M", "8.40 M", "9.00 M", "yes"]
    assert rows["person_detect, code and constants"][-2:] == ["270.0 KB", "yes"]
    assert rows["person_detect, M4, cycles of ram against speed"][-2:] == ["-", "-"]
    assert rows["MobileNetV2 0.35, 96x96x3, M4, cycles a MAC"][-2:] == ["-", "-"]
    rows = rows_of(target_table({PERSON: measurement(PERSON, cycles=9_300_000)}))
    assert rows["person_detect, M4, cycles"][-2:] == ["9.30 M", "**no**"]


def test_ratios_are_of_the_right_way_round() -> None:
    ram = Case("person_detect", RAM, "qemu-m4")
    m3, plain = (Case("person_detect", variant, "qemu-m3") for variant in (SPEED, PLAIN))
    measured = {PERSON: measurement(PERSON), ram: measurement(ram, cycles=9_900_000), m3: measurement(m3)}
    rows = rows_of(target_table({**measured, plain: measurement(plain)}))
    assert rows["person_detect, M4, cycles of ram against speed"][-2:] == ["1.1x", "**no**"]
    assert rows["person_detect, M3, instructions: times fewer than the plain kernels"][-2:] == ["1x", "**no**"]


def test_targets_of_helium_are_told_in_instructions_and_bytes() -> None:
    case = Case("person_detect", SPEED, "qemu-m55")
    rows = rows_of(target_table({case: measurement(case)}))
    assert rows["person_detect, M55, instructions"] == ["speed", "6.37 M", "<= 2.00 M", "1.48 M", "8.00 M", "**no**"]
    assert rows["person_detect, M55, code of the layers"][-3:] == ["13.0 KB", "21.0 KB", "yes"]
    uneven = replace(case, model="mobilenet_v1_0.35_100x100x3_uneven")
    found = replace(measurement(uneven), macs=16_000_000)
    row = rows_of(target_table({uneven: found}))[
        "MobileNetV1 0.35, 100x100x3, channel counts as they come, M55, instructions a MAC"
    ]
    assert row[-2:] == ["0.5", "yes"]
    line = measurement_table(Run({case: measurement(case)}, {}, (), ())).splitlines()[2]
    assert "| 7,500,000 | - | 8,000,000 | - |" in line


def test_the_worst_of_the_models_that_were_measured_counts() -> None:
    cases = [Case(name, RAM, "qemu-m55") for name in MODELS[:3]]
    sizes = zip(cases, (20_000, 23_000, 30_000), (20_000, 20_000, None), strict=True)
    measured = {case: measurement(case, activation_bytes=own, dsp_activation_bytes=dsp) for case, own, dsp in sizes}
    name = "M55, activations against those with kernels for the DSP extension, worst of the models"
    assert rows_of(target_table(measured))[name][-2:] == ["1.15x", "yes"]
    assert rows_of(target_table({cases[2]: measured[cases[2]]}))[name][-2:] == ["-", "-"]


def test_a_target_reached_with_wrong_bytes_is_missed() -> None:
    rows = rows_of(target_table({PERSON: measurement(PERSON, difference="layer 3 differs")}))
    assert rows["person_detect, M4, cycles"][-2:] == ["9.00 M", "no: bytes differ"]


def test_the_table_tells_cycles_of_an_m4_alone_and_what_failed() -> None:
    m3, failed = Case("person_detect", SPEED, "qemu-m3"), Case("vww_96_int8", SPEED_KEPT, "qemu-m4")
    run = Run({PERSON: measurement(PERSON), m3: measurement(m3)}, {failed: "tinymbn build: a | b"}, (), ())
    header, _, on_m4, on_m3, not_run = measurement_table(run).splitlines()
    sizes = "| 19,000 | 19,008 | 30,000 | 21,000 | 240,000 | 290,000 |"
    assert f"| 7,500,000 | 9,000,000 | 8,000,000 | 1.200 {sizes}" in on_m4
    assert "| 7,500,000 | - | 8,000,000 | - |" in on_m3
    assert not_run.endswith("| **no**: tinymbn build: a \\| b |")
    assert header.count("|") == on_m4.count("|") == on_m3.count("|") == not_run.count("|") - 1


def test_the_document_names_its_tools() -> None:
    text = write_document(Run({PERSON: measurement(PERSON)}, {}, (), [("compiler", "gcc 12 -O2")]))
    assert text.startswith("## On Cortex-M\n")
    assert "| compiler | gcc 12 -O2 |" in text
    assert text.endswith("|\n")


def test_each_program_writes_its_own_part(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    for name, text in (("one", "## One\nold\n"), ("two", "## Two\n\ntext\n"), ("one", "## One\nnew")):
        path.write_text(replace_part(path, name, text))
    written = path.read_text()
    assert written == "# Benchmarks\n<!-- part: one -->\n\n## One\nnew\n\n<!-- part: two -->\n\n## Two\n\ntext\n"
    assert replace_part(path, "one", "## One\nnew") == written


# ------------------------------------------------------------------------------------------------------- counting


def test_a_missing_plugin_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no instruction is counted") as caught:
        find_counter(tmp_path)
    assert str(tmp_path / "tools" / "m4cost" / "m4cost.py") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plugin_that_does_not_work_is_told_in_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "m4cost.py"
    script.write_text("raise SystemExit('no compiler for it')")
    with pytest.raises(ToolError, match=r"m4cost\.py: no compiler for it$"):
        Counter(script).arguments(tmp_path / "firmware.elf", {"model_run"}, tmp_path / "counts.json")


def test_counts_are_of_one_inference(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"

    def write(**regions: dict[str, int]) -> None:
        file.write_text(json.dumps({"regions": {name.strip("_"): region for name, region in regions.items()}}))

    write(_1={"insn": 200, "cyc": 300, "calls": 2}, _2={"insn": 5, "cyc": 7, "calls": 1}, _255={"insn": 9, "cyc": 9})
    assert read_counts(file, {"model_run", "model_feed_row"}, 96) == Counts(100, 150)
    write(_2={"insn": 192, "cyc": 288, "calls": 192})
    assert read_counts(file, {"model_run", "model_feed_row"}, 96) == Counts(96, 144)
    write(_255={"insn": 9, "cyc": 9})
    with pytest.raises(ToolError, match="model_run never called"):
        read_counts(file, {"model_run"}, 96)
    with pytest.raises(ToolError, match="no counts"):
        read_counts(tmp_path / "other.json", {"model_run"}, 96)


def test_the_footprint_is_the_model_alone() -> None:
    folder = firmware("qemu-m4")
    elf = folder / "firmware.elf"
    plan = make_plan(model(), Options(), "")
    found = read_footprint(folder, elf)
    assert plan.arena_bytes <= found.ram < plan.arena_bytes + 64
    pixels_bytes = 256
    assert abs(found.constants - weights_bytes(plan)) <= pixels_bytes + 4 * len(plan.steps)
    assert 4_000 < found.code < 20_000  # with the link it would be 13,000 more
    assert 0.5 * found.code < found.kernels < found.code  # what is left runs the layers
    assert {"model_run", "model_run_traced", "server_receive"} <= functions_of(elf)


def test_a_firmware_that_is_not_built_has_no_footprint(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="symbols are not in it"):
        read_footprint(tmp_path, firmware("qemu-m4") / "firmware.elf")


# ----------------------------------------------------------------------------------------- costs of the estimate


def earlier_fit() -> Fit:
    return read_fit(tomllib.loads(fit_costs.COSTS.read_text(encoding="utf-8")))


def test_costs_say_what_their_document_says() -> None:
    found = earlier_fit()
    assert costs_text(found).encode() == fit_costs.COSTS.read_bytes()
    assert document(found).encode() == fit_costs.DOCUMENT.read_bytes()


def test_classes_that_are_not_fitted_again_stay() -> None:
    found = earlier_fit()
    assert fit((), found) == found


def test_a_class_that_is_fitted_again_replaces_its_own_alone() -> None:
    earlier = earlier_fit()
    case, graph = fit_measure.Case("digits", "qemu-m55", "mve"), model()
    plan = fit_measure.plan_of(case, graph)
    layers = tuple(1_000 * (k + 1) if step.kernel is not None else 0 for k, step in enumerate(plan.steps))
    measured = fit_measure.Measured(layers, sum(layers), {}, "gcc 99", "")
    runs = [FittedRun(case, "helium", plan, measured, held_out) for held_out in (False, True)]
    found = fit(runs, earlier)
    assert found.costs.cores == earlier.costs.cores
    for core in ("armv6m", "armv7m", "dsp"):
        assert found.costs.formulas[core] == earlier.costs.formulas[core]
        assert found.provenance[core] == earlier.provenance[core]
    own = found.provenance["helium"]
    assert (own.compilers, own.networks, own.firmwares) == (("gcc 99",), ("digits",), 1)
    (check,) = own.checks
    assert check.measured == sum(layers)
    assert found.costs.errors["helium"] == abs(check.error)
    assert set(found.costs.formulas["helium"]) == {s.kernel.name for s in plan.steps if s.kernel} | {"schedule"}
    assert all(formula.cycles is None for formula in found.costs.formulas["helium"].values())


# -------------------------------------------------------------------------------------------------------- command


@needs_shared
def test_a_case_is_built_run_compared_and_counted(tmp_path: Path) -> None:
    require_tools("qemu-m4")
    case, graph = Case("digits", PLAIN, "qemu-m4"), model()
    found = measure(case, Model(model_file("digits"), graph.macs, 32), PICTURES[0], find_counter(), tmp_path)
    assert found.equal
    assert found.macs == graph.macs
    assert found.activation_bytes == make_plan(graph, Options(kernels="plain"), "").arena_bytes
    assert found.counts is not None
    assert found.counts.cycles > found.counts.instructions > graph.macs
    assert found.footprint.flash < found.flash_bytes
    assert found.stack_bytes > 0
    assert "gcc" in found.compiler


def test_kernels_for_helium_are_compared_with_those_for_the_dsp_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def plan(*arguments: object) -> dict[str, int]:
        asked.append(arguments)
        return {"activation_bytes": 12_345}

    monkeypatch.setattr(measurement_module, "_tinymbn", plan)
    model = Model(Path("a.tflite"), 1, 1)
    assert measurement_module.dsp_activation_bytes(Case("a", RAM, "qemu-m55"), model) == 12_345
    assert measurement_module.dsp_activation_bytes(Case("a", RAM, "qemu-m4"), model) is None
    assert measurement_module.dsp_activation_bytes(Case("a", PLAIN, "qemu-m55"), model) is None
    line = ("plan", model.file, "--board", "qemu-m55", "--optimize", "ram", "--kernels", "dsp")
    assert asked == [line]


@needs_shared
def test_a_case_that_does_not_fit_is_told_by_generation(tmp_path: Path) -> None:
    file = model_file("person_detect")
    with pytest.raises(PlanError, match="tinymbn codegen"):
        measure(Case("person_detect", PLAIN, "qemu-m0"), Model(file, 1, 96), PICTURES[0], None, tmp_path)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on one model, no firmware built: what a case gives is said by a function."""
    require_tools("qemu-m4")
    monkeypatch.setattr(cortex_m, "_models", lambda names, folder: {name: Model(tmp_path, 1, 1) for name in names})

    def bench(outcome: Callable[[Case], Measurement], *arguments: str) -> int:
        monkeypatch.setattr(cortex_m, "measure", lambda case, *others: outcome(case))
        return cortex_m.main(["--models", "person_detect", "--boards", "qemu-m4", *arguments])

    return bench


def test_all_equal_is_exit_code_0(bench: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(measurement) == 0
    out, err = capsys.readouterr()
    assert "| person_detect | balanced | qemu-m4 |" in out
    assert "[3/3, 0 s left] person_detect, ram, qemu-m4: 8.00 M instructions, 19,000 bytes of activations, equal" in err


def test_bytes_that_differ_are_exit_code_1(bench: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(lambda case: measurement(case, difference="layer 3: 1 of 9 bytes" if case == PERSON else "")) == 1
    out, err = capsys.readouterr()
    assert "**no**: layer 3: 1 of 9 bytes" in out
    assert "DIFFERS: layer 3" in err


def test_a_case_that_fails_is_told_and_the_others_are_measured(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(case: Case) -> Measurement:
        if case == PERSON:
            raise ToolError("tinymbn build: it does not link")
        return measurement(case)

    assert bench(fail) == 1
    out, err = capsys.readouterr()
    assert "**no**: tinymbn build: it does not link" in out
    assert "FAILED: tinymbn build" in err
    assert "| person_detect | ram | qemu-m4 | 7,500,000 |" in out


def test_a_model_that_does_not_fit_is_left_out(bench: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(case: Case) -> Measurement:
        raise PlanError("it does not fit")

    assert bench(refuse) == 0
    out, err = capsys.readouterr()
    assert "left out: it does not fit" in err
    assert "| person_detect | speed | qemu-m4 |" not in out


def test_nothing_is_begun_when_the_time_is_up(
    bench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tables.md"
    assert bench(measurement, "--minutes", "0", "-o", str(output)) == 0
    err = capsys.readouterr().err
    assert "not begun, the time is up: person_detect, speed, qemu-m4" in err
    assert "not written" in err
    assert not output.exists()


def test_without_the_plugin_nothing_is_counted_and_no_document_written(
    bench: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cortex_m, "find_counter", lambda: find_counter(tmp_path))
    output = tmp_path / "tables.md"
    assert bench(measurement, "-o", str(output)) == 0
    out, err = capsys.readouterr()
    assert err.count("no instruction is counted") == 1
    assert "| counting plugin | none: nothing was counted |" in out
    assert not output.exists()


def test_a_run_of_some_models_leaves_the_document_alone(
    bench: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cortex_m, "DOCUMENT", tmp_path / "benchmarks.md")
    assert bench(measurement) == 0
    assert not (tmp_path / "benchmarks.md").exists()


def test_a_run_of_everything_writes_the_document(
    bench: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cortex_m, "DOCUMENT", tmp_path / "benchmarks.md")
    monkeypatch.setattr(cortex_m, "_made", lambda name, file: MadeNetwork(name, 1, 1, made.Statistics(0.3, 0.01, 0)))
    (tmp_path / "m4cost.c").write_text("")
    monkeypatch.setattr(cortex_m, "find_counter", lambda: Counter(tmp_path / "m4cost.py"))
    assert bench(measurement, "--models", *MODELS, "--boards", *BOARDS) == 0
    text = (tmp_path / "benchmarks.md").read_text()
    assert text == f"# Benchmarks\n<!-- part: cortex-m -->\n\n{capsys.readouterr().out}"
    targets = text.partition("## What it must reach")[2].partition("## Everything measured")[0]
    verdicts = [line.split(" | ")[-1] for line in targets.splitlines() if line.startswith("| ")][1:]
    assert len(verdicts) == len(TARGETS)
    assert set(verdicts) == {"yes |", "**no** |"}
    assert f"| counting plugin | m4cost, SHA-256 {hashlib.sha256(b'').hexdigest()[:12]} |" in text


def test_a_board_that_qemu_does_not_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cortex_m.main(["--boards", "pico"]) == 2
    assert 'board "pico": not one that QEMU runs' in capsys.readouterr().err
