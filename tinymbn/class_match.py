"""Which class of a model each class of a data set is: found by name or number, never by guess."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from tinymbn.dataset import Dataset
from tinymbn.errors import DatasetError, UnsupportedError
from tinymbn.graph import Graph, Tensor
from tinymbn.labels import class_count
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
    """The output of a classifier, a row of one score a class, or the probability of the second of two.

    Raises:
        UnsupportedError: the model has another output, or several.
    """
    if len(graph.outputs) != 1 or not class_count(graph, graph.outputs[0]):
        found = ", ".join(shape_text(tensor.shape) for tensor in graph.output_tensors)
        raise UnsupportedError(
            f"model {graph.name!r}: outputs {found}; expected one, a row of class scores or one probability"
        )
    return graph.output_tensors[0]


def match_classes(dataset: Dataset, graph: Graph, offset: int | None) -> ClassMatch:
    """Find the model's class for each class of the data set.

    If each of the data set's classes has a name that is a label, names decide; otherwise each has to have a number.

    Args:
        dataset: its classes count.
        graph: a classifier.
        offset: to add to each number, names ignored; None: 0, if nothing speaks against it.

    Raises:
        DatasetError: a class is neither a label nor a number, its number is out of range, its label stands for
            several classes, or the number may mean another class: a name says otherwise, or the model counts a
            background that the data set may not count.
    """
    places: dict[str, list[int]] = defaultdict(list)  # of labels
    if _has_labels(graph):
        for index, label in enumerate(graph.labels):
            places[label].append(index)
    if offset is not None:
        why = f"by number, {offset:+d} as --label-offset says" if offset else "by number, as --label-offset 0 says"
        return ClassMatch(_numbers(dataset, graph, offset), offset, why)
    names = [one.name for one in dataset.classes if one.name in places]
    if len(names) == len(dataset.classes):
        return ClassMatch(tuple(_only_place(dataset, name, places[name]) for name in names if name), None, "by label")
    _refuse_other_names(dataset, graph, places)
    numbers = _numbers(dataset, graph, 0)
    if not _counts_background(graph):
        return ClassMatch(numbers, 0, "by number")
    last = _count(graph) - 1
    if max(numbers) < last:
        raise DatasetError(
            f"{dataset.path}: class numbers {min(numbers)} to {max(numbers)}, and class 0 of model {graph.name!r} "
            "is the background: expected --label-offset 1 if the data set does not count it, 0 if it does"
        )
    return ClassMatch(numbers, 0, f"by number, the background counted: there is a class {last}")


def _only_place(dataset: Dataset, name: str, places: list[int]) -> int:
    if len(places) > 1:
        several = " and ".join(map(str, places))
        raise DatasetError(f"{dataset.path}: {name!r} is the label of classes {several}; expected numbers for all")
    return places[0]


def _refuse_other_names(dataset: Dataset, graph: Graph, places: Mapping[str, list[int]]) -> None:
    """Refuse names beside which numbers would be a guess: they are not the model's, or say another class."""
    numbered = all(one.number is not None for one in dataset.classes)
    hint = "; --label-offset 0 takes numbers alone" if numbered else ""
    for name in (one.name for one in dataset.classes):
        if places and name is not None and not name.isdecimal() and name not in places:
            raise DatasetError(
                f"{dataset.path}: no class {name!r} in model {graph.name!r}; expected {_expected(graph)}{hint}"
            )
    other = next(one.name or str(one.number) for one in dataset.classes if one.name not in places)
    for one in dataset.classes:
        if one.name is not None and one.name in places and places[one.name] != [one.number]:
            raise DatasetError(
                f"{dataset.path}: class {one.name!r} is the label of class {places[one.name][0]}, and class "
                f"{other!r} no label; expected labels or numbers for all{hint}"
            )


def _numbers(dataset: Dataset, graph: Graph, offset: int) -> tuple[int, ...]:
    """The data set's numbers as the model's classes."""
    last = _count(graph) - 1
    for one in dataset.classes:
        if one.number is None:
            raise DatasetError(
                f"{dataset.path}: no class {one.name!r} in model {graph.name!r}; expected numbers from "
                f"{-offset} to {last - offset}"
            )
        if not 0 <= one.number + offset <= last:
            added = f" and an offset of {offset}" if offset else ""
            raise DatasetError(
                f"{dataset.path}: class number {one.number}{added}; model {graph.name!r} has classes 0 to {last}; "
                "--label-offset says what to add to each number"
            )
    return tuple(one.number + offset for one in dataset.classes if one.number is not None)


def _counts_background(graph: Graph) -> bool:
    """Whether class 0 is none of those that a data set may begin with."""
    return graph.labels[0] == _BACKGROUND if _has_labels(graph) else _count(graph) == _BACKGROUND_CLASSES


def _count(graph: Graph) -> int:
    """The model's classes."""
    return class_count(graph, class_scores(graph).name)


def _has_labels(graph: Graph) -> bool:
    return len(graph.labels) == _count(graph)


def _expected(graph: Graph) -> str:
    """What a class of a model with labels may be called."""
    some = ", ".join(repr(label) for label in graph.labels[:3]) + (", ..." if len(graph.labels) > 3 else "")
    return f"one of its {len(graph.labels)} labels ({some}) or, for all, a number from 0 to {len(graph.labels) - 1}"
