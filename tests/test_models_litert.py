"""Real models: every tensor that an operator makes has the reference's bytes, on made-up and real pictures."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.litert_models import readable_by_litert
from tests.litert import LiteRT, in_type_of
from tests.shared import SHARED, needs_shared
from tinymbn import Graph, Interpreter, import_tflite
from tinymbn.class_match import match_classes
from tinymbn.dataset import open_dataset
from tinymbn.evaluation import Answer, Tally, evaluate, load_labelled
from tinymbn.image import load_input
from tinymbn.labels import top

pytestmark = needs_shared

# The operators of each file, less those that compute shapes: SHAPE, STRIDED_SLICE and PACK in the two made by Keras.
TENSORS = {
    "mcunet_vww": 63,
    "mobilenet_v1_0.25_128_quant": 31,
    "person_detect": 31,
    "ssd_slim_120x160x1_int8": 68,
    "tf2_mobilenet_v2_1.0_224_ptq": 68,
    "v1_a050_160_random": 34 - 3,
    "v1_a100_224_random": 34 - 3,
    "vww_96_int8": 31,
}
MADE_UP = ("all-min", "all-max", "noise", "smooth")
PICTURES = (
    "cat.bmp",
    "grace_hopper.bmp",
    "hot_dog.jpg",
    "kite_and_cold.jpg",
    "no_person.png",
    "owl.jpg",
    "parrot.jpg",
    "person.png",
)


@cache
def both(model: str) -> tuple[LiteRT, Interpreter]:
    path = SHARED / "models" / f"{model}.tflite"
    return LiteRT(readable_by_litert(path.read_bytes())), Interpreter(import_tflite(path))


def pixels(what: str, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    shape = (height, width, channels)
    if what == "all-min":
        return np.zeros(shape, np.uint8)
    if what == "all-max":
        return np.full(shape, 255, np.uint8)
    if what == "noise":
        return np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    if what == "smooth":
        y, x, c = np.indices(shape)
        waves = np.sin(7 * y / height + c) * np.cos(5 * x / width - c)
        return np.asarray(127.5 + 127.5 * waves, np.uint8)
    with Image.open(SHARED / "images" / what) as picture:
        resized = picture.convert("L" if channels == 1 else "RGB").resize((width, height))
        return np.asarray(resized, np.uint8).reshape(shape)


def as_input(values: NDArray[np.uint8], graph: Graph) -> NDArray[Any]:
    """Pixels 0..255 over the whole range of the input's type; reals lie between two steps as well."""
    if graph.input_tensor.dtype == "uint8":
        return values
    signed = (values ^ np.uint8(0x80)).view(np.int8)
    if graph.input_tensor.dtype == "int8":
        return signed
    inside = graph.quantized_input
    between = np.random.default_rng(2).uniform(-0.5, 0.5, values.shape)
    return np.asarray((signed - inside.zero_point + between) * inside.scale, np.float32)


@pytest.mark.parametrize("what", [*MADE_UP, *PICTURES])
@pytest.mark.parametrize("model", TENSORS)
def test_every_tensor_equals_the_reference(model: str, what: str) -> None:
    reference, interpreter = both(model)
    height, width, channels = interpreter.graph.input_tensor.shape
    x = as_input(pixels(what, height, width, channels), interpreter.graph)
    expected = reference.run(x[None])
    made = {layer.output: output for layer, output in interpreter.steps(x)}
    compared, wrong = 0, {}
    for index in reference.made:
        name = reference.names[index]
        if name in made:
            compared += 1
            different = np.count_nonzero(made[name].ravel() != in_type_of(made[name], expected[index]))
            if different:
                wrong[name] = f"{different} of {made[name].size} bytes"
    assert not wrong
    assert compared == TENSORS[model]


@pytest.mark.parametrize("picture", ["cat.bmp", "parrot.jpg", "grace_hopper.bmp"])
@pytest.mark.parametrize("model", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_the_five_best_classes_are_the_references(model: str, picture: str) -> None:
    """The whole way of ``tinymbn run``: the picture that it prepares, given to both."""
    reference, interpreter = both(model)
    x = load_input(SHARED / "images" / picture, interpreter.graph)
    expected = reference.run(x[None])[reference.outputs[0]].ravel()
    output = interpreter.graph.output_tensors[0]
    found = top(interpreter.run(x), output, interpreter.graph.labels, 5)
    best = np.argsort(-expected.astype(int), kind="stable")[:5]
    assert [score.index for score in found] == best.tolist()
    assert [score.raw for score in found] == expected[best].tolist()
    assert all(score.label for score in found)


@pytest.mark.parametrize(
    ("model", "least", "right"),
    [("mobilenet_v1_0.25_128_quant", 500, (219, 344)), ("tf2_mobilenet_v2_1.0_224_ptq", 40, (430, 488))],
)
def test_eval_gives_the_references_answers(
    model: str, least: int, right: tuple[int, int], pytestconfig: pytest.Config
) -> None:
    """On ImageNet pictures, one by one: the best class, and the rank of the true one; ``right`` is of all 500."""
    reference, interpreter = both(model)
    dataset = open_dataset(SHARED / "data" / "imagenet_sample_500.npz")
    match = match_classes(dataset, interpreter.graph, None)
    count = min(max(least, pytestconfig.getoption("--examples")), dataset.count)
    pictures = list(islice(dataset.pictures(), count))
    tally, wrong = Tally(), []
    for k, answer in enumerate(evaluate(interpreter, pictures, match, jobs=2)):
        x = load_labelled(pictures[k], interpreter.graph)
        scores = reference.run(x[None])[reference.outputs[0]].ravel().tolist()
        ranking = sorted(range(len(scores)), key=lambda index: -scores[index])
        true = match.classes[pictures[k].dataset_class]
        if answer != Answer(true, ranking[0], ranking.index(true)):
            wrong.append(k)
        tally.add(answer)
    assert not wrong
    assert tally.pictures == count
    if count == dataset.count:
        assert (tally.within(1), tally.within(5)) == right
