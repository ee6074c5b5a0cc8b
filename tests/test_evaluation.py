"""``tinymbn eval``: what it counts, on any number of threads, and how it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Run
from tests.shared import CHECKOUT, SHARED, needs_shared
from tests.test_dataset import members
from tinymbn import Graph, Interpreter, save_model
from tinymbn.class_match import ClassMatch
from tinymbn.dataset import LabelledPicture
from tinymbn.errors import DatasetError, ImageError
from tinymbn.evaluation import Answer, answer_of, evaluate
from tinymbn.graph import Quant, Tensor
from tinymbn.kernels.conv2d import conv2d
from tinymbn.layers import Reshape

LABELS = ("ant", "bee", "cat", "dog", "eel", "fox")


def brightest(classes: int, labels: tuple[str, ...] = ()) -> Graph:
    """Scores are pixels: the class of a picture is the place of its brightest one, of a row as long as that."""
    tensors = [Tensor("picture", (1, classes, 1), Quant(1 / 128, 0)), Tensor("scores", (classes,), Quant(1 / 128, 0))]
    return Graph(
        name="brightest",
        tensors={tensor.name: tensor for tensor in tensors},
        layers=(Reshape("flatten", ("picture",), "scores", (classes,)),),
        input="picture",
        outputs=("scores",),
        labels=labels,
    )


def row(*greys: int) -> Image.Image:
    return Image.fromarray(np.array([greys], np.uint8))


def lit(place: int, classes: int = len(LABELS)) -> Image.Image:
    """The picture of a class; all others score alike."""
    return row(*(200 if i == place else 50 for i in range(classes)))


def encoded(picture: Image.Image, path: Path) -> bytes:
    picture.save(path / "one.png")
    return (path / "one.png").read_bytes()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(brightest(len(LABELS), LABELS), tmp_path / "model.npz")
    return tmp_path / "model.npz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three ants, one of which looks like a bee; two bees; a fox that the model takes for an ant, last of all."""
    pictures = {
        "ant/1.png": lit(0),
        "ant/2.png": lit(1),
        "ant/3.png": lit(0),
        "bee/1.png": lit(1),
        "bee/2.png": lit(1),
        "fox/1.png": row(90, 80, 70, 60, 50, 40),
    }
    for name, picture in pictures.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """60 pictures; each third is taken for the class above."""
    labels = [i % 5 for i in range(60)]
    pictures = [encoded(lit(label + (i % 3 == 0)), tmp_path) for i, label in enumerate(labels)]
    file = io.BytesIO()
    lit(labels[1]).resize((96, 16), Image.Resampling.NEAREST).save(file, "JPEG", quality=95)
    pictures[1] = file.getvalue()
    np.savez(tmp_path / "data.npz", **members(*pictures, labels=labels))
    return tmp_path / "data.npz"


# --------------------------------------------------------------------------------------------------- what is counted


def test_eval_shows_accuracies_and_a_matrix(run: Run, model: Path, folder: Path) -> None:
    done = run("eval", model, folder)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:3] == [
        "model     brightest",
        f"data set  {folder}: 6 pictures of 3 classes",
        "classes   by label",
    ]
    assert lines[4:6] == ["top-1     66.67%: 4 of 6", "top-5     83.33%: 5 of 6"]
    assert re.fullmatch(r"rate      [\d.,]+ pictures/s: \d\.\d s, \d+ jobs?", lines[6])
    assert [line.split() for line in lines[9:]] == [
        ["class", "label", "0", "1", "2", "3", "4", "5", "right"],
        ["0", "ant", "2", "1", ".", ".", ".", ".", "66.67%"],
        ["1", "bee", ".", "2", ".", ".", ".", ".", "100.00%"],
        ["5", "fox", "1", ".", ".", ".", ".", ".", "0.00%"],
    ]


def test_eval_json_has_everything(run: Run, model: Path, folder: Path) -> None:
    values = json.loads(run("eval", model, folder, "--json", "--jobs", 3).out)
    assert values.pop("seconds") > 0
    assert values.pop("pictures_per_second") > 0
    assert values == {
        "schema": 1,
        "model": "brightest",
        "dataset": str(folder),
        "pictures": 6,
        "matched": "by label",
        "label_offset": None,
        "top": [{"k": 1, "right": 4, "accuracy": 4 / 6}, {"k": 5, "right": 5, "accuracy": 5 / 6}],
        "jobs": 3,
        "classes": [
            {"class": 0, "label": "ant", "pictures": 3, "right": 2},
            {"class": 1, "label": "bee", "pictures": 2, "right": 2},
            {"class": 5, "label": "fox", "pictures": 1, "right": 0},
        ],
        "confusion": [
            {"class": 0, "predicted": 0, "pictures": 2},
            {"class": 0, "predicted": 1, "pictures": 1},
            {"class": 1, "predicted": 1, "pictures": 2},
            {"class": 5, "predicted": 0, "pictures": 1},
        ],
    }


