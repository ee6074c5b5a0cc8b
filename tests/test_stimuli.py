"""Inputs to verify with."""

from __future__ import annotations

import numpy as np
import pytest

from tests.shared import SHARED, needs_shared
from tinymbn.errors import ImageError
from tinymbn.graph import Graph
from tinymbn.load import load_model
from tinymbn.paths import SAMPLE_PICTURES, SHIPPED_MODEL
from tinymbn.stimuli import stimuli


@pytest.fixture(scope="module")
def digits() -> Graph:
    return load_model(SHIPPED_MODEL)


def test_made_inputs_come_in_a_fixed_order(digits: Graph) -> None:
    made = list(stimuli(digits, [], 6, 0))
    assert [one.name for one in made] == ["all-min", "all-max", "noise 1", "smooth 1", "noise 2", "smooth 2"]
    assert all(one.values.dtype == np.int8 and one.values.shape == (32, 32, 1) for one in made)
    assert (made[0].values == -128).all()
    assert (made[1].values == 127).all()


def test_the_same_seed_makes_the_same_fields_and_another_others(digits: Graph) -> None:
    first, again, other = (list(stimuli(digits, [], 5, seed)) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.values, b.values)
    assert not np.array_equal(first[2].values, other[2].values)
    assert not np.array_equal(first[3].values, other[3].values)


def test_a_field_does_not_depend_on_how_many_there_are(digits: Graph) -> None:
    assert np.array_equal(list(stimuli(digits, [], 4, 0))[3].values, list(stimuli(digits, [], 9, 0))[3].values)


def test_smooth_fields_are_smooth_and_use_the_whole_range(digits: Graph) -> None:
    smooth = list(stimuli(digits, [], 4, 0))[3].values.astype(int)
    assert (smooth.min(), smooth.max()) == (-128, 127)
    assert np.abs(np.diff(smooth, axis=0)).max() < 128


def test_pictures_come_first_and_under_their_names(digits: Graph) -> None:
    path = SAMPLE_PICTURES / "7.png"
    picture, *made = stimuli(digits, [path], 1, 0)
    assert picture.name == str(path)
    assert picture.values.shape == (32, 32, 1)
    assert [one.name for one in made] == ["all-min"]


def test_a_picture_that_cannot_be_read_is_told_before_anything_is_made(digits: Graph) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        stimuli(digits, [SAMPLE_PICTURES / "nowhere.png"], 3, 0)


@needs_shared
@pytest.mark.parametrize("name", ["mcunet_vww", "mobilenet_v1_0.25_128_quant"])
def test_what_the_host_does_at_the_edge_is_done(name: str) -> None:
    graph = load_model(SHARED / "models" / f"{name}.tflite")
    (picture,) = stimuli(graph, [SHARED / "images" / "cat.bmp"], 0, 0)
    assert picture.values.dtype == np.int8
    assert picture.values.std() > 10
