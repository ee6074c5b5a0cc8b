"""The example that is trained on CIFAR-10: its model is what its README says."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np

from tests.command_line import Run
from tests.shared import CHECKOUT, SHARED, needs_shared
from tinymbn import Interpreter, load_model
from tinymbn.dataset import open_dataset
from tinymbn.image import load_picture, to_input

MODEL = CHECKOUT / "examples" / "cifar10" / "cifar10.npz"
SOME = 1000  # of the 10,000 test pictures


def test_it_is_as_small_as_it_says() -> None:
    graph = load_model(MODEL)
    assert graph.macs == 7_546_496 < 30_000_000
    assert graph.parameters == 818_250
    assert len(graph.labels) == 10


@needs_shared
def test_it_is_right_as_often_as_it_says() -> None:
    graph = load_model(MODEL)
    pictures = list(islice(open_dataset(SHARED / "data" / "cifar10_test.npz").pictures(), SOME))
    x = np.stack([to_input(load_picture(picture.path, picture.data), graph) for picture in pictures])
    found = Interpreter(graph, threads=2).run(x).argmax(axis=1)
    right = sum(int(k) == picture.dataset_class for k, picture in zip(found, pictures, strict=True))
    assert right / SOME > 0.79  # 81.99 % of all; a thousand of them differ by 1.2 points


def test_it_fits_a_board(run: Run) -> None:
    planned = json.loads(run("plan", MODEL, "--board", "stm32f7", "--json").out)
    assert planned["fits"]