def test_there_is_no_top_5_of_fewer_classes(run: Run, tmp_path: Path) -> None:
    save_model(brightest(4), tmp_path / "four.npz")
    np.savez(tmp_path / "d.npz", **members(encoded(lit(1, 4), tmp_path), labels=[1]))
    done = run("eval", "four.npz", "d.npz")
    assert done.code == 0
    assert "top-1     100.00%: 1 of 1\nrate " in done.out


def test_of_many_classes_the_most_frequent_confusions_are_shown(run: Run, tmp_path: Path) -> None:
    save_model(brightest(30, tuple(f"thing {i}" for i in range(30))), tmp_path / "many.npz")
    labels = [*range(30), 3, 3, 7]
    shown = [*range(30), 4, 4, 8]
    pictures = [encoded(lit(place, 30), tmp_path) for place in shown]
    np.savez(tmp_path / "d.npz", **members(*pictures, labels=labels))
    done = run("eval", "many.npz", "d.npz")
    lines = done.out.splitlines()
    assert "classes   by number" in lines
    assert lines[-4] == "The most frequent of 2 confusions (--json has all):"
    assert [re.split(r"\s\s+", line.strip()) for line in lines[-3:]] == [
        ["pictures", "class", "taken for"],
        ["2", "3 thing 3", "4 thing 4"],
        ["1", "7 thing 7", "8 thing 8"],
    ]
    right = members(*pictures[:30], labels=labels[:30])
    np.savez(tmp_path / "d.npz", **right)
    assert run("eval", "many.npz", "d.npz").out.splitlines()[-1] == "No picture was taken for another class."


@pytest.mark.parametrize("width", [40, 80])
def test_tables_fit_the_terminal(
    run: Run, model: Path, folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "names.txt").write_text("\n".join(f"{label} {'x' * 40}" for label in LABELS))
    for old, number in (("ant", 0), ("bee", 1), ("fox", 5)):
        (folder / old).rename(folder / str(number))
    for name in ("columns", "evaluation_report"):
        monkeypatch.setattr(f"tinymbn.{name}.terminal_width", lambda: width)
    lines = run("eval", model, folder, "--labels", "names.txt").out.splitlines()
    table = lines[lines.index("") + 1 :]
    assert max(map(len, table)) <= max(width, 52)  # the sentence above it may wrap
    assert max(map(len, table[1:])) <= width
    assert "right" in table[1] or "taken for" in table[1]


