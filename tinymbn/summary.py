"""What there is to say of a model and its layers, short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinymbn import labels
from tinymbn.graph import Graph, Tensor
from tinymbn.image import pixel_table
from tinymbn.layers import AnyLayer, Lookup, Shape
from tinymbn.layers.windowed import Windowed
from tinymbn.preprocessing import Preprocessing
from tinymbn.terminal import shape_text

if TYPE_CHECKING:
    from tinymbn.quantize.float_graph import FloatGraph
    from tinymbn.quantize.float_layers import AnyFloatLayer

SCHEMA = 1  # of all JSON that tinymbn prints; raised when a field goes or changes its meaning


def kind_text(layer: AnyLayer | AnyFloatLayer) -> str:
    """A layer's kind with its geometry: ``depthwise 3x3/2`` has stride 2, ``conv2d 3x3 d2`` dilation 2."""
    if isinstance(layer, Lookup):
        return layer.function
    if not isinstance(layer, Windowed):
        return layer.kind
    window = layer.window
    text = f"{layer.kind} {shape_text(window.kernel)}"
    for mark, pair in (("/", window.stride), (" d", window.dilation)):
        if pair != (1, 1):
            text += f"{mark}{pair[0] if pair[0] == pair[1] else shape_text(pair)}"
    return text


def preprocessing_text(graph: Graph) -> str:
    """What becomes of a picture, in one line, and who says so."""
    tensor, how = graph.input_tensor, graph.preprocessing
    if len(tensor.shape) != 3 or tensor.shape[2] not in (1, 3):
        return f"no picture fits; give a .npy array, {tensor.dtype} of shape {tensor.shape}"
    table = pixel_table(graph)
    ends = {"uint8": "pixel", "int8": "pixel - 128", "float32": "the int8 range"}[tensor.dtype]
    formula = _formula(how) or ends
    reach = f"{table.min():.4g} to {table.max():.4g}"
    origin = {
        "guess": "a guess; to say otherwise: tinymbn import --input-range or --mean and --std",
        "file": "the file says so",
        "user": "given at import",
    }[how.origin]
    return f"{_fitting(tensor.shape, how)}; {formula}: {reach} ({origin})"


def float_preprocessing_text(graph: FloatGraph) -> str:
    """The same of a float network, which may not say what a pixel's value is."""
    shape, how = graph.input_shape, graph.preprocessing
    if len(shape) != 3 or shape[2] not in (1, 3):
        return f"no picture fits shape {shape}"
    table = how.real_values(shape[2])
    if table is None:
        return f"{_fitting(shape, how)}; its values are not known: quantize --input-range, or --mean and --std"
    origin = "a guess" if how.origin == "guess" else "the file says so"
    return f"{_fitting(shape, how)}; {_formula(how)}: {table.min():.4g} to {table.max():.4g} ({origin})"


def _fitting(shape: Shape, how: Preprocessing) -> str:
    height, width, channels = shape
    colours = "grey" if channels == 1 else how.channel_order.upper()
    return f"{width} wide, {height} high, {colours}, {'squashed' if how.resize == 'squash' else 'centre crop'}"


def _formula(how: Preprocessing) -> str:
    """From pixel to real value; empty if it is not said."""
    if how.mean is None or how.std is None:
        return ""
    mean, std = (",".join(f"{v + 0.0:g}" for v in values) for values in (how.mean, how.std))  # no -0
    return f"(pixel - {mean}) / {std}"


def _preprocessing_values(how: Preprocessing) -> dict[str, Any]:
    return {
        "resize": how.resize,
        "channel_order": how.channel_order,
        "mean": how.mean,
        "std": how.std,
        "origin": how.origin,
    }


def tensor_values(tensor: Tensor) -> dict[str, Any]:
    """A tensor for JSON."""
    quant = tensor.quant
    return {
        "name": tensor.name,
        "type": tensor.dtype,
        "shape": list(tensor.shape),
        "scale": quant.scale if quant else None,
        "zero_point": quant.zero_point if quant else None,
    }


def model_values(graph: Graph) -> dict[str, Any]:
    """A model for JSON: everything but the numbers in its weights."""
    return {
        "schema": SCHEMA,
        "name": graph.name,
        "source": {"file": graph.source.file, "sha256": graph.source.sha256},
        "input": tensor_values(graph.input_tensor),
        "outputs": [
            tensor_values(tensor) | {"class_scores": labels.class_count(graph, tensor.name) > 0}
            for tensor in graph.output_tensors
        ],
        "preprocessing": _preprocessing_values(graph.preprocessing),
        "labels": list(graph.labels),
        "macs": graph.macs,
        "parameters": graph.parameters,
        "layers": [
            {
                "index": index,
                "name": layer.name,
                "kind": layer.kind,
                "description": kind_text(layer),
                "inputs": [tensor_values(graph.tensors[name]) for name in layer.inputs],
                "output": tensor_values(graph.tensors[layer.output]),
                "macs": layer.macs(graph.tensors[layer.output].shape),
                "parameters": layer.parameters,
            }
            for index, layer in enumerate(graph.layers)
        ],
    }


def float_model_values(graph: FloatGraph) -> dict[str, Any]:
    """A float model for JSON: everything but the numbers in its weights.

    ``parameters`` are weights and one bias a channel, with batch-norms folded; ``macs`` are of convolutions and
    dense layers.
    """
    shapes = graph.shapes
    return {
        "schema": SCHEMA,
        "name": graph.name,
        "input": {"name": graph.input, "type": "float32", "shape": list(graph.input_shape)},
        "outputs": [{"name": name, "type": "float32", "shape": list(shapes[name])} for name in graph.outputs],
        "preprocessing": _preprocessing_values(graph.preprocessing),
        "labels": list(graph.labels),
        "macs": graph.macs,
        "parameters": graph.parameters,
        "layers": [
            {
                "index": index,
                "name": layer.name,
                "kind": layer.kind,
                "description": kind_text(layer),
                "inputs": [{"name": name, "shape": list(shapes[name])} for name in layer.inputs],
                "output": {"name": layer.output, "shape": list(shapes[layer.output])},
                "macs": layer.macs(shapes[layer.output]),
                "parameters": layer.parameters,
            }
            for index, layer in enumerate(graph.layers)
        ],
    }
