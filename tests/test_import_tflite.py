"""What an import refuses, and how; what it computes away; what a file says beside its graph.

That imported models compute the same bytes is in ``test_operators_litert`` and ``test_models_litert``.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from tests.shared import SHARED, needs_shared
from tests.tflite_writer import TfliteWriter
from tinymbn import ModelError, UnsupportedError, import_tflite
from tinymbn.importers.operators.movement import nearest_indices
from tinymbn.importers.tflite import from_bytes
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
    assert _refusal(_relu("float32")) == "a float model of 1 operators; tinymbn runs int8: quantise it first"


@needs_shared
def test_a_real_float_model_is_told_to_be_quantised() -> None:
    with pytest.raises(UnsupportedError, match=r"a float model of 31 operators; .* quantise it first"):
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


def test_a_batch_left_open_is_one() -> None:
    graph = from_bytes(_relu(signature=(-1, 2, 3, 4)), "model.tflite")
    assert graph.input_tensor.shape == (2, 3, 4)


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
    from tinymbn.importers.tflite_metadata import read_preprocessing

    graph = from_bytes(_relu(), "model.tflite")
    other = read_preprocessing(_metadata([100.0, 110.0, 120.0, 0.0], [50.0] * 4), graph).preprocessing
    assert (other.mean, other.std, other.origin) == ((100.0, 110.0, 120.0, 0.0), (50.0,) * 4, "file")
    # scale 0.5, zero point 3: (pixel - 131) / 2 is what pixel - 128 stands for.
    assert read_preprocessing(_metadata([131.0], [2.0]), graph).preprocessing.origin == "guess"


@pytest.mark.parametrize("metadata", [b"", b"\x10\0\0\0M001", b"\xff\xff\xff\xffM001" + b"\xff" * 40])
def test_damaged_metadata_are_ignored(metadata: bytes) -> None:
    from tinymbn.importers.tflite_metadata import read_preprocessing

    graph = from_bytes(_relu(), "model.tflite")
    assert read_preprocessing(metadata, graph) is graph


def test_metadata_cut_anywhere_are_ignored_or_whole() -> None:
    from tinymbn.importers.tflite_metadata import read_preprocessing

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
