"""How near int8 comes to float, with and without equalised channels: ``python -m benchmarks.quantization``.

Prints the table of docs/quantization.md:

* vww: MLPerf Tiny's visual wake words, calibrated on the eight pictures of its tests, or on an eighth of 500 ImageNet
  pictures, in turn: on how many of those that did not calibrate it int8 takes the float network's side, and the mean
  absolute difference of the scores;
* others: MobileNets of random weights whose batch-norms' factors are log-normal: SQNR of the logits in dB, the mean
  of some networks.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared import SHARED
from tinymbn import Graph, Interpreter
from tinymbn.architectures import Architecture, mobilenet_v1, mobilenet_v2
from tinymbn.evaluation import cores
from tinymbn.importers.keras.model import import_keras
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantization import CalibrationPictures
from tinymbn.quantize import BatchNorm, FloatGraph, FloatInterpreter, Method, Relu, build, quantize
from tinymbn.quantize.float_layers import AnyFloatLayer, FloatActivation

Array = NDArray[np.float32]

_METHODS: tuple[Method, ...] = ("mse", "minmax", "percentile", "kl")
_PARTS = 8  # of ImageNet's pictures; each calibrates, and the others measure
_RESOLUTION = 64
_PICTURES = 48  # that calibrate a random network, and as many others on which it is measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=5, help="random ones of each kind (default: 5)")
    given = parser.parse_args()
    print("| network | " + " | ".join(f"{method} | equalised" for method in _METHODS) + " |")
    print("|---|" + "--:|" * 2 * len(_METHODS))
    for name, cells in _rows(given.networks):
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _rows(networks: int) -> Iterator[tuple[str, list[str]]]:
    """Each row's name, and for each method what is measured without and with equalisation."""
    network = import_keras(SHARED / "models" / "vww_96.h5")
    imagenet, eight = (
        np.stack([*CalibrationPictures(network, Preprocessing.of_range(0, 1), SHARED / place, None)])
        for place in ("data/imagenet_sample_500.npz", "images")
    )
    scores = np.concatenate([FloatInterpreter(network).run(part) for part in np.array_split(imagenet, 20)])
    eighths = [np.arange(len(imagenet)) % _PARTS == k for k in range(_PARTS)]
    for name, parts in (
        (f"vww, {len(eight)} pictures", [(eight, imagenet, scores)]),
        (f"vww, {len(imagenet) // _PARTS} of ImageNet", [(imagenet[m], imagenet[~m], scores[~m]) for m in eighths]),
    ):
        yield name, [_vww(network, parts, method, on) for method in _METHODS for on in (False, True)]
    first_half = (
        replace(mobilenet_v1(0.25), stages=mobilenet_v1(0.25).stages[:9]),
        replace(mobilenet_v2(0.35), stages=mobilenet_v2(0.35).stages[:13]),
    )
    for architecture in first_half:
        for activation in ("relu6", "relu"):
            for sigma in (0.0, 0.5, 1.0, 1.5):
                made = [spread(architecture, activation, sigma, seed) for seed in range(networks)]
                cells = [f"{mean_sqnr(made, method, on):.1f}" for method in _METHODS for on in (False, True)]
                yield f"{architecture.name}, {activation}, sigma {sigma}", cells


def _vww(network: FloatGraph, parts: Sequence[tuple[Array, Array, Array]], method: Method, equalized: bool) -> str:
    """The mean over parts: pictures that calibrate, others, and what the float network says of those."""
    results = []
    for shown, others, expected in parts:
        graph = quantize(network, shown, input_range=(0, 1), method=method, equalized=equalized)
        found = _real_outputs(graph, np.rint(others * 255 - 128).astype(np.int8))
        agreeing = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        results.append((float(agreeing), float(np.abs(found - expected).mean())))
    agreeing, difference = np.mean(results, axis=0)
    return f"{agreeing:.1%}, {difference:.4f}"


def _real_outputs(graph: Graph, x: NDArray[np.int8]) -> NDArray[np.float64]:
    output = graph.output_tensors[0]
    made = Interpreter(graph, threads=cores()).run(x)
    return np.asarray((made.astype(np.float64) - output.zero_point) * output.scale, np.float64)


def spread(architecture: Architecture, activation: FloatActivation, sigma: float, seed: int) -> FloatGraph:
    """A random network whose batch-norms hold the statistics of its tensors, their factors spread by exp(N * sigma)."""
    chance = np.random.default_rng(seed)
    graph = build(architecture, _RESOLUTION, 10, seed=seed)
    x = _smooth(16, seed)
    layers: list[AnyFloatLayer] = []
    for layer in graph.layers:
        if isinstance(layer, Relu):
            layer = replace(layer, activation=activation)
        if isinstance(layer, BatchNorm):
            before = FloatGraph("before", graph.input, graph.input_shape, tuple(layers), layer.inputs)
            sums = np.asarray(FloatInterpreter(before).run(x))
            gamma = np.exp(np.minimum(chance.normal(-sigma / 2, sigma, layer.gamma.size), 1)).astype(np.float32)
            beta = (gamma * chance.normal(0, 0.5, gamma.size)).astype(np.float32)
            mean, variance = sums.mean(axis=(0, 1, 2)), sums.var(axis=(0, 1, 2))
            layer = replace(layer, gamma=gamma, beta=beta, mean=mean, variance=variance)
        layers.append(layer)
    return replace(graph, layers=tuple(layers), outputs=("logits",))


def _smooth(count: int, seed: int) -> Array:
    """Real values of pixels, blocks with a little noise."""
    chance = np.random.default_rng(seed)
    blocks = chance.uniform(-1, 1, (count, 8, 8, 3)).repeat(_RESOLUTION // 8, axis=1).repeat(_RESOLUTION // 8, axis=2)
    noisy = np.clip(blocks + chance.normal(0, 0.1, blocks.shape), -1, 1)
    return (np.rint((noisy + 1) * 127.5) / 127.5 - 1).astype(np.float32)


def mean_sqnr(networks: Sequence[FloatGraph], method: Method, equalized: bool) -> float:
    """Of the logits of each network on pictures that did not calibrate it, in dB; their mean."""
    decibels = []
    for seed, network in enumerate(networks):
        shown, held_out = np.split(_smooth(2 * _PICTURES, seed), 2)
        graph = quantize(network, shown, input_range=(-1, 1), method=method, equalized=equalized)
        expected = np.asarray(FloatInterpreter(network).run(held_out))
        found = _real_outputs(graph, np.rint((held_out + 1) * 127.5 - 128).astype(np.int8))
        decibels.append(10 * math.log10((expected**2).sum() / ((found - expected) ** 2).sum()))
    return float(np.mean(decibels))


if __name__ == "__main__":
    main()
