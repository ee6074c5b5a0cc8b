"""The oracle: LiteRT with TensorFlow Lite's reference kernels, every tensor of one inference kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite
from numpy.typing import NDArray

_interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="ai-edge-litert is not installed", exc_type=ImportError
)


class LiteRT:
    """Runs one .tflite file with the reference kernels, on one thread."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = _interpreter.Interpreter(
            model_content=model,
            experimental_op_resolver_type=_interpreter.OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
            num_threads=1,
        )
        self._interpreter.allocate_tensors()
        subgraph = tflite.Model.GetRootAs(model, 0).Subgraphs(0)
        operators = [subgraph.Operators(i) for i in range(subgraph.OperatorsLength())]
        # The tensors that operators make: neither inputs nor constants.
        self.made: list[int] = [op.Outputs(k) for op in operators for k in range(op.OutputsLength())]
        # Index to name. Temporaries that LiteRT adds come after the file's own tensors.
        self.names: dict[int, str] = {
            details["index"]: details["name"] for details in self._interpreter.get_tensor_details()
        }
        self.inputs: list[int] = [details["index"] for details in self._interpreter.get_input_details()]
        self.outputs: list[int] = [details["index"] for details in self._interpreter.get_output_details()]

    def run(self, *inputs: NDArray[Any]) -> dict[int, NDArray[Any]]:
        """Every tensor by its index in the file, batch included; those without data are left out."""
        for index, values in zip(self.inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, values)
        self._interpreter.invoke()
        tensors: dict[int, NDArray[Any]] = {}
        for index in self.names:
            try:
                tensors[index] = np.array(self._interpreter.get_tensor(index))
            except ValueError:  # a temporary, or a tensor nothing makes
                continue
        return tensors


def in_type_of(made: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any]:
    """The reference's values, flat; those of a legacy model as the int8 that tinymbn has inside."""
    if made.dtype == np.int8 and expected.dtype == np.uint8:
        return (expected.ravel().astype(np.int16) - 128).astype(np.int8)
    return expected.ravel()
