from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinymbn.errors import ModelError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.labels import Score, class_count, is_probability, load_labels, real_values, top, with_labels
from tinymbn.layers import AnyLayer, Dequantize, Lookup, Reshape, Softmax

QUANT = Quant(1 / 256, -128)


def labels_of(path: Path, data: bytes) -> tuple[str, ...]:
    path.write_bytes(data)
    return load_labels(path)


def make_graph(*outputs: Tensor, layers: tuple[AnyLayer, ...] = (), also: tuple[Tensor, ...] = ()) -> Graph:
    """A model with these outputs; the first tensor is the input."""
    tensors = {tensor.name: tensor for tensor in (*also, *outputs)}
    return Graph("m", tensors, layers, next(iter(tensors)), tuple(tensor.name for tensor in outputs))


# ------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    "data",
    [
        b"cat\nd\xc3\xb6g\nbarn owl",
        b"cat\nd\xc3\xb6g\nbarn owl\n",
        b"\xef\xbb\xbfcat\r\nd\xc3\xb6g\r\nbarn owl\r\n",
        b"cat\rd\xc3\xb6g\rbarn owl\r",
        b"  cat \nd\xc3\xb6g\t\nbarn owl\n\n\n",
    ],
)
def test_labels_are_lines(tmp_path: Path, data: bytes) -> None:
    assert labels_of(tmp_path / "labels.txt", data) == ("cat", "dög", "barn owl")


def test_a_blank_line_is_a_class_without_a_name(tmp_path: Path) -> None:
    assert labels_of(tmp_path / "labels.txt", b"\ncat\n\nowl\n") == ("", "cat", "", "owl")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no labels"),
        (b"\n\n \n", "no labels"),
        (b"cat\n\xff\xfe", "byte 4 is not UTF-8"),
        (b"c\0a\0t\0", "line 1 has control characters"),
        (b"cat\n\x1b[2J\n", "line 2 has control characters"),
        (b"x" * (2**20 + 1), "1048577 bytes; expected at most 1048576"),
    ],
)
def test_a_file_that_is_no_list_of_labels_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=rf"labels\.txt: {problem}"):
        labels_of(tmp_path / "labels.txt", data)


def test_a_missing_label_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_labels(tmp_path / "labels.txt")
    with pytest.raises(ModelError, match="not a file; expected a text file"):
        load_labels(tmp_path)


def test_labels_that_are_not_one_a_class_are_refused(tmp_path: Path) -> None:
    graph = make_graph(Tensor("scores", (3,), QUANT))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert with_labels(graph, tmp_path / "labels.txt").labels == ("a", "b", "c")
    (tmp_path / "labels.txt").write_text("background\na\nb\nc\n")
    with pytest.raises(ModelError, match=r"labels\.txt: 4 labels; model 'm' has 3 classes"):
        with_labels(graph, tmp_path / "labels.txt")


# ----------------------------------------------------------------------------------------------------- scores


def test_the_only_output_in_a_row_scores_classes() -> None:
    for shape, classes in (((3,), 3), ((1, 1, 3), 3), ((1,), 0), ((2, 3), 0)):
        assert class_count(make_graph(Tensor("x", shape, QUANT)), "x") == classes


def test_of_several_outputs_softmax_and_logistic_score_classes() -> None:
    graph = make_graph(
        Tensor("softmax", (3,), QUANT),
        Tensor("float", (3,), None, "float32"),
        Tensor("x", (3,), QUANT),
        also=(Tensor("in", (3,), QUANT), Tensor("logistic", (3,), QUANT), Tensor("reshaped", (3,), QUANT)),
        layers=(
            Softmax("softmax", ("in",), "softmax", 2**30, 23, -248),
            Lookup("logistic", ("in",), "logistic", "logistic", np.zeros(256, np.int8)),
            Reshape("reshaped", ("logistic",), "reshaped", (3,)),
            Dequantize("float", ("reshaped",), "float"),
            Lookup("x", ("in",), "x", "hard_swish", np.zeros(256, np.int8)),
        ),
    )
    assert [class_count(graph, name) for name in graph.outputs] == [3, 3, 0]
    assert [is_probability(graph, name) for name in graph.outputs] == [True, True, False]


def test_the_highest_scores_come_first_and_of_equal_ones_the_lower_index() -> None:
    values = np.array([-128, 5, 127, 5, -3], np.int8)
    best = top(values, Tensor("x", (5,), Quant(0.5, 1)), ("a", "b", "c", "d", "e"), 3)
    assert best == [Score(2, "c", 63.0, 127), Score(1, "b", 2.0, 5), Score(3, "d", 2.0, 5)]


def test_a_single_value_out_of_a_logistic_is_the_probability_of_the_second_of_two_classes(tmp_path: Path) -> None:
    graph = make_graph(
        Tensor("p", (1, 1), QUANT),
        also=(Tensor("in", (1, 1), QUANT),),
        layers=(Lookup("p", ("in",), "p", "logistic", np.zeros(256, np.int8)),),
    )
    assert class_count(graph, "p") == 2
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    named = with_labels(graph, tmp_path / "labels.txt")
    for raw, expected in (
        (64, [Score(1, "dog", 0.75, 64), Score(0, "cat", 0.25, None)]),
        (0, [Score(0, "cat", 0.5, None), Score(1, "dog", 0.5, 0)]),
        (-128, [Score(0, "cat", 1.0, None), Score(1, "dog", 0.0, -128)]),
    ):
        assert top(np.array([[raw]], np.int8), named.tensors["p"], named.labels, 5) == expected
    (best,) = top(np.array([0.75], np.float32), Tensor("p", (1,), None, "float32"), (), 1)
    assert best == Score(1, "", 0.75, None)
    (tmp_path / "labels.txt").write_text("dog\n")
    with pytest.raises(ModelError, match="1 labels; model 'm' has 2 classes"):
        with_labels(graph, tmp_path / "labels.txt")


def test_there_are_no_more_scores_than_classes() -> None:
    assert len(top(np.zeros(3, np.int8), Tensor("x", (3,), QUANT), (), 10)) == 3


def test_labels_for_another_number_of_classes_are_left_out() -> None:
    (best,) = top(np.array([1, 2], np.int8), Tensor("x", (2,), QUANT), ("a", "b", "c"), 1)
    assert best.label == ""


def test_scores_are_real_values_of_each_output_type() -> None:
    for tensor, raw in (
        (Tensor("x", (2,), Quant(0.25, -128)), np.array([-128, 127], np.int8)),
        (Tensor("x", (2,), Quant(0.25, 0), "uint8"), np.array([0, 255], np.uint8)),
        (Tensor("x", (2,), None, "float32"), np.array([0, 63.75], np.float32)),
    ):
        real = real_values(raw, tensor)
        assert real.dtype == np.float32
        assert real.tolist() == [0, 63.75]
    assert top(np.array([0.5, 0.7], np.float32), Tensor("x", (2,), None, "float32"), (), 1)[0].raw is None
