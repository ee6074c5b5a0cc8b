"""What an import refuses, and how; what it computes away; what a file says beside its graph.

That imported models compute the same bytes is in ``test_operators_litert`` and ``test_models_litert``.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from tests.shared import SHARED, needs_shared
from tests.tflite_writer import TfliteWriter
from tinymbn import Interpreter, ModelError, UnsupportedError, import_tflite
from tinymbn.errors import FloatModelError
from tinymbn.importers.tflite.model import from_bytes
from tinymbn.importers.tflite.operators.movement import nearest_indices
from tinymbn.layers import Dequantize, Quantize, Reshape

SAME_1 = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}


def _refusal(data: bytes, kind: type[ModelError] = UnsupportedError) -> str:
    with pytest.raises(ModelError) as caught:
        from_bytes(data, "model.tflite")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _relu(dtype: str = "int8", shape: tuple[int, ...] = (1, 2, 3, 4), **options: Any) -> bytes:
    w = TfliteWriter()
    quantization: dict[str, Any] = {"scale": 0.5, "zero_point": 3} if dtype != "float32" else {}
    x, y = w.tensor("x", shape, dtype, **quantization, **options), w.tensor("y", shape, dtype, **quantization)
    w.operator("RELU", x, y)
    return w.build(x, y)


def _convolution(**changes: Any) -> bytes:
    """One convolution, with one thing different."""
    w = TfliteWriter()
    x = w.tensor("x", (1, 4, 4, 2), scale=0.5)
    y = w.tensor("y", (1, 4, 4, 3), scale=0.5)
    weights = changes.get("weights", np.ones((3, 1, 1, 2), np.int8))
    scale = {"scale": changes.get("scale", 0.1), "zero_point": changes.get("zero_point", 0)}
    operands = [x, w.constant("w", weights, **scale)]
    if "bias" in changes:
        operands.append(w.constant("b", changes["bias"], scale=0.05))
    w.operator("CONV_2D", operands, y, **{**SAME_1, **changes.get("options", {})})
    return w.build(x, y)


def test_all_unsupported_operators_are_listed_at_once() -> None:
    w = TfliteWriter()
    x = w.tensor("x", (1, 4, 4, 2), scale=0.5)
    names = ("first", "second", "third", "fourth")
    tensors = [x, *(w.tensor(name, (1, 4, 4, 2), scale=0.5) for name in names)]
    for kind, a, b in zip(("SIN", "RELU", "ELU", "SIN"), tensors, tensors[1:], strict=False):
        w.operator(kind, a, b)
    text = _refusal(w.build(x, tensors[-1]))
    assert text.startswith("3 operators not supported: SIN (first, fourth); ELU (third). Supported: ADD, ")


def test_a_float_model_is_told_to_be_quantised() -> None:
    text = _refusal(_relu("float32"), FloatModelError)
    assert text.startswith("a float model; tinymbn runs int8: quantise it first: tinymbn quantize MODEL")


@needs_shared
def test_a_real_float_model_is_told_to_be_quantised() -> None:
    with pytest.raises(FloatModelError, match=r"a float model; .* quantise it first"):
        import_tflite(SHARED / "models" / "vww_96_float.tflite")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (_relu("int16"), 'input "x" is int16; expected int8, uint8 or float32'),
        (_relu(shape=(2, 3, 4, 5)), 'input "x" has a batch of 2; expected 1'),
        (_relu(shape=(1, 1, 1, 4), signature=(-1, -1, -1, 4)), 'input "x" leaves its size open'),
        (_convolution(weights=np.ones((3, 1, 1, 1), np.int8)), "CONV_2D: grouped convolution"),
        (_convolution(zero_point=2), "CONV_2D: int8 weights with a zero point"),
        (_convolution(bias=np.ones(3, np.int64)), "CONV_2D: int64 bias; expected int32"),
        (_convolution(options={"fused_activation_function": "TANH"}), "CONV_2D: fused activation tanh"),
    ],
)
def test_what_is_not_supported_is_said(data: bytes, text: str) -> None:
    assert text in _refusal(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a .tflite model"),
        (b"\x1c\0\0\0TFL3" + b"\xff" * 64, "damaged flatbuffer"),
        (_convolution(scale=[0.1, 0.2]), 'CONV_2D "y": weights have 2 scales for 3 output channels'),
        (_convolution(bias=np.ones(4, np.int32)), 'CONV_2D "y": 4 biases for 3 output channels'),
        (_convolution(options={"stride_h": 0}), "must be 1 or more"),
        (_convolution(weights=np.ones((3, 9, 9, 2), np.int8), options={"padding": "VALID"}), 'tensor "y": shape'),
        (_convolution(scale=float("inf")), "is not a finite number"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, text: str) -> None:
    assert text in _refusal(data, ModelError)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.tflite: no such file"):
        import_tflite(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="not a file"):
        import_tflite(tmp_path)


def test_two_inputs_are_refused() -> None:
    w = TfliteWriter()
    a, b, y = (w.tensor(name, (1, 4), scale=0.5) for name in "aby")
    w.operator("ADD", [a, b], y)
    assert _refusal(w.build([a, b], y)) == "2 inputs; tinymbn runs models of one"


def test_an_operator_with_too_few_inputs_is_refused() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4), scale=0.5), w.tensor("y", (1, 4), scale=0.5)
    w.operator("ADD", [x], y)
    assert _refusal(w.build(x, y), ModelError) == 'ADD "y": 1 inputs and 1 outputs are too few'


def test_names_that_the_importer_would_invent_may_be_taken() -> None:
    w = TfliteWriter()
    x, y = w.tensor("a", (1, 2, 2, 1), scale=0.5), w.tensor("a/1", (1, 3), scale=0.5)
    w.operator("FULLY_CONNECTED", [x, w.constant("w", np.ones((3, 4), np.int8), scale=0.1), -1], y)
    graph = from_bytes(w.build(x, y), "model.tflite")
    assert (graph.input, graph.outputs, len(graph.tensors)) == ("a", ("a/1",), 3)


def test_one_tensor_may_be_two_outputs() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4), scale=0.5), w.tensor("y", (1, 4), scale=0.5)
    w.operator("RELU", x, y)
    outputs = Interpreter(from_bytes(w.build(x, [y, y]), "model.tflite")).run(np.array([-1, 0, 1, 2], np.int8))
    assert [output.tolist() for output in outputs] == [[0, 0, 1, 2]] * 2


def test_the_input_may_be_an_output_and_is_not_given_away() -> None:
    for dtype in ("int8", "uint8", "float32"):
        w = TfliteWriter()
        quantization: dict[str, Any] = {"scale": 0.5, "zero_point": 0} if dtype != "float32" else {}
        x, q = w.tensor("x", (1, 4), dtype, **quantization), w.tensor("q", (1, 4), scale=0.5)
        w.operator("QUANTIZE", x, q)
        values = np.array([1, 2, 3, 4], dtype)
        given, _ = Interpreter(from_bytes(w.build(x, [x, q]), "model.tflite")).run(values)
        assert given.tolist() == [1, 2, 3, 4]
        given[:] = 9
        assert values.tolist() == [1, 2, 3, 4]


def test_constants_are_not_given_away() -> None:
    w = TfliteWriter()
    x, y, z = w.tensor("x", (1, 4), scale=0.5), w.tensor("y", (1, 4), scale=0.5), w.tensor("z", (1, 2, 2), scale=0.5)
    constant = w.constant("c", np.array([[1, 2, 3, 4]], np.int8), scale=0.5)
    w.operator("ADD", [x, constant], y)
    w.operator("RESHAPE", [constant, w.constant("shape", [1, 2, 2])], z)
    interpreter = Interpreter(from_bytes(w.build(x, [y, z]), "model.tflite"))
    interpreter.run(np.zeros(4, np.int8))[1][:] = 9
    assert interpreter.run(np.zeros(4, np.int8))[1].tolist() == [[1, 2], [3, 4]]


def test_a_dequantize_that_nothing_reads_is_left_out() -> None:
    w = TfliteWriter()
    x, y, z = w.tensor("x", (1, 4), scale=0.5), w.tensor("y", (1, 4), scale=0.5), w.tensor("z", (1, 4), "float32")
    w.operator("RELU", x, y)
    w.operator("DEQUANTIZE", y, z)
    assert [layer.kind for layer in from_bytes(w.build(x, y), "model.tflite").layers] == ["requantize"]


def test_empty_lists_are_constants() -> None:
    w = TfliteWriter()
    x, m, y = w.tensor("x", (1, 1), scale=0.5), w.tensor("m", (1, 1), scale=0.5), w.tensor("y", (), scale=0.5)
    w.operator("MEAN", [x, w.constant("axes", np.zeros(0, np.int32))], m, keep_dims=True)
    w.operator("RESHAPE", [m, w.constant("shape", np.zeros(0, np.int32))], y)
    assert Interpreter(from_bytes(w.build(x, y), "model.tflite")).run(np.array([5], np.int8)).tolist() == [5]


@pytest.mark.parametrize("kind", ["RELU6", "RELU_N1_TO_1", "LOGISTIC", "HARD_SWISH"])
@pytest.mark.parametrize("scale", [1e-40, 1e-38, 1e-20, 1e36])
def test_scales_at_the_ends_of_float32_are_refused_or_run(kind: str, scale: float) -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4), scale=0.5), w.tensor("y", (1, 4), scale=scale)
    w.operator(kind, x, y)
    with contextlib.suppress(ModelError):  # HARD_SWISH and LOGISTIC run at some of these
        from_bytes(w.build(x, y), "model.tflite")


def test_more_copies_than_any_picture_needs_are_refused() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 2, 1), scale=0.5), w.tensor("y", (1, 2, 1 << 24), scale=0.5)
    w.operator("TILE", [x, w.constant("multiples", [1, 1, 1 << 24])], y)
    assert "16777216 copies; expected at most 64" in _refusal(w.build(x, y))


def test_a_rank_that_is_too_high_is_listed_with_the_rest() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4), scale=0.5), w.tensor("y", (1, 1, 1, 2, 2, 1), scale=0.5)
    z = w.tensor("z", (1, 4), scale=0.5)
    w.operator("RESHAPE", [x, w.constant("shape", [1, 1, 1, 2, 2, 1])], y)
    w.operator("SIN", x, z)
    text = _refusal(w.build(x, [y, z]))
    assert text.startswith("2 operators not supported: RESHAPE: 5 axes after the batch; tensors have 4 (y); SIN (z)")


def test_a_batch_left_open_is_one() -> None:
    graph = from_bytes(_relu(signature=(-1, 2, 3, 4)), "model.tflite")
    assert graph.input_tensor.shape == (2, 3, 4)
    stored = from_bytes(_relu(shape=(4, 2, 3, 4), signature=(-1, 2, 3, 4)), "model.tflite")
    assert stored.input_tensor.shape == (2, 3, 4)


def test_what_depends_on_shapes_alone_disappears() -> None:
    w = TfliteWriter()
    x = w.tensor("x", (1, 2, 3, 4), scale=0.5, signature=(-1, 2, 3, 4))
    shape, batch, wanted = (
        w.tensor("shape", (4,), "int32"),
        w.tensor("batch", (), "int32"),
        w.tensor("to", (2,), "int32"),
    )
    w.operator("SHAPE", x, shape)
    slices = [w.constant(name, [value]) for name, value in (("begin", 0), ("end", 1), ("step", 1))]
    w.operator("STRIDED_SLICE", [shape, *slices], batch, shrink_axis_mask=1)
    w.operator("PACK", [batch, w.constant("rest", -1)], wanted, values_count=2)
    y = w.tensor("y", (1, 24), scale=0.5)
    w.operator("RESHAPE", [x, wanted], y)
    graph = from_bytes(w.build(x, y), "model.tflite")
    assert [type(layer) for layer in graph.layers] == [Reshape]
    assert graph.output_tensors[0].shape == (24,)


def test_two_tensors_of_one_name_get_two() -> None:
    w = TfliteWriter()
    x, y, z = (w.tensor(name, (1, 4), scale=0.5) for name in ("same", "same", ""))
    w.operator("RELU", x, y)
    w.operator("RELU", y, z)
    assert list(from_bytes(w.build(x, z), "model.tflite").tensors) == ["same", "same#1", "tensor_2"]


def test_the_edges_keep_the_names_and_types_of_the_file() -> None:
    graph = from_bytes(_relu("uint8"), "model.tflite")
    assert (graph.input, graph.outputs) == ("x", ("y",))
    assert [graph.tensors[name].dtype for name in ("x", "x/int8", "y/int8", "y")] == ["uint8", "int8", "int8", "uint8"]
    assert graph.tensors["x/int8"].zero_point == 3 - 128
    assert isinstance(graph.layers[0], Quantize)
    assert isinstance(graph.layers[-1], Dequantize)
    assert [layer.kind for layer in graph.int8_layers()] == ["requantize"]


def test_the_source_is_remembered() -> None:
    graph = from_bytes(_relu(), "folder.model.tflite")
    assert (graph.name, graph.source.file, len(graph.source.sha256)) == ("folder.model", "folder.model.tflite", 64)


def test_labels_behind_the_flatbuffer_are_read() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("labels.txt", "\ufeffcat\r\ndög\n\n")
    assert from_bytes(_relu() + archive.getvalue(), "model.tflite").labels == ("cat", "dög")


def test_a_class_without_a_name_does_not_move_the_others() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("labels.txt", "cat\n\nowl\n")
    assert from_bytes(_relu() + archive.getvalue(), "model.tflite").labels == ("cat", "", "owl")


def test_damaged_labels_are_no_reason_to_refuse_a_model() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("labels.txt", b"\xff\xfe\xfd")
    assert from_bytes(_relu() + archive.getvalue(), "model.tflite").labels == ()


def _metadata(mean: list[float], std: list[float]) -> bytes:
    """A model's metadata with a normalisation of its input, as metadata_schema.fbs has it."""
    b = flatbuffers.Builder(256)

    def floats(values: list[float]) -> int:
        return int(b.CreateNumpyVector(np.array(values, np.float32)))

    def table(slots: dict[int, int], size: int, kind: int | None = None) -> int:
        b.StartObject(size)
        for slot, offset in slots.items():
            b.PrependUOffsetTRelativeSlot(slot, offset, 0)
        if kind is not None:
            b.PrependUint8Slot(0, kind, 0)
        return int(b.EndObject())

    def vector(offset: int) -> int:
        b.StartVector(4, 1, 4)
        b.PrependUOffsetTRelative(offset)
        return int(b.EndVector())

    options = table({0: floats(mean), 1: floats(std)}, 2)
    unit = table({1: options}, 2, kind=1)
    tensor = table({4: vector(unit)}, 7)
    subgraph = table({2: vector(tensor)}, 6)
    b.Finish(table({2: vector(subgraph)}, 8), file_identifier=b"M001")
    return bytes(b.Output())