def test_labels_and_resize_are_as_with_run(run: Run, model: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("A\nbee\nC\nD\nE\nF\n")
    done = run("eval", model, folder, "--labels", "names.txt")
    assert done.code == 3
    assert "no class 'ant' in model 'brightest'; expected one of its 6 labels ('A', 'bee', 'C', ...)" in done.err
    assert ", squashed;" in run("eval", model, folder).out
    assert ", centre crop;" in run("eval", model, folder, "--resize", "crop").out


def test_an_offset_is_said(run: Run, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **members(encoded(lit(3), tmp_path), labels=[2]))
    assert "classes   by number\n" in run("eval", model, "d.npz").out
    done = run("eval", model, "d.npz", "--label-offset", 1)
    assert "classes   by number, +1 as --label-offset says\n" in done.out
    assert "top-1     100.00%" in done.out
    assert json.loads(run("eval", model, "d.npz", "--label-offset", 1, "--json").out)["label_offset"] == 1


def test_among_equal_scores_the_lower_class_comes_first() -> None:
    scores = np.array([5, 9, 9, 2], np.uint8)
    assert [answer_of(scores, true) for true in range(4)] == [
        Answer(0, 1, 2),
        Answer(1, 1, 0),
        Answer(2, 1, 1),
        Answer(3, 1, 3),
    ]


@needs_shared
def test_imagenet_is_counted_as_it_should_be(run: Run, tmp_path: Path) -> None:
    """Every tenth of the 500 pictures, the last class among them."""
    with np.load(SHARED / "data" / "imagenet_sample_500.npz") as data:
        jpeg, offsets, labels = data["jpeg"].tobytes(), data["offsets"], data["labels"]
    chosen = range(499, 0, -10)
    some = members(*(jpeg[offsets[k] : offsets[k + 1]] for k in chosen), labels=labels[list(chosen)])
    np.savez(tmp_path / "d.npz", **some)
    mobilenet = SHARED / "models" / "mobilenet_v1_0.25_128_quant.tflite"
    done = run("eval", mobilenet, "d.npz", "--json")
    values = json.loads(done.out)
    assert values["matched"] == "by number, the background counted: there is a class 1000"
    assert values["top"][0]["accuracy"] > 0.25
    done = run("eval", mobilenet, "d.npz", "--json", "--label-offset", -1)
    assert json.loads(done.out)["top"][0]["accuracy"] < 0.1
    some["labels"] = some["labels"] - 1
    np.savez(tmp_path / "d.npz", **some)
    done = run("eval", mobilenet, "d.npz")
    assert done.code == 3
    assert "is the background: expected --label-offset 1" in done.err
    assert json.loads(run("eval", mobilenet, "d.npz", "--json", "--label-offset", 1).out)["top"] == values["top"]


# ----------------------------------------------------------------------------------------------------------- threads


def test_the_result_is_the_same_on_any_number_of_threads(run: Run, model: Path, archive: Path) -> None:
    results = []
    for jobs in (1, 2, 7):
        values = json.loads(run("eval", model, archive, "--json", "--jobs", jobs).out)
        assert values.pop("jobs") == jobs
        results.append({key: value for key, value in values.items() if "second" not in key})
    assert results[0]["pictures"] == 60
    assert results[0]["top"][0]["right"] == 40
    assert results[1:] == results[:1] * 2


def labelled(count: int, tmp_path: Path) -> Iterator[LabelledPicture]:
    data = encoded(lit(2), tmp_path)
    for k in range(count):
        yield LabelledPicture(Path(f"picture {k}"), data, k % 3)


MATCH = ClassMatch((0, 2, 4), None, "by label")


def test_pictures_are_read_a_few_ahead_and_answers_come_in_order(tmp_path: Path) -> None:
    read = 0

    def counted() -> Iterator[LabelledPicture]:
        nonlocal read
        for picture in labelled(200, tmp_path):
            read += 1
            yield picture

    interpreter = Interpreter(brightest(len(LABELS)))
    answered = 0
    for answer in evaluate(interpreter, counted(), MATCH, 2):
        assert answer == Answer(MATCH.classes[answered % 3], 2, (1, 0, 4)[answered % 3])
        answered += 1
        assert read - answered <= 8
    assert answered == 200


def test_the_first_error_is_told_after_the_answers_before_it(tmp_path: Path) -> None:
    def pictures() -> Iterator[LabelledPicture]:
        for k, picture in enumerate(labelled(12, tmp_path)):
            yield LabelledPicture(picture.path, b"bad", 0) if k in (5, 7) else picture
        raise DatasetError("the reader fails")

    for jobs in (1, 2, 9):
        answers = evaluate(Interpreter(brightest(len(LABELS))), pictures(), MATCH, jobs)
        assert len(list(islice(answers, 5))) == 5
        with pytest.raises(ImageError, match="picture 5: not a picture"):
            next(answers)


def test_threads_and_their_silence_are_gone_when_it_is_closed(tmp_path: Path) -> None:
    filters = list(warnings.filters)
    answers = evaluate(Interpreter(brightest(len(LABELS))), labelled(10**9, tmp_path), MATCH, 3)
    next(answers)
    answers.close()
    assert warnings.filters == filters
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tinymbn-eval")]


def test_kernels_let_other_threads_run() -> None:
    """One call of a kernel, long enough that the main thread would be seen to wait for it."""
    x = np.zeros((200, 400, 32), np.int8)
    ones = np.ones(32, np.int32)
    weights = np.ones((32, 3, 3, 32), np.int8)
    kernel: Any = conv2d
    arguments = [weights, ones, ones * 2**30, ones.astype(np.int8), (1, 1), (1, 1), (0, 0), 0, 0, 0, (-9, 9)]
    kernel(x[:4].copy(), *arguments, np.zeros((2, 398, 32), np.int8))
    thread = threading.Thread(target=kernel, args=(x, *arguments, np.zeros((198, 398, 32), np.int8)))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 10


# ------------------------------------------------------------------------------------------- errors and interruption


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "expected a DATASET, or a MODEL and a DATASET"),
        (["model.npz", "data", "data"], 2, "expected a DATASET, or a MODEL and a DATASET"),
        (["model.npz", "data", "--jobs", "0"], 2, "--jobs"),
        (["missing.npz", "data"], 3, "missing.npz: no such file"),
        (["model.npz", "n" * 300], 3, "nnn: cannot be read: File name too long"),
        (["model.npz", "missing"], 3, "missing: no such file"),
        (["model.npz", "model.npz"], 3, "model.npz: an archive of "),
        (["model.npz", "data/ant"], 3, "data/ant: no class folders in it; expected a folder with a folder"),
        (["model.npz", "data/ant/1.png"], 3, "1.png: damaged, or another kind of file; expected a folder"),
        (["model.npz", "strange"], 3, "strange: no class 'gnu' in model 'brightest'; expected one of its 6 labels"),
        (["model.npz", "empty"], 3, "bee: no pictures in this folder"),
        (["model.npz", "damaged"], 3, "damaged/ant/2.png: not a picture of a known kind"),
        (["model.npz", "d.npz"], 3, "d.npz: class number 6; model 'brightest' has classes 0 to 5"),
        (["model.npz", "bad.npz"], 3, "bad.npz: picture 1: not a picture of a known kind"),
        (["boxes.npz", "data"], 3, "model 'boxes': outputs 6, 2x3; expected one, a row of class scores"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    run: Run, model: Path, folder: Path, tmp_path: Path, arguments: list[str], code: int, text: str
) -> None:
    for name in ("strange/gnu/1.png", "empty/ant/1.png", "empty/bee/notes.txt", "damaged/ant/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        lit(0).save(tmp_path / name, "PNG")
    (tmp_path / "damaged/ant/2.png").write_text("no picture")
    good = encoded(lit(0), tmp_path)
    np.savez(tmp_path / "d.npz", **members(good, labels=[6]))
    np.savez(tmp_path / "bad.npz", **members(good, b"bad", good, labels=[0, 0, 0]))
    graph = brightest(6)
    tensors = {**graph.tensors, "boxes": Tensor("boxes", (2, 3), Quant(1.0, 0))}
    layers = (*graph.layers, Reshape("boxes", ("picture",), "boxes", (2, 3)))
    save_model(Graph("boxes", tensors, layers, "picture", ("scores", "boxes")), tmp_path / "boxes.npz")
    done = run("eval", *arguments)
    first, *hints = done.err.splitlines()
    assert (done.code, done.out) == (code, "")
    assert first.startswith("tinymbn: ")
    assert text in first
    assert hints == (["Hint: tinymbn eval --help"] if code == 2 else [])


def test_the_model_may_be_left_out(run: Run, model: Path, folder: Path) -> None:
    done = run("eval", folder)
    assert "top-1     66.67%" in done.out
    assert done.err == "model: model.npz, in this folder\n"
    assert run("eval", "-q", folder).err == ""


def test_an_interrupt_says_how_far_it_got(
    run: Run, model: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Iterator[Answer]:
        for k, answer in enumerate(evaluate(*arguments)):
            if k == 4:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr("tinymbn.evaluation.evaluate", interrupted)
    done = run("eval", model, archive)
    assert done == (130, "", "tinymbn: interrupted after 4 of 60 pictures, 2 of them right\n")


def test_on_a_terminal_there_is_progress_and_an_interrupt_ends_it_at_once(model: Path, tmp_path: Path) -> None:
    count = 100_000
    data = encoded(lit(1), tmp_path)
    np.savez(tmp_path / "d.npz", **members(*[data] * count, labels=[1] * count))
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tinymbn", "eval", str(model), str(tmp_path / "d.npz"), "--jobs", "2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(command, cwd=CHECKOUT, stderr=slave, stdout=subprocess.PIPE, env=environment)
    os.close(slave)
    shown = b""
    try:
        while not re.search(rb"\d+/100000 [\d,.]+/s \d:\d\d:\d\d", re.sub(rb"\x1b\[[\d;?]*[A-Za-z]", b"", shown)):
            shown += os.read(master, 4096)
        running.send_signal(signal.SIGINT)
        sent = time.monotonic()
        while b"interrupted" not in shown or b"\n" not in shown.rpartition(b"interrupted")[2]:
            shown += os.read(master, 4096)
        code = running.wait(20)
        assert time.monotonic() - sent < 5
    finally:
        running.kill()
        out, _ = running.communicate()
        os.close(master)
    assert (code, out) == (130, b"")
    line = rb"tinymbn: interrupted after ([\d,]+) of 100,000 pictures, \1 of them right\r\n$"
    found = re.search(line, shown)
    assert found is not None, shown[-300:]
    assert b"Traceback" not in shown
