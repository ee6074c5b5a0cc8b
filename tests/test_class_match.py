"""Which class of a model a class of a data set is, and where that cannot be known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tinymbn.class_match import ClassMatch, class_scores, match_classes
from tinymbn.dataset import Dataset, DatasetClass
from tinymbn.errors import DatasetError, UnsupportedError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import Reshape

QUANT = Quant(1.0, 0)


def model(count: int, *labels: str) -> Graph:
    return Graph("m", {"y": Tensor("y", (count,), QUANT)}, (), "y", ("y",), labels=labels)


def dataset(*classes: str | int | tuple[str, int]) -> Dataset:
    """Of folders (names), numbers, or names with numbers."""

    def made(one: str | int | tuple[str, int]) -> DatasetClass:
        if isinstance(one, tuple):
            return DatasetClass(*one)
        if isinstance(one, int):
            return DatasetClass(None, one)
        return DatasetClass(one, int(one) if one.isdecimal() else None)

    return Dataset(Path("d"), tuple(map(made, classes)), len(classes), lambda: iter(()))


IMAGENET = ("background", *(f"thing {i}" for i in range(1, 1001)))


@pytest.mark.parametrize(
    ("data", "graph", "offset", "expected"),
    [
        (dataset("owl", "cat"), model(3, "cat", "dog", "owl"), None, ClassMatch((2, 0), None, "by label")),
        (dataset("7", "1"), model(10, *"0123456789"), None, ClassMatch((7, 1), None, "by label")),
        (dataset("2", "1"), model(3, "1", "2", "3"), None, ClassMatch((1, 0), None, "by label")),
        (dataset("2", "01"), model(3, "a", "b", "c"), None, ClassMatch((2, 1), 0, "by number")),
        (dataset(2, 0), model(3), None, ClassMatch((2, 0), 0, "by number")),
        (dataset(("owl", 0), ("cat", 1)), model(3, "cat", "dog", "owl"), None, ClassMatch((2, 0), None, "by label")),
        (dataset(("Eule", 0), ("Katze", 1)), model(3), None, ClassMatch((0, 1), 0, "by number")),
        (
            dataset(("Eule", 0), ("Katze", 1)),
            model(3, "cat", "dog", "owl"),
            0,
            ClassMatch((0, 1), 0, "by number, as --label-offset 0 says"),
        ),
        (dataset(0, 2), model(4), 1, ClassMatch((1, 3), 1, "by number, +1 as --label-offset says")),
        (dataset(1, 3), model(3), -1, ClassMatch((0, 2), -1, "by number, -1 as --label-offset says")),
        (
            dataset(("owl", 0), ("cat", 1)),
            model(3, "cat", "dog", "owl"),
            0,
            ClassMatch((0, 1), 0, "by number, as --label-offset 0 says"),
        ),
        (
            dataset(2, 1000),
            model(1001, *IMAGENET),
            None,
            ClassMatch((2, 1000), 0, "by number, the background counted: there is a class 1000"),
        ),
        (dataset(0, 999), model(1001), 1, ClassMatch((1, 1000), 1, "by number, +1 as --label-offset says")),
        (dataset("background", "thing 1"), model(1001, *IMAGENET), None, ClassMatch((0, 1), None, "by label")),
        (dataset(0, 999), model(1000), None, ClassMatch((0, 999), 0, "by number")),
    ],
)
def test_names_decide_where_all_are_labels_and_numbers_otherwise(
    data: Dataset, graph: Graph, offset: int | None, expected: ClassMatch
) -> None:
    assert match_classes(data, graph, offset) == expected


@pytest.mark.parametrize(
    ("data", "graph", "offset", "problem"),
    [
        (
            dataset("cat", "cow"),
            model(3, "cat", "dog", "owl"),
            None,
            "no class 'cow' in model",
        ),
        (dataset("cow"), model(4, "cat", "dog", "owl", "x"), None, "one of its 4 labels ('cat', 'dog', 'owl', ...) or"),
        (dataset("cow"), model(3), None, "no class 'cow' in model 'm'; expected numbers from 0 to 2"),
        (
            dataset("cat"),
            model(3, "cat", "dog", "owl"),
            1,
            "no class 'cat' in model 'm'; expected numbers from -1 to 1",
        ),
        (
            dataset(("cow", 0)),
            model(3, "cat", "dog", "owl"),
            None,
            "number from 0 to 2; --label-offset 0 takes numbers alone",
        ),
        (
            dataset("cat", "1"),
            model(3, "cat", "dog", "owl"),
            None,
            "class 'cat' is the label of class 0, and class '1' no label; expected labels or numbers for all",
        ),
        (dataset(0, 3), model(3), None, "class number 3; model 'm' has classes 0 to 2; --label-offset"),
        (dataset(-1), model(3), None, "class number -1; model 'm' has classes 0 to 2"),
        (dataset(0, 2), model(3), 1, "class number 2 and an offset of 1; model 'm' has classes 0 to 2"),
        (dataset("crane"), model(3, "crane", "x", "crane"), None, "'crane' is the label of classes 0 and 2"),
        (dataset("0", "1"), model(3, "1", "2", "3"), None, "class '1' is the label of class 0, and class '0' no"),
        (dataset(("owl", 0), ("1", 1)), model(3, "cat", "dog", "owl"), None, "labels or numbers for all; --label-off"),
        (dataset(("owl", 0), ("cow", 1)), model(3, "cat", "dog", "owl"), None, "no class 'cow' in model 'm'"),
        (dataset(0, 999), model(1001, *IMAGENET), None, "class numbers 0 to 999, and class 0 of model 'm' is the back"),
        (dataset(1, 3), model(1001), None, "--label-offset 1 if the data set does not count it, 0 if it does"),
    ],
)
def test_what_cannot_be_known_is_refused(data: Dataset, graph: Graph, offset: int | None, problem: str) -> None:
    with pytest.raises(DatasetError) as error:
        match_classes(data, graph, offset)
    assert str(error.value).startswith("d: ")
    assert problem in str(error.value)


def test_a_model_has_to_be_a_classifier() -> None:
    def outputs(*shapes: tuple[int, ...]) -> Graph:
        made = {f"y{i}": Tensor(f"y{i}", shape, QUANT) for i, shape in enumerate(shapes)}
        layers = tuple(Reshape(name, ("x",), name, tensor.shape) for name, tensor in made.items())
        size = math.prod(shapes[0])
        return Graph("m", {"x": Tensor("x", (size,), QUANT)} | made, layers, "x", tuple(made))

    assert class_scores(outputs((1, 1, 5))).name == "y0"
    for graph, found in (
        (outputs((4, 2)), "4x2"),
        (outputs((1,)), "1"),
        (outputs((8,), (2, 4)), "8, 2x4"),
        (outputs((3,), (3,)), "3, 3"),
    ):
        with pytest.raises(UnsupportedError, match=f"model 'm': outputs {found}; expected one, a row of class scores"):
            class_scores(graph)
