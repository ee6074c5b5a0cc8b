"""The command that holds a model against labelled pictures: eval."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tinymbn.commands import arguments
from tinymbn.errors import InterruptError


@click.command("eval")
@click.argument("files", nargs=-1, type=arguments.FILE, metavar="[MODEL] DATASET")
@arguments.labels
@arguments.resize
@click.option(
    "--label-offset",
    type=int,
    metavar="N",
    help="Added to each class number of the data set: 1 where the model counts a background before the classes.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Pictures at a time. Default: one a core.")
@arguments.engine
@arguments.as_json
@arguments.quiet
def evaluate(
    files: tuple[Path, ...],
    labels_file: Path | None,
    resize: Any,
    label_offset: int | None,
    jobs: int | None,
    engine: Any,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how often a MODEL is right on labelled pictures.

    DATASET is a folder with a folder of pictures for each class, named by its label or number; or a .npz with
    jpeg (the bytes of all pictures in a row), offsets (N+1), labels (N numbers), and names of classes if it likes.
    MODEL is a .npz, .tflite or quantised .onnx file. Left out, it is model.npz in this folder, else the model that
    ships.

    If every class of DATASET has a name that is a label of MODEL, names decide; otherwise numbers. Pictures are
    prepared as tinymbn run does it. The result is the same whatever the number of jobs.
    """
    if not 1 <= len(files) <= 2:
        raise arguments.usage("expected a DATASET, or a MODEL and a DATASET")
    model, path = files if len(files) == 2 else (None, files[0])
    from tinymbn import evaluation, terminal
    from tinymbn.class_match import class_scores, match_classes
    from tinymbn.dataset import open_dataset
    from tinymbn.evaluation_report import Evaluation, print_json, print_text
    from tinymbn.labels import with_labels

    graph = arguments.load(model, quiet=quiet)
    class_scores(graph)
    if resize is not None:
        graph = replace(graph, preprocessing=replace(graph.preprocessing, resize=resize))
    if labels_file is not None:
        graph = with_labels(graph, labels_file)
    dataset = open_dataset(path)
    match = match_classes(dataset, graph, label_offset)
    jobs = jobs or evaluation.cores()

    tally = evaluation.Tally()
    try:
        interpreter = arguments.interpreter(graph, engine, quiet=quiet)
        evaluation.warm_up(interpreter)
        begin = time.perf_counter()
        answers = evaluation.evaluate(interpreter, dataset.pictures(), match, jobs)
        with closing(answers), closing(terminal.with_progress(answers, dataset.count, quiet=quiet)) as shown:
            for answer in shown:
                tally.add(answer)
        seconds = time.perf_counter() - begin
    except KeyboardInterrupt:
        right = f", {tally.within(1):,} of them right" if tally.pictures else ""
        raise InterruptError(f"interrupted after {tally.pictures:,} of {dataset.count:,} pictures{right}") from None
    (print_json if as_json else print_text)(Evaluation(graph, dataset, match, tally, seconds, jobs))
