"""Small ONNX models for tests, node by node, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Array = NDArray[np.float32]
Shape = Sequence[int | str]


class OnnxNet:
    """A model under construction, with random weights."""

    def __init__(self, shape: Shape, *, opset: int = 13, seed: int = 0, dtype: int = TensorProto.FLOAT) -> None:
        self.chance = np.random.default_rng(seed)
        self.opset = opset
        self._input = helper.make_tensor_value_info("x", dtype, shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}_{len(self.nodes)}", **attributes))
        return output

    def constant(self, values: Any, name: str = "", dtype: Any = np.float32) -> str:
        """An initializer; its name."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, dtype=np.int64)

    def random(self, *shape: int, scale: float = 1.0, about: float = 0.0) -> str:
        return self.constant(self.chance.normal(about, scale, shape))

    def convolution(self, x: str, read: int, made: int, kernel: int = 1, *, group: int = 1, **attributes: Any) -> str:
        """A Conv without a bias, so wide that values keep their size."""
        fan_in = read // group * kernel**2
        weights = self.random(made, read // group, kernel, kernel, scale=float(np.sqrt(2 / fan_in)))
        return self.add("Conv", x, weights, group=group, **attributes)

    def norm(self, x: str, channels: int) -> str:
        positive = [self.constant(self.chance.uniform(0.5, 1.5, channels)) for _ in range(2)]
        offset, mean = self.random(channels, scale=0.2, about=0.2), self.random(channels, scale=0.2)
        return self.add("BatchNormalization", x, positive[0], offset, mean, positive[1])

    def relu6(self, x: str) -> str:
        return self.add("Clip", x, self.constant(0), self.constant(6))

    def model(self, *outputs: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", [self._input], values, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, path: Path, *outputs: str) -> Path:
        path.write_bytes(self.model(*outputs).SerializeToString())
        return path


def mobilenet_v1(
    height: int, width: int, *, classes: int = 5, seed: int = 0, head: str = "pool"
) -> tuple[OnnxNet, str]:
    """A short MobileNetV1 as PyTorch writes it; ``head`` "flat" has a dense layer over the whole map."""
    net = OnnxNet(("n", 3, height, width), seed=seed)
    x, read = net.convolution("x", 3, 8, 3, strides=[2, 2], pads=[1, 1, 1, 1]), 8
    x = net.relu6(net.norm(x, read))
    height, width = -(-height // 2), -(-width // 2)
    for made, stride in ((16, 1), (24, 2), (24, 1), (32, 2)):
        x = net.convolution(x, read, read, 3, group=read, strides=[stride] * 2, pads=[1, 1, 1, 1])
        x = net.relu6(net.norm(x, read))
        x, read = net.add("Relu", net.norm(net.convolution(x, read, made), made)), made
        height, width = -(-height // stride), -(-width // stride)
    features = read
    if head == "pool":
        x = net.add("GlobalAveragePool", x)
    else:
        features *= height * width
    flat = net.add("Flatten", x)
    weights, bias = net.random(classes, features, scale=features**-0.5), net.random(classes)
    return net, net.add("Gemm", flat, weights, bias, transB=1)


def mobilenet_v2(resolution: int, *, classes: int = 5, seed: int = 0) -> tuple[OnnxNet, str]:
    """A short MobileNetV2 as PyTorch writes it, with residual sums and a shape computed from another."""
    net = OnnxNet((1, 3, resolution, resolution), seed=seed)
    x, read = net.convolution("x", 3, 8, 3, strides=[2, 2], pads=[1, 1, 1, 1]), 8
    x = net.relu6(net.norm(x, read))
    for made, stride, expansion in ((8, 1, 1), (12, 2, 6), (12, 1, 6), (16, 2, 6), (16, 1, 6), (16, 1, 6)):
        before, wide = x, read * expansion
        if expansion > 1:
            x = net.relu6(net.norm(net.convolution(x, read, wide), wide))
        x = net.convolution(x, wide, wide, 3, group=wide, strides=[stride] * 2, pads=[1, 1, 1, 1])
        x = net.norm(net.convolution(net.relu6(net.norm(x, wide)), wide, made), made)
        x = net.add("Add", before, x) if stride == 1 and made == read else x
        read = made
    x = net.add("ReduceMean", x, axes=[2, 3], keepdims=1)
    batch = net.add("Gather", net.add("Shape", x), net.constant(0, dtype=np.int64), axis=0)
    shape = net.add("Concat", net.add("Unsqueeze", batch, net.integers(0)), net.integers(-1), axis=0)
    flat = net.add("Reshape", x, shape)
    weights, bias = net.random(classes, read, scale=read**-0.5), net.random(classes)
    return net, net.add("Gemm", flat, weights, bias, transB=1)


def runtime(path: Path, pictures: NDArray[Any]) -> Array:
    """What ONNX Runtime makes of each of (N, ...), one at a time; those of the first output, (N, ...)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    made = [session.run(None, {name: picture[None]})[0] for picture in pictures]
    return np.stack([values[0] if values.ndim > 1 else values for values in made])


def quantized_tensors(path: Path, picture: Array) -> dict[str, NDArray[np.int8]]:
    """What each QuantizeLinear makes, as int8 and without the batch, by what it reads; maps are (H, W, C)."""
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    del model.graph.output[:]
    for node in nodes:
        model.graph.output.append(helper.make_tensor_value_info(node.output[0], types[node.input[2]], None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = {}
    for node, values in zip(nodes, session.run(None, {"x": picture[None]}), strict=True):
        values = (values.astype(np.int16) - (128 if values.dtype == np.uint8 else 0)).astype(np.int8)[0]
        found[node.input[0]] = values.transpose(1, 2, 0) if values.ndim == 3 else values
    return found


class _Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    def __init__(self, pictures: Array) -> None:
        self._left: Iterator[Array] = iter(pictures)

    def get_next(self) -> dict[str, Array] | None:
        picture = next(self._left, None)
        return None if picture is None else {"x": picture[None]}


def quantize(path: Path, pictures: Array, *, activations: str, weights: str, per_channel: bool) -> Path:
    """What ONNX Runtime's quantiser makes of a model, in the format QDQ."""
    made = path.with_name(f"{path.stem}_qdq.onnx")
    # Batch-norms move into convolutions: one that is rounded by itself, and multiplies by 10, makes 10 steps of 1.
    quant_pre_process(path, made, skip_symbolic_shape=True)
    quantize_static(
        made,
        made,
        _Reader(pictures),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType[activations],
        weight_type=QuantType[weights],
    )
    return made
