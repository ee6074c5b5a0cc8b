"""Writes small ``.pt2`` files as torch.export.save does, without PyTorch."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"float16": 6, "float32": 7, "float64": 8, "int64": 5}


class Tensor(str):
    """A tensor of the program, by its name."""

    __slots__ = ()


def meta(shape: tuple[int, ...], dtype: str = "float32") -> dict[str, Any]:
    """What the file says of a tensor in C order."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return {
        "dtype": _DTYPES[dtype],
        "sizes": [{"as_int": size} for size in shape],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


class Pt2Writer:
    """One program; what it holds may be changed before it is built.

    Attributes:
        nodes: as the file has them.
        payloads: of the parameters, by name.
        members: further files in the archive, or others in their place, without its folder.
    """

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.metas: dict[str, Any] = {}
        self.payloads: dict[str, Any] = {}
        self.members: dict[str, bytes] = {}
        self.specs: list[dict[str, Any]] = []
        self.version = {"major": 8, "minor": 20}

    def input(self, name: str, *shape: int) -> Tensor:
        self.metas[name] = meta(shape)
        self.specs.append({"user_input": {"arg": {"as_tensor": {"name": name}}}})
        return Tensor(name)

    def parameter(self, name: str, values: NDArray[Any]) -> Tensor:
        tensor, path = Tensor(f"p_{name.replace('.', '_')}"), f"weight_{len(self.payloads)}"
        self.metas[tensor] = meta(values.shape, values.dtype.name)
        self.payloads[name] = {
            "path_name": path,
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": self.metas[tensor],
        }
        self.members[f"data/weights/{path}"] = values.tobytes()
        self.specs.append({"parameter": {"arg": {"name": tensor}, "parameter_name": name}})
        return tensor

    def call(self, operator: str, shape: tuple[int, ...], /, **arguments: Any) -> Tensor:
        name = Tensor(f"{operator.split('.')[1]}_{len(self.nodes)}")
        self.metas[name] = meta(shape)
        self.nodes.append(
            {
                "target": f"torch.ops.{operator}",
                "inputs": [{"name": key, "arg": _argument(value), "kind": 1} for key, value in arguments.items()],
                "outputs": [{"as_tensor": {"name": name}}],
                "metadata": {},
                "name": name,
            }
        )
        return name

    def build(self, output: Tensor) -> bytes:
        graph = {"inputs": [], "outputs": [], "nodes": self.nodes, "tensor_values": self.metas}
        outputs = [{"user_output": {"arg": {"as_tensor": {"name": output}}}}]
        signature = {"input_specs": self.specs, "output_specs": outputs}
        program = {"graph_module": {"graph": graph, "signature": signature}, "schema_version": self.version}
        members = {
            "models/model.json": json.dumps(program).encode(),
            "data/weights/model_weights_config.json": json.dumps({"config": self.payloads}).encode(),
            "data/constants/model_constants_config.json": b'{"config": {}}',
            "archive_format": b"pt2",
            "byteorder": b"little",
            **self.members,
        }
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(f"archive/{name}", content)
        return file.getvalue()


def _argument(value: Any) -> dict[str, Any]:
    match value:
        case Tensor():
            return {"as_tensor": {"name": value}}
        case None:
            return {"as_none": True}
        case bool():
            return {"as_bool": value}
        case int():
            return {"as_int": value}
        case float():
            return {"as_float": value}
        case str():
            return {"as_string": value}
        case _:
            return {"as_ints": value}


def small_network() -> tuple[Pt2Writer, Tensor]:
    """A program with most of what a MobileNet has, and its output."""
    chance = np.random.default_rng(0)
    writer = Pt2Writer()

    def weights(name: str, *shape: int) -> Tensor:
        return writer.parameter(name, chance.normal(0, 0.5, shape).astype(np.float32))

    x = writer.input("x", 1, 3, 8, 6)
    conv = writer.call(
        "aten.conv2d.default",
        (1, 4, 4, 3),
        input=x,
        weight=weights("conv.weight", 4, 3, 3, 3),
        bias=None,
        stride=[2, 2],
        padding=[1, 1],
    )
    norm = writer.call(
        "aten.batch_norm.default",
        (1, 4, 4, 3),
        input=conv,
        weight=weights("norm.weight", 4),
        bias=weights("norm.bias", 4),
        running_mean=weights("norm.running_mean", 4),
        running_var=writer.parameter("norm.running_var", np.ones(4, np.float32)),
        training=False,
        momentum=0.1,
        eps=1e-5,
        cudnn_enabled=True,
    )
    clamped = writer.call("aten.hardtanh_.default", (1, 4, 4, 3), self=norm, min_val=0.0, max_val=6.0)
    depthwise = writer.call(
        "aten.conv2d.default",
        (1, 4, 4, 3),
        input=clamped,
        weight=weights("depthwise.weight", 4, 1, 3, 3),
        bias=weights("depthwise.bias", 4),
        padding=[1, 1],
        groups=4,
    )
    added = writer.call("aten.add.Tensor", (1, 4, 4, 3), self=clamped, other=depthwise)
    pooled = writer.call("aten.max_pool2d.default", (1, 4, 2, 1), self=added, kernel_size=[2, 2], stride=[2, 2])
    flat = writer.call("aten.flatten.using_ints", (1, 8), self=pooled, start_dim=1)
    dense = writer.call("aten.linear.default", (1, 5), input=flat, weight=weights("dense.weight", 5, 8))
    mean = writer.call("aten.mean.dim", (1, 4, 1, 1), self=added, dim=[2, 3], keepdim=True)
    turned = writer.call("aten.permute.default", (4, 5), self=weights("head.weight", 5, 4), dims=[1, 0])
    view = writer.call("aten.view.default", (1, 4), self=mean, size=[1, 4])
    head = writer.call("aten.addmm.default", (1, 5), self=weights("head.bias", 5), mat1=view, mat2=turned)
    both = writer.call("aten.add.Tensor", (1, 5), self=dense, other=head)
    return writer, writer.call("aten.softmax.int", (1, 5), self=both, dim=1)
