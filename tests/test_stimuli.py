"""Inputs to verify with: pictures first, then made ones that are the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.firmwares import PICTURES, model
from tests.shared import SHARED, needs_shared
from tinymbn.errors import ImageError
from tinymbn.image import load_input
from tinymbn.interpreter import Interpreter
from tinymbn.load import load_model
from tinymbn.stimuli import stimuli


def test_pictures_come_first_then_extremes_then_noise_smooth_fields_and_checkerboards_in_turn() -> None:
    names = [stimulus.name for stimulus in stimuli(model(), PICTURES, 6, 0)]
    assert names == [*map(str, PICTURES), "all-min", "all-max", "noise 1", "smooth 1", "checkerboard 1", "noise 2"]


def test_made_inputs_are_int8_of_the_inputs_shape_and_reach_what_their_names_say() -> None:
    made = list(stimuli(model(), [], 7, 0))
    assert all(s.values.dtype == np.int8 and s.values.shape == model().input_tensor.shape for s in made)
    assert set(made[0].values.ravel()) == {-128}
    assert set(made[1].values.ravel()) == {127}
    for smooth in (made[3].values, made[6].values):
        assert (smooth.min(), smooth.max()) == (-128, 127)
        steps = np.abs(np.diff(smooth[:, :, 0].astype(int), axis=1))
        assert steps.mean() < 30  # noise has 85
    board = made[4].values
    assert set(board.ravel()) == {-128, 127}
    assert (board[1:, 1:, 0] == board[:-1, :-1, 0]).all()
    assert (board[1:, :, 0] != board[:-1, :, 0]).all()
    noise = made[2].values
    assert len(np.unique(noise)) > 200
    assert np.abs(np.diff(noise[:, :, 0].astype(int), axis=1)).mean() > 60


def test_the_same_seed_gives_the_same_and_another_seed_another_field() -> None:
    first, again, other = ([s.values for s in stimuli(model(), [], 4, seed)] for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [np.array_equal(a, b) for a, b in zip(first, other, strict=True)] == [True, True, False, False]


def test_more_inputs_go_on_where_fewer_ended() -> None:
    few, many = (list(stimuli(model(), [], count, 0)) for count in (3, 6))
    assert all(np.array_equal(a.values, b.values) for a, b in zip(few, many, strict=False))


def test_a_picture_is_what_run_makes_of_it() -> None:
    (stimulus,) = stimuli(model(), PICTURES[:1], 0, 0)
    assert np.array_equal(stimulus.values, load_input(PICTURES[0], model()))


def test_a_picture_that_cannot_be_read_is_an_error_before_anything_else(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        stimuli(model(), [*PICTURES, broken], 3, 0)


@needs_shared
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_what_is_quantised_at_the_edge_is_quantised_for_the_chip(name: str) -> None:
    graph = load_model(SHARED / "models" / f"{name}.tflite")
    (picture,) = stimuli(graph, [SHARED / "images" / "person.png"], 0, 0)
    assert picture.values.dtype == np.int8
    inside = dict(Interpreter(graph).steps(load_input(SHARED / "images" / "person.png", graph)))
    quantised = [output for layer, output in inside.items() if layer.output == graph.quantized_input.name]
    expected = quantised[0] if quantised else load_input(SHARED / "images" / "person.png", graph)
    assert np.array_equal(picture.values, expected)
