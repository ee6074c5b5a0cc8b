"""Shows how well a model does on labelled pictures: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tinymbn.class_match import ClassMatch, class_scores
from tinymbn.columns import Column, new_console, print_columns
from tinymbn.dataset import Dataset
from tinymbn.evaluation import Tally
from tinymbn.graph import Graph
from tinymbn.labels import class_count
from tinymbn.summary import SCHEMA, preprocessing_text
from tinymbn.terminal import printable, terminal_width

_TOP = (1, 5)
_MATRIX_CLASSES = 20  # of more, the most frequent confusions are shown
_SHOWN_CONFUSIONS = 10


@dataclass(frozen=True)
class Evaluation:
    """A model, a data set, and what came of it.

    Attributes:
        seconds: it took, without start-up.
        jobs: pictures at a time.
    """

    graph: Graph
    dataset: Dataset
    match: ClassMatch
    tally: Tally
    seconds: float
    jobs: int

    @property
    def classes(self) -> int:
        """Those of the model."""
        return class_count(self.graph, class_scores(self.graph).name)

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.tally.pictures / self.seconds

    def label(self, index: int) -> str:
        """Of a class of the model; empty if it has none."""
        return self.graph.labels[index] if len(self.graph.labels) == self.classes else ""


def print_json(evaluation: Evaluation) -> None:
    """One JSON object. Pairs of classes that no picture fell on are left out of ``confusion``."""
    tally, match = evaluation.tally, evaluation.match
    by_class = tally.by_class()
    values = {
        "schema": SCHEMA,
        "model": evaluation.graph.name,
        "dataset": str(evaluation.dataset.path),
        "pictures": tally.pictures,
        "matched": match.why,
        "label_offset": match.offset,
        "top": [
            {"k": k, "right": tally.within(k), "accuracy": tally.within(k) / tally.pictures}
            for k in _TOP
            if k <= evaluation.classes
        ],
        "seconds": evaluation.seconds,
        "pictures_per_second": evaluation.rate,
        "jobs": evaluation.jobs,
        "classes": [
            {
                "class": index,
                "label": evaluation.label(index),
                "pictures": by_class[index],
                "right": tally.confusion[index, index],
            }
            for index in sorted(set(match.classes))
        ],
        "confusion": [
            {"class": true, "predicted": predicted, "pictures": count}
            for (true, predicted), count in sorted(tally.confusion.items())
        ],
    }
    print(json.dumps(values, indent=2))


def print_text(evaluation: Evaluation) -> None:
    """Accuracies, and a table: the confusion matrix of few classes, the most frequent confusions of many."""
    tally, seconds = evaluation.tally, evaluation.seconds
    held = len(set(evaluation.match.classes))
    print(f"model     {printable(evaluation.graph.name)}")
    print(f"data set  {printable(str(evaluation.dataset.path))}: {tally.pictures:,} pictures of {held:,} classes")
    print(f"classes   {evaluation.match.why}")
    print(f"picture   {preprocessing_text(evaluation.graph)}")
    for k in _TOP:
        if k <= evaluation.classes:
            right = tally.within(k)
            print(f"top-{k}     {right / tally.pictures:.2%}: {right:,} of {tally.pictures:,}")
    jobs = f"{evaluation.jobs} job{'s' if evaluation.jobs > 1 else ''}"
    print(f"rate      {evaluation.rate:,.1f} pictures/s: {seconds:.1f} s, {jobs}")
    print()
    if not _print_matrix(evaluation):
        _print_confusions(evaluation)


def _print_matrix(evaluation: Evaluation) -> bool:
    """A row for each true class, a column for each predicted one; False if there is no room for it."""
    confusion = evaluation.tally.confusion
    predicted = sorted({index for pair in confusion for index in pair})
    if evaluation.classes <= _MATRIX_CLASSES:
        predicted = list(range(evaluation.classes))
    if len(predicted) > _MATRIX_CLASSES:
        return False
    by_class = evaluation.tally.by_class()
    true = sorted(by_class)
    columns = [Column("class", [str(one) for one in true], right=True)]
    if any(evaluation.label(one) not in ("", str(one)) for one in true):
        columns.append(Column("label", [evaluation.label(one) for one in true]))
    columns += [Column(str(p), [str(confusion[t, p] or ".") for t in true], right=True) for p in predicted]
    right = [f"{confusion[t, t] / by_class[t]:.2%}" for t in true]
    columns.append(Column("right", right, right=True))
    width = terminal_width()
    if width is not None and sum(column.width for column in columns) > width + 2:
        return False
    print("Pictures by class (rows) and what the model took them for (columns):")
    print_columns(new_console(), *columns, numbered=False)
    return True


def _print_confusions(evaluation: Evaluation) -> None:
    wrong = [(count, pair) for pair, count in evaluation.tally.confusion.items() if pair[0] != pair[1]]
    shown = sorted(wrong, key=lambda one: (-one[0], one[1]))[:_SHOWN_CONFUSIONS]
    if not shown:
        print("No picture was taken for another class.")
        return
    print(f"The most frequent of {len(wrong):,} confusions (--json has all):")

    def named(index: int) -> str:
        label = evaluation.label(index)
        return f"{index} {label}" if label and label != str(index) else str(index)

    width = terminal_width()
    room = None if width is None else max(8, (width - 14) // 2)
    cells = [[_cut(named(index), room) for index in pair] for _, pair in shown]
    print_columns(
        new_console(),
        Column("pictures", [f"{count:,}" for count, _ in shown], right=True),
        Column("class", [true for true, _ in cells]),
        Column("taken for", [predicted for _, predicted in cells]),
        numbered=False,
    )


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else f"{text[: room - 1]}…"
