from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tinymbn
from tests.command_line import Run
from tests.graphs import classifier
from tests.shared import CHECKOUT, SHARED, needs_shared
from tinymbn import Graph, Interpreter, load_model, save_model
from tinymbn.cli import main
from tinymbn.graph import Quant, Tensor
from tinymbn.inference import layer_times
from tinymbn.layers import Activation, Dense, Reshape, Softmax, Weights
from tinymbn.preprocessing import Preprocessing
from tinymbn.summary import kind_text, preprocessing_text
from tinymbn.terminal import printable, shorten, with_progress


def make_graph(size: int = 4, labels: tuple[str, ...] = ("dark", "bright", "never")) -> Graph:
    """Says whether a grey picture is dark or bright: the sum of its pixels, and minus that."""
    quant = Quant(1 / 128, 0)
    tensors = [
        Tensor("picture", (size, size, 1), quant),
        Tensor("flat", (size * size,), quant),
        Tensor("sums", (3,), Quant(1 / 16, 0)),
        Tensor("scores", (3,), Quant(1 / 256, -128)),
    ]
    weights = Weights(
        values=np.array([[-1], [1], [0]], np.int8) * np.ones(size * size, np.int8),
        bias=np.array([0, 0, -1000], np.int32),
        multiplier=np.full(3, 2**30, np.int32),
        shift=np.full(3, -3, np.int8),
    )
    return Graph(
        name="light",
        tensors={tensor.name: tensor for tensor in tensors},
        layers=(
            Reshape("flatten", ("picture",), "flat", (size * size,)),
            Dense("sum", ("flat",), "sums", weights, Activation()),
            Softmax("softmax", ("sums",), "scores", 2**30, 23, -248),
        ),
        input="picture",
        outputs=("scores",),
        labels=labels,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(make_graph(), tmp_path / "light.npz")
    return tmp_path / "light.npz"


def picture(path: Path, grey: int) -> Path:
    Image.new("L", (8, 8), grey).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(folder / "b.PNG", 255)
    picture(folder / "a.png", 0)
    np.save(folder / "c.npy", np.full((4, 4, 1), 127, np.int8))
    picture(folder / ".hidden.png", 0)
    (folder / "notes.txt").write_text("no picture")
    return folder


# -------------------------------------------------------------------------------------------------------- run


def test_run_shows_scores_raw_values_and_labels(run: Run, model: Path, tmp_path: Path) -> None:
    done = run("run", model, picture(tmp_path / "x.png", 255))
    assert done.code == 0
    assert done.err == ""
    heading, first, second, third = done.out.splitlines()[1:]
    assert heading.split() == ["score", "int8", "class", "label"]
    assert first.split() == ["99.6", "%", "127", "1", "bright"]
    assert second.split() == ["0.0", "%", "-128", "0", "dark"]
    assert third.split() == ["0.0", "%", "-128", "2", "never"]


def test_run_takes_folders_by_name_and_shows_a_line_a_picture(run: Run, model: Path, pictures: Path) -> None:
    done = run("run", model, pictures)
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["picture", "score", "int8", "class", "label"]
    assert [(Path(row[0]).name, row[-1]) for row in rows[1:]] == [
        ("a.png", "dark"),
        ("b.PNG", "bright"),
        ("c.npy", "bright"),
    ]


def test_run_top_shows_that_many_of_each(run: Run, model: Path, pictures: Path) -> None:
    assert run("run", "--top", 2, model, pictures).out.count("%") == 6
    assert run("run", "--top", 1, model, pictures / "a.png").out.count("%") == 1


def test_run_without_labels_shows_classes_alone(run: Run, model: Path, tmp_path: Path) -> None:
    save_model(make_graph(labels=()), model)
    done = run("run", model, picture(tmp_path / "x.png", 255))
    assert done.out.splitlines()[1].split() == ["score", "int8", "class"]
    assert done.out.splitlines()[2].split() == ["99.6", "%", "127", "1"]


def test_run_takes_labels_from_a_file(run: Run, model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Nacht\nTag\nnie\n")
    assert "Tag" in run("run", model, pictures / "b.PNG", "--labels", tmp_path / "names.txt").out
    (tmp_path / "names.txt").write_text("Nacht\nTag\n")
    done = run("run", model, pictures / "b.PNG", "--labels", tmp_path / "names.txt")
    assert done.code == 3
    assert "2 labels; model 'light' has 3 classes" in done.err


def test_run_json_has_everything(run: Run, model: Path, pictures: Path) -> None:
    (pictures / "d.png").write_text("no picture")
    done = run("run", model, pictures, "--json", "--layers", "--profile")
    assert done.code == 3
    values = json.loads(done.out)
    assert values["schema"] == 1
    a, b, c, d = values["pictures"]
    best = b["outputs"][0]["scores"][0]
    assert best == {"class": 1, "label": "bright", "score": 255 / 256, "raw": 127}
    assert c["outputs"][0]["name"] == "scores"
    assert "not a picture" in d["error"]
    assert [layer["kind"] for layer in a["layers"]] == ["reshape", "dense", "softmax"]
    assert a["layers"][0] | {"index": 0, "min": -128, "max": -128, "shape": [16]} == a["layers"][0]
    assert [layer["name"] for layer in values["profile"]] == ["flatten", "sum", "softmax"]
    assert all(layer["seconds"] >= 0 for layer in values["profile"])


def test_run_goes_on_after_a_bad_picture(run: Run, model: Path, pictures: Path) -> None:
    (pictures / "aa.png").write_text("no picture")
    done = run("run", model, pictures, pictures / "missing.png")
    assert done.code == 3
    assert len(done.out.splitlines()) == 4
    bad, missing = done.err.splitlines()
    assert bad.startswith(f"tinymbn: {pictures / 'aa.png'}: not a picture")
    assert missing == f"tinymbn: {pictures / 'missing.png'}: no such file"


def test_run_layers_shows_what_each_layer_makes(run: Run, model: Path, pictures: Path) -> None:
    done = run("run", model, pictures / "a.png", "--layers")
    lines = done.out.splitlines()
    row = lines[-3].split()
    assert lines[-4].split() == ["#", "layer", "kind", "output", "min", "max", "CRC-32"]
    assert row[:-1] == ["0", "flatten", "reshape", "16", "-128", "-128"]
    assert len(row[-1]) == 8


def test_run_profile_says_whose_time_it_is(run: Run, model: Path, pictures: Path) -> None:
    out = run("run", model, pictures / "a.png", "--profile").out
    assert "Time on this computer, not on a chip" in out
    assert out.splitlines()[-1].endswith("ms in all")


def test_run_output_writes_the_raw_outputs_of_all_pictures(
    run: Run, model: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "b.PNG").write_text("no picture")
    for _ in range(2):  # writing over the file is fine
        assert run("run", model, pictures, "--output", "raw.npz").code == 3
    with np.load(tmp_path / "raw.npz", allow_pickle=False) as raw:
        assert [Path(name).name for name in raw["pictures"]] == ["a.png", "c.npy"]
        assert raw["names"].tolist() == ["scores"]
        assert raw["output_0"].dtype == np.int8
        assert raw["output_0"].tolist() == [[127, -128, -128], [-128, 127, -128]]
    assert not list(tmp_path.glob(".raw*"))


def test_run_resize_overrides_the_model(run: Run, model: Path, tmp_path: Path) -> None:
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert "dark" in run("run", model, "x.png", "--top", 1).out
    assert "bright" in run("run", model, "x.png", "--top", 1, "--resize", "crop").out


def test_the_model_left_out_is_model_npz_in_the_folder(run: Run, model: Path, pictures: Path, tmp_path: Path) -> None:
    model.rename(tmp_path / "model.npz")
    done = run("run", pictures / "b.PNG")
    assert "bright" in done.out
    assert done.err == "model: model.npz, in this folder\n"
    assert run("run", "-q", pictures / "b.PNG").err == ""
    assert run("info").out.startswith("model    light")


SHIPPED = CHECKOUT / "tinymbn" / "models" / "digits.npz"
SAMPLES = CHECKOUT / "examples" / "digits" / "samples"


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no model ships yet")
def test_the_model_that_ships_reads_the_digits_that_ship(run: Run) -> None:
    done = run("run", SAMPLES)
    assert done.code == 0
    assert done.err == "model: digits.npz, which ships with tinymbn\n"
    rows = [line.split() for line in done.out.splitlines()[1:]]
    assert [(Path(row[0]).stem, row[-1]) for row in rows] == [(str(digit), str(digit)) for digit in range(10)]


def test_outputs_that_are_no_scores_are_shown_as_shape_range_and_first_values(run: Run, tmp_path: Path) -> None:
    boxes, scores = Tensor("boxes", (2, 2), Quant(0.5, 0)), Tensor("flat", (4,), Quant(0.5, 0))
    graph = Graph(
        name="boxes",
        tensors={"in": Tensor("in", (2, 2, 1), Quant(0.5, 0)), "boxes": boxes, "flat": scores},
        layers=(Reshape("boxes", ("in",), "boxes", (2, 2)), Reshape("flat", ("in",), "flat", (4,))),
        input="in",
        outputs=("boxes", "flat"),
    )
    save_model(graph, tmp_path / "boxes.npz")
    np.save(tmp_path / "x.npy", np.array([[-2, 4], [6, 8]], np.int8))
    lines = run("run", "boxes.npz", "x.npy").out.splitlines()
    assert lines == [
        "x.npy",
        "  boxes",
        "  2x2, -1 to 4 (int8 -2 to 8)",
        "  first values: -1  2  3  4",
        "  flat",
        "  4, -1 to 4 (int8 -2 to 8)",
        "  first values: -1  2  3  4",
    ]
    output = json.loads(run("run", "boxes.npz", "x.npy", "--json").out)["pictures"][0]["outputs"][0]
    assert output["min"] == -1
    assert output["first"] == [-1, 2, 3, 4]
    assert output["first_raw"] == [-2, 4, 6, 8]


@needs_shared
def test_person_detection_gives_the_known_scores(run: Run) -> None:
    assert run("import", SHARED / "models" / "person_detect.tflite", "-o", "person.npz").code == 0
    for model in ("person.npz", SHARED / "models" / "person_detect.tflite"):
        for name, expected in (("person", {0: -113, 1: 113}), ("no_person", {0: 77, 1: -77})):
            done = run("run", model, SHARED / "images" / f"{name}.png", "--json")
            (output,) = json.loads(done.out)["pictures"][0]["outputs"]
            assert {score["class"]: score["raw"] for score in output["scores"]} == expected


# ------------------------------------------------------------------------------------------- import and info


def test_import_keeps_labels_and_preprocessing(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    done = run("import", model, "--labels", "names.txt", "--input-range", "-1,1", "--resize", "crop")
    assert done.code == 0
    assert done.out.startswith("model.npz: 3 layers, 48 MACs, 51 weights and biases, ")
    assert "given at import" in done.out
    graph = load_model(tmp_path / "model.npz")
    assert graph.labels == ("a", "b", "c")
    assert graph.preprocessing == Preprocessing("crop", "rgb", (127.5,), (127.5,), "user")
    run("import", "model.npz", "-o", "model.npz", "--mean", "10", "--std", "20", "--channel-order", "bgr")
    graph = load_model(tmp_path / "model.npz")
    assert graph.labels == ("a", "b", "c")
    assert graph.preprocessing == Preprocessing("crop", "bgr", (10.0,), (20.0,), "user")


def test_a_resize_alone_leaves_the_guess_a_guess(run: Run, model: Path, tmp_path: Path) -> None:
    assert "a guess" in run("import", model, "--resize", "crop").out
    assert load_model(tmp_path / "model.npz").preprocessing == Preprocessing(resize="crop")


def test_an_import_that_fails_leaves_the_old_file(run: Run, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    assert run("import", model, "-o", model, "--mean", "1,2,3", "--std", "1,2,3").code == 3
    (tmp_path / "bad.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(50))
    assert run("import", "bad.tflite", "-o", model).code == 3
    assert model.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tflite", "light.npz"]


def test_info_shows_layers_totals_and_the_guess(run: Run, model: Path) -> None:
    out = run("info", model).out
    assert "3: dark, bright, never" in out
    assert "pixel - 128: -128 to 127 (a guess" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["#", "layer", "kind", "input", "output", "scale", "zero", "MACs", "weights"] in rows
    assert ["1", "sum", "dense", "16", "3", "0.0625", "0", "48", "51"] in rows
    assert out.splitlines()[-1] == "3 layers, 48 MACs, 51 weights and biases"
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_info_json_has_macs_parameters_and_layers(run: Run, model: Path) -> None:
    values = json.loads(run("info", model, "--json").out)
    assert (values["schema"], values["macs"], values["parameters"]) == (1, 48, 51)
    assert [layer["kind"] for layer in values["layers"]] == ["reshape", "dense", "softmax"]
    assert values["layers"][1]["output"] == {
        "name": "sums",
        "type": "int8",
        "shape": [3],
        "scale": 0.0625,
        "zero_point": 0,
    }
    assert values["preprocessing"]["origin"] == "guess"
    assert values["labels"] == ["dark", "bright", "never"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(run: Run, tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph()
    long = "mobilenet/" * 20 + "sum"
    dense = Dense(long, *(getattr(graph.layers[1], name) for name in ("inputs", "output", "weights", "activation")))
    layers = (graph.layers[0], dense, graph.layers[2])
    named = Graph(**{**vars(graph), "layers": layers, "labels": ("x" * 300, "y", "z" * 90)})
    save_model(named, tmp_path / "long.npz")
    picture(tmp_path / f"{'p' * 100}.png", 255)
    arguments = ("run", "long.npz", f"{'p' * 100}.png", "--layers", "--profile")
    piped = run("info", "long.npz").out + run(*arguments).out
    assert piped.count(long) == 3
    monkeypatch.setattr("tinymbn.columns.terminal_width", lambda: width)
    monkeypatch.setattr("tinymbn.report.terminal_width", lambda: width)
    shown = run("info", "long.npz").out + run(*arguments).out
    assert max(map(len, shown.splitlines())) <= width
    assert "weights" in shown
    assert "\x1b" not in shown


def test_kinds_are_shown_with_their_geometry() -> None:

    assert [kind_text(layer) for layer in classifier().layers][:4] == [
        "conv2d 3x2/2",
        "add",
        "logistic",
        "resize_nearest",
    ]


def test_what_becomes_of_a_picture_is_said_in_one_line() -> None:
    graph = make_graph()
    assert preprocessing_text(graph).startswith("4 wide, 4 high, grey, squashed; pixel - 128: -128 to 127 (a guess")
    odd = Graph("odd", {"x": Tensor("x", (5,), Quant(1.0, 0))}, (), "x", ("x",))
    assert preprocessing_text(odd) == "no picture fits; give a .npy array, int8 of shape (5,)"


# --------------------------------------------------------------------------------------- errors and exit codes


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["run", "light.npz"], 2, "no IMAGE is given"),
        (["run", "x.png", "light.npz"], 2, "a model comes first"),
        (["run", "light.npz", "light.npz", "x.png"], 2, "a model comes first"),
        (["run", "light.npz", "x.png", "--top", "0"], 2, "--top"),
        (["run", "light.npz", "x.png", "--frob"], 2, "--frob"),
        (["run", "light.npz", "x.png", "--output", "nowhere/raw.npz"], 2, "no folder nowhere"),
        (["run", "light.npz", "x.png", "--output", "pictures"], 2, "pictures: expected a name that ends in .npz"),
        (["run", "missing.npz", "x.png"], 3, "missing.npz: no such file"),
        (["run", "light.npz", "empty"], 3, "empty: no pictures in this folder"),
        (["run", "light.npz", "x.png", "--labels", "missing.txt"], 3, "missing.txt: no such file"),
        (["import"], 2, "Missing argument"),
        (["import", "light.npz", "-o", "nowhere/model.npz"], 2, "no folder nowhere"),
        (["import", "light.npz", "-o", "pictures"], 2, "pictures: expected a name that ends in .npz"),
        (["import", "light.npz", "--mean", "1"], 2, "--mean and --std go together"),
        (["import", "light.npz", "--mean", "a", "--std", "1"], 2, "expected numbers"),
        (["import", "light.npz", "--input-range", "1"], 2, "two numbers"),
        (["import", "light.npz", "--input-range", "0,1", "--mean", "1", "--std", "1"], 2, "no --mean"),
        (["import", "light.npz", "--input-range", "1,0"], 2, "the lower first"),
        (["import", "missing.tflite"], 3, "missing.tflite: no such file"),
        (["info", "missing.tflite"], 3, "missing.tflite: no such file"),
        (["info", "foreign.npz"], 3, "foreign.npz: "),
        (["frob"], 2, "frob"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    run: Run, model: Path, pictures: Path, tmp_path: Path, arguments: list[str], code: int, text: str
) -> None:
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "x.png", 0)
    np.savez(tmp_path / "foreign.npz", a=np.arange(3))
    before = sorted(tmp_path.rglob("*"))
    done = run(*arguments)
    first, *hints = done.err.splitlines()
    assert done.code == code
    assert done.out == ""
    assert first.startswith("tinymbn: ")
    assert text in first
    assert all(hint.startswith("Hint: tinymbn") for hint in hints)
    assert len(hints) == (code == 2 and "no folder" not in text)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bug_keeps_its_traceback(run: Run, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("tinymbn.inference.run_pictures", broken)
    with pytest.raises(AssertionError, match="a bug"):
        main(["run", str(model), str(pictures)])


def test_an_interrupt_exits_with_130(run: Run, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tinymbn.inference.find_pictures", interrupted)
    assert run("run", model, pictures) == (130, "", "tinymbn: interrupted\n")


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"tinymbn {tinymbn.__version__}\n", "")
    assert run().out == run("--help").out
    for command in ("run", "eval", "import", "info"):
        assert run(command, "--help").out.startswith(f"Usage: tinymbn {command} ")


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tinymbn", *map(str, arguments)],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_help_and_version_load_nothing_heavy() -> None:
    program = (
        "import sys\nfrom tinymbn.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'numpy', 'numba', 'rich', 'PIL', 'tflite'} & set(sys.modules)))"
    )
    for arguments in (["--version"], ["--help"], ["run", "--help"], ["eval", "--help"]):
        subprocess.run([sys.executable, "-c", program, *arguments], cwd=CHECKOUT, check=True, capture_output=True)


def test_a_reader_that_stops_reading_is_no_error(model: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tinymbn", "info", str(model), "--json"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 141


def test_names_of_any_letters_are_printed_on_any_terminal(model: Path, tmp_path: Path) -> None:
    save_model(make_graph(labels=("猫", "dög", "\x1b[2J")), model)
    odd = tmp_path / os.fsdecode(b"\xff\x1b[2J.png")
    for grey, label in ((0, rb"\u732b"), (255, rb"d\xf6g")):
        picture(odd, grey)
        done = process("run", model, odd, "--top", 3, PYTHONIOENCODING="ascii")
        assert done.stderr == b""
        assert done.returncode == 0
        assert label in done.stdout
        assert rb"\x1b[2J.png" in done.stdout
        assert b"\x1b" not in done.stdout


# --------------------------------------------------------------------------------------------------- terminal


def test_shortened_names_keep_both_ends() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijklm", 9) == "ab…hijklm"
    assert len(shorten("x" * 99, 17)) == 17


def test_control_characters_are_shown_not_sent() -> None:
    assert printable("a\x1b[2J\n\udcffö") == r"a\x1b[2J\n\udcffö"


def test_progress_passes_everything_on() -> None:
    assert list(with_progress(iter(range(5)), 5, quiet=False)) == [0, 1, 2, 3, 4]


def test_progress_on_a_terminal_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinymbn.terminal._BEFORE_PROGRESS_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(with_progress(iter(range(5)), 5, quiet=False)) == [0, 1, 2, 3, 4]


def test_layer_times_cover_all_layers() -> None:
    interpreter = Interpreter(make_graph())
    times = layer_times(interpreter, np.zeros((4, 4, 1), np.int8), most_s=0.0)
    assert [one.layer.name for one in times] == ["flatten", "sum", "softmax"]


def test_run_with_nothing_given_reads_the_samples_that_ship(run: Run, model: Path) -> None:
    done = run("run", "--json")
    assert done.code == 0
    pictures = json.loads(done.out)["pictures"]
    assert [p["outputs"][0]["scores"][0]["label"] for p in pictures] == list("0123456789")
    model.rename("model.npz")
    assert run("run").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "light.npz", "x.npz.png", "--output", "light.npz"],
        ["run", "light.npz", "x.npz.png", "--labels", "names.npz", "--output", "names.npz"],
        ["run", "light.npz", "x.npz.png", "--output", "x.npz.png"],
        ["import", "light.tflite", "-o", "light.tflite"],
        ["import", "light.npz", "--labels", "names.npz", "-o", "names.npz"],
        ["import", "light.npz"],
    ],
)
def test_no_command_replaces_what_it_reads_or_what_was_not_named(
    run: Run, model: Path, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "light.tflite").write_bytes(b"precious")
    (tmp_path / "names.npz").write_text("a\nb\nc\n")
    (tmp_path / "model.npz").write_text("precious")
    Image.new("L", (4, 4)).save(tmp_path / "x.npz.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(*arguments).code == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_may_be_replaced_by_itself_with_labels(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    assert run("import", model, "-o", model, "--labels", "names.txt").code == 0
    assert load_model(model).labels == ("x", "y", "z")


def test_a_name_that_is_too_long_is_an_error_like_any_other(run: Run, model: Path, tmp_path: Path) -> None:
    name = "n" * 300
    assert run("run", model, f"{name}.png").code == 3
    assert run("info", f"{name}.npz").code == 3
    assert run("import", model, "-o", f"{name}.npz").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["light.npz"]


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    arguments = ["bash", "-c", command]
    return subprocess.run(arguments, cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output_is_an_error() -> None:
    command = f"exec {sys.executable} -m tinymbn info > /dev/full"
    done = _shell(command)
    assert done.returncode == 2
    assert done.stderr == "tinymbn: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", ["info", "--version"])
def test_a_closed_standard_output_is_no_error(arguments: str) -> None:
    command = f"exec {sys.executable} -m tinymbn {arguments} >&-"
    done = _shell(command)
    assert (done.returncode, done.stderr) == (0, "")
