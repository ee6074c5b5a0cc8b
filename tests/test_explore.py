"""What fits a board, by alpha and resolution: as plan says it, with the best marked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import Run
from tests.firmwares import require_tools
from tinymbn import save_model
from tinymbn.architectures import architecture
from tinymbn.exploration.explore import OPTIMIZE, Candidate, Choice, Point, Task, mark_best, untrained
from tinymbn.exploration.published import TOP_1
from tinymbn.quantize import build, quantize


def explored(run: Run, *options: object) -> list[dict[str, Any]]:
    done = run("explore", *options, "--jobs", 1, "--json")
    assert done.code == 0, done.err
    candidates: list[dict[str, Any]] = json.loads(done.out)["candidates"]
    return candidates


@pytest.mark.parametrize("board", ["stm32f7", "qemu-m55", "pico"])
@pytest.mark.parametrize(("arch", "alpha", "resolution"), [("mobilenet_v1", 0.25, 96), ("mobilenet_v2", 0.35, 64)])
def test_it_says_what_plan_says(run: Run, board: str, arch: str, alpha: float, resolution: int) -> None:
    options = ("--arch", arch, "--alphas", alpha, "--resolutions", resolution, "--classes", 10)
    (found,) = explored(run, "--board", board, *options)
    save_model(untrained(Point(arch, alpha, resolution), Task(10, 3)), Path("model.npz"))
    for optimize in OPTIMIZE:
        done = run("plan", "model.npz", "--board", board, "--optimize", optimize, "--keep-dead-channels", "--json")
        planned, choice = json.loads(done.out), found["optimize"][optimize]
        assert choice["ram_bytes"] == planned["ram_bytes"]
        assert choice["flash_bytes"] == planned["flash_bytes"]
        assert choice["missing_bytes"] == planned["missing_bytes"]
        assert choice["instructions"] == planned["estimate"]["instructions"]
        seconds = planned["estimate"]["seconds"]
        assert choice["milliseconds"] == (None if seconds is None else seconds * 1e3)
    assert found["macs"] == planned["macs"]


def test_a_network_that_was_calibrated_takes_the_same_ram_and_nearly_the_same_flash(run: Run) -> None:
    """Numbers decide which rescalings are proven to need fewer bytes, so flash differs a little."""
    (found,) = explored(run, "--board", "stm32f7", "--alphas", 0.25, "--resolutions", 96, "--classes", 10)
    graph = build(architecture("mobilenet_v1", 0.25), 96, 10)
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, *graph.input_shape)).astype(np.float32)
    save_model(quantize(graph, pictures, input_range=(-1, 1)), Path("model.npz"))
    planned = json.loads(run("plan", "model.npz", "--board", "stm32f7", "--keep-dead-channels", "--json").out)
    assert found["optimize"]["balanced"]["ram_bytes"] == planned["ram_bytes"]
    assert abs(found["optimize"]["balanced"]["flash_bytes"] / planned["flash_bytes"] - 1) < 0.01
    assert found["optimize"]["balanced"]["instructions"] == planned["estimate"]["instructions"]


@pytest.mark.parametrize(
    ("board", "arch", "alpha", "resolution"),
    [
        ("qemu-m7", "mobilenet_v1", 0.25, 64),
        ("qemu-m7", "mobilenet_v2", 0.35, 32),
        ("qemu-m3", "mobilenet_v1", 0.1, 96),
    ],
)
def test_its_instructions_are_those_that_profile_counts(
    run: Run, board: str, arch: str, alpha: float, resolution: int
) -> None:
    """None of these networks was part of what the estimate was fitted on; see docs/estimates.md."""
    require_tools(board)
    options = ("--arch", arch, "--alphas", alpha, "--resolutions", resolution, "--classes", 10)
    (found,) = explored(run, "--board", board, *options)
    save_model(untrained(Point(arch, alpha, resolution), Task(10, 3)), Path("model.npz"))
    done = run("profile", "model.npz", "--board", board, "--emulate", "--keep-dead-channels", "--json")
    assert done.code == 0, done.err
    counted = json.loads(done.out)
    assert counted["unit"] == "instructions"
    assert found["optimize"]["balanced"]["instructions"] == pytest.approx(counted["total"], rel=0.1)


def choice(milliseconds: float, missing: int = 0) -> Choice:
    return Choice(1, 1, missing, "flash" if missing else "", int(milliseconds * 1000), 0.8, milliseconds / 1e3, "")


def candidate(resolution: int, accuracy: float | None, *choices: Choice) -> Candidate:
    return Candidate(Point("mobilenet_v1", 1.0, resolution), "b", 1, 1, accuracy, choices)


def test_the_front_is_of_those_that_fit_and_nothing_beats() -> None:
    marked = mark_best(
        [
            candidate(1, 70.0, choice(100, missing=5)),  # does not fit
            candidate(2, 68.0, choice(90)),
            candidate(3, 68.0, choice(80), choice(70, missing=1)),  # as accurate and faster
            candidate(4, 60.0, choice(85)),  # worse and slower
            candidate(5, 50.0, choice(10)),
            candidate(6, None, choice(1)),  # nobody knows
            replace(candidate(7, 75.0, choice(200)), too_slow=100.0),
        ]
    )
    assert [each.point.resolution for each in marked if each.best] == [5, 3]


def test_accuracies_are_the_published_ones() -> None:
    assert TOP_1["mobilenet_v1", 1.0, 224] == 70.6
    assert TOP_1["mobilenet_v1", 0.25, 128] == 41.5
    assert TOP_1["mobilenet_v2", 1.0, 224] == 72.0
    assert TOP_1["mobilenet_v2", 1.4, 224] == 74.7
    assert ("mobilenet_v1", 1.0, 96) not in TOP_1
    assert len(TOP_1) == 16 + 22


def test_a_limit_of_time_counts_as_fitting(run: Run) -> None:
    options = ("--board", "stm32f7", "--alphas", 0.25, "--resolutions", "64,96", "--classes", 10)
    finer, coarser = explored(run, *options)
    limit = (finer["optimize"]["speed"]["milliseconds"] + coarser["optimize"]["speed"]["milliseconds"]) / 2
    finer, coarser = explored(run, *options, "--max-ms", limit)
    assert not finer["fits"]
    assert finer["too_slow_by_ms"] > 0
    assert coarser["fits"]
    refused = run("explore", *options, "--board", "qemu-m55", "--max-ms", limit, "--jobs", 1)
    assert refused.code == 2
    assert "the time of board qemu-m55 is not known" in refused.err


def test_the_table_and_the_picture(run: Run) -> None:
    pytest.importorskip("matplotlib")
    options = ("--board", "stm32f7", "--alphas", 0.25, "--resolutions", "128,160", "--jobs", 1)
    shown = run("explore", *options, "--plot", "plot.svg")
    assert shown.code == 0
    assert "v1 0.25 128" in shown.out
    assert "cycles each, without wait states" in shown.out
    assert "2 of 2 fit" in shown.out
    assert Path("plot.svg").read_text().lstrip().startswith("<?xml")
    assert run("explore", *options, "--plot", "plot.png").code == 0
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_network_that_is_named_twice_is_planned_once(run: Run) -> None:
    options = ("--board", "pico", "--alphas", "0.1,0.10", "--resolutions", "32,32", "--classes", 3)
    assert len(explored(run, *options)) == 1


def test_several_processes_give_the_same(run: Run) -> None:
    options = ("explore", "--board", "pico", "--alphas", "0.1,0.25", "--resolutions", "32,48", "--classes", 3, "--json")
    assert run(*options, "--jobs", 2).out == run(*options, "--jobs", 1).out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "--board is missing"),
        (("--board", "stm32f9"), 'no board "stm32f9"'),
        (("--board", "stm32f7", "--alphas", "a"), "'a'; expected numbers"),
        (("--board", "stm32f7", "--alphas", "0"), "alpha 0; expected a number over 0"),
        (("--board", "stm32f7", "--resolutions", "0"), "resolution 0; expected 1 to 4096"),
        (("--board", "stm32f7", "--resolutions", "96.5"), "--resolutions: '96.5'; expected whole numbers"),
        (("--board", "stm32f7", "--max-ms", "inf"), "inf; expected a number of milliseconds"),
        (("--board", "stm32f7", "--max-ms", "nan"), "nan; expected a number of milliseconds"),
        (("--board", "stm32f7", "--plot", "x.jpg"), "expected a name that ends in .png or .svg"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, options: tuple[str, ...], problem: str) -> None:
    refused = run("explore", *options, "--jobs", 1)
    assert refused.code == 2
    assert problem in refused.err
