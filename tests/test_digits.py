"""The model that ships and its sample pictures."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tinymbn
from tests.shared import CHECKOUT
from tinymbn.graph import Graph
from tinymbn.preprocessing import Preprocessing

EXAMPLE = CHECKOUT / "examples" / "digits"
MODEL = CHECKOUT / "tinymbn" / "models" / "digits.npz"


@pytest.fixture(scope="module")
def digits() -> Graph:
    return tinymbn.load_model(MODEL)


def classes(graph: Graph, pictures: NDArray[np.uint8]) -> list[int]:
    """The class of each picture, (N, 32, 32): int8 input is pixel - 128."""
    scores = tinymbn.Interpreter(graph).run((pictures[..., np.newaxis] ^ 0x80).view(np.int8))
    return [int(best) for best in scores.argmax(axis=1)]


def test_the_ten_samples_are_classified_right(digits: Graph) -> None:
    pictures = []
    for digit in range(10):
        with Image.open(EXAMPLE / "samples" / f"{digit}.png") as sample:
            assert sample.mode == "L"
            pictures.append(np.asarray(sample.resize((32, 32), Image.Resampling.BILINEAR)))
    assert classes(digits, np.stack(pictures)) == list(range(10))


def test_the_held_out_fifth_is_classified_right(digits: Graph) -> None:
    pytest.importorskip("sklearn", reason="no scikit-learn, whose digits are the held-out pictures")
    training, held_out = runpy.run_path(str(EXAMPLE / "dataset.py"))["load"]()
    assert (len(training.labels), len(held_out.labels)) == (1438, 359)
    right = np.mean(np.array(classes(digits, held_out.pictures)) == held_out.labels)
    assert right >= 0.97


def test_the_model_says_what_it_expects(digits: Graph) -> None:
    assert digits.input_tensor.shape == (32, 32, 1)
    assert digits.preprocessing == Preprocessing(origin="file")
    assert digits.labels == tuple("0123456789")


def test_the_model_fits_the_smallest_board(digits: Graph) -> None:
    """256 KB of flash and 16 KB of RAM, code and stack included."""
    assert MODEL.stat().st_size <= 100_000
    for layer in digits.layers:
        live = {*layer.inputs, layer.output}  # a chain: nothing else is alive
        assert sum(digits.tensors[name].elements for name in live) <= 6144
