"""Which class of a model each class of a data set is: found by name or number, never by guess."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from tinymbn.dataset import Dataset
from tinymbn.errors import DatasetError, UnsupportedError
from tinymbn.graph import Graph, Tensor
from tinymbn.labels import is_class_scores
from tinymbn.terminal import shape_text

_BACKGROUND = "background"
_BACKGROUND_CLASSES = 1001  # ImageNet's 1000, and the background before them


@dataclass(frozen=True)
class ClassMatch:
    """The model's class of each class of a data set.

    Attributes:
        classes: indexes of the model's classes, one for each of the data set's, in its order.
        offset: what was added to each number; None where names were matched with labels.
        why: how it is known, in a few words.
    """

    classes: tuple[int, ...]
    offset: int | None
    why: str


def class_scores(graph: Graph) -> Tensor:
    """The output of a classifier, a row of one score a class.

    Raises:
        UnsupportedError: the model has another output, or several.
    """
    if len(graph.outputs) != 1 or not is_class_scores(graph, graph.outputs[0]):
        found = ", ".join(shape_text(tensor.shape) for tensor in graph.output_tensors)
        raise UnsupportedError(f"model {graph.name!r}: outputs {found}; expected one, a row of class scores")
    return graph.output_tensors[0]


def match_classes(dataset: Dataset, graph: Graph, offset: int | None) -> ClassMatch:
    """Find the model's class for each class of the data set.

    If each of the data set's classes has a name that is a label, names decide; otherwise each has to have a number.

    Args:
        dataset: its classes count.
        graph: a classifier.
        offset: to add to each number, names ignored; None: 0, if nothing speaks against it.

    Raises:
        DatasetError: a class is neither a label nor a number, its number is out of range, its label stands for several
            classes, or the number may mean another class: it is another's label, or the model counts a
            background that the data set may not count.
    """
    count = math.prod(class_scores(graph).shape)
    places: dict[str, list[int]] = defaultdict(list)  # of labels
    if len(graph.labels) == count:
        for index, label in enumerate(graph.labels):
            places[label].append(index)
    names = [one.name or "" for one in dataset.classes]
    if offset is None and all(name and name in places for name in names):
        return ClassMatch(tuple(_only_place(dataset, name, places[name]) for name in names), None, "by label")
    numbers = []
    unnumbered = [one.name for one in dataset.classes if one.number is None]
    if unnumbered:
        unknown = next((name for name in unnumbered if name not in places), None)
        if unknown is None and offset is None:
            other = next(one.name for one in dataset.classes if one.name not in places)
            raise DatasetError(
                f"{dataset.path}: {other!r} is no label, {unnumbered[0]!r} no number; expected labels or numbers alone"
            )
        expected = _expected(graph, count, offset)
        raise DatasetError(
            f"{dataset.path}: no class {unknown or unnumbered[0]!r} in model {graph.name!r}; expected {expected}"
        )
    for one in dataset.classes:
        assert one.number is not None
        number = one.number + (offset or 0)
        if not 0 <= number < count:
            raise DatasetError(
                f"{dataset.path}: class number {one.number}{f' and an offset of {offset}' if offset else ''}; "
                f"model {graph.name!r} has classes 0 to {count - 1}; --label-offset says what to add to each number"
            )
        if offset is None and one.name in places and places[one.name] != [number]:
            raise DatasetError(
                f"{dataset.path}: {one.name!r} may be class number {number} or the label of class "
                f"{places[one.name][0]}; --label-offset 0 says that it is a number"
            )
        numbers.append(number)
    if offset is not None:
        why = f"by number, {offset:+d} as --label-offset says" if offset else "by number, as --label-offset 0 says"
        return ClassMatch(tuple(numbers), offset, why)
    why = "by number"
    if _counts_background(graph, count):
        if max(numbers) < count - 1:
            raise DatasetError(
                f"{dataset.path}: class numbers {min(numbers)} to {max(numbers)}, and class 0 of model {graph.name!r} "
                "is the background: expected --label-offset 1 if the data set does not count it, 0 if it does"
            )
        why += f", the background counted: there is a class {count - 1}"
    if places and any(name and not name.isdecimal() and name not in places for name in names):
        why += "; names in the data set are not the model's labels"
    return ClassMatch(tuple(numbers), 0, why)


def _only_place(dataset: Dataset, name: str, places: list[int]) -> int:
    if len(places) > 1:
        several = " and ".join(map(str, places))
        raise DatasetError(f"{dataset.path}: {name!r} is the label of classes {several}; expected numbers for all")
    return places[0]


def _counts_background(graph: Graph, count: int) -> bool:
    """Whether class 0 is none of those that a data set may begin with."""
    if len(graph.labels) == count:
        return graph.labels[0] == _BACKGROUND
    return count == _BACKGROUND_CLASSES


def _expected(graph: Graph, count: int, offset: int | None) -> str:
    """What a class may be called."""
    numbers = f"a number from 0 to {count - 1}"
    if offset is not None:
        return "a number, as --label-offset is given"
    if len(graph.labels) != count:
        return f"{numbers}, for it has no labels"
    some = ", ".join(repr(label) for label in graph.labels[:3]) + (", ..." if count > 3 else "")
    return f"one of its {count} labels ({some}) or, for all, {numbers}"
