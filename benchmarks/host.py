"""How long an inference takes on this computer: tinymbn beside LiteRT, in one process, in turns.

    python benchmarks/host.py MODEL... [-o docs/benchmarks.md]

One thread each. A time is that of a whole inference: the input copied in, every layer, the softmax, the output copied
out. In each round every interpreter runs for as long as the others, so that all see the same state of the machine. Of
LiteRT there are the default, which is XNNPACK's vector kernels and not exact, and the reference kernels, which tinymbn
equals in every byte. A file that LiteRT refuses for the dimension of its biases is given to it mended.

NUMBA_CPU_NAME=generic and NUMBA_CPU_FEATURES=+avx2,... restrict the instructions that tinymbn may use, not LiteRT's. -o
writes the table into its part of a document, one for each set of instructions.
"""

from __future__ import annotations

import argparse
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

from benchmarks.document import markdown, replace_part
from benchmarks.litert_models import readable_by_litert
from tinymbn import Interpreter, load_model
from tinymbn.files import write_file
from tinymbn.kernels.fast import host

Array = NDArray[Any]
Inference = Callable[[Array], Sequence[Array]]

_HEADER = (
    *("model", "million MACs", "XNNPACK", "reference", "tinymbn"),
    *("XNNPACK / tinymbn, least", "and median", "GMAC/s", "equal"),
)


@dataclass
class Times:
    """Of one interpreter on one model, in seconds."""

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

    def least_and_median(self) -> tuple[float, float]:
        """In microseconds."""
        return min(self.seconds) * 1e6, statistics.median(self.seconds) * 1e6


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


def _tinymbn(interpreter: Interpreter) -> Inference:
    def run(x: Array) -> Sequence[Array]:
        outputs = interpreter.run(x)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def _noise(interpreter: Interpreter) -> Array:
    tensor = interpreter.graph.input_tensor
    random = np.random.default_rng(0)
    if tensor.dtype == "float32":
        return random.uniform(-1, 1, tensor.shape).astype(np.float32)
    return random.integers(0, 256, tensor.shape).astype(np.uint8).view(tensor.dtype)


def measure(path: Path, rounds: int, share_s: float) -> Sequence[str]:
    """A row of the table: one model, all interpreters."""
    interpreter = Interpreter(load_model(path))
    x, macs = _noise(interpreter), interpreter.graph.macs
    model = readable_by_litert(path.read_bytes())
    resolvers = litert.OpResolverType
    xnnpack, reference = Times(_litert(model, resolvers.AUTO)), Times(_litert(model, resolvers.BUILTIN_REF))
    tinymbn = Times(_tinymbn(interpreter))
    equal = all(np.array_equal(a[0], b) for a, b in zip(reference.run(x), tinymbn.run(x), strict=True))
    xnnpack.run(x)
    for _ in range(rounds):
        for times in (xnnpack, reference, tinymbn):
            times.measure(x, share_s)
    pairs = [times.least_and_median() for times in (xnnpack, reference, tinymbn)]
    cells = [f"{least:,.0f} / {median:,.0f}" for least, median in pairs]
    (theirs, theirs_median), _, (ours, ours_median) = pairs
    ratios = f"{theirs / ours:.2f}", f"{theirs_median / ours_median:.2f}"
    return path.stem, f"{macs / 1e6:,.1f}", *cells, *ratios, f"{macs / ours / 1e3:,.1f}", "yes" if equal else "**no**"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.1, metavar="S", help="seconds an interpreter a round")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE")
    given = parser.parse_args()
    rows = []
    for path in given.models:
        rows.append(measure(path, given.rounds, given.share))
        print(" | ".join(rows[-1]), flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("ai-edge-litert", "numba", "llvmlite"))
    text = f"""## On the host: {host.SET.name}

Written by `python benchmarks/host.py`: microseconds of a whole inference, least / median, one thread, all interpreters
in turns in one process. LLVM calls the processor {host.NAME}; {versions}. Equal: all outputs, to the reference.

{markdown(_HEADER, rows, right=1)}"""
    print(f"\n{text}")
    if given.output is not None:
        write_file(given.output, replace_part(given.output, f"host-{host.SET.name}", text).encode())


if __name__ == "__main__":
    main()