def test_a_normalisation_in_the_metadata_is_used_where_it_says_something() -> None:
    from tinymbn.importers.tflite.metadata import read_preprocessing

    graph = from_bytes(_relu(), "model.tflite")
    other = read_preprocessing(_metadata([100.0, 110.0, 120.0, 0.0], [50.0] * 4), graph).preprocessing
    assert (other.mean, other.std, other.origin) == ((100.0, 110.0, 120.0, 0.0), (50.0,) * 4, "file")
    # scale 0.5, zero point 3: (pixel - 131) / 2 is what pixel - 128 stands for.
    assert read_preprocessing(_metadata([131.0], [2.0]), graph).preprocessing.origin == "guess"


@pytest.mark.parametrize("metadata", [b"", b"\x10\0\0\0M001", b"\xff\xff\xff\xffM001" + b"\xff" * 40])
def test_damaged_metadata_are_ignored(metadata: bytes) -> None:
    from tinymbn.importers.tflite.metadata import read_preprocessing

    graph = from_bytes(_relu(), "model.tflite")
    assert read_preprocessing(metadata, graph) is graph


def test_metadata_cut_anywhere_are_ignored_or_whole() -> None:
    from tinymbn.importers.tflite.metadata import read_preprocessing

    graph, whole = from_bytes(_relu(), "model.tflite"), _metadata([100.0], [50.0])
    for length in range(len(whole)):
        assert read_preprocessing(whole[:length], graph).preprocessing.origin in ("guess", "file")


@pytest.mark.parametrize(
    ("align_corners", "half_pixel_centers", "expected"),
    [(False, False, [0, 0, 1, 1, 2]), (True, False, [0, 1, 1, 2, 2]), (False, True, [0, 0, 1, 2, 2])],
)
def test_nearest_neighbours_of_three_rows_for_five(
    align_corners: bool, half_pixel_centers: bool, expected: list[int]
) -> None:
    indices = nearest_indices(3, 5, align_corners=align_corners, half_pixel_centers=half_pixel_centers)
    assert indices.tolist() == expected
