"""Counts how often float and int8 are right: ``python examples/cifar10/measuring.py FLOAT INT8 TEST``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pictures import load

from tinymbn import Interpreter, load_model
from tinymbn.evaluation import cores
from tinymbn.quantize import FloatInterpreter, load_float_model

_AT_ONCE = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("float", type=Path, help="what training.py wrote")
    parser.add_argument("int8", type=Path, help="what tinymbn quantize made of it")
    parser.add_argument("test", type=Path, help="a .npz of jpeg, offsets, labels; or class folders")
    given = parser.parse_args()
    network, graph = FloatInterpreter(load_float_model(given.float)), load_model(given.int8)
    pictures, labels = load(given.test, graph.input_tensor.shape[0])
    interpreter = Interpreter(graph, threads=cores())
    right = {"float": 0, "int8": 0}
    for first in range(0, len(labels), _AT_ONCE):
        part, expected = pictures[first : first + _AT_ONCE], labels[first : first + _AT_ONCE]
        scores = np.asarray(network.run((part / np.float32(127.5) - 1).astype(np.float32)))
        right["float"] += _right(scores, expected)
        right["int8"] += _right(interpreter.run((part ^ 0x80).view(np.int8)), expected)
    print(f"{len(labels)} pictures, {graph.macs:,} MACs, {graph.parameters:,} weights and biases")
    for name, count in right.items():
        print(f"{name:5} {count / len(labels):.2%}")


def _right(scores: NDArray[np.generic], labels: NDArray[np.int64]) -> int:
    return int((scores.argmax(axis=1) == labels).sum())


if __name__ == "__main__":
    main()
