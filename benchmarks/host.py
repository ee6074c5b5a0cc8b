"""How long an inference takes on this computer: tinymbn beside LiteRT, in one process, in turns.

    python benchmarks/host.py MODEL...

One thread each. A time is that of a whole inference: the input copied in, every layer, the softmax, the output copied
out. In each round every interpreter runs for as long as the others, so that all see the same state of the machine; of
LiteRT there are the default, which is XNNPACK's vector kernels and not exact, and the reference kernels, which tinymbn
equals in every byte. A file that LiteRT refuses for the dimension of its biases is given to it mended.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert
from numpy.typing import NDArray

from benchmarks.litert_models import readable_by_litert
from tinymbn import Interpreter, load_model
from tinymbn.kernels.fast import host

Array = NDArray[Any]
Inference = Callable[[Array], Sequence[Array]]


@dataclass
class Times:
    """Of one interpreter on one model, in seconds."""

    name: str
    run: Inference
    seconds: list[float] = field(default_factory=list)

    def measure(self, x: Array, share_s: float) -> None:
        """Run for so long, once at least."""
        end = time.perf_counter() + share_s
        while True:
            begin = time.perf_counter()
            self.run(x)
            now = time.perf_counter()
            self.seconds.append(now - begin)
            if now >= end:
                return


def _litert(model: bytes, resolver: Any) -> Inference:
    interpreter = litert.Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    made = [details["index"] for details in interpreter.get_output_details()]

    def run(x: Array) -> Sequence[Array]:
        interpreter.set_tensor(taken["index"], x[None])
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in made]

    return run


def _tinymbn(path: Path) -> tuple[Inference, Array, int]:
    graph = load_model(path)
    interpreter = Interpreter(graph)
    tensor = graph.input_tensor
    random = np.random.default_rng(0)
    if tensor.dtype == "float32":
        x: Array = random.uniform(-1, 1, tensor.shape).astype(np.float32)
    else:
        x = random.integers(0, 256, tensor.shape).astype(np.uint8).view(tensor.dtype)

    def run(given: Array) -> Sequence[Array]:
        outputs = interpreter.run(given)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run, x, graph.macs


def measure(path: Path, rounds: int, share_s: float) -> str:
    """A row of the table: one model, all interpreters."""
    run, x, macs = _tinymbn(path)
    model = readable_by_litert(path.read_bytes())
    resolvers = litert.OpResolverType
    all_times = [
        Times("XNNPACK", _litert(model, resolvers.AUTO)),
        Times("reference", _litert(model, resolvers.BUILTIN_REF)),
        Times("tinymbn", run),
    ]
    expected, found = all_times[1].run(x), all_times[2].run(x)
    equal = all(np.array_equal(a[0], b) for a, b in zip(expected, found, strict=True))
    for times in all_times:
        times.run(x)
    for _ in range(rounds):
        for times in all_times:
            times.measure(x, share_s)
    least, middle = ([of(times.seconds) * 1e6 for times in all_times] for of in (min, statistics.median))
    cells = [f"{a:,.0f} / {b:,.0f}" for a, b in zip(least, middle, strict=True)]
    rate = macs / least[2] / 1e3
    return (
        f"| {path.stem} | {macs / 1e6:,.1f} | {' | '.join(cells)} | {least[0] / least[2]:.2f} | "
        f"{middle[0] / middle[2]:.2f} | {rate:,.1f} | {'yes' if equal else 'NO'} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.1, metavar="S", help="seconds an interpreter a round")
    given = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()} {host.NAME}, {host.SET.name}; LiteRT {version('ai-edge-litert')}"
    )
    print("Microseconds, least / median.\n")
    print("| model | M MAC | XNNPACK | reference | tinymbn | ratio, least | ratio, median | GMAC/s | equal |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for path in given.models:
        print(measure(path, given.rounds, given.share), flush=True)


if __name__ == "__main__":
    main()
