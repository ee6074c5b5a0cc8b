"""verify says equal where all is equal, on every emulated board, and keeps a record of what it compared."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path

import pytest

from tests.command_line import Run
from tests.firmwares import DIGITS, EMULATED, PICTURES, STREAMED, copy, firmware, mistakes, model, run_verify
from tests.shared import SHARED, needs_shared
from tinymbn.board import load_board
from tinymbn.interpreter import Interpreter
from tinymbn.link.messages import LayerRows, Region
from tinymbn.link.session import Feed
from tinymbn.paths import SHIPPED_MODEL
from tinymbn.stimuli import stimuli
from tinymbn.verdict import Verdict
from tinymbn.verify import identify
from tinymbn.workbench import Request, open_bench
from tinymbn_codegen.injection import injections
from tinymbn_codegen.options import PASSES, Options
from tinymbn_codegen.plan import make_plan

MORE_INPUTS = 3  # beside the pictures: all-min, all-max, noise


@cache
def verdict_on(board: str) -> Verdict:
    return run_verify(board, firmware(board), pictures=PICTURES, count=MORE_INPUTS)


@pytest.mark.parametrize("board", EMULATED)
def test_every_layer_on_every_emulated_board_equals_the_reference(board: str) -> None:
    verdict = verdict_on(board)
    assert verdict.equal, verdict.first_difference and verdict.first_difference.text
    assert len(verdict.inputs) == len(PICTURES) + MORE_INPUTS
    assert not mistakes(verdict.remarks)  # the virtual STM32F7 would have its findings here
    plan = make_plan(model(), Options(), "")
    assert verdict.layers == len(plan.steps)
    a_run = sum(step.output.tensor.elements for step in plan.steps) + plan.output_bytes
    assert verdict.bytes_compared == len(verdict.inputs) * a_run


@pytest.mark.parametrize("board", EMULATED)
def test_the_painted_stack_stays_under_what_is_reserved(board: str) -> None:
    stack = verdict_on(board).stack
    assert stack is not None
    if board == "host":
        assert stack.reserved_bytes == 0  # the computer's own stack is not ours to paint
    else:
        assert 0 < stack.used_bytes < stack.reserved_bytes


def test_the_crcs_in_the_verdict_are_those_of_the_reference() -> None:
    verdict = verdict_on("host")
    plan = make_plan(model(), Options(), "")
    (stimulus,) = stimuli(model(), PICTURES[:1], 0, 0)
    expected = [zlib.crc32(output.tobytes()) for _, output in Interpreter(plan.graph).steps(stimulus.values)]
    assert list(verdict.inputs[0].crc32) == expected
    assert verdict.inputs[0].output_crc32 == expected[-1]
    assert len(set(expected)) == len(expected)


def test_without_passes_and_with_plain_kernels_it_is_equal_as_well() -> None:
    options = Options(name="odd", without=frozenset(PASSES), kernels="plain")
    assert run_verify("qemu-m3", firmware("qemu-m3", DIGITS, options), count=3).equal


@pytest.mark.parametrize("board", ["host", "qemu-m3", "qemu-m4", "stm32f7"])
@pytest.mark.parametrize("options", [Options(optimize="ram"), Options(optimize="ram", input="rows")])
def test_where_rows_stream_it_is_equal_as_well(board: str, options: Options, request: pytest.FixtureRequest) -> None:
    if board in ("qemu-m4", "stm32f7") and request.config.getoption("--examples") < WHOLE_MATRIX:
        pytest.skip(f"with --examples {WHOLE_MATRIX} or more")
    assert any(step.output.streams for step in make_plan(model(STREAMED), options, "").steps)
    verdict = run_verify(board, firmware(board, STREAMED, options), STREAMED, count=4)
    assert verdict.equal, verdict.first_difference and verdict.first_difference.text
    assert not mistakes(verdict.remarks)


@pytest.mark.parametrize("options", [Options(), Options(optimize="ram", input="rows")])
@pytest.mark.parametrize("name", [DIGITS, STREAMED])
def test_every_layer_alone_makes_the_references_bytes_of_what_is_put_into_the_arena(
    name: str, options: Options
) -> None:
    """What verify does where a layer differs, on layers that do not."""
    board, graph = load_board("host"), model(name)
    request = Request(graph=graph, board=board, folder=firmware("host", name, options), emulate=True)
    *_, stimulus = stimuli(graph, [], 3, 0)
    with open_bench(request) as bench:
        plan = identify(bench.connection, graph, board).plan
        values = {graph.input: stimulus.values, **plan.graph.constants}
        values |= {layer.output: output for layer, output in Interpreter(plan.graph).steps(stimulus.values)}
        for step in plan.steps:
            made = b""
            for injection in injections(plan, step, values):
                rows = LayerRows(step.index, injection.first, injection.count)
                rows_bytes = step.output.tensor.elements // step.calls * injection.count
                feed: list[Feed] = [(Region.ARENA, offset, data) for offset, data in injection.pieces]
                made += bench.connection.session.dump_alone(rows, rows_bytes, feed, expected_s=1.0)
            assert made == values[step.output.tensor.name].tobytes(), step.layer.name


def test_json_and_the_report_say_what_was_compared_and_with_what(run: Run, tmp_path: Path) -> None:
    folder = firmware("qemu-m4")
    report = tmp_path / "report.json"
    done = run("verify", *PICTURES, "--firmware", folder, "-n", 2, "--json", "--report", report)
    assert done.code == 0
    values = json.loads(done.out)
    assert json.loads(report.read_text()) == values
    assert values["equal"] is True
    assert values["first_difference"] is None
    assert values["layers_compared"] == 16
    assert values["bytes_compared"] == 4 * (18_516 + 10)
    assert [i["name"] for i in values["inputs"]] == [*map(str, PICTURES), "all-min", "all-max"]
    assert all(len(i["layers"]) == 16 for i in values["inputs"])
    assert values["board"]["name"] == "qemu-m4"
    assert values["emulated"] is True
    assert values["model"]["name"] == "digits"
    assert len(values["model"]["sha256"]) == 64
    assert values["options"] == Options().on("cortex-m4").text
    assert "gcc" in values["compiler"]
    assert values["compiler"].endswith("-O2")
    assert 0 < values["stack"]["used"] < values["stack"]["reserved"]
    assert not mistakes(values["remarks"])


@pytest.mark.parametrize("read", ["model.npz", "7.png", "firmware.elf", "plan.json"])
def test_a_report_replaces_nothing_that_is_read(read: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(SHIPPED_MODEL.read_bytes())
    (tmp_path / "7.png").write_bytes(PICTURES[0].read_bytes())
    folder = copy(firmware("host"), tmp_path / "firmware")
    file = next(tmp_path.rglob(read))
    before = file.read_bytes()
    done = run("verify", "7.png", "--firmware", folder, "--report", file)
    assert done.code == 2
    assert f"{file}: it is read, and would be replaced" in done.err
    assert file.read_bytes() == before


def test_the_text_names_board_model_inputs_and_bytes(run: Run) -> None:
    done = run("verify", "--firmware", firmware("qemu-m4"))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("board    qemu-m4 (emulated), cortex-m4, tinymbn ")
    assert lines[2].startswith("model    digits, SHA-256 ")
    assert lines[-1] == "EQUAL    16 layers, 3 inputs, 55,578 bytes, every one"


# ------------------------------------------------------------------------------------------ trained models, slow

SOME = [("person_detect", "host"), ("vww_96_int8", "qemu-m7")]
CORES = ("qemu-m3", "qemu-m4", "qemu-m7", "qemu-m33", "qemu-m55")
MATRIX = [
    *((name, board) for name in ("person_detect", "vww_96_int8") for board in (*CORES, "stm32f7", "host")),
    *(("mobilenet_v1_0.25_128_quant", board) for board in (*CORES, "host")),
    *(("ssd_slim_120x160x1_int8", board) for board in ("qemu-m7", "qemu-m55", "host")),
    *(("mcunet_vww", board) for board in ("qemu-m7", "qemu-m55", "host")),
    *(("tf2_mobilenet_v2_1.0_224_ptq", board) for board in ("qemu-m7", "qemu-m55", "host")),
    *(("v1_a050_160_random", board) for board in ("qemu-m7", "qemu-m55", "host")),
    *(("v1_a100_224_random", board) for board in ("qemu-m7", "qemu-m55", "host")),
]
WHOLE_MATRIX = 100  # --examples
PERSONS = (SHARED / "images" / "person.png", SHARED / "images" / "no_person.png")


@needs_shared
@pytest.mark.parametrize(("name", "board"), MATRIX)
def test_trained_models_are_equal_on_five_inputs(name: str, board: str, request: pytest.FixtureRequest) -> None:
    if (name, board) not in SOME and request.config.getoption("--examples") < WHOLE_MATRIX:
        pytest.skip(f"with --examples {WHOLE_MATRIX} or more")
    count = 2 if (name, board) in SOME and request.config.getoption("--examples") < WHOLE_MATRIX else 3
    verdict = run_verify(board, firmware(board, name), name, pictures=PERSONS, count=count)
    assert verdict.equal, verdict.first_difference and verdict.first_difference.text
    assert len(verdict.inputs) == len(PERSONS) + count
    assert not mistakes(verdict.remarks)
