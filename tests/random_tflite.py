"""A random .tflite file that grows operator by operator: its edges, scales, zero points, weights and biases."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.tflite_writer import TfliteWriter

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """An activation tensor of the file; its shape has the batch."""

    index: int
    shape: Shape
    scale: float
    zero_point: int


class RandomModel:
    """A file that grows operator by operator, each reading ``value``, what the last one made.

    Attributes:
        dtype: of all activations: int8, or uint8 in a legacy model.
        folded: names of tensors that come from shapes alone, which tinymbn computes at import.
    """

    def __init__(self, draw: st.DrawFn, shape: Shape) -> None:
        self.draw = draw
        self.dtype: str = draw(st.sampled_from(["int8", "int8", "uint8"]))
        self.writer = TfliteWriter(draw(st.sampled_from(["both", "deprecated"])))
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.folded: set[str] = set()
        self.made: list[Value] = []
        self._begin(shape)

    # --- the edges

    def _begin(self, shape: Shape) -> None:
        """The input: of the model's own type, or float32 or uint8 with a QUANTIZE behind it."""
        signature = (-1, *shape[1:]) if self.draw(st.booleans()) else None
        edge = self.draw(st.sampled_from(["own", "own", "own", "float32", "uint8"]))
        if edge == "own" or (edge == "uint8" and self.dtype == "uint8"):
            self.made.append(self._declare("input", shape, self.scale(), self.zero(), signature=signature))
            self.input = self.value.index
            return
        quantization: dict[str, Any] = {}
        scale, zero = self.scale(), self.zero()
        if edge == "uint8":  # mostly the same real values, 128 apart
            same = self.draw(st.booleans())
            outside = (scale, zero + 128) if same else (self.scale(scale), self.draw(st.integers(0, 255)))
            quantization = {"scale": outside[0], "zero_point": outside[1]}
        self.input = self.writer.tensor("input", shape, edge, signature=signature, **quantization)
        self.operator("QUANTIZE", shape, scale, zero, inputs=[self.input])

    def end(self) -> bytes:
        """The file; its outputs are one or two tensors, float32 or of the other 8-bit type at times."""
        outputs = [self.value.index]
        edge = self.draw(st.sampled_from(["own", "own", "own", "float32", "uint8"]))
        value = self.value
        if edge == "float32":
            outputs = [self.writer.tensor("output", value.shape, "float32")]
            self.writer.operator("DEQUANTIZE", value.index, outputs[0])
        elif edge == "uint8" and self.dtype == "int8":
            outputs = [
                self.writer.tensor("output", value.shape, "uint8", scale=value.scale, zero_point=value.zero_point + 128)
            ]
            self.writer.operator("QUANTIZE", value.index, outputs[0])
        if len(self.made) > 2 and self.draw(st.booleans()):
            outputs.append(self.made[1].index)
        return self.writer.build(self.input, outputs)

    def random_input(self) -> NDArray[Any]:
        tensor = self.writer.tensors[self.input]
        if tensor.dtype == "float32":
            reals = self.random.normal(0, 40 * self.made[0].scale, tensor.shape)
            return np.asarray(reals, np.float32)
        low, high = (0, 255) if tensor.dtype == "uint8" else (-128, 127)
        if self.draw(st.booleans()):
            return self.random.integers(low, high + 1, tensor.shape).astype(tensor.dtype)
        return self.random.choice(np.array([low, high]), tensor.shape).astype(tensor.dtype)

    # --- what operators are made of

    @property
    def value(self) -> Value:
        return self.made[-1]

    @property
    def low(self) -> int:
        return 0 if self.dtype == "uint8" else -128

    def scale(self, near: float = 0.05) -> float:
        return float(np.float32(near * 2.0 ** self.draw(st.floats(-4, 4))))

    def zero(self) -> int:
        return self.low + self.draw(st.integers(0, 255) | st.sampled_from([0, 128, 255]))

    def other(self, shape: Shape, scale: float | None = None, zero_point: int | None = None) -> Value:
        """A constant activation."""
        scale = self.scale() if scale is None else scale
        zero_point = self.zero() if zero_point is None else zero_point
        values = self.random.integers(self.low, self.low + 256, shape).astype(self.dtype)
        name = f"constant{len(self.writer.tensors)}"
        index = self.writer.constant(name, values, scale=scale, zero_point=zero_point)
        return Value(index, shape, scale, zero_point)

    def _declare(self, name: str, shape: Shape, scale: float, zero_point: int, signature: Shape | None = None) -> Value:
        index = self.writer.tensor(name, shape, self.dtype, scale=scale, zero_point=zero_point, signature=signature)
        return Value(index, shape, scale, zero_point)

    def operator(
        self,
        kind: str,
        shape: Shape,
        scale: float | None = None,
        zero_point: int | None = None,
        *,
        inputs: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        """An operator on ``inputs`` (the value alone, if not said); its output keeps what is not said."""
        scale = self.value.scale if scale is None else scale
        zero_point = self.value.zero_point if zero_point is None else zero_point
        value = self._declare(f"{kind.lower()}{len(self.made)}", shape, scale, zero_point)
        self.writer.operator(kind, [self.value.index] if inputs is None else inputs, value.index, **options)
        self.made.append(value)

    def activation(self) -> str:
        return self.draw(st.sampled_from(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))

    def weights(self, shape: Shape, axis: int, *, own_zero: bool = False) -> tuple[int, list[float]]:
        """Weights with a scale for all or one for each entry of ``axis``; legacy ones have a zero point."""
        channels = shape[axis]
        name = f"weights{len(self.made)}"
        if self.dtype == "uint8" or (own_zero and self.draw(st.booleans())):
            scale, zero = self.scale(0.01), self.zero()
            values = self.random.integers(self.low, self.low + 256, shape).astype(self.dtype)
            return self.writer.constant(name, values, scale=scale, zero_point=zero), [scale] * channels
        values = self.random.integers(-127, 128, shape).astype(np.int8)
        if self.draw(st.booleans()):
            scale = self.scale(0.01)
            return self.writer.constant(name, values, scale=scale), [scale] * channels
        scales = [self.scale(0.01) for _ in range(channels)]
        if channels > 1 and self.draw(st.booleans()):  # a dead channel, as the converter writes it
            dead = self.draw(st.integers(0, channels - 1))
            np.moveaxis(values, axis, 0)[dead] = 0
            scales[dead] = self.draw(st.sampled_from([1e-11, 1e-9]))
        index = self.writer.constant(name, values, scale=scales, dimension=axis if channels > 1 else 0)
        return index, scales

    def bias(self, weight_scales: Sequence[float]) -> int:
        """Biases of the accumulator's size; those of dead channels are as large as the converter's."""
        largest = [2**30 if scale < 1e-8 else 4000 for scale in weight_scales]
        values = np.array([self.random.integers(-most, most + 1) for most in largest], np.int32)
        scales = np.float32(self.value.scale) * np.array(weight_scales, np.float32)
        per_tensor = len(set(weight_scales)) == 1
        return self.writer.constant(
            f"bias{len(self.made)}", values, scale=float(scales[0]) if per_tensor else scales.tolist()
        )

    def accumulated_scale(self, weight_scales: Sequence[float], count: int) -> float:
        """An output scale that uses the range for sums of ``count`` products of noise."""
        live = max(scale for scale in weight_scales)
        return self.scale(self.value.scale * live * 74 * 74 * math.sqrt(count) / 60)


class Case:
    """A file, an input for it, and the names of what tinymbn folds away."""

    # No dataclass: hypothesis would print its fields, the file's bytes too, in place of its repr.
    def __init__(self, writer: TfliteWriter, model: bytes, x: NDArray[Any], folded: Collection[str] = ()) -> None:
        self.writer, self.model, self.x, self.folded = writer, model, x, folded

    def __repr__(self) -> str:
        """The operators with their operands, for the report of a failure."""
        lines = [f"input {self.x.dtype} {self.x.ravel()[:8]}"]
        tensors = self.writer.tensors
        for op in self.writer.operators:
            lines.append(f"{op.kind} {op.options}")
            for index in (*op.inputs, *op.outputs):
                if index < 0:
                    continue
                t = tensors[index]
                values = "" if t.data is None else np.frombuffer(t.data, t.dtype)[:9]
                lines.append(f"    {t.name} {t.dtype} {tuple(t.shape)} {t.scale[:3]} {t.zero_point[:1]} {values}")
        return "\n".join(lines)
