"""Runs a Graph on the host: the reference that a board is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ImageError
from tinymbn.graph import Graph
from tinymbn.layers import AnyLayer

Array = NDArray[Any]
EngineName = Literal["fast", "plain"]


class Engine(Protocol):
    """What computes a graph: on inputs that have been checked."""

    def run(self, x: Array) -> tuple[Array, ...]:
        """The outputs of one input."""

    def run_batch(self, batch: Array) -> list[tuple[Array, ...]]:
        """The outputs of each of several inputs."""

    def steps(self, x: Array) -> Iterator[Array]:
        """The output of each layer of one input, in running order."""

    def seconds(self, x: Array) -> list[float]:
        """How long each layer takes on one input."""


class Interpreter:
    """Computes a Graph, bit for bit as TensorFlow Lite's reference kernels do.

    It may be used from several threads of Python at once.

    Args:
        graph: what to compute.
        engine: "fast" has vector kernels; "plain" the loops that specify what those compute, for whoever doubts them.
        threads: share one inference, or the inputs of a batch.
    """

    def __init__(self, graph: Graph, engine: EngineName = "fast", threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"{threads} threads; expected 1 or more")
        self.graph = graph
        self._engine = _engine(graph, engine, threads)

    def run(self, x: Array) -> Any:
        """The outputs for one input or a batch.

        Args:
            x: of the input tensor's type and shape, ``(H, W, C)``, or ``(N, H, W, C)`` for N inputs.

        Returns:
            An array of the output tensor's type and shape, with N in front for a batch; a tuple of them, in
            the file's order, where the model has several outputs.

        Raises:
            ImageError: type or shape are not the input tensor's, or a float is not a number.
        """
        expected = self.graph.input_tensor
        if isinstance(x, np.ndarray) and x.ndim == len(expected.shape) + 1 and len(x) > 0:
            self._check_input(x, (len(x), *expected.shape))
            each = self._engine.run_batch(x)
            outputs = tuple(np.stack(values) for values in zip(*each, strict=True))
        else:
            self._check_input(x, expected.shape)
            outputs = self._engine.run(np.ascontiguousarray(x))
        return outputs if len(outputs) > 1 else outputs[0]

    def steps(self, x: Array) -> Iterator[tuple[AnyLayer, Array]]:
        """Each layer with its output, in running order.

        Args:
            x: one input, of the input tensor's type and shape, or a batch of one.

        Raises:
            ImageError: as in ``run``, before the first layer.
        """
        if isinstance(x, np.ndarray) and x.shape == (1, *self.graph.input_tensor.shape):
            x = x[0]
        self._check_input(x, self.graph.input_tensor.shape)
        return zip(self.graph.layers, self._engine.steps(np.ascontiguousarray(x)), strict=True)

    def layer_seconds(self, x: Array) -> list[float]:
        """How long each layer takes on one input, which is as in ``run``; once, in running order."""
        self._check_input(x, self.graph.input_tensor.shape)
        return self._engine.seconds(np.ascontiguousarray(x))

    def _check_input(self, x: Array, shape: tuple[int, ...]) -> None:
        expected = self.graph.input_tensor
        if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != np.dtype(expected.dtype):
            found = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
            raise ImageError(f"input: {found}; the model takes {expected.dtype} of shape {expected.shape}")
        if x.dtype == np.float32 and not np.isfinite(x).all():
            raise ImageError("input: it has infinite values or values that are not numbers; expected finite ones")


def is_compiled(engine: EngineName) -> bool:
    """Whether an earlier process has left an engine's machine code; if not, the first inference waits for it."""
    if engine == "plain":
        from tinymbn.kernels import jit

        return jit.is_compiled()
    from tinymbn.kernels.fast import native

    return native.is_compiled()


def _engine(graph: Graph, name: EngineName, threads: int) -> Engine:
    # Imported where they are needed: the plain kernels bring Numba with them, which takes its time.
    if name == "plain":
        from tinymbn.plain import Plain

        return Plain(graph, threads)
    from tinymbn.host.machine import Machine

    return Machine(graph, threads)
