"""How near ``tinymbn eval`` comes to decoding alone: ``python benchmarks/evaluation.py MODEL DATASET``.

Rates of, one after the other in each round, so that a busy computer slows all alike:

* decode: from a picture's bytes to the model's input, in as many threads;
* model: the model on inputs made before;
* loop: ``evaluate`` with a model that does nothing;
* eval: ``evaluate`` as it is. Decoding and model one after the other on the same cores cannot be faster than *bound*.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn import Interpreter, load_model
from tinymbn.class_match import class_scores, match_classes
from tinymbn.dataset import open_dataset
from tinymbn.evaluation import cores, evaluate, load_labelled, warm_up


class _NoModel(Interpreter):
    """Says the same of every input."""

    def run(self, x: NDArray[Any]) -> Any:
        tensor = class_scores(self.graph)
        return np.zeros(tensor.shape, tensor.dtype)


def _rate(count: int, work: Callable[[], Iterable[object]]) -> float:
    begin = time.perf_counter()
    deque(work(), maxlen=0)
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--jobs", type=int, default=cores(), help="threads (default: one a core)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200, help="of the data set, from its beginning (default: 200)")
    parser.add_argument("--label-offset", type=int)
    given = parser.parse_args()

    graph = load_model(given.model)
    dataset = open_dataset(given.dataset)
    match = match_classes(dataset, graph, given.label_offset)
    pictures = list(islice(dataset.pictures(), given.pictures))
    interpreter, no_model = Interpreter(graph), _NoModel(graph)
    warm_up(interpreter)
    inputs = [load_labelled(picture, graph) for picture in pictures]
    with ThreadPoolExecutor(given.jobs) as threads:
        works: dict[str, Callable[[], Iterable[object]]] = {
            "decode": lambda: threads.map(lambda picture: load_labelled(picture, graph), pictures),
            "model": lambda: threads.map(interpreter.run, inputs),
            "loop": lambda: evaluate(no_model, pictures, match, given.jobs),
            "eval": lambda: evaluate(interpreter, pictures, match, given.jobs),
        }
        rounds = [{name: _rate(len(pictures), work) for name, work in works.items()} for _ in range(given.rounds)]
    for one in rounds:
        one["bound"] = 1 / (1 / one["decode"] + 1 / one["model"])
    print(f"{len(pictures)} pictures, {given.jobs} jobs, medians of {given.rounds} rounds")
    for name in (*works, "bound"):
        rate = statistics.median(one[name] for one in rounds)
        shares = [one[name] / one["decode"] for one in rounds]
        spread = f"{min(shares):.1%} to {max(shares):.1%}"
        print(f"{name:7}{rate:10,.1f} pictures/s  {statistics.median(shares):7.1%} of decode ({spread})")
    shares = [one["eval"] / one["bound"] for one in rounds]
    print(f"eval is {statistics.median(shares):.1%} of bound ({min(shares):.1%} to {max(shares):.1%})")


if __name__ == "__main__":
    main()
