"""Holds the fast engine to the plain one: on random networks, here or under another set of instructions.

    python -m tests.engines --first 0 --count 50

runs random networks in this process and says how many bytes were compared. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES
restrict the instructions that it may use.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.graphs import every_kernel
from tests.random_mobilenets import DILATED, random_chain, random_mobilenet
from tests.shared import CHECKOUT
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.kernels.fast import host
from tinymbn.layers import Activation, AnyLayer, Conv2D, Depthwise, Padding, Shape, Weights, Window

SEVERAL = 3  # inputs of a batch


def random_input(graph: Graph, seed: int) -> NDArray[Any]:
    """Noise over the whole range of the input's type; of seed 0 and 1 the lowest and the highest values."""
    tensor = graph.input_tensor
    chance = np.random.default_rng(seed)
    if tensor.dtype == "float32":
        inside = graph.quantized_input
        return ((chance.uniform(-140, 140, tensor.shape) - inside.zero_point) * inside.scale).astype(np.float32)
    low, high = np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max
    if seed < 2:
        return np.full(tensor.shape, (low, high)[seed], tensor.dtype)
    return chance.integers(low, high + 1, tensor.shape).astype(tensor.dtype)


def assert_engines_agree(graph: Graph, *inputs: NDArray[Any], threads: int = 1) -> int:
    """Compare every byte of every layer and output of each input, and those of all as a batch; the bytes of layers."""
    plain, fast = Interpreter(graph, "plain"), Interpreter(graph, "fast", threads)
    compared = 0
    expected = []

    def run(engine: Interpreter, x: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        outputs = engine.run(x)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    for x in inputs:
        for (layer, wanted), (_, found) in zip(plain.steps(x), fast.steps(x), strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted, f'layer "{layer.name}": {layer.kind}')
            compared += wanted.nbytes
        expected.append(run(plain, x))
        for found, wanted in zip(run(fast, x), expected[-1], strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
    for found, several in zip(run(fast, np.stack(inputs)), zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.stack(several))
    return compared


def random_networks(first: int, count: int) -> list[Graph]:
    """Networks of these seeds: MobileNets, chains of any windows, dilated ones, in turns."""
    kinds = (random_mobilenet, random_chain, lambda seed: random_chain(DILATED + seed))
    return [kinds[seed % 3](seed) for seed in range(first, first + count)]


def edge_networks() -> list[Graph]:
    """Rows of each width that windows are made in, runs of each length that is summed, channels without weights."""
    return [_edge_network(width, np.random.default_rng(width)) for width in range(1, 20)]


def _edge_network(width: int, chance: np.random.Generator) -> Graph:
    channels = 8 * int(chance.integers(1, 4))
    read = int(chance.integers(1, 41))
    zero_point = int(chance.integers(-40, 40))

    def weights(*shape: int, axis: int) -> Weights:
        count = shape[axis]
        values = chance.integers(-128, 128, shape).astype(np.int8)
        bias = chance.integers(-3000, 3000, count).astype(np.int32)
        multiplier = chance.integers(2**30, 2**31, count).astype(np.int32)
        shift = chance.integers(-12, -4, count).astype(np.int8)
        multiplier[-1], shift[-1] = 2**31 - 1, chance.integers(-31, -18)  # few values are left, or one
        for c, (huge, factor, right) in enumerate(_WITHOUT_WEIGHTS):
            values[(slice(None),) * axis + (c,)] = zero_point
            bias[c], multiplier[c], shift[c] = huge, factor, right
        return Weights(values, bias, multiplier, shift, zero_point)

    zeros = {name: int(chance.integers(-128, 128)) for name in "xabcd"}

    def layer(kind: Any, read: str, made: str, values: Weights, *window: Any) -> AnyLayer:
        """Of every other width nothing below the output's zero point passes."""
        activation = Activation(zeros[made] if width % 2 else -128)
        weighted: AnyLayer = kind(made, (read,), made, values, activation, Window(*window))
        return weighted

    around = Padding(1, 1, 1, 1)
    layers = [
        layer(Conv2D, "x", "a", weights(channels, 1, 1, read, axis=0), (1, 1)),
        layer(Depthwise, "a", "b", weights(3, 3, channels, axis=2), (3, 3), (1, 1), (1, 1), around),
        layer(Depthwise, "a", "c", weights(3, 3, channels, axis=2), (3, 3), (1, 2), (1, 1), around),
    ]
    if width >= 3:
        layers.append(layer(Conv2D, "a", "d", weights(channels, 1, 3, channels, axis=0), (1, 3)))
    shapes: dict[str, Shape] = {"x": (2, width, read)}
    for each in layers:
        shapes[each.output] = each.output_shape(shapes[each.inputs[0]])
    tensors = {name: Tensor(name, shape, Quant(0.5, zeros[name])) for name, shape in shapes.items()}
    return Graph("edges", tensors, tuple(layers), "x", tuple(shapes)[2:])


# Bias, multiplier and shift of channels whose output is constant: as quantisers make them, and all else that may be.
_WITHOUT_WEIGHTS = (
    (-(2**30), 1_569_364_972, -26),
    (2**30 + 128, 1_725_052_569, -28),
    (-(2**31), 2**31 - 1, 0),
    (2**31 - 1, 2**31 - 1, -31),
    (-(2**30), 0, 0),
    (77, 2**30, 3),
)


def run_elsewhere(name: str, features: str, first: int, count: int) -> str:
    """What this module prints in a process that may only use these instructions."""
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-m", "tests.engines", "--first", str(first), "--count", str(count)]
    done = subprocess.run(
        command, env=environment, cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=30)
    given = parser.parse_args()
    compared = 0
    for graph in [every_kernel(), *edge_networks(), *random_networks(given.first, given.count)]:
        compared += assert_engines_agree(graph, *(random_input(graph, seed) for seed in range(SEVERAL)))
    print(f"{host.SET.name}: {compared:,} bytes equal")


if __name__ == "__main__":
    main()
